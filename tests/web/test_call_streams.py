"""What is known of a call when Twilio asks how it goes on."""

import os
import time
from datetime import timedelta

import pytest
from support.streams import SID, FakeConnection, start

from mediastreams.config import Settings
from mediastreams.streams.stream import Stream
from mediastreams.web import call_streams as module
from mediastreams.web.call_streams import CallStream, CallStreams

CALL = "CA" + "2" * 32
OTHER = "MZ" + "e" * 32


@pytest.fixture(params=["one process", "several"])
def make(request, tmp_path):
    """Return a function that gives what is known to a process; to several it is the same."""
    if request.param == "several":
        return lambda: CallStreams(tmp_path / "calls")
    streams = CallStreams()
    return lambda: streams


def stream_of(sid=SID, call=CALL, is_bidirectional=True):
    parameters = {"bidirectional": "true"} if is_bidirectional else {}
    message = start(sid=sid, custom_parameters=parameters)
    message.start.call_sid = call
    stream = Stream(FakeConnection(), Settings())
    stream.receive(message.to_json())
    return stream


def ended(stream, ending, seconds=5.0):
    stream.ending, stream.ended_at = ending, stream.started_at + timedelta(seconds=seconds)
    return stream


@pytest.mark.parametrize(
    ("ending", "is_over"),
    [
        ("stop", True),
        ("server closed 1000", True),
        ("server closed 1008", True),
        ("server closed 1009", True),
        ("server closed 1001", False),
        ("server closed 1011", False),
        ("dropped", False),
        ("timed out", False),
        ("drained", False),
        ("failed", False),
        ("peer closed 1006", False),
    ],
)
def test_how_it_ended(make, ending, is_over):
    stream = stream_of()
    make().begin(stream)
    assert make().latest(CALL) == CallStream(SID)
    make().end(ended(stream, ending))
    assert make().latest(CALL) == CallStream(SID, 5.0, is_over)


def test_nothing_is_known_of_others(make):
    for stream in (stream_of(is_bidirectional=False), stream_of(call="CA1"), stream_of(call="../x")):
        make().begin(stream)
        make().end(ended(stream, "stop"))
    assert [make().latest(call) for call in (CALL, "CA1", "../x", "", "CA" + "3" * 32)] == [None] * 5


def test_the_end_of_a_stream_that_was_resumed_before_it_was_met(make):
    first, second = stream_of(), stream_of(OTHER)
    make().begin(first)
    make().begin(second)
    make().end(ended(first, "timed out"))
    assert make().latest(CALL) == CallStream(OTHER)


def test_what_has_ended_is_forgotten_and_what_is_live_is_not(make, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_PURGE_EVERY", 1)
    live, over = stream_of(call=CALL), stream_of(call="CA" + "3" * 32)
    make().begin(live)
    make().begin(over)
    make().end(ended(over, "stop"))
    later = time.time() + module._KEPT_SECONDS + 1
    monkeypatch.setattr(module.time, "time", lambda: later)
    make().begin(stream_of(call="CA" + "4" * 32))
    assert make().latest("CA" + "3" * 32) is None
    assert make().latest(CALL) == CallStream(SID)


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    streams = CallStreams(tmp_path / "file")
    streams.begin(stream_of())
    assert streams.latest(CALL) is None
    (tmp_path / CALL).write_text("{")
    assert CallStreams(tmp_path).latest(CALL) is None
    assert os.listdir(tmp_path)
