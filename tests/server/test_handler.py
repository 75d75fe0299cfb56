"""The handshake and the port, with bytes of the test's own on the wire."""

import contextlib
import re
import socket
import struct
import threading

import pytest
from support.handshake import exchange, handshake
from support.server import SECONDS, run, run_caller
from twilio.request_validator import RequestValidator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


@pytest.fixture(scope="module")
def accepting(start_shared_server):
    """Another one than `shared_server`: a stream may log its end after its connection has ended."""
    return start_shared_server()


class TestHandshake:
    def test_the_answer_is_that_of_rfc_6455(self, accepting):
        answer = exchange(accepting, handshake())
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
            (b"GET / HTTP/1\r\n\r\n", 400, ""),
            (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414, ""),
            (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 400, ""),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n", 400, ""),
            (handshake(Content_Length="5") + b"hello", 400, "no body"),
            (handshake("HEAD /media HTTP/1.1"), 405, ""),
        ],
    )
    def test_refused_before_the_upgrade(self, shared_server, request_bytes, status, body):
        answer = exchange(shared_server, request_bytes)
        assert int(answer.split(" ")[1]) == status
        assert body in answer
        (line,) = shared_server.logged()
        assert line != "Connection accepted"

    def test_a_reset_at_any_time_is_no_traceback(self, server):
        for data in (b"", b"GET ", handshake()[:40], b"\x16\x03\x01 hello\r\n\r\n", b"GET /" + b"x" * 9000):
            with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
                connection.sendall(data)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n").endswith('{"status": "ok", "streams": 0}\n')
        assert "Traceback" not in server.stop()

    def test_each_request_of_a_connection_is_logged_as_itself(self, shared_server):
        exchange(shared_server, b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nhello\r\n\r\n")
        assert [re.sub(r"^\S+ ", "", line) for line in shared_server.logged()] == [
            '"GET /one" 404',
            "refused with 400, this is no HTTP it can read",
        ]

    def test_the_headers_of_a_request_are_bounded_together(self, shared_server):
        header = b"a: " + b"b" * 40000 + b"\r\n"
        for headers, status in ((header, "200"), (2 * header, "400")):
            answer = exchange(shared_server, b"GET /livez HTTP/1.1\r\n" + headers + b"\r\n")
            assert answer.split(" ")[1] == status

    def test_who_sends_one_request_after_the_other_holds_up_nobody(self, server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as flood:

            def send():
                with contextlib.suppress(OSError):  # the test has ended
                    while True:
                        flood.sendall(b"GET /livez HTTP/1.1\r\n\r\n" * 1000)

            def read():
                with contextlib.suppress(OSError):
                    while flood.recv(1 << 20):
                        pass

            threads = [threading.Thread(target=each) for each in (send, read)]
            for thread in threads:
                thread.start()
            try:
                assert exchange(server, b"GET /livez HTTP/1.0\r\n\r\n").startswith("HTTP/1.1 200")
            finally:
                with contextlib.suppress(OSError):
                    flood.shutdown(socket.SHUT_RDWR)
                for thread in threads:
                    thread.join()

    def test_who_reads_no_answer_is_let_go(self, start_server):
        server = start_server(IDLE_TIMEOUT="0.5", LOG_LEVEL="DEBUG")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(SECONDS)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 2000)
            server.wait_for("it has read nothing of its answer for 0.5 s")

    def test_the_version_it_speaks(self, shared_server):
        answer = exchange(shared_server, handshake(Sec_WebSocket_Version="8"))
        assert "Sec-WebSocket-Version: 13\r\n" in answer

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
    def test_accepted(self, accepting, changes):
        answer = exchange(accepting, handshake(**changes))
        assert answer.startswith("HTTP/1.1 101 ")
        assert "Sec-WebSocket-Extensions" not in answer
        assert "Sec-WebSocket-Protocol" not in answer

    def test_a_path_cannot_forge_a_line_of_the_log(self, shared_server):
        exchange(shared_server, handshake("GET /%0d%0a%1b[2JConnection%20accepted HTTP/1.1"))
        (line,) = shared_server.logged()
        assert line.isprintable()


class TestGate:
    TOKEN = "0123456789abcdef0123456789abcdef"

    def signed(self, url, token=TOKEN, **changes):
        signature = RequestValidator(token).compute_signature(url, {})
        return handshake(X_Twilio_Signature=signature, **changes)

    @pytest.mark.parametrize(
        "url",
        [
            "wss://example.com/media",
            "wss://example.com/media/",
            "wss://example.com:443/media",
        ],
    )
    def test_what_twilio_has_signed_comes_in(self, start_server, url):
        server = start_server(TWILIO_AUTH_TOKEN=self.TOKEN)
        assert exchange(server, self.signed(url)).startswith("HTTP/1.1 101 ")

    @pytest.mark.parametrize(
        "public_url",
        [
            "https://Public.example",
            "wss://Public.example/media/",
            "http://Public.example:8443",
            "Public.example",
        ],
    )
    def test_public_url_goes_before_the_host(self, start_server, public_url):
        server = start_server(TWILIO_AUTH_TOKEN=self.TOKEN, PUBLIC_URL=public_url)
        assert exchange(server, self.signed("wss://Public.example/media")).startswith("HTTP/1.1 101 ")
        assert exchange(server, self.signed("wss://example.com/media")).startswith("HTTP/1.1 403 ")

    def test_all_else_is_refused_and_what_was_tried_is_said(self, start_server):
        server = start_server(TWILIO_AUTH_TOKEN=self.TOKEN)
        for data in (
            handshake(),
            handshake(X_Twilio_Signature=""),
            handshake(X_Twilio_Signature="\xfc\xff"),
            self.signed("https://example.com/media"),
            self.signed("wss://example.com/media", token=self.TOKEN[::-1]),
            self.signed("wss://example.com/media", Host="[::1"),
        ):
            answer = exchange(server, data)
            assert answer.startswith(("HTTP/1.1 403 ", "HTTP/1.1 400 "))
            assert "Traceback" not in answer
        printed = server.stop()
        assert "Traceback" not in printed
        assert self.TOKEN not in printed
        assert "Connection accepted" not in printed
        assert (
            "no X-Twilio-Signature; tried wss://example.com/media, wss://example.com/media/, "
            "wss://example.com:443/media, wss://example.com:443/media/. "
            "PUBLIC_URL must be the address in the TwiML" in printed
        )

    def test_the_caller_signs(self, start_server):
        server = start_server(TWILIO_AUTH_TOKEN=self.TOKEN)
        result = run_caller(server.url, "--fast", "--auth-token", self.TOKEN)
        assert (result.returncode, result.stderr) == (0, "")
        result = run_caller(server.url, "--fast", TWILIO_AUTH_TOKEN=self.TOKEN)
        assert (result.returncode, result.stderr) == (0, "")
        result = run_caller(server.url, "--fast")
        assert result.returncode == 1
        assert (
            "31920 handshake failed: the server answered 403 FORBIDDEN: The signature is not" in result.stderr
        )

    def test_another_account_is_closed_with_1008(self, start_server):
        account = {"TWILIO_ACCOUNT_SID": "AC" + "0" * 32}
        server = start_server(**account)
        assert run_caller(server.url, "--fast", **account).returncode == 0
        result = run_caller(server.url)
        assert result.returncode == 1
        assert "31921 server closed the WebSocket: it sent a Close, 1008 (policy violation)" in result.stderr
        server.wait_for("is not TWILIO_ACCOUNT_SID")
        server.wait_for("Connection closed. Received a total of 2 messages")


# A WebSocket at /other that is no stream: it is admitted by an object of its own.
OTHER = """
from flask import Flask
from mediastreams import MediaStreams
from mediastreams.server.connections import Live
from mediastreams.server.handshake import Refusal

class Admission:
    live, max_message_bytes, idle_seconds = Live(0), 8, 60.0

    def refusal(self, environ, path):
        return Refusal(403, "page", "Not you.") if "HTTP_X_REFUSE" in environ else None

    def join(self, websocket):
        self.live.join(websocket)
        print("joined", len(self.live), flush=True)

    def leave(self, websocket):
        self.live.leave(websocket)
        print("left", len(self.live), flush=True)

def run(websocket):
    while (message := websocket.receive()) is not None:
        websocket.send(message)

app = Flask(__name__)
streams = MediaStreams(app)
flask_app = app.wsgi_app
admission = Admission()

def other(environ, start_response):
    if environ["PATH_INFO"] != "/other":
        return flask_app(environ, start_response)
    try:
        environ["mediastreams.upgrade"](run, admission)
    except Exception as refused:
        return refused(environ, start_response)
    return []

app.wsgi_app = other
streams.serve([])
"""


@pytest.fixture(scope="module")
def other(start_shared_server):
    return start_shared_server(OTHER, TWILIO_AUTH_TOKEN="0" * 32, MAX_STREAMS="1")


class TestAdmission:
    def test_its_own_object_admits_and_counts_it(self, other):
        with (
            connect(f"ws://127.0.0.1:{other.port}/other", compression=None) as one,
            connect(f"ws://127.0.0.1:{other.port}/other", compression=None) as another,
        ):
            other.wait_for("joined 2")
            for websocket in (one, another):
                websocket.send("hello")
                assert websocket.recv(SECONDS) == "hello"
            health = exchange(other, b"GET /healthz HTTP/1.0\r\n\r\n")
            assert health.endswith('{"status": "ok", "streams": 0}\n')
        other.wait_for("left 0")

    def test_a_refusal_is_its_own(self, other):
        answer = exchange(other, handshake("GET /other HTTP/1.1", X_Refuse="1"))
        assert answer.startswith("HTTP/1.1 403 ")
        assert answer.endswith("Not you.\n")
        other.wait_for("refused with 403, Not you.")
        metrics = exchange(other, b"GET /metrics HTTP/1.0\r\n\r\n")
        assert 'mediastreams_refusals_total{reason="page"} 1.0' in metrics

    def test_a_limit_is_its_own(self, other):
        with connect(f"ws://127.0.0.1:{other.port}/other", compression=None) as websocket:
            websocket.send("more than 8")
            with pytest.raises(ConnectionClosed):
                websocket.recv(SECONDS)
            assert websocket.close_code == 1009
        other.wait_for("left 0")


class TestListen:
    def test_a_taken_port_is_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run("app.py", HTTP_SERVER_PORT=str(port))
        assert result.returncode == 1
        assert result.stderr == (
            f"HTTP_SERVER_PORT={port} cannot be used: another program listens there. "
            "Is this server running in another terminal? Stop it there with Ctrl-C, "
            f"or set another port, such as HTTP_SERVER_PORT={port + 1}.\n"
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
