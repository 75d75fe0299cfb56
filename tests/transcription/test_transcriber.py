"""What an engine is fed, and what becomes of its words: with an engine of the test's."""

import logging
from dataclasses import replace

import pytest
from support.clock import Clock
from support.streams import SID, FakeConnection, media, start

from mediastreams.cluster.entries import Announced, MediaItem, StateItem, TrackState
from mediastreams.cluster.stream import RemoteStream
from mediastreams.config import Settings
from mediastreams.consumers.base import Checkpoint
from mediastreams.protocol.messages import MediaFormat
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.transcription import process_engine
from mediastreams.transcription.process_engine import Recognition
from mediastreams.transcription.process_protocol import END, HEADER
from mediastreams.transcription.transcriber import Transcriber, TranscriptDisplay


class FakeEngine:
    """An engine without a process: has what was written of each track."""

    def __init__(self):
        self.tracks = []
        self.fed = []
        self.frames = []
        self.last_text = None  # of a track that ends
        self.dropped = 0.0

    def recognise(self, name, position, on_text, rate):
        self.name = name
        self.tracks.append(Recognition(self, len(self.tracks), name, position, on_text, rate))
        self.fed.append(b"")
        return self.tracks[-1]

    def write(self, frame, is_kept=False):
        self.frames.append(frame)
        number, kind, _, size = HEADER.unpack_from(frame)
        self.fed[number] += frame[HEADER.size :]
        assert len(frame) == HEADER.size + size
        if kind == END and self.last_text:
            self.tell(number, *self.last_text)
            self.tracks[number].on_event({"ended": True, "dropped": self.dropped})
        return True

    def forget(self, number):
        pass

    def tell(self, number, text, final, start, end):
        self.tracks[number].on_event({"text": text, "final": final, "start": start, "end": end})


class Call:
    def __init__(self, media_format=None):
        self.engine = FakeEngine()
        self.published, self.unheard = [], []
        self.stream = Stream(FakeConnection(), Settings())
        media_format = media_format or MediaFormat()
        message = start(tracks=("inbound", "outbound"), media_format=media_format)
        self.stream.receive(message.to_json())
        self.transcriber = Transcriber(self.stream, self.engine, self._publish, self.unheard.append)
        self.show_on(None)
        self.number = 1

    @property
    def transcripts(self):
        """What was published as final, without how late it was."""
        final = [transcript for transcript in self.published if transcript.final and transcript.text]
        return [replace(transcript, lag=0.0) for transcript in final]

    def show_on(self, console):
        self.display = TranscriptDisplay(self.stream, lambda: console)

    def _publish(self, transcript):
        self.published.append(transcript)
        self.display.transcript(transcript)

    def say(self, timestamp, track="inbound", size=160):
        self.number += 1
        message = media(self.number, timestamp, track, size)
        self.stream.receive(message.to_json())
        timeline = self.stream.tracks[track]
        filled = timeline.discontinuity and timeline.discontinuity.filled
        position = filled[0].start if filled else timeline.end - size
        self.transcriber.audio(track, position, message.media.payload)

    def hear(self, *heard, of=0):
        self.transcriber.flush()
        self.engine.tell(of, *heard)


@pytest.fixture
def call():
    return Call()


class TestTime:
    def test_audio_as_it_came(self, call):
        for n in range(100):
            call.say(155 + 20 * n)
        call.hear("hello", True, 0.5, 1.0)
        assert call.engine.name == f"Stream {SID}, inbound"
        assert call.engine.fed[0] == bytes(16000)
        assert call.transcripts == [Transcript("inbound", "hello", True, 0.5, 1.0)]

    def test_a_gap_is_a_short_silence_and_the_time_goes_on(self, call):
        for n in (*range(50), *range(550, 600)):  # 10 s are missing
            call.say(20 * n)
        call.hear("after it", True, 2.2, 2.6)
        assert call.engine.fed[0] == bytes(8000) + b"\xff" * 8000 + bytes(8000)
        (transcript,) = call.transcripts
        assert (transcript.start, transcript.end) == pytest.approx((11.2, 11.6))

    def test_what_comes_late_is_not_fed(self, call):
        for n in (0, 1, 3, 4, 2, 5):
            call.say(20 * n)
        call.transcriber.flush()
        assert len(call.engine.fed[0]) == 6 * 160  # a silence in its place

    def test_the_second_track_begins_later(self, call):
        for n in range(100):
            call.say(20 * n)
            if n >= 50:
                call.say(20 * n, "outbound")
        call.hear("hi", True, 0.25, 0.5, of=1)
        (transcript,) = call.transcripts
        assert (transcript.speaker, transcript.start, transcript.end) == ("callee", 1.25, 1.5)


class TestFormat:
    """The engine gets the stream's rate; `audio` is not called where the format is not decodable."""

    def test_another_rate(self):
        call = Call(MediaFormat(sample_rate=16000))
        for n in range(50):
            call.say(20 * n, size=320)
        call.hear("hi", True, 0.25, 0.5)
        header = HEADER.unpack_from(call.engine.frames[0])
        assert header[2] == 16000
        assert call.engine.fed == [bytes(320) * 50]
        (transcript,) = call.transcripts
        assert (transcript.start, transcript.end) == (0.25, 0.5)


class TestEnd:
    def test_the_last_words_are_waited_for(self, call):
        call.say(0)
        call.transcriber.flush()
        call.engine.last_text = ("bye", True, 0.0, 0.02)
        call.transcriber.stop()
        assert call.transcriber.is_finished()
        assert [transcript.text for transcript in call.transcripts] == ["bye"]

    def test_but_not_for_ever(self, call, monkeypatch, caplog):
        call.say(0)
        call.transcriber.stop()
        assert not call.transcriber.is_finished()
        monkeypatch.setattr(call.transcriber, "_until", 0.0)
        assert call.transcriber.is_finished()
        call.hear("too late", True, 0.0, 0.02)
        assert call.transcripts == []
        assert [record.getMessage() for record in caplog.records] == [
            f"Stream {SID}: the last words of inbound are missing"
        ]


class Screen:
    """Notes what a console is asked for."""

    def __init__(self):
        self.lines = {}

    def show(self, key, line):
        self.lines[key] = line

    def remove(self, key):
        self.lines.pop(key, None)


class TestDisplay:
    def test_finals_are_logged_and_others_are_not(self, call, caplog):
        caplog.set_level(logging.INFO)
        call.say(0)
        call.hear("and mr", False, 0.0, 0.01)
        call.hear("And Mr. John.", True, 0.0, 0.02)
        call.hear("", True, 0.0, 0.02)
        assert [record.getMessage() for record in caplog.records] == ["MZ012345 0:00 caller: And Mr. John."]

    def test_of_a_pause_of_the_recording_nothing_is_shown(self, call, caplog):
        caplog.set_level(logging.INFO)
        screen = Screen()
        call.show_on(screen)
        call.say(0)
        call.stream.pause_recording()
        call.say(20)
        call.hear("four", False, 0.02, 0.03)
        assert screen.lines == {}
        call.hear("four", False, 0.0, 0.01)
        assert len(screen.lines) == 1
        call.hear("Four two.", True, 0.0, 0.03)
        assert screen.lines == {}
        call.stream.resume_recording()
        call.say(40)
        call.hear("Thank you.", True, 0.04, 0.05)
        shown = [record.getMessage() for record in caplog.records if record.name.endswith("transcriber")]
        assert shown == ["MZ012345 0:00 caller: Thank you."]

    def test_on_a_terminal_the_line_is_rewritten_and_finished(self, call, caplog, monkeypatch):
        monkeypatch.setenv("COLUMNS", "40")
        caplog.set_level(logging.INFO)
        screen = Screen()
        call.show_on(screen)
        call.say(0)
        for text, line in [
            ("and", "MZ012345 0:00 caller: and"),
            ("and mister", "MZ012345 0:00 caller: and mister"),
            ("and mister john dashwood had", "MZ012345 0:00 caller: ...n dashwood had"),
        ]:
            call.hear(text, False, 0.0, 0.01)
            assert list(screen.lines.values()) == [line]
            assert len(line) < 40
        call.hear("And Mr. John Dashwood had.", True, 0.0, 0.02)
        assert screen.lines == {}
        assert len(caplog.records) == 1

    def test_a_partial_line_goes_with_the_call(self, call, monkeypatch):
        screen = Screen()
        call.show_on(screen)
        call.say(0)
        call.hear("unfinished", False, 0.0, 0.01)
        assert len(screen.lines) == 1
        call.transcriber.stop()
        monkeypatch.setattr(call.transcriber, "_until", 0.0)
        assert call.transcriber.is_finished()
        assert screen.lines == {}

    def test_nothing_said_reaches_the_terminal_as_an_escape(self, call, caplog):
        caplog.set_level(logging.INFO)
        call.say(0)
        call.hear("\x1b[2J\n", True, 0.0, 0.01)
        assert "\\u001b[2J\\u000a" in caplog.records[0].getMessage()


class TestMetrics:
    """What is published for `metrics`."""

    def test_a_final_text_has_its_lag(self, call, monkeypatch):
        clock = Clock.of(process_engine, monkeypatch)
        for n in range(100):
            call.say(20 * n)
            clock.now += 0.02
        call.transcriber.flush()
        clock.now += 0.25
        call.hear("hel", False, 0.5, 0.8)
        call.hear("hello", True, 0.5, 1.0)
        assert call.published[-1].lag == pytest.approx(1.25)

    def test_audio_that_came_at_once_is_no_lag(self, call):
        for n in range(100):
            call.say(20 * n)
        call.hear("hello", True, 0.5, 1.0)
        assert call.published[-1].lag < 0.9

    def test_what_was_not_heard(self, call):
        call.say(0)
        call.engine.dropped = 1.5
        call.engine.last_text = ("bye", True, 0.0, 0.02)
        call.transcriber.stop()
        assert call.transcriber.is_finished()
        assert call.unheard == [1.5]


class Worker:
    """A transcriber in a worker: what it gets is what a server has published."""

    def __init__(self, state=None, tracks=("inbound", "outbound")):
        message = start(tracks=tracks)
        self.engine = FakeEngine()
        self.published = []
        self.stream = RemoteStream(Announced("1", "s", 0.0, 30.0, message))
        self.transcriber = Transcriber(self.stream, self.engine, self.published.append, lambda seconds: None)
        if state is None:
            self.transcriber.start(message)
        else:
            self.transcriber.resume(message, state)

    def say(self, begin, end, track="inbound", first=1000):
        """Hand over an entry with a track's audio between two positions."""
        for position in range(begin, end, 160):
            item = MediaItem(1, track, 1, position // 8, sound(position, min(position + 160, end)), position)
            self.stream.feed(item, self.transcriber)
        state = TrackState(first, end, 1, end - begin, 0)
        self.stream.feed(StateItem(1, 0, 0, 0, {track: state}), self.transcriber)
        self.transcriber.flush()

    @property
    def texts(self):
        return [replace(transcript, lag=0.0) for transcript in self.published if transcript.final]


def sound(begin, end):
    """Return audio that tells where it is from."""
    return bytes(position // 7 % 251 for position in range(begin, end))


class TestTakeover:
    def test_before_any_audio_there_is_nothing_to_come_again(self):
        assert Worker().transcriber.checkpoint() == Checkpoint({}, None)

    def test_without_a_final_text_a_track_comes_again_as_a_whole(self):
        worker = Worker()
        worker.say(1000, 17000)
        worker.engine.tell(0, "hel", False, 0.5, 1.0)
        assert worker.transcriber.checkpoint() == Checkpoint({"inbound": 1000}, 1000)

    def test_what_has_its_final_text_does_not(self):
        worker = Worker()
        worker.say(1000, 17000)
        worker.engine.tell(0, "hello", True, 0.5, 1.0)
        assert worker.transcriber.checkpoint() == Checkpoint({"inbound": 9000}, 9000)
        worker.engine.tell(0, "", True, 0.5, 0.75)  # its end is before the last one's
        assert worker.transcriber.checkpoint() == Checkpoint({"inbound": 9000}, 9000)

    def test_the_position_is_that_of_the_track_that_is_behind(self):
        worker = Worker()
        worker.say(1000, 17000)
        worker.say(1080, 17000, "outbound")
        worker.engine.tell(0, "hello", True, 0.5, 1.0)
        worker.engine.tell(1, "hi", True, 0.0, 0.5)
        assert worker.transcriber.checkpoint() == Checkpoint({"inbound": 9000, "outbound": 5080}, 5080)

    def test_at_most_30_s_come_again(self):
        """Also of a track of which nothing has come for long."""
        worker = Worker()
        worker.say(1000, 1160, "outbound")
        worker.say(1000, 241_000)
        assert worker.transcriber.checkpoint().position == 1000
        worker.say(241_000, 250_001)
        state = {"inbound": 10_001, "outbound": 10_001}
        assert worker.transcriber.checkpoint() == Checkpoint(state, 10_001)

    def test_each_track_begins_behind_its_last_final_text(self):
        """And the texts have the times that they would have had without the takeover."""
        state, position = {"inbound": 9000, "outbound": 5085}, 5085
        worker = Worker(state)
        worker.say(1000 + 160 * 25, 17000)  # whole chunks, from the one that has the position
        worker.say(1080 + 160 * 25, 17000, "outbound", first=1080)
        assert worker.transcriber.checkpoint() == Checkpoint(state, position)
        assert worker.engine.fed == [sound(9000, 17000), sound(5085, 17000)]
        worker.engine.tell(0, "again", True, 0.5, 1.0)
        worker.engine.tell(1, "me too", True, 0.0, 0.25)
        assert worker.texts == [
            Transcript("inbound", "again", True, (9000 + 4000 - 1000) / 8000, (9000 + 8000 - 1000) / 8000),
            Transcript("outbound", "me too", True, (5085 - 1000) / 8000, (5085 + 2000 - 1000) / 8000),
        ]
        assert worker.transcriber.checkpoint() == Checkpoint({"inbound": 17000, "outbound": 7085}, 7085)

    def test_a_track_that_is_not_in_the_checkpoint_is_heard_from_its_beginning(self):
        worker = Worker({"inbound": 9000})
        worker.say(5000, 9000)
        worker.say(5000, 9000, "outbound")
        assert worker.engine.fed == [sound(5000, 9000)]
        assert worker.engine.name == f"Stream {SID}, outbound"

    def test_a_checkpoint_goes_on_from_the_one_before(self):
        """A worker that dies at once loses nothing."""
        worker = Worker({"inbound": 9000, "outbound": 8000})
        assert worker.transcriber.checkpoint() == Checkpoint({"inbound": 9000, "outbound": 8000}, 8000)

    @pytest.mark.parametrize("state", [[1], {"inbound": "x"}, {"third": 1}, 7])
    def test_a_checkpoint_that_cannot_be_read(self, state, caplog):
        worker = Worker(state)
        worker.say(1000, 9000)
        assert worker.engine.fed == [sound(1000, 9000)]
        (record,) = caplog.records
        assert record.getMessage().startswith(f"Stream {SID}: its checkpoint cannot be read: ")

    def test_none_begins_anew(self, caplog):
        worker = Worker()
        worker.transcriber.resume(worker.stream.start, None)
        worker.say(1000, 9000)
        assert worker.engine.fed == [sound(1000, 9000)]
        assert caplog.records == []
