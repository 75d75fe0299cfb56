"""One call as the page shows it: its row, what was said, and the bounds of all that."""

import pytest
from support.streams import FakeConnection, media, start, stop

from mediastreams.config import Settings
from mediastreams.protocol.messages import MediaFormat
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript as StreamTranscript
from mediastreams.viewers import call as call_module
from mediastreams.viewers.call import MAX_EVENTS, MAX_TRANSCRIPTS, Call
from mediastreams.viewers.lines import StreamLog
from mediastreams.viewers.messages import (
    Audio,
    Dtmf,
    Line,
    Logged,
    Mark,
    Pressed,
    Returned,
    Said,
    Transcript,
    Wave,
    Words,
    encode,
)


@pytest.fixture
def told():
    return []


@pytest.fixture
def begin(told):
    def begin(**fields):
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start(**fields).to_json())
        return Call("7", stream, StreamLog(), told.append)

    return begin


def said(text, final=True, track="inbound"):
    return StreamTranscript(track, text, final, 1.00049, 2.0)


class TestRow:
    def test_a_new_call(self, begin):
        fields = {"tracks": ("inbound", "outbound"), "custom_parameters": {"bidirectional": "true"}}
        row = begin(**fields).row()
        assert (row.id, row.call_sid, row.tracks) == ("7", "CA1", ["inbound", "outbound"])
        assert row.stream_sid.startswith("MZ")
        assert (row.parameters, row.two_way) == ({"bidirectional": "true"}, True)
        assert (row.format, row.decodable) == ("audio/x-mulaw 8000 Hz", True)
        assert (row.seconds, row.words, row.ending, row.ended_at) == (0.0, None, "", None)

    def test_of_another_encoding(self, begin):
        row = begin(media_format=MediaFormat("audio/opus", 48000, 2)).row()
        assert (row.format, row.decodable, row.two_way) == ("audio/opus 48000 Hz", False, False)

    def test_what_a_peer_chose_is_bounded_and_can_be_encoded(self, begin):
        parameters = {f"{n}" + "n" * 300: "\n" + "v" * 300 for n in range(30)}
        row = begin(tracks=("inbound",) * 50, custom_parameters=parameters).row()
        assert row.tracks == ["inbound"]
        assert len(row.parameters) == 20
        for name, value in row.parameters.items():
            assert name.endswith("nnn...")
            assert value == "\\u000a" + "v" * 199 + "..."
        assert len(encode(row)) < 20 * 500

    def test_its_counts_are_those_of_the_stream(self, begin):
        call = begin()
        for message in (media(2, 0), media(4, 80), media(3, 20)):
            call.stream.receive(message.to_json())
        call.stream.receive("nonsense")
        row = call.row()
        assert (row.seconds, row.lost, row.late, row.bad, row.missing) == (0.1, 0, 1, 1, 0.04)

    def test_its_end(self, begin):
        call = begin()
        with call.stream as stream:
            for message in (media(2, 0), media(3, 20), stop(4)):
                stream.receive(message.to_json())
        row = call.end()
        assert (row.ending, row.ended_at) == ("stop", stream.ended_at.timestamp())
        assert call.stream is None
        assert call.changes() is None
        assert call.row() is row


class TestChanges:
    def test_only_what_has_changed(self, begin):
        call = begin()
        assert call.changes() is None
        call.stream.receive(media(3, 0).to_json())
        assert call.changes() is not None
        call.stream.receive(media(4, 20).to_json())
        call.stream.receive(media(6, 80).to_json())
        assert call.changes() == {"id": "7", "seconds": 0.1, "lost": 2, "missing": 0.04}
        assert call.changes() is None

    def test_a_snapshot_between_hides_nothing(self, begin):
        call = begin()
        call.stream.receive("nonsense")
        assert call.row().bad == 1
        assert call.changes() == {"id": "7", "bad": 1}

    def test_the_last_words(self, begin):
        call = begin()
        call.note_transcript(said("hello", final=False))
        call.note_transcript(said(""))
        assert call.changes() == {"id": "7", "words": Words("caller", "hello")}


class TestWords:
    def test_spaces_and_joiners_of_a_language_are_shown(self, begin, told):
        name = "\u5c71\u7530\u3000\u592a\u90ce"
        call = begin(custom_parameters={"name": name})
        call.note_transcript(said("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645\n"))
        assert call.row().parameters == {"name": name}
        assert told[0].text == "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645\\u000a"

    def test_told_at_once_and_noted(self, begin, told):
        call = begin()
        call.note_transcript(said("hel", final=False))
        call.note_transcript(said("hello"))
        call.note_transcript(said("good day", final=False, track="outbound"))
        assert told == [
            Transcript("inbound", "caller", "hel", False, 1.0, 2.0, "7"),
            Transcript("inbound", "caller", "hello", True, 1.0, 2.0, "7"),
            Transcript("outbound", "callee", "good day", False, 1.0, 2.0, "7"),
        ]
        assert call.detail().transcripts == [
            Said("inbound", "caller", "hello", True, 1.0, 2.0),
            Said("outbound", "callee", "good day", False, 1.0, 2.0),  # not final yet
        ]

    def test_one_that_is_taken_back(self, begin, told):
        call = begin()
        call.note_transcript(said("hm", final=False))
        call.note_transcript(said(""))
        assert told[-1] == Transcript("inbound", "caller", "", True, 1.0, 2.0, "7")
        assert call.detail().transcripts == []

    def test_the_latest_are_kept(self, begin):
        call = begin()
        for n in range(MAX_TRANSCRIPTS + 3):
            call.note_transcript(said(f"{n}"))
        transcripts = call.detail().transcripts
        assert [each.text for each in transcripts] == [f"{n}" for n in range(3, MAX_TRANSCRIPTS + 3)]

    def test_a_text_without_utf_8_can_be_sent(self, begin, told):
        begin().note_transcript(said("half \ud800 " + "x" * 3000))
        assert told[0].text.startswith("half \\ud800 xxx")
        assert len(encode(told[0])) < 2200


class TestKeysAndMarks:
    def test_noted_and_where_the_call_is_selected_told(self, begin, told):
        call = begin()
        call.note_digit("1", 0.5)
        call.note_mark("m", 1.0)
        assert told == []
        call.is_selected = True
        call.note_digit("2", 1.5004)
        call.note_mark("n", 2.0)
        assert told == [Dtmf("2", 1.5, "7"), Mark("n", 2.0, "7")]
        detail = call.detail()
        assert detail.digits == [Pressed("1", 0.5), Pressed("2", 1.5)]
        assert detail.marks == [Returned("m", 1.0), Returned("n", 2.0)]

    def test_bounded(self, begin):
        call = begin()
        for n in range(MAX_EVENTS + 2):
            call.note_digit("1" * 500, n)
            call.note_mark("m" * 500, n)
        detail = call.detail()
        assert [each.at for each in detail.digits] == list(range(2, MAX_EVENTS + 2))
        assert [each.at for each in detail.marks] == list(range(2, MAX_EVENTS + 2))
        assert (
            {len(each.name) for each in detail.marks} == {len(each.digit) for each in detail.digits} == {203}
        )


def test_lines_waves_and_audio_carry_its_id(begin, told):
    call = begin()
    call.log.lines.append(Logged(1.0, "INFO", "a line"))
    call.tell_line(Logged(2.0, "INFO", "another"))
    call.tell_wave("inbound", 5, [1])
    call.tell_audio("outbound", 160, b"\xff")
    assert told == [
        Line(2.0, "INFO", "another", "7"),
        Wave("7", "inbound", 5, [1]),
        Audio("7", "outbound", 160, b"\xff"),
    ]
    assert call.detail().lines == [Logged(1.0, "INFO", "a line")]


class TestLevels:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        monkeypatch.setattr(call_module.time, "monotonic", lambda: 100.0)

    def test_each_track_has_one(self, begin):
        call = begin(tracks=("inbound", "outbound"))
        assert call.levels_now() == {"inbound": None, "outbound": None}
        call.levels["inbound"] = -31.54, 100.1
        assert call.levels_now() == {"inbound": -31.5, "outbound": None}

    def test_silence_and_an_old_one_are_none(self, begin):
        call = begin(tracks=("inbound", "outbound"))
        call.levels["inbound"] = float("-inf"), 100.1
        call.levels["outbound"] = -20.0, 100.0
        assert call.levels_now() == {"inbound": None, "outbound": None}
