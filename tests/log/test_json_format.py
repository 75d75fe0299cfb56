"""`LOG_FORMAT=json`: every line that a server logs is an object, and names its stream."""

import json
import logging
import re
import sys

import pytest
from support import calls
from support.calls import CAPTURED
from support.server import ROOT, Server, environment, run_caller
from support.streams import SID, FakeConnection, start

from mediastreams.config import Settings
from mediastreams.log.json_format import JsonFormatter
from mediastreams.protocol.messages import Connected, Unknown
from mediastreams.streams.stream import Stream, current

FIELDS = ["time", "level", "module", "message", "streamSid", "callSid", "event"]


def record(message, *arguments, **extra):
    made = logging.LogRecord("mediastreams.app", logging.INFO, "app.py", 1, message, arguments, None)
    vars(made).update(extra)
    return made


@pytest.fixture
def show():
    """Return a function that makes a record's fields."""
    current.set(None)  # another test's
    return lambda *arguments, **extra: json.loads(JsonFormatter().format(record(*arguments, **extra)))


class TestFields:
    def test_they_are_always_there(self, show):
        fields = show("hello")
        assert list(fields) == FIELDS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
        assert fields == {
            "level": "INFO",
            "module": "app",
            "message": "hello",
            "streamSid": None,
            "callSid": None,
            "event": None,
        }

    @pytest.mark.parametrize(
        ("message", "event"),
        [(Connected("Call", "1.0.0"), "connected"), (start(), "start"), (Unknown("closed"), "closed")],
    )
    def test_the_event_is_that_of_the_message(self, show, message, event):
        assert show("received: %s", message)["event"] == event

    def test_the_stream_that_it_is_about(self, show):
        stream = Stream(FakeConnection(), Settings())
        assert show("hello", stream=stream)["streamSid"] is None
        stream.receive(start().to_json())
        fields = show("hello", stream=stream)
        assert (fields["streamSid"], fields["callSid"]) == (SID, "CA1")

    def test_the_stream_that_it_names(self, show):
        assert show("Stream %s, inbound: dropped", SID)["streamSid"] == SID
        assert show("Stream %s0", SID)["streamSid"] is None

    def test_what_is_given_wins(self, show):
        fields = show("of %s", SID, streamSid="MZ1", callSid=None, event="stream-started")
        assert [fields[name] for name in FIELDS[4:]] == ["MZ1", None, "stream-started"]

    def test_what_else_is_given_follows(self, show):
        fields = show("hello", customer=7)
        assert list(fields) == [*FIELDS, "customer"]
        assert fields["customer"] == 7

    def test_the_time_is_in_utc(self, show):
        assert show("hello", created=1795284000.202, msecs=202.9)["time"] == "2026-11-21T18:00:00.202Z"

    def test_one_line_whatever_it_says(self):
        line = JsonFormatter().format(record("a\nb\u2028c\ud800\x1b"))
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["message"] == "a\nb\u2028c\ud800\x1b"

    def test_a_failure_has_its_traceback(self, show):
        try:
            raise ValueError("of mine")
        except ValueError:
            fields = show("failed", exc_info=sys.exc_info())
        assert list(fields) == [*FIELDS, "exception"]
        assert fields["exception"].endswith("ValueError: of mine")


def objects(lines):
    """Return what was logged; each line must be an object with the fields."""
    logged = [json.loads(line) for line in lines]
    assert all(list(fields)[:7] == FIELDS for fields in logged)
    return logged


def test_a_call(start_server):
    server = start_server(LOG_FORMAT="json")
    calls.say(server, [*CAPTURED[:10], "{}", *CAPTURED[10:]])
    server.wait_for("messages lost")
    server.stop()
    logged = objects(server.lines)
    call = logged[[fields["message"] for fields in logged].index("Connection accepted") :]
    of_call = [fields for fields in call if "Draining" not in fields["message"]]
    sid, call_sid = json.loads(CAPTURED[1])["streamSid"], json.loads(CAPTURED[1])["start"]["callSid"]
    known = [(fields["streamSid"], fields["callSid"]) for fields in of_call]
    assert known[:2] == [(None, None)] * 2
    assert known[2:] == [(sid, call_sid)] * (len(known) - 2)
    events = [fields["event"] for fields in of_call if fields["event"]]
    assert events == ["connected", "start", "media", "stop"]
    assert [fields["level"] for fields in of_call].count("WARNING") == 1


def test_calls_at_once_are_told_apart(start_server, tmp_path):
    server = start_server(LOG_FORMAT="json", RECORDINGS_DIR=str(tmp_path))
    assert run_caller(server.url, "--fast", "--calls", "4", "--drop").returncode == 0
    server.wait_for("messages lost", times=4)
    server.stop()
    logged = objects(server.lines)
    for words in ("Start Message", "That's 160 bytes", "Connection closed", "recorded in", "messages lost"):
        lines = [fields for fields in logged if words in fields["message"]]
        assert len({fields["streamSid"] for fields in lines} - {None}) == 4
        assert len({fields["callSid"] for fields in lines} - {None}) == 4
        for fields in lines:
            named = re.search("MZ[0-9a-f]{32}", fields["message"])
            assert named is None or named[0] == fields["streamSid"]
    assert {fields["streamSid"] for fields in logged if "connection lost" in fields["message"]} - {None}


def test_what_twilio_says_of_a_stream(start_server):
    server = start_server(LOG_FORMAT="json")
    assert (
        run_caller("--twiml", f"http://127.0.0.1:{server.port}/twiml/start-stream", "--fast").returncode == 0
    )
    server.wait_for('"event": "stream-stopped"')
    server.stop()
    told = [fields for fields in objects(server.lines) if (fields["event"] or "").startswith("stream-")]
    (start,) = (fields for fields in objects(server.lines) if fields["event"] == "start")
    assert [fields["event"] for fields in told] == ["stream-started", "stream-stopped"]
    assert {(fields["streamSid"], fields["callSid"]) for fields in told} == {
        (start["streamSid"], start["callSid"])
    }


def test_a_failure_in_the_route(start_server, tmp_path):
    source = (ROOT / "app.py").read_text().replace("has_seen_media = True", "1 / 0")
    (tmp_path / "app.py").write_text(source)
    server = start_server(cwd=tmp_path, LOG_FORMAT="json")
    assert run_caller(server.url, "--seconds", "1").returncode == 1
    server.wait_for("exception")
    server.stop()
    (failed,) = (fields for fields in objects(server.lines) if "exception" in fields)
    assert "ZeroDivisionError" in failed["exception"]
    assert failed["streamSid"] in failed["exception"]


def test_under_gunicorn():
    environ = {**environment(), "HTTP_SERVER_PORT": "0", "LOG_FORMAT": "json"}
    server = Server([sys.executable, "-m", "gunicorn", "app:app"], ROOT, environ)
    try:
        server.wait_until_it_listens()
        server.wait_for("TWILIO_AUTH_TOKEN")
        assert run_caller(server.url, "--fast").returncode == 0
        server.wait_for("messages lost")
    finally:
        server.stop()
    messages = [fields["message"] for fields in objects(server.lines)]
    assert any("ngrok http" in message for message in messages)
