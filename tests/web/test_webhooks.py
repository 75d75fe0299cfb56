"""What Twilio asks with HTTP, asked of `python app.py`."""

import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from xml.etree import ElementTree

import pytest
from flask import Flask
from support.handshake import exchange
from support.server import ROOT, SECONDS, TOKEN, run
from twilio.request_validator import RequestValidator

from mediastreams.config import Settings
from mediastreams.protocol import error_codes
from mediastreams.web.webhooks import Webhooks

SID = "MZ" + "0123456789abcdef" * 2
STATUS = {
    "AccountSid": "AC" + "1" * 32,
    "CallSid": "CA" + "2" * 32,
    "StreamSid": SID,
    "StreamName": SID,
    "StreamEvent": "stream-started",
    "Timestamp": "2024-11-29T00:09:39.602648368Z",
}


@pytest.fixture
def server(shared_server):
    return shared_server


def ask(server, path, form=None, **headers):
    """Ask as Twilio does; return the status, the Content-Type and the body."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}",
        None if form is None else urllib.parse.urlencode(form).encode(),
        {name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def stream_of(body):
    return next(ElementTree.fromstring(body).iter("Stream")).attrib


class TestTwiml:
    @pytest.mark.parametrize("form", [None, {"CallSid": STATUS["CallSid"]}], ids=["GET", "POST"])
    @pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "twiml").glob("*.xml"))])
    def test_each_document(self, server, name, form):
        status, kind, body = ask(server, f"/twiml/{name}", form)
        assert (status, kind) == (200, "text/xml; charset=utf-8")
        route = "/echo" if name in ("connect-stream", "resume-stream") else "/media"
        assert stream_of(body)["url"] == f"ws://127.0.0.1:{server.port}{route}"
        assert ask(server, f"/twiml/{name}.xml", form)[2] == body
        method = "POST" if form else "GET"
        assert re.fullmatch(rf'127\S+ "{method} /twiml/{name}" 200', server_line(server, name))

    @pytest.mark.parametrize(
        ("headers", "base"),
        [
            ({"Host": "a.example"}, "ws://a.example"),
            ({"Host": "a.example", "X_Forwarded_Proto": "https"}, "wss://a.example"),
            ({"Host": "a.example", "X_Forwarded_Proto": "HTTPS, http"}, "wss://a.example"),
            ({"Host": "a.example:8443", "X_Forwarded_Proto": "https"}, "wss://a.example:8443"),
            ({"Host": "[::1]:5000"}, "ws://[::1]:5000"),
        ],
        ids=str,
    )
    def test_the_address_is_where_it_was_asked(self, server, headers, base):
        stream = stream_of(ask(server, "/twiml/start-stream", **headers)[2])
        assert stream["url"] == f"{base}/media"
        assert stream["statusCallback"] == f"http{base[2:]}/stream-status"

    @pytest.mark.parametrize("host", ["a b", "a/b", '"><Hangup/>', "a:b", "\xe4", ""])
    def test_a_host_that_is_none(self, server, host):
        assert ask(server, "/twiml/start-stream", Host=host)[0] == 400

    def test_the_settings_say_where_and_whom_to_dial(self, start_server):
        server = start_server(PUBLIC_URL="https://a.example/b/", DIAL_NUMBER="+442071838750")
        body = ask(server, "/twiml/start-stream", Host="b.example")[2]
        assert stream_of(body) == {
            "url": "wss://a.example/b/media",
            "statusCallback": "https://a.example/b/stream-status",
        }
        assert ElementTree.fromstring(body).find("Dial").text == "+442071838750"

    @pytest.mark.parametrize(
        "path",
        [
            *(
                "/twiml/none",
                "/twiml/",
                "/twiml",
                "/twiml/..%2f.env",
                "/twiml/%2e%2e%2fapp",
                "/twiml/..",
                "/twiml/.",
            ),
            *("/twiml/.xml", "/twiml/start-stream.xml.xml", "/twiml/start-stream/", "/twiml/Start-Stream"),
            *("/twiml/start-stream%00", "/twiml//etc/passwd", "/twiml/*", "/twiml/start%2dstream%0a"),
        ],
    )
    def test_only_names_that_exist(self, server, path):
        status, kind, body = ask(server, path)
        assert status == 404
        assert "text/xml" not in kind
        assert "Response>" not in body
        server.logged()

    def test_no_such_name_says_which_there_are(self, server):
        assert "there are: both-tracks, connect-stream, " in ask(server, "/twiml/none")[2]

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_methods(self, server, method):
        url = f"http://127.0.0.1:{server.port}/twiml/start-stream"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, method=method))
        with caught.value as error:
            assert error.code == 405

    def test_a_broken_document_is_one_line_and_500(self, start_server, tmp_path):
        (tmp_path / "app.py").write_text((ROOT / "app.py").read_text())
        (tmp_path / "twiml").mkdir()
        (tmp_path / "twiml" / "mine.xml").write_text("<Response><Dial></Response>")
        server = start_server(cwd=tmp_path)
        status, kind, body = ask(server, "/twiml/mine")
        assert (status, kind) == (500, "text/plain")
        assert "broken" in body
        line = server.wait_for("TwiML").string
        assert "ERROR in webhooks: TwiML cannot be served: 12100 mine.xml is not well-formed XML: " in line
        assert "Traceback" not in server.stop()


def server_line(server, words):
    return server.wait_for(words).string.partition(": ")[2]


class TestCallStatus:
    SID = "CA" + "2" * 32

    @pytest.mark.parametrize(
        ("form", "line"),
        [
            ({"CallStatus": "ringing"}, "INFO in webhooks: Call {}: ringing"),
            ({"CallStatus": "completed", "CallDuration": "12"}, "INFO in webhooks: Call {}: completed, 12 s"),
            ({"CallStatus": "busy"}, "WARNING in webhooks: Call {}: busy"),
            (
                {"CallStatus": "failed", "SipResponseCode": "404"},
                "WARNING in webhooks: Call {}: failed, SIP 404",
            ),
            ({"CallStatus": "a\nb"}, "INFO in webhooks: Call {}: a\\u000ab"),
        ],
    )
    def test_each_is_one_line(self, server, form, line):
        assert ask(server, "/call-status", {"CallSid": self.SID, **form})[0] == 204
        assert server.logged() == [line.format(self.SID).partition(": ")[2]]
        assert any(each.endswith(line.format(self.SID)) for each in server.lines)

    @pytest.mark.parametrize("form", [{"CallSid": SID}, {"CallStatus": "busy"}, {}])
    def test_what_is_no_status_is_refused_in_one_line(self, server, form):
        assert ask(server, "/call-status", form)[0] == 400
        (line,) = server.logged()
        assert line.endswith('"POST /call-status" refused with 400, CallSid and CallStatus are missing.')


class TestStreamStatus:
    def test_started_and_stopped(self, server):
        for event in ("stream-started", "stream-stopped"):
            assert ask(server, "/stream-status", {**STATUS, "StreamEvent": event})[0] == 204
        assert server.logged() == [f"Stream {SID}: stream-started", f"Stream {SID}: stream-stopped"]

    def test_the_streams_name(self, server):
        ask(server, "/stream-status", {**STATUS, "StreamName": "support-line"})
        assert server_line(server, SID) == f'Stream {SID}: stream-started (name "support-line")'

    @pytest.mark.parametrize("code", [code for code in error_codes.ERRORS if code > 31000])
    def test_an_error_has_its_meaning_and_what_to_check(self, server, code):
        form = {**STATUS, "StreamEvent": "stream-error", "StreamError": error_codes.ERRORS[code].title}
        assert ask(server, "/stream-status", form)[0] == 204
        line = server.wait_for(SID).string
        entry = error_codes.ERRORS[code]
        told = f"Stream {SID}: stream-error, {code} {entry.meaning}; check {entry.check}"
        assert line.endswith(f"ERROR in webhooks: {told}")

    def test_an_error_that_nobody_knows(self, server):
        form = {**STATUS, "StreamEvent": "stream-error", "StreamError": "something\nelse" + "x" * 900}
        assert ask(server, "/stream-status", form)[0] == 204
        line = server_line(server, SID)
        assert line.startswith(f"Stream {SID}: stream-error (Twilio: something\\u000aelsexx")
        assert len(line) < 300

    @pytest.mark.parametrize("missing", ["StreamSid", "StreamEvent"])
    def test_what_is_no_status_is_refused_in_one_line(self, server, missing):
        form = {name: value for name, value in STATUS.items() if name != missing}
        assert ask(server, "/stream-status", form)[0] == 400
        (line,) = server.logged()
        assert '"POST /stream-status" refused with 400, StreamSid and StreamEvent are missing.' in line

    def test_get_is_not_for_it(self, server):
        assert ask(server, "/stream-status")[0] == 405

    def test_bodies_of_any_bytes(self, server):
        for body in (b"", b"\xff\xfe&=&&", b"StreamSid=%ff&StreamEvent=%00", b"a" * 65536, b"--x\r\n\r\n"):
            for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"):
                request = urllib.request.Request(
                    f"http://127.0.0.1:{server.port}/stream-status", body, {"Content-Type": kind}
                )
                try:
                    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                        assert answer.status == 204
                except urllib.error.HTTPError as error:
                    with error:
                        assert error.code in (400, 413)
        server.logged()

    def test_a_body_has_an_end(self, server):
        assert ask(server, "/stream-status", {**STATUS, "more": "x" * 65536})[0] == 413
        assert "refused with 413, A webhook has 65536 bytes at most." in server_line(server, "413")

    @pytest.mark.parametrize(
        "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
    )
    @pytest.mark.parametrize("path", ["/stream-status", "/twiml/start-stream"])
    def test_a_body_that_is_cut_off(self, server, path, kind):
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\nContent-Type: {kind}\r\n\r\n"
        exchange(server, head.encode() + b"StreamSid=1")
        server.logged()

    def test_a_body_that_does_not_come(self, start_server):
        server = start_server(START_TIMEOUT="0.3")
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
            connection.sendall(
                b"POST /stream-status HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\nStreamSid=1"
            )
            answer = b""
            while part := connection.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < SECONDS / 2
        assert "Traceback" not in server.stop()


class TestFlood:
    """Without TWILIO_AUTH_TOKEN anybody can send status callbacks: they do not fill the disk."""

    @pytest.mark.parametrize("path", ["/call-status", "/stream-status"])
    def test_many(self, start_server, path):
        server = start_server()
        odd = "\x80" * 1000
        form = {"CallSid": odd, "CallStatus": odd, "StreamSid": odd, "StreamEvent": odd, "StreamError": odd}
        for _ in range(120):
            assert ask(server, path, form)[0] == 204
        printed = server.stop()
        lines = [line for line in printed.splitlines() if " in webhooks: " in line]
        assert len(lines) == 100
        assert max(map(len, lines)) < 1500
        assert "20 more lines of status callbacks were left out" in printed

    def test_those_that_twilio_has_signed_are_all_shown(self, start_server):
        server = start_server(TWILIO_AUTH_TOKEN=TOKEN, PUBLIC_URL="https://a.example")
        form = {"CallSid": "CA1", "CallStatus": "ringing"}
        signature = RequestValidator(TOKEN).compute_signature("https://a.example/call-status", form)
        for _ in range(120):
            assert ask(server, "/call-status", form, X_Twilio_Signature=signature)[0] == 204
        assert server.stop().count("Call CA1: ringing") == 120


@pytest.fixture(scope="module")
def signed(start_shared_server):
    return start_shared_server(TWILIO_AUTH_TOKEN=TOKEN, PUBLIC_URL="wss://a.example/media")


class TestSignature:
    """With TWILIO_AUTH_TOKEN; the signature is made by Twilio's own library."""

    def sign(self, url, form=None):
        return RequestValidator(TOKEN).compute_signature(url, form or {})

    def test_a_webhook_of_twilio(self, signed):
        url = "https://a.example/twiml/start-stream"
        form = {"CallSid": "CA1", "Caller": "+1", "Empty": "", "City": "K\xf6ln & more"}
        assert ask(signed, "/twiml/start-stream", form, X_Twilio_Signature=self.sign(url, form))[0] == 200
        assert ask(signed, "/twiml/start-stream", X_Twilio_Signature=self.sign(url))[0] == 200
        query = "?a=b%20c&d"
        assert ask(signed, f"/twiml/start-stream{query}", X_Twilio_Signature=self.sign(url + query))[0] == 200
        url = "https://a.example/stream-status"
        assert ask(signed, "/stream-status", STATUS, X_Twilio_Signature=self.sign(url, STATUS))[0] == 204

    @pytest.mark.parametrize("path", ["/twiml/start-stream", "/twiml/none", "/stream-status"])
    def test_anybody_else(self, signed, path):
        signed.logged()
        good = self.sign(f"https://a.example{path}", STATUS)
        assert ask(signed, path, STATUS)[0] == 403
        assert ask(signed, path, STATUS, X_Twilio_Signature="x")[0] == 403
        assert ask(signed, path, {**STATUS, "StreamName": "x"}, X_Twilio_Signature=good)[0] == 403
        lines = signed.logged()
        assert [line.partition(" ")[2].partition(";")[0] for line in lines] == [
            f'"POST {path}" refused with 403, no X-Twilio-Signature',
            f'"POST {path}" refused with 403, the signature is not Twilio\'s',
            f'"POST {path}" refused with 403, the signature is not Twilio\'s',
        ]
        assert f"; tried https://a.example{path}, https://a.example:443{path}. PUBLIC_URL must" in lines[-1]

    def test_an_address_cannot_forge_a_line_of_the_log(self, signed):
        signed.logged()
        exchange(signed, b"GET /twiml/start-stream?\x1b[2J\xc2\x80\xad HTTP/1.1\r\nHost: a\r\n\r\n")
        (line,) = signed.logged()
        assert line.isprintable()
        assert "?\\u001b[2J" in line

    def test_without_public_url_it_is_the_host(self, start_server):
        server = start_server(TWILIO_AUTH_TOKEN=TOKEN)
        for url in ("https://b.example/twiml/start-stream", "http://b.example/twiml/start-stream"):
            status = ask(server, "/twiml/start-stream", Host="b.example", X_Twilio_Signature=self.sign(url))[
                0
            ]
            assert status == 200


def test_a_number_that_cannot_be_dialled_stops_the_start():
    result = run("app.py", DIAL_NUMBER="555-0123")
    assert result.returncode == 1
    assert result.stderr == (
        "DIAL_NUMBER='555-0123' cannot be used: it must be a number in E.164, such as +15550123456\n"
    )


class TestWhoseDocuments:
    """An application elsewhere has its own folder `twiml`, or is served the package's documents."""

    @pytest.fixture
    def client(self, tmp_path):
        app = Flask("elsewhere", root_path=str(tmp_path))
        app.register_blueprint(Webhooks(Settings()))
        return app.test_client()

    def test_the_packages(self, client):
        for path in (ROOT / "twiml").glob("*.xml"):
            answer = client.get(f"/twiml/{path.stem}")
            assert answer.status_code == 200, answer.text
            assert stream_of(answer.text)["url"].startswith("ws://localhost/")

    def test_the_applications_own(self, client, tmp_path):
        document = (ROOT / "twiml" / "start-stream.xml").read_text()
        (tmp_path / "twiml").mkdir()
        (tmp_path / "twiml" / "mine.xml").write_text(document)
        assert client.get("/twiml/mine").status_code == 200
        other = document.replace("/media", "/other")
        (tmp_path / "twiml" / "both-tracks.xml").write_text(other)
        assert stream_of(client.get("/twiml/both-tracks").text)["url"] == "ws://localhost/other"
        for name in ("start-stream", "connect-stream"):  # the package's
            assert client.get(f"/twiml/{name}").status_code == 200
        answer = client.get("/twiml/other")
        assert answer.status_code == 404
        assert "there are: both-tracks, connect-stream, mine, named-with-parameters," in answer.text

    def test_beneath_a_path(self, tmp_path):
        """As Werkzeug's `DispatcherMiddleware` mounts it; Twilio signs the whole address."""
        app = Flask("elsewhere", root_path=str(tmp_path))
        app.register_blueprint(Webhooks(Settings(twilio_auth_token=TOKEN)))
        signature = RequestValidator(TOKEN).compute_signature(
            "https://localhost/c%20d/twiml/start-stream", {}
        )
        answer = app.test_client().get(
            "/twiml/start-stream",
            base_url="https://localhost/c d",
            headers={"X-Twilio-Signature": signature},
        )
        assert answer.status_code == 200
        assert stream_of(answer.text) == {
            "url": "wss://localhost/c%20d/media",
            "statusCallback": "https://localhost/c%20d/stream-status",
        }

    def test_who_calls_is_filled_in(self, client):
        answer = client.post("/twiml/named-with-parameters", data={"From": "+15550100001"})
        assert '<Parameter name="From" value="+15550100001" />' in answer.text
