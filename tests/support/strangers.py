"""A server that speaks another protocol than it is asked in."""

import contextlib
import socket
import threading


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
