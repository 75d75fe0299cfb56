"""Twilio's HTTP requests, against servers of the test's own."""

import asyncio
import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from support.server import TOKEN
from support.strangers import answering
from twilio.request_validator import RequestValidator

from mediastreams.caller import http
from mediastreams.caller.account import Account
from mediastreams.caller.websocket import CallError

DOCUMENT = b"<Response/>"
NOBODY = Account("AC1")
SIGNING = Account("AC1", TOKEN, "wss://b.example")


@pytest.fixture
def web():
    """An HTTP server: what it answers by path, and what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path, dict(self.headers), body.decode()))
            if self.path == "/slow":
                return self.trickle()
            status, kind, answer = answers[self.path.partition("?")[0]]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", answer.decode())
                answer = b""
            if kind:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def trickle(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            with contextlib.suppress(OSError):  # until nobody reads it
                for _ in range(1000):
                    self.wfile.write(b" ")
                    if server_ends.wait(0.05):
                        return

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    asked = []
    answers = {}
    server_ends = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.asked, server.answers = asked, answers
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
        server_ends.set()
        server.shutdown()
        thread.join()


def ask(url, account=NOBODY):
    return asyncio.run(http.twiml(url, {"CallSid": "CA1", "From": "+1"}, account))


@pytest.mark.parametrize("kind", ["text/xml", "application/xml; charset=utf-8", "TEXT/XML", "text/html"])
def test_a_document(web, kind):
    web.answers["/a"] = 200, kind, DOCUMENT
    assert ask(f"{web.url}/a?b=c") == DOCUMENT
    ((method, path, headers, body),) = web.asked
    assert (method, path) == ("POST", "/a?b=c")
    assert headers["User-Agent"] == "TwilioProxy/1.1"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "X-Twilio-Signature" not in headers
    assert parse_qs(body) == {"CallSid": ["CA1"], "From": ["+1"]}


def test_it_is_signed_for_the_address_that_twilio_knows(web):
    web.answers["/a"] = 200, "text/xml", DOCUMENT
    ask(f"{web.url}/a", SIGNING)
    signature = {name.lower(): value for name, value in web.asked[0][2].items()}["x-twilio-signature"]
    form = {"CallSid": "CA1", "From": "+1"}
    assert RequestValidator(TOKEN).validate("https://b.example/a", form, signature)


def test_by_get_the_form_is_the_query(web):
    web.answers["/a"] = 200, "", b""
    asyncio.run(http.ask("GET", f"{web.url}/a?b=c", {"From": "+1"}, SIGNING))
    ((method, path, headers, body),) = web.asked
    assert (method, path, body) == ("GET", "/a?b=c&From=%2B1", "")
    signature = {name.lower(): value for name, value in headers.items()}["x-twilio-signature"]
    assert RequestValidator(TOKEN).validate("https://b.example/a?b=c&From=%2B1", {}, signature)


def test_it_goes_where_it_is_sent(web):
    web.answers["/a"] = 302, "", b"/b"
    web.answers["/b"] = 200, "text/xml", DOCUMENT
    assert ask(f"{web.url}/a") == DOCUMENT


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (
            (404, "text/plain", b"There is none.\n"),
            11200,
            "/a was answered with 404 Not Found: There is none.",
        ),
        ((500, "text/html", b"<h1>"), 11200, "/a was answered with 500 Internal Server Error"),
        ((200, "text/css", DOCUMENT), 12300, "/a is text/css, not text/xml"),
        ((200, "text/xml", b"x" * 65537), 11750, "has more than 65536 bytes"),
        ((302, "", b"file:///etc/passwd"), 11200, "was answered with 302"),
        ((302, "", b"/a"), 11200, "was answered with 302"),
        ((302, "", b"http://127.0.0.1:1/"), 11205, "connection refused"),
        ((302, "", b"http://127.0.0.1:99999/"), 11205, "port must be 0-65535"),
        ((302, "", b"http://[a/"), 11210, "no address is known for"),
        ((302, "", b"http://" + b"a" * 70 + b".example/"), 11210, "no address is known for"),
    ],
)
def test_what_twilio_would_report(web, answer, code, words):
    web.answers["/a"] = answer
    with pytest.raises(CallError) as caught:
        ask(f"{web.url}/a")
    assert caught.value.code == code
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:1/a", 11205),
        ("http://no-such-host.invalid/a", 11210),
        ("http://a..b/a", 11210),
        ("http://127.0.0.1:99999/a", 11205),
        ("http://127.0.0.1:b/a", 11210),
        ("http:///a", 11200),
        ("file:///etc/passwd", 11200),
    ],
)
def test_an_address_that_leads_nowhere(url, code, capfd):
    with pytest.raises(CallError) as caught:
        ask(url)
    assert caught.value.code == code
    assert capfd.readouterr() == ("", "")


def test_no_proxy_is_asked(web, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    web.answers["/a"] = 200, "text/xml", DOCUMENT
    assert ask(f"{web.url}/a") == DOCUMENT


def test_an_answer_that_is_not_http():
    with answering(b"SSH-2.0-OpenSSH_9.2\r\n") as port, pytest.raises(CallError) as caught:
        ask(f"http://127.0.0.1:{port}/a")
    assert caught.value.code == 11200
    assert "/a was not answered with HTTP: " in str(caught.value)


def test_an_answer_that_never_ends(web, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", 0.3)
    with pytest.raises(CallError) as caught:
        ask(f"{web.url}/slow")
    assert str(caught.value) == f"11205 HTTP connection failure: {web.url}/slow was not answered within 0.3 s"


def test_a_port_that_speaks_no_tls(web):
    with pytest.raises(CallError) as caught:
        ask(web.url.replace("http:", "https:"))
    assert caught.value.code == 11220
