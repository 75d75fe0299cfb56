"""The account of a stream that is not recorded, and that of a recording as it is handed over."""

import json
import logging

import pytest
from support.streams import SID, FakeConnection, dtmf, media, start, stop, warnings
from support.takeover import NAME, Call, Worker, key, mark, text

from mediastreams.cluster.entries import EndItem
from mediastreams.config import Settings
from mediastreams.consumers.accounted import Accounted
from mediastreams.consumers.recording import Recording
from mediastreams.consumers.registry import Consumers
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript


@pytest.fixture
def handed_over():
    return []


@pytest.fixture
def take(handed_over):
    return lambda id, account: handed_over.append((id, json.loads(account)))


def called(make, message=None, *others):
    """Put a stream through a consumer as the server does; return it."""
    consumers = Consumers()
    consumers.register(make)
    with Stream(FakeConnection(), Settings(), consumers) as stream:
        for each in (message or start(), *others):
            stream.receive(each.to_json())
    consumers.finish(5)
    return stream


class Pressing(Accounted):
    def dtmf(self, message):
        super().dtmf(message)
        self.transcript(Transcript("inbound", "Hello", True, 0.01, 0.03))
        self.transcript(Transcript("inbound", "Hel", False, 0.01, 0.02))
        self.transcript(Transcript("inbound", "", True, 0.01, 0.02))


def test_a_stream_that_is_not_recorded(take, handed_over):
    stream = called(
        lambda stream: Pressing(stream, take),
        start(tracks=("inbound", "outbound")),
        *[media(2 + n, 155 + 20 * n) for n in range(10)],
        dtmf(12),
        stop(13),
    )
    ((id, account),) = handed_over
    milliseconds = stream.started_at.microsecond // 1000
    assert id == f"{stream.started_at:%Y%m%dT%H%M%S}.{milliseconds:03}Z-{SID}"
    assert (account["recording"], account["raw"], account["error"]) == (None, {}, None)
    assert (account["streamSid"], account["callSid"], account["ended"]) == (SID, "CA1", "stop")
    assert account["duration"] == 0.2
    assert account["media"]["inbound"]["chunks"] == 10
    assert account["dtmf"] == [{"digit": "1", "at": 0.2}]
    assert account["transcripts"] == [{"track": "inbound", "text": "Hello", "start": 0.01, "end": 0.03}]


def test_it_wants_no_audio():
    """A server that only posts accounts hands no audio to anybody."""
    consumers = Consumers()
    consumers.register(Accounted)
    (kind,) = consumers._kinds
    assert (kind.wants_chunks, kind.wants_events) == (False, True)


def test_a_sid_that_is_not_twilios(take, handed_over, caplog):
    called(lambda stream: Accounted(stream, take), start(sid="MZ/../../x"))
    assert handed_over == []
    assert any("its account is not posted, its SID is not MZ" in line for line in warnings(caplog))


class TestRecording:
    def test_that_of_the_file(self, tmp_path, take, handed_over):
        called(
            lambda stream: Recording(stream, str(tmp_path), take),
            start(),
            *[media(2 + n, 20 * n) for n in range(10)],
            stop(12),
        )
        (path,) = tmp_path.glob("*.json")
        assert handed_over == [(path.stem, json.loads(path.read_text()))]
        assert handed_over[0][1]["recording"] == f"{path.stem}.wav"

    def test_one_that_is_not_to_be_made(self, tmp_path, take, handed_over):
        message = start(custom_parameters={"record": "no"})
        called(lambda stream: Recording(stream, str(tmp_path), take), message, media(2, 0), dtmf(3), stop(4))
        ((_, account),) = handed_over
        assert (account["recording"], account["duration"]) == (None, 0.02)
        assert account["dtmf"] == [{"digit": "1", "at": 0.02}]
        assert list(tmp_path.iterdir()) == []

    def test_one_that_cannot_be_made(self, tmp_path, take, handed_over):
        (tmp_path / "file").touch()
        called(lambda stream: Recording(stream, str(tmp_path / "file" / "x"), take), start(), media(2, 0))
        ((_, account),) = handed_over
        assert (account["recording"], account["error"]) == (None, "Not a directory")

    def test_nobody_takes_it(self, tmp_path, caplog):
        caplog.set_level(logging.WARNING)
        called(lambda stream: Recording(stream, str(tmp_path)), start(), media(2, 0))
        called(Accounted)
        assert warnings(caplog) == []


class TestTakeover:
    """A worker that another one replaces hands nothing over; the last one does, once."""

    def call(self):
        call = Call("inbound")
        call.say(0, 8000, key("1"), text("Hello", 0.1, 0.5))
        call.say(8000, 16000, mark("m"))
        call.end()
        return call

    def test_the_same_folder(self, tmp_path, take, handed_over):
        call = self.call()
        first = Worker(call, tmp_path)
        first.recording._on_account = take
        first.take(*call.entries[:1])
        state = first.checkpoint()
        second = Worker(call, tmp_path, state)
        second.recording._on_account = take
        first.finish(*call.entries[1:])  # it was only suspended
        assert handed_over == []
        second.finish(*call.entries[1:])
        ((id, account),) = handed_over
        assert (id, account["recording"]) == (NAME, f"{NAME}.wav")
        assert (len(account["dtmf"]), len(account["marks"]), len(account["transcripts"])) == (1, 1, 1)

    def test_of_a_stream_that_is_not_recorded(self, tmp_path, take, handed_over):
        call = Call("inbound")
        call.start.start.custom_parameters["record"] = "no"
        call.say(0, 1600)
        call.say(1600, 8000, key("1"), text("Hello", 0.1, 0.5))
        call.say(8000, 16000, mark("m"))
        call.end()
        call.entries[2].insert(30, key("2"))  # 0.6 s after the numbers of the entry before
        first = Worker(call, tmp_path)
        first.take(*call.entries[:2])
        second = Worker(call, tmp_path, first.checkpoint())
        second.recording._on_account = take
        second.finish(*call.entries[2:])
        ((_, account),) = handed_over
        assert account["dtmf"] == [{"digit": "1", "at": 1.0}, {"digit": "2", "at": 1.6}]
        assert [text["text"] for text in account["transcripts"]] == ["Hello"]
        assert account["marks"] == [{"name": "m", "at": 2.0}]
        assert list(tmp_path.iterdir()) == []

    def test_a_part(self, tmp_path, take, handed_over):
        call = self.call()
        first = Worker(call, tmp_path / "one")
        first.take(*call.entries[:1])
        second = Worker(call, tmp_path / "other", first.checkpoint())
        first.die()
        second.recording._on_account = take
        second.finish(*call.entries[1:-1], [EndItem("dropped", 1.0)])
        ((id, account),) = handed_over
        assert (id, account["continues"]["recording"]) == (f"{NAME}-part2", f"{NAME}.wav")
        assert account["ended"] == "dropped"


class TestResumed:
    """The accounts of two streams of one call, of which the second resumes the first."""

    FIRST = "MZ" + "a" * 32

    def record(self, folder, sid, call="CA1", **parameters):
        message = start(sid=sid, custom_parameters=parameters)
        message.start.call_sid = call
        others = [media(2, 0, sid=sid)]
        called(lambda stream: Recording(stream, str(folder)), message, *others)
        (path,) = folder.glob(f"*-{sid}.json")
        return path

    def test_they_name_each_other(self, tmp_path):
        first = self.record(tmp_path, self.FIRST)
        before = json.loads(first.read_text())
        second = self.record(tmp_path, SID, resumes=self.FIRST)
        assert json.loads(first.read_text()) == {**before, "resumedBy": SID}
        assert json.loads(second.read_text())["resumes"] == self.FIRST

    @pytest.mark.parametrize("told", ["", "{", "[]", '{"callSid": "CA1", "end": null}'])
    def test_an_account_that_is_none_or_not_complete_stays(self, tmp_path, told):
        path = tmp_path / f"20200102T030405.678Z-{self.FIRST}.json"
        path.write_text(told)
        self.record(tmp_path, SID, resumes=self.FIRST)
        assert path.read_text() == told

    def test_that_of_another_call_stays(self, tmp_path):
        first = self.record(tmp_path, self.FIRST)
        before = first.read_text()
        self.record(tmp_path, SID, call="CA2", resumes=self.FIRST)
        assert first.read_text() == before

    @pytest.mark.parametrize("value", ["*", "../x", "MZ", ""])
    def test_a_value_that_is_no_sid(self, tmp_path, value):
        first = self.record(tmp_path, self.FIRST)
        before = first.read_text()
        second = self.record(tmp_path, SID, resumes=value)
        assert first.read_text() == before
        assert json.loads(second.read_text())["resumes"] is None
