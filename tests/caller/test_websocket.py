"""What Twilio would report of servers that fail it, each by its own error code."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading

import pytest
import trustme
from support.server import SECONDS, run_caller
from support.sound import channels_of
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from mediastreams import client
from mediastreams.caller import websocket

HTTP = "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n{}"
NO_HTTP = "31920 handshake failed: the connection ended without an answer, or with one that is not HTTP/1.1"


def refuse(status, body="", headers=""):
    return HTTP.format(status, len(body), headers, body).encode()


def answer(data):
    """Return a server that reads the request and answers with `data`."""

    def serve(connection):
        connection.recv(65536)
        connection.sendall(data)

    return serve


def upgrade(then, requests=None):
    """Return a server that upgrades, reads until the first media message, and does `then`."""

    def serve(connection):
        protocol = ServerProtocol()
        received = b""
        while b"media" not in received:
            protocol.receive_data(connection.recv(65536))
            for event in protocol.events_received():
                if isinstance(event, Request):
                    if requests is not None:
                        requests.append(event)
                    protocol.send_response(protocol.accept(event))
                    connection.sendall(b"".join(protocol.data_to_send()))
                else:
                    received += event.data
        then(connection)

    return serve


def frame(opcode, data, fin=True):
    return Frame(opcode, data, fin).serialize(mask=False)


def send(data):
    def then(connection):
        connection.sendall(data)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass

    return then


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def failure(url):
    result = run_caller(url, "--seconds", "2")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("Failed: ").rstrip("\n")


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (refuse("404 Not Found", "no"), "31920 handshake failed: the server answered 404 Not Found: no"),
            (refuse("403 Forbidden"), "31920 handshake failed: the server answered 403 Forbidden"),
            (
                refuse("302 Found", "", "Location: ws://127.0.0.1:1/\r\n"),
                "31920 handshake failed: the server answered 302 Found",
            ),
            (
                refuse("502 Bad Gateway", "x", "ngrok-error-code: ERR_NGROK_8012\r\n"),
                "31920 handshake failed: the server answered 502 Bad Gateway"
                " (ERR_NGROK_8012: is the tunnel up, and the server behind it?)",
            ),
            (
                b"SSH-2.0-OpenSSH_9.2\r\n",
                NO_HTTP,
            ),
            (
                b"",
                NO_HTTP,
            ),
            (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
                "31920 handshake failed: the server answered 101 Switching Protocols, "
                "but not as a WebSocket: invalid Sec-WebSocket-Accept header: AAAA",
            ),
        ],
        ids=["404", "403", "redirect", "ngrok", "not-http", "nothing", "wrong-accept"],
    )
    def test_handshake(self, listen, data, error):
        assert failure(f"ws://127.0.0.1:{listen(answer(data))}/media") == error

    def test_nothing_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        error = f"31902 connection refused: nothing listens on 127.0.0.1:{port} (is the server running?)"
        assert failure(f"ws://127.0.0.1:{port}/media") == error

    def test_a_connection_that_is_reset(self, monkeypatch):
        """Before the handshake, without TLS."""

        async def reset(*_):
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

        monkeypatch.setattr(client, "_connect_socket", reset)
        with pytest.raises(websocket.CallError) as caught:
            asyncio.run(websocket.dial("ws://127.0.0.1:5000/media", {}))
        assert str(caught.value) == "31903 connection broken: 127.0.0.1:5000 ended the connection"

    def test_no_such_host(self):
        assert failure("wss://no-such-host.invalid/media").startswith(
            "31904 host unreachable: no address is known for no-such-host.invalid"
        )

    def test_no_answer(self, listen):
        def wait(connection):
            while connection.recv(65536):
                pass

        port = listen(wait)
        assert failure(f"ws://127.0.0.1:{port}/media") == (
            "31901 connection timeout: no answer to the handshake within 10 s"
        )


class TestTls:
    def test_a_plain_port(self, listen):
        port = listen(answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        assert failure(f"wss://127.0.0.1:{port}/media").startswith("31910 TLS failure: ")

    @pytest.mark.parametrize("trusted", [True, False])
    def test_the_certificate_is_verified(self, listen, tmp_path, trusted):
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))

        def serve(connection):
            with (
                contextlib.suppress(ssl.SSLError),
                context.wrap_socket(connection, server_side=True) as secure,
            ):
                answer(refuse("403 Forbidden"))(secure)

        environ = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")} if trusted else {}
        result = run_caller(f"wss://localhost:{listen(serve)}/media", **environ)
        assert result.returncode == 1
        assert ("31920" if trusted else "31910 TLS failure: the certificate is not valid") in result.stderr


class TestBroken:
    @pytest.mark.parametrize(
        ("then", "error"),
        [
            (
                send(frame(Opcode.CLOSE, Close(1008, "no thanks").serialize())),
                "31921 server closed the WebSocket: it sent a Close, 1008 (policy violation) no thanks",
            ),
            (
                send(frame(Opcode.CLOSE, b"")),
                "31921 server closed the WebSocket: it sent a Close, 1005 (no status received [internal])",
            ),
            (
                lambda connection: None,
                "31903 connection broken: the server dropped the connection without a Close",
            ),
            (reset, "31903 connection broken: the server dropped the connection without a Close"),
            (
                send(b"\xc1\x01x"),
                "31924 WebSocket protocol error: the server sent a wrong frame: reserved bits must be 0",
            ),
            (
                send(frame(Opcode.TEXT, b"a\xff")),
                "31924 WebSocket protocol error: the server sent a wrong frame: "
                "invalid start byte at position 1",
            ),
        ],
        ids=["close", "close-empty", "eof", "reset", "reserved-bits", "not-utf8"],
    )
    def test_in_the_call(self, listen, then, error):
        assert failure(f"ws://127.0.0.1:{listen(upgrade(then))}/media") == error

    def test_a_server_that_does_not_read(self, listen, monkeypatch):
        monkeypatch.setattr(websocket, "TIMEOUT", 0.3)
        finished = threading.Event()
        port = listen(upgrade(lambda connection: finished.wait(SECONDS)))

        async def flood():
            connection = await websocket.dial(f"ws://127.0.0.1:{port}/media", {})
            try:
                while True:
                    await connection.send("media" * 100_000)
            finally:
                connection.abandon()

        with pytest.raises(websocket.CallError) as caught:
            asyncio.run(flood())
        finished.set()
        assert str(caught.value) == "31903 connection broken: the server has read nothing for 0 s"

    def test_what_is_heard_ends_with_the_call_not_with_the_connection(self, listen, tmp_path):
        """The server does not answer the Close, for which the caller waits 5 s."""
        port = listen(upgrade(send(b"")))
        path = tmp_path / "heard.wav"
        run_caller(f"ws://127.0.0.1:{port}/media", "--seconds", "0.5", "--save-heard", str(path))
        (codes,) = channels_of(path)
        assert len(codes) < 8000 * websocket.CLOSE_TIMEOUT

    def test_drop_resets_the_connection(self, listen):
        ends = []

        def then(connection):
            try:
                while connection.recv(65536):
                    pass
            except OSError as error:
                ends.append(error.errno)

        port = listen(upgrade(then))
        result = run_caller(f"ws://127.0.0.1:{port}/media", "--drop", "--seconds", "0.1")
        assert (result.returncode, result.stderr) == (0, "")
        assert "Dropped: 7 messages sent, no stop, no Close" in result.stdout
        assert ends == [errno.ECONNRESET]


class TestOpen:
    def test_the_handshake_is_twilios(self, listen):
        requests = []
        port = listen(upgrade(lambda connection: None, requests))
        run_caller(f"ws://127.0.0.1:{port}/media?token=1", "--auth-token", "12345")
        (request,) = requests
        assert request.path == "/media"
        headers = dict(request.headers.raw_items())
        del headers["sec-websocket-key"], headers["x-twilio-signature"]
        assert headers == {
            "host": f"127.0.0.1:{port}",
            "user-agent": "Twilio.TmeWs/1.0",
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "accept-encoding": "gzip",
        }

    def test_the_signature_is_over_the_wss_url(self, listen):
        from twilio.request_validator import RequestValidator

        requests = []
        port = listen(upgrade(lambda connection: None, requests))
        run_caller(f"ws://127.0.0.1:{port}/media", "--auth-token", "12345")
        signature = requests[0].headers["x-twilio-signature"]
        assert signature == RequestValidator("12345").compute_signature(f"wss://127.0.0.1:{port}/media", {})

    def test_no_proxy_is_asked(self, record):
        url, calls, _ = record
        proxy = "http://127.0.0.1:1"
        result = run_caller(url, "--fast", http_proxy=proxy, all_proxy=proxy, https_proxy=proxy)
        assert (result.returncode, result.stderr) == (0, "")
        assert calls

    def test_pings_are_answered_and_fragments_joined(self, listen):
        answers = []
        text = b'{"event":"play"}'

        def then(connection):
            connection.sendall(
                frame(Opcode.TEXT, text[:5], fin=False)
                + frame(Opcode.PING, b"are you there")
                + frame(Opcode.CONT, text[5:])
            )
            while data := connection.recv(65536):
                answers.append(data)

        port = listen(upgrade(then))
        result = run_caller(f"ws://127.0.0.1:{port}/media", "--seconds", "0.2")
        assert "Warning 31951: invalid message: $.event: Invalid value 'play'" in result.stdout
        assert b"\x8a\x8d" in b"".join(answers)  # a masked Pong of 13 bytes
