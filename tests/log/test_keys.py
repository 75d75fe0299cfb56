"""`LOG_DIGITS=off`: the keys of a call are in no line that a server logs, and in no file that it writes."""

import contextlib
import contextvars
import json
import logging

import pytest
from support.handshake import exchange
from support.server import ROOT, SECONDS
from support.streams import CONNECTED, SID, FakeConnection, start, stop
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mediastreams.config import Settings
from mediastreams.log.configure import formatter
from mediastreams.log.keys import hide_keys, hide_keys_of_pauses
from mediastreams.protocol.messages import Dtmf, DtmfMetadata
from mediastreams.streams.stream import Stream

KEY = "5309*8642#"  # Twilio sends one key a message; a long one is in no other text
BIDIRECTIONAL = {"custom_parameters": {"bidirectional": "true"}}
FAILING = """
from mediastreams import Consumer

@streams.register
class Menu(Consumer):
    def dtmf(self, message):
        assert message.dtmf.digit == {key!r}
        {{}}[message.dtmf.digit]

@sockets.route("/menu")
def menu(ws):
    with streams.open(ws) as stream:
        while not ws.closed:
            message = ws.receive()
            data = None if message is None else stream.receive(message)
            if data is not None and data.event == "dtmf":
                assert data.dtmf.digit == {key!r}
                {{}}[data.dtmf.digit]

if __name__"""


def dtmf(number, **changes):
    message = json.loads(Dtmf(SID, number, DtmfMetadata(digit=KEY)).to_json())
    return json.dumps({**message, **changes})


MESSAGES = [
    CONNECTED.to_json(),
    start(**BIDIRECTIONAL).to_json(),
    dtmf(2),
    dtmf(2),  # a repeat
    dtmf(9),  # some are lost
    dtmf(10, streamSid="MZ" + "e" * 32),
    dtmf(11, sequenceNumber=None),
    dtmf(12, dtmf=KEY),
    dtmf(13, dtmf={"digit": [KEY]}),
    dtmf(14, dtmf={"key": KEY}),
    dtmf(15, dtmf={"digit": KEY, "track": 1}),
    dtmf(16)[:-3],
    dtmf(17) + KEY,
    stop(18).to_json(),
    dtmf(19),
]


def say(server, path, messages=MESSAGES):
    """Send messages and wait until the server has closed the connection."""
    url = server.url.replace("/media", path)
    # It closes after `stop`, before all is sent or later.
    with connect(url, compression=None, open_timeout=SECONDS) as ws, contextlib.suppress(ConnectionClosed):
        for message in messages:
            ws.send(message)
        for _ in ws:
            pass


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(("log_digits", "is_shown"), [("on", True), ("off", False)])
def test_a_call_of_each_route(start_server, tmp_path, log_format, log_digits, is_shown):
    folder = tmp_path / "recordings"
    server = start_server(
        LOG_DIGITS=log_digits, LOG_FORMAT=log_format, LOG_LEVEL="DEBUG", RECORDINGS_DIR=str(folder)
    )
    for path in ("/media", "/echo"):
        say(server, path)
        server.wait_for("messages lost")
    metrics = exchange(server, b"GET /metrics HTTP/1.0\r\n\r\n")
    printed = server.stop()
    for line in ("Dtmf Message received", ", the echo begins anew", "bad message"):
        assert line in printed
    assert (KEY in printed) is is_shown
    assert ("key (not shown), the echo" in printed) is not is_shown
    files = [path.read_text() for path in sorted(folder.glob("*.json"))]
    assert len(files) == 2
    assert [KEY in text for text in files] == [is_shown] * 2
    keys = [[each["digit"] for each in json.loads(text)["dtmf"]] for text in files]
    assert keys == [[KEY if is_shown else "(not shown)"] * 2] * 2
    assert 'messages_total{event="dtmf"}' in metrics
    assert KEY not in metrics


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(("log_digits", "is_shown"), [("on", True), ("off", False)])
def test_what_fails_with_a_key(start_server, tmp_path, log_format, log_digits, is_shown):
    """Route and consumer get the whole key, and raise `KeyError: KEY`."""
    source = (ROOT / "app.py").read_text().replace("\nif __name__", FAILING.format(key=KEY))
    (tmp_path / "app.py").write_text(source)
    server = start_server(cwd=tmp_path, LOG_DIGITS=log_digits, LOG_FORMAT=log_format)
    say(server, "/menu", MESSAGES[:3])
    server.wait_for("The function of /menu failed")
    printed = server.stop()
    assert "Menu failed and gets nothing more" in printed
    assert printed.count("Traceback (most recent call last):") == 2
    assert printed.count(": (not shown, it may quote a key)") == (0 if is_shown else 2)
    assert printed.count("KeyError: ") == 2
    assert (KEY in printed) is is_shown
    assert f"in stream {SID}" in printed


class TestHideKeys:
    def record(self, stream, error):
        made = logging.LogRecord("app", logging.ERROR, "app.py", 1, "It failed", (), error)
        made.stream = stream
        return made

    def stream(self, *messages):
        stream = Stream(FakeConnection(), Settings(log_digits="off"))
        for message in messages:
            stream.receive(message)
        return stream

    def failure(self):
        try:
            raise KeyError(KEY)
        except KeyError as error:
            return type(error), error, error.__traceback__

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_what_is_left(self, log_format):
        record = self.record(self.stream(*MESSAGES[:3]), self.failure())
        assert hide_keys(record)
        shown = formatter(Settings(log_format=log_format)).format(record)
        assert KEY not in shown
        assert "KeyError: (not shown, it may quote a key)" in shown
        assert "raise KeyError(KEY)" in shown  # the source is no secret

    def test_a_stream_without_keys(self):
        record = self.record(self.stream(*MESSAGES[:2]), self.failure())
        assert hide_keys(record)
        assert KEY in formatter(Settings()).format(record)

    @pytest.mark.parametrize("is_paused", [False, True])
    def test_a_stream_whose_recording_was_paused(self, is_paused):
        stream = self.stream(*MESSAGES[:2])
        if is_paused:
            stream.pause_recording()
        stream.receive(MESSAGES[2])
        record = self.record(stream, self.failure())
        assert hide_keys_of_pauses(record)
        assert (KEY in formatter(Settings()).format(record)) is not is_paused
        assert hide_keys_of_pauses(self.record(None, self.failure()))

    def test_no_stream(self):
        record = self.record(None, self.failure())
        # In a context of its own: in the test's, the stream of another test may be the current one.
        assert contextvars.Context().run(hide_keys, record)
        assert KEY in formatter(Settings()).format(record)

    def test_no_failure(self):
        record = self.record(self.stream(*MESSAGES[:3]), None)
        assert hide_keys(record)
        assert formatter(Settings()).format(record).endswith("It failed")
