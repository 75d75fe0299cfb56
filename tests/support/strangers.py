"""Servers that speak another protocol than they are asked in, or answer without end."""

import contextlib
import socket
import threading
import time


@contextlib.contextmanager
def answering(data):
    """Listen, answer the first connection with `data`, whatever it asks, and end it. Yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # what is unread at the close would reset the connection
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@contextlib.contextmanager
def dripping(body, every):
    """Listen, and answer the first connection with a body, a byte every so many seconds. Yields the port."""

    def drip(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for byte in body:
            time.sleep(every)
            connection.sendall(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):  # nobody waits any more
                drip(connection)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
