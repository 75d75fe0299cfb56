"""Calls whose stream breaks: Twilio asks how they go on, and the server lets them stream again."""

import contextlib
import json
import re
import secrets
import sys
import urllib.parse
import urllib.request
from xml.etree import ElementTree

import pytest
from support.server import ROOT, SECONDS, TOKEN, Server, environment
from support.streams import media, stop
from twilio.request_validator import RequestValidator
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from mediastreams.protocol.messages import Start, StartMetadata
from mediastreams.web import webhooks

REDIRECT = re.compile(r"http://127\.0\.0\.1:\d+/twiml/resume-stream\?resume=(\d+)")


class Call:
    """A call as Twilio has it: it asks for TwiML, and opens a stream where that has one."""

    def __init__(self, server, token=None):
        self.server = server
        self.sid = "CA" + secrets.token_hex(16)
        self.token = token

    def ask(self, url=None):
        """Ask for TwiML, as a rule where the call comes in; return its verbs."""
        url = url or f"http://127.0.0.1:{self.server.port}/twiml/resume-stream"
        form = {"CallSid": self.sid, "From": "+15550123456"}
        headers = {}
        if self.token:
            headers["X-Twilio-Signature"] = RequestValidator(self.token).compute_signature(url, form)
        request = urllib.request.Request(url, urllib.parse.urlencode(form).encode(), headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            self.verbs = list(ElementTree.fromstring(answer.read()))
        return [verb.tag for verb in self.verbs]

    def redirect(self):
        """Ask where the `<Redirect>` leads; return the verbs."""
        (redirect,) = [verb for verb in self.verbs if verb.tag == "Redirect"]
        return self.ask(redirect.text)

    @property
    def attempt(self):
        (redirect,) = [verb for verb in self.verbs if verb.tag == "Redirect"]
        return int(REDIRECT.fullmatch(redirect.text)[1])

    @property
    def parameters(self):
        return {each.get("name"): each.get("value") for verb in self.verbs for each in verb.iter("Parameter")}

    def stream(self, end):
        """Stream as the TwiML says: open it, send 0.2 s and let `end` end it; return its SID."""
        sid = "MZ" + secrets.token_hex(16)
        (stream,) = [each for verb in self.verbs for each in verb.iter("Stream")]
        metadata = StartMetadata("AC" + "1" * 32, sid, self.sid, custom_parameters=self.parameters)
        with connect(stream.get("url"), compression=None) as ws:
            ws.send(Start(1, metadata, sid).to_json())
            for n in range(10):
                ws.send(media(2 + n, 20 * n, sid=sid).to_json())
            end(ws, sid)
            with contextlib.suppress(ConnectionClosedError):
                for _ in ws:
                    pass
        return sid


def drop(ws, sid):
    ws.recv()  # the echo: it has started
    ws.socket.shutdown(2)


def send_stop(ws, sid):
    message = stop(12)
    message.stream_sid = sid
    ws.send(message.to_json())


FULL = ["Connect", "Redirect", "Say"]


def lines(folder):
    return {path.stem[-34:]: json.loads(path.read_text()) for path in folder.glob("*.json")}


class TestResume:
    def test_a_stream_that_breaks(self, start_server, tmp_path):
        """The accounts of both name each other."""
        server = start_server(RECORDINGS_DIR=str(tmp_path))
        call = Call(server)
        assert (call.ask(), call.attempt) == (FULL, 1)
        first = call.stream(drop)
        server.wait_for(f"Stream {first}: .* recorded in ")
        assert (call.redirect(), call.attempt) == (FULL, 2)
        assert call.parameters == {"bidirectional": "true", "resumes": first}
        second = call.stream(send_stop)
        server.wait_for(f"Stream {second}: .* recorded in ")
        assert call.redirect() == ["Say"]
        output = server.stop()
        told = lines(tmp_path)
        assert {told[sid]["callSid"] for sid in (first, second)} == {call.sid}
        assert (told[first]["resumes"], told[first]["resumedBy"]) == (None, second)
        assert (told[second]["resumes"], told[second]["resumedBy"]) == (first, None)
        assert f"Call {call.sid}: its stream {first} broke, it is resumed (attempt 1 of 5)" in output
        assert f"Call {call.sid} goes on, its stream is over" in output
        assert "Traceback" not in output

    def test_one_of_which_the_server_has_not_met_the_end(self, start_server, tmp_path):
        """Twilio says that the connection is lost half a minute before the server can see it."""
        server = start_server(RECORDINGS_DIR=str(tmp_path))
        call = Call(server)
        call.ask()
        seconds = []

        def resume(ws, sid):
            ws.recv()
            assert call.redirect() == FULL
            assert call.parameters["resumes"] == sid

            def end(other, other_sid):
                other.recv()
                ws.socket.shutdown(2)
                server.wait_for(f"Stream {sid}: .* recorded in ")
                send_stop(other, other_sid)

            seconds.append(call.stream(end))

        first = call.stream(resume)
        server.wait_for(f"Stream {seconds[0]}: .* recorded in ")
        assert call.redirect() == ["Say"]
        assert "second live stream" not in server.stop()
        assert lines(tmp_path)[first]["resumedBy"] == seconds[0]

    def test_a_server_that_is_new(self, shared_server):
        """As after a restart: of the call nothing is known, but that it was streaming."""
        call = Call(shared_server)
        call.ask()
        assert call.redirect() == FULL
        assert call.parameters == {"bidirectional": "true"}

    def test_one_that_cannot_be_opened_is_tried_five_times(self, shared_server):
        call = Call(shared_server)
        call.ask()
        pauses = []
        for attempt in range(1, webhooks.MAX_ATTEMPTS + 1):
            verbs = call.redirect()
            assert verbs[-3:] == FULL
            assert call.attempt == attempt + 1
            pauses.append(call.verbs[0].get("length") if verbs[0] == "Pause" else None)
        assert pauses == [None, "1", "2", "4", "8"]
        assert call.redirect() == ["Say"]
        assert any(
            "goes on without its stream, which broke 6 times" in line for line in shared_server.logged()
        )

    def test_after_a_stable_stream_they_are_counted_anew(self, start_server):
        program = "from mediastreams.web import webhooks; webhooks._STABLE_SECONDS = 0.0"
        server = start_server("-c", f"{program}\nimport runpy; runpy.run_path('app.py', run_name='__main__')")
        call = Call(server)
        call.ask()
        for _ in range(webhooks.MAX_ATTEMPTS + 2):
            sid = call.stream(drop)
            server.wait_for(f"Stream {sid}: .* messages lost")
            assert (call.redirect(), call.attempt) == (FULL, 2)

    @pytest.mark.parametrize(
        "query", ["resume=0", "resume=-1", "resume=x", "resume=", "resume=100", "other=1"]
    )
    def test_a_query_that_is_none(self, shared_server, query):
        call = Call(shared_server)
        url = f"http://127.0.0.1:{shared_server.port}/twiml/resume-stream?{query}"
        assert (call.ask(url), call.attempt) == (FULL, 1)

    def test_a_document_that_does_not_ask(self, shared_server):
        call = Call(shared_server)
        url = f"http://127.0.0.1:{shared_server.port}/twiml/connect-stream?resume=1"
        assert call.ask(url) == ["Connect", "Say"]

    def test_it_is_signed(self, start_server):
        server = start_server(TWILIO_AUTH_TOKEN=TOKEN)
        call = Call(server, TOKEN)
        assert call.ask() == FULL
        assert call.redirect() == FULL
        call.token = "f" * 32
        with pytest.raises(urllib.error.HTTPError, match="403"):
            call.redirect()


def test_workers_of_gunicorn_know_of_each_other(tmp_path):
    environ = {**environment(), "HTTP_SERVER_PORT": "0", "TMPDIR": str(tmp_path)}
    server = Server([sys.executable, "-m", "gunicorn", "-w", "3", "app:app"], ROOT, environ)
    try:
        server.wait_until_it_listens()
        server.wait_for("Booting worker", times=3)
        for _ in range(8):
            call = Call(server)
            call.ask()
            call.stream(send_stop)
            assert call.redirect() == ["Say"]
            call.ask()
            first = call.stream(drop)
            server.wait_for(f"Stream {first}: .* messages lost")
            assert call.redirect() == FULL
            assert call.parameters["resumes"] == first
    finally:
        assert "Traceback" not in server.stop()
    assert list(tmp_path.glob("mediastreams-metrics-*")) == []
