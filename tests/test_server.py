"""The handshake and the port, with bytes of the test's own on the wire."""

import socket

import pytest
from conftest import SECONDS, run

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


class TestHandshake:
    def test_the_answer_is_that_of_rfc_6455(self, server):
        answer = exchange(server, handshake())
        head = answer.partition("\r\n\r\n")[0].split("\r\n")
        assert head[0] == "HTTP/1.1 101 Switching Protocols"
        assert sorted(head[1:]) == [
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "Upgrade: websocket",
        ]

    @pytest.mark.parametrize(
        ("request_bytes", "status", "body"),
        [
            (handshake("GET /nope HTTP/1.1"), 404, "no WebSocket at this path"),
            (handshake("GET /media/ HTTP/1.1"), 404, "no WebSocket at this path"),
            (handshake("POST /media HTTP/1.1", Content_Length="0"), 405, "Method Not Allowed"),
            (handshake(Sec_WebSocket_Version="8"), 426, "version 13"),
            (handshake(Sec_WebSocket_Version=None), 426, "version 13"),
            (handshake(Sec_WebSocket_Key=None), 400, "Sec-WebSocket-Key"),
            (handshake(Sec_WebSocket_Key="short"), 400, "Sec-WebSocket-Key"),
            (handshake(Sec_WebSocket_Key="\xfc" * 24), 400, "Sec-WebSocket-Key"),
            (handshake("GET /media HTTP/1.0"), 400, "HTTP/1.1"),
            (handshake(Upgrade=None), 426, "WebSocket endpoint"),
            (handshake(Connection="keep-alive"), 426, "WebSocket endpoint"),
            (handshake(Upgrade="h2c"), 426, "WebSocket endpoint"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\n", 400, ""),
            (b"hello\r\n\r\n", 400, ""),
        ],
    )
    def test_refused_before_the_upgrade(self, server, request_bytes, status, body):
        answer = exchange(server, request_bytes)
        assert int(answer.split(" ")[1]) == status
        assert body in answer
        printed = server.stop()
        assert "Traceback" not in printed
        assert "Connection accepted" not in printed
        assert len(server.messages()) == 1  # it is logged, in one line

    def test_the_version_it_speaks(self, server):
        assert "Sec-WebSocket-Version: 13\r\n" in exchange(server, handshake(Sec_WebSocket_Version="8"))

    @pytest.mark.parametrize(
        "changes",
        [
            {"Connection": "keep-alive, Upgrade"},
            {"Upgrade": "WebSocket"},
            {"Origin": "https://example.com"},
            {"Host": "ex\xe4mple"},
            {"Sec_WebSocket_Extensions": "permessage-deflate"},
            {"Sec_WebSocket_Protocol": "audio"},
        ],
        ids=str,
    )
    def test_accepted(self, server, changes):
        answer = exchange(server, handshake(**changes))
        assert answer.startswith("HTTP/1.1 101 ")
        assert "Sec-WebSocket-Extensions" not in answer
        assert "Sec-WebSocket-Protocol" not in answer

    def test_a_path_cannot_forge_a_line_of_the_log(self, server):
        exchange(server, handshake("GET /%0d%0a%1b[2JConnection%20accepted HTTP/1.1"))
        assert all(line.isprintable() for line in server.stop().splitlines())


class TestListen:
    def test_a_taken_port_is_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run("app.py", HTTP_SERVER_PORT=str(port))
        assert result.returncode == 1
        assert result.stderr == (
            f"HTTP_SERVER_PORT={port} cannot be used: another program listens there. "
            f"Set another, such as HTTP_SERVER_PORT={port + 1}.\n"
        )

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
    def test_another_machines_address_is_one_line(self, host):
        result = run("app.py", HTTP_SERVER_PORT="0", HTTP_SERVER_HOST=host)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert result.stderr.startswith(f"HTTP_SERVER_HOST={host} cannot be used: ")

    def test_a_bad_setting_is_one_line(self):
        result = run("app.py", HTTP_SERVER_PORT="http")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)

    def test_it_ends_when_told_to(self, server):
        server.stop()
        assert server.process.returncode == 0
