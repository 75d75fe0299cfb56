"""HTTP requests and WebSocket handshakes, byte by byte."""

import socket

from support.server import SECONDS

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3
HANDSHAKE = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def exchange(server, data):
    """Send bytes; return all that comes back until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer.decode("latin-1")


def handshake(line="GET /media HTTP/1.1", **changes):
    headers = {**HANDSHAKE, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [line, *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "".join(f"{text}\r\n" for text in [*lines, ""]).encode("latin-1")
