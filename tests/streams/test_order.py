"""Which message may come when; what a stream makes of the answer is in test_stream."""

import pytest
from support.streams import CONNECTED, SID, dtmf, media, start, stop

from mediastreams.protocol.messages import Mark, MarkMetadata, Unknown
from mediastreams.streams.order import fault

MARK = Mark(2, SID, MarkMetadata("m"))
AFTER_START = [media(2, 0), dtmf(2), MARK, stop(2)]
ALL = [CONNECTED, start(), *AFTER_START, Unknown("later")]


def event(message):
    return message.event


@pytest.mark.parametrize("message", [CONNECTED, start(), Unknown("later")], ids=event)
def test_may_come_before_start(message):
    assert fault(message, None, stopped=False) is None


@pytest.mark.parametrize("message", AFTER_START, ids=event)
def test_only_after_start(message):
    assert fault(message, None, stopped=False) == ("before start", f"{message.event} before start")
    assert fault(message, start(), stopped=False) is None


@pytest.mark.parametrize("message", [CONNECTED, start()], ids=event)
def test_only_before_start(message):
    assert fault(message, start(), stopped=False) == ("after start", f"{message.event} after start")


@pytest.mark.parametrize("message", ALL, ids=event)
def test_nothing_after_stop(message):
    assert fault(message, start(), stopped=True) == ("after stop", f"{message.event} after stop")


def test_an_unknown_event_may_come_at_any_time():
    assert fault(Unknown("later"), start(), stopped=False) is None


def test_another_stream():
    kind, text = fault(media(2, 0, sid="MZ2"), start(), stopped=False)
    assert (kind, text) == ("$.streamSid", "$.streamSid: media of another stream, MZ2")
    assert fault(start(inner="MZ2"), None, stopped=False) == (
        "$.streamSid",
        "$.streamSid: differs from $.start.streamSid",
    )
