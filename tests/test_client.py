"""How WebSockets to other servers are opened, and why one is not: with servers of the test's."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading

import pytest
import trustme
from support.server import SECONDS
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.protocol import State
from websockets.sync.server import serve

from mediastreams import client


def open_websocket(url, then=None, **options):
    async def use():
        websocket = await client.open_websocket(url, options.get("headers", {}), options.get("max_bytes"))
        try:
            return await then(websocket) if then else None
        finally:
            websocket.transport.abort()

    return asyncio.run(use())


def why_not(url):
    """Return why there is no WebSocket."""
    with pytest.raises((OSError, InvalidHandshake)) as caught:
        open_websocket(url)
    return client.why_not_connected(caught.value, url)


@contextlib.contextmanager
def serving(handler, **options):
    """Run a WebSocket server; return its port."""
    with serve(handler, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def answer():
    """Return a function that answers one connection with some bytes, and returns its port."""
    with contextlib.ExitStack() as stack:

        def answer(data):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def accept():
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    with contextlib.suppress(OSError):
                        while connection.recv(65536):
                            pass

            thread = threading.Thread(target=accept)
            thread.start()
            stack.callback(thread.join)
            return listener.getsockname()[1]

        yield answer


@pytest.fixture
def silent():
    """The port of a server that says nothing; the time-outs are short."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class TestOpen:
    def test_headers_go_and_messages_are_bounded(self):
        seen = []

        def handle(ws):
            seen.append(dict(ws.request.headers.raw_items()))
            ws.send("x" * 100)
            ws.send("x" * 101)

        async def receive(websocket):
            assert len(await websocket.recv()) == 100
            with pytest.raises(ConnectionClosed, match="1009"):
                await websocket.recv()

        with serving(handle) as port:
            open_websocket(f"ws://127.0.0.1:{port}/", receive, headers={"Key": "secret"}, max_bytes=100)
        (headers,) = seen
        assert headers["Key"] == "secret"
        assert not {"User-Agent", "Sec-WebSocket-Extensions"} & set(headers)

    def test_a_server_that_does_not_close_after_a_wrong_frame(self, monkeypatch):
        monkeypatch.setattr(client, "TIMEOUT", 0.3)
        ended = threading.Event()

        def handle(ws):
            ws.send("x" * 101)
            with ws.protocol_mutex:  # meanwhile nothing is answered, nor is a Close
                ended.wait(SECONDS)

        async def send(websocket):
            while websocket.state is State.OPEN:
                await asyncio.sleep(0)
            async with asyncio.timeout(SECONDS / 2):
                with pytest.raises(ConnectionClosed, match="1009"):
                    await websocket.send("hello")

        with serving(handle) as port:
            open_websocket(f"ws://127.0.0.1:{port}/", send, max_bytes=100)
            ended.set()

    def test_the_second_address_is_tried(self, monkeypatch):
        """A name has two addresses, and nothing listens at the first."""
        with serving(lambda ws: ws.send("hello")) as port, socket.create_server(("127.0.0.2", 0)) as other:
            refusing = ("127.0.0.2", other.getsockname()[1])
            other.close()
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", at) for at in (refusing, ("127.0.0.1", port))
            ]

            async def getaddrinfo(*arguments, **options):
                return found

            async def use():
                monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
                websocket = await client.open_websocket("ws://two.example/", {}, None)
                assert await websocket.recv() == "hello"
                await websocket.close()

            asyncio.run(use())

    def test_no_redirect_is_followed(self):
        reached = []
        with serving(reached.append) as other:

            def redirect(connection, request):
                response = connection.respond(302, "")
                response.headers["Location"] = f"ws://127.0.0.1:{other}/"
                return response

            with serving(lambda ws: None, process_request=redirect) as port:
                assert why_not(f"ws://127.0.0.1:{port}/") == "the server answered 302 Found"
        assert reached == []

    def test_no_proxy_is_used(self, monkeypatch):
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        with serving(lambda ws: ws.recv()) as port:
            open_websocket(f"ws://127.0.0.1:{port}/")

    def test_a_certificate_of_nobody(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("localhost").configure_cert(context)
        with serving(lambda ws: None, ssl=context) as port:
            why = why_not(f"wss://localhost:{port}/")
        assert why == "the certificate is not valid: unable to get local issuer certificate"


class TestWhyNotConnected:
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (
                b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 500\r\n\r\n"
                + b"no" * 250,
                f"the server answered 403 Forbidden: {'no' * 100}",
            ),
            (
                b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>",
                "the server answered 403 Forbidden",
            ),
            (
                b"HTTP/1.1 404 Not Found\r\nngrok-error-code: ERR_NGROK_3200\r\nContent-Length: 0\r\n\r\n",
                "the server answered 404 Not Found "
                "(ERR_NGROK_3200: is the tunnel up, and the server behind it?)",
            ),
            (b"220 smtp\r\n", "the connection ended without an answer, or with one that is not HTTP/1.1"),
        ],
        ids=["text", "html", "ngrok", "smtp"],
    )
    def test_refused(self, answer, data, why):
        assert why_not(f"ws://127.0.0.1:{answer(data)}/") == why

    def test_nothing_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        assert why_not(f"wss://127.0.0.1:{port}/") == (
            f"nothing listens on 127.0.0.1:{port} (is the server running?)"
        )

    @pytest.mark.parametrize(
        ("scheme", "why"),
        [
            ("ws", "no answer to the handshake within 0 s"),
            ("wss", "127.0.0.1:{} did not answer within 0 s"),
        ],
    )
    def test_no_answer(self, silent, monkeypatch, scheme, why):
        monkeypatch.setattr(client, "TIMEOUT", 0.1)
        assert why_not(f"{scheme}://127.0.0.1:{silent}/") == why.format(silent)

    def test_no_tls(self, answer):
        port = answer(b"")
        assert why_not(f"wss://127.0.0.1:{port}/").endswith(f" (does port {port} speak TLS?)")

    @pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
    def test_an_error_of_the_system(self, number):
        why = client.why_not_connected(
            OSError(number, "Connect call failed ('10.0.0.1', 1)"), "wss://a.example/"
        )
        assert why == f"a.example:443: {os.strerror(number)}"


@pytest.mark.parametrize(("size", "read"), [(0, 0), (10, 10), (11, 11), (1000, 11)])
def test_what_is_read_is_bounded(size, read):
    taken = []

    async def parts():
        for n in range(size):
            taken.append(n)
            yield b"x"

    assert asyncio.run(client.read_at_most(10, parts())) == b"x" * read
    assert len(taken) == read


def test_the_causes_of_an_exception():
    first, second, third = OSError("first"), KeyError("second"), ValueError("third")
    second.__context__ = ExceptionGroup("several", [third])
    first.__cause__ = second
    assert [str(cause) for cause in client.causes(first)] == [
        "first",
        "'second'",
        "several (1 sub-exception)",
        "third",
    ]
