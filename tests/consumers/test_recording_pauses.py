"""What a recording leaves out while it is paused, and streams that are not recorded at all."""

import json

import pytest
from support.pausing import PAUSING
from support.server import run_caller
from support.sound import channels_of, plain
from support.streams import SID, FakeConnection, dtmf, media, start, stop
from support.takeover import NAME, Call, Worker, files, key, mark, take_over, text

from mediastreams.audio.mulaw import SILENCE
from mediastreams.cluster.entries import EndItem, PausesItem
from mediastreams.config import Settings
from mediastreams.consumers.recording import Recording
from mediastreams.protocol.messages import Dtmf, MediaFormat
from mediastreams.streams.stream import Puts, Stream
from mediastreams.streams.transcript import Transcript


def account(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


class Recorded:
    """A stream of the test's, and its recording, which gets each message at once, or late with `take`."""

    def __init__(self, folder, *tracks, media_format=None, is_late=False):
        self.stream = Stream(FakeConnection(), Settings(), self)
        self.waiting = []
        self.is_late = is_late
        self.number = 1
        self.timestamps = {}
        message = start(tracks=tracks or ("inbound",), media_format=media_format or MediaFormat())
        self.recording = Recording(self.stream, str(folder))
        self.stream.receive(message.to_json())
        self.recording.start(message)

    def begin(self, stream, message):
        return Puts([self.put], [self.put])

    def put(self, item):
        self.waiting.append(item)
        if not self.is_late:
            self.take()

    def take(self):
        for item in self.waiting:
            if isinstance(item, Dtmf):
                self.recording.dtmf(item)
                continue
            message, position, filled = item
            self.recording.media(message)
            payload, track = message.media.payload, message.media.track
            if self.stream.media_format.is_decodable:
                for part in [range(position, position + len(payload))] if filled is None else filled:
                    self.recording.audio(
                        track, part.start, payload[part.start - position : part.stop - position]
                    )
        self.waiting.clear()

    def say(self, *timestamps, track="inbound", byte=b"\x11"):
        for timestamp in timestamps:
            self.number += 1
            message = media(self.number, timestamp, track)
            message.media.payload = byte * 160
            self.stream.receive(message.to_json())

    def press(self):
        self.number += 1
        self.stream.receive(dtmf(self.number).to_json())

    def end(self, stream):
        self.take()

    def finish(self):
        with self.stream:
            self.stream.receive(stop(self.number + 1).to_json())
        self.recording.stop()


def audio_of(folder):
    (path,) = folder.glob("*.wav")
    return path.read_bytes()[58:]


class TestPause:
    @pytest.mark.parametrize("is_late", [False, True])
    def test_it_is_silence_however_late_the_recording_is(self, tmp_path, is_late):
        """A recording that is behind takes what came before the pause when that is over."""
        call = Recorded(tmp_path, is_late=is_late)
        call.say(0, 20, 40)
        call.stream.pause_recording()
        call.say(60, 80)
        call.stream.resume_recording()
        call.say(100)
        call.finish()
        assert audio_of(tmp_path) == b"\x11" * 480 + SILENCE * 320 + b"\x11" * 160
        assert account(tmp_path)["paused"] == [{"from": 0.06, "to": 0.1}]
        assert account(tmp_path)["media"]["inbound"]["missing"] == 0.0

    def test_both_tracks(self, tmp_path):
        call = Recorded(tmp_path, "inbound", "outbound")
        for timestamp in range(0, 200, 20):
            if timestamp == 60:
                call.stream.pause_recording()
            if timestamp == 120:
                call.stream.resume_recording()
            call.say(timestamp)
            call.say(timestamp, track="outbound", byte=b"\x22")
        call.finish()
        (path,) = tmp_path.glob("*.wav")
        for byte, channel in zip((b"\x11", b"\x22"), channels_of(path), strict=True):
            assert channel == plain(byte * 480 + SILENCE * 480 + byte * 640)

    def test_what_comes_after_it_but_belongs_into_it(self, tmp_path):
        call = Recorded(tmp_path)
        call.say(0, 20)
        call.stream.pause_recording()
        call.say(40, 100)
        call.stream.resume_recording()
        call.say(60, 120)  # 60 was late
        call.finish()
        assert audio_of(tmp_path) == b"\x11" * 320 + SILENCE * 640 + b"\x11" * 160

    def test_until_the_end_it_is_as_long_as_the_call(self, tmp_path):
        call = Recorded(tmp_path)
        call.say(0, 20)
        call.stream.pause_recording()
        call.say(40, 60)
        call.finish()
        assert audio_of(tmp_path) == b"\x11" * 320 + SILENCE * 320
        assert account(tmp_path)["paused"] == [{"from": 0.04, "to": 0.08}]

    def test_from_the_start(self, tmp_path):
        stream = Stream(FakeConnection(), Settings())
        stream.pause_recording()
        assert stream.pauses.all == ((0, None),)
        call = Recorded(tmp_path)
        call.stream.pause_recording()
        call.say(155, 175)
        call.stream.resume_recording()
        call.say(195)
        call.finish()
        assert audio_of(tmp_path) == SILENCE * 320 + b"\x11" * 160
        assert account(tmp_path)["paused"] == [{"from": 0.0, "to": 0.04}]

    def test_keys_and_texts_of_a_pause_are_not_kept(self, tmp_path):
        call = Recorded(tmp_path)
        call.say(*range(155, 1155, 20))
        call.press()
        call.stream.pause_recording()
        call.press()
        call.say(*range(1155, 2155, 20))
        call.stream.resume_recording()
        call.say(*range(2155, 3155, 20))
        call.press()
        texts = {
            "before": (0.2, 1.0),
            "into": (0.5, 1.01),
            "in": (1.2, 1.3),
            "out": (1.9, 2.5),
            "after": (2, 3),
        }
        for words, (begin, end) in texts.items():
            call.recording.transcript(Transcript("inbound", words, True, begin, end))
        call.finish()
        told = account(tmp_path)
        assert [each["text"] for each in told["transcripts"]] == ["before", "after"]
        assert told["dtmf"] == [
            {"digit": "1", "at": 1.0},
            {"digit": "(not shown)", "at": 1.0},
            {"digit": "1", "at": 3.0},
        ]
        (subtitles,) = tmp_path.glob("*.vtt")
        assert subtitles.read_text().count("-->") == 2

    def test_what_is_not_decoded_is_left_out(self, tmp_path):
        """Nobody knows what silence is there: the bytes of the pause are missing, and no others."""
        call = Recorded(tmp_path, media_format=MediaFormat("audio/l16", 16000))
        call.say(0, 20)
        call.stream.pause_recording()
        call.say(40, 60, byte=b"\x33")
        call.stream.resume_recording()
        call.say(80)
        call.finish()
        (path,) = tmp_path.glob("*.raw")
        assert path.read_bytes() == b"\x11" * 480
        (pause,) = account(tmp_path)["paused"]
        assert 0.02 <= pause["from"] <= 0.04
        assert 0.06 <= pause["to"] <= 0.08


class TestTakeover:
    """Each entry tells all pauses; a checkpoint has them as well, where no entry follows."""

    def call(self):
        call = Call("inbound")
        call.say(0, 8000)
        call.entry(PausesItem([(8000, None)]), ("inbound", 8000, 160))
        call.entry(PausesItem([(8000, None)]), ("inbound", 8160, 160))
        call.entry(PausesItem([(8000, 8320)]), ("inbound", 8320, 160), key("5"))
        call.end()
        return call

    def test_within_a_pause(self, tmp_path):
        call = self.call()
        whole = tmp_path / "whole"
        Worker(call, whole).finish(*call.entries)
        take_over(call, tmp_path / "folder", 2)
        assert files(tmp_path / "folder") == files(whole)
        audio = audio_of(whole)
        assert audio[8000:8320] == SILENCE * 320
        assert SILENCE * 10 not in audio[:8000] + audio[8320:]

    def test_without_a_checkpoint(self, tmp_path):
        """As where the first worker had no room, or the entry that began the pause has gone."""
        call = self.call()
        Worker(call, tmp_path, None).finish(*call.entries[2:])
        audio = audio_of(tmp_path)
        assert (len(audio), audio[:160]) == (320, SILENCE * 160)
        assert SILENCE * 10 not in audio[160:]

    def test_a_server_that_is_lost_says_nothing_more(self, tmp_path):
        call = self.call()
        first = Worker(call, tmp_path)
        first.take(*call.entries[:2])
        state = first.checkpoint()
        first.die()
        second = Worker(call, tmp_path, state)
        second.finish([EndItem("server lost", 1.0)])
        assert account(tmp_path)["paused"] == [{"from": 1.0, "to": None}]

    def test_a_text_from_outside_a_pause_before_the_next_numbers(self, tmp_path):
        pauses = PausesItem([(800, 1600)])
        call = Call("inbound")
        call.say(0, 8000, pauses)
        call.entries.append([pauses, text("Good morning", 0.5, 0.9)])
        call.end()
        take_over(call, tmp_path, 1)
        assert [each["text"] for each in account(tmp_path)["transcripts"]] == ["Good morning"]

    def test_a_pause_in_which_nothing_came(self, tmp_path):
        call = Call("inbound")
        call.say(0, 8000)
        call.entry(PausesItem([(8000, None)]), key("1"))
        call.entry(PausesItem([]), ("inbound", 8000, 160))
        call.end()
        take_over(call, tmp_path, 2)
        assert account(tmp_path)["paused"] == []
        assert SILENCE * 10 not in audio_of(tmp_path)

    def test_a_part_tells_the_pauses_of_its_own_time(self, tmp_path):
        call = Call("inbound")
        call.say(0, 16000)
        call.entry(PausesItem([(800, 1600), (4000, 17000), (18000, 18080)]), mark("m"), text("no", 0.4, 0.6))
        call.say(16000, 24000)
        call.end()
        first = Worker(call, tmp_path / "one")
        first.take(*call.entries[:2])
        Worker(call, tmp_path / "other", first.checkpoint()).finish(*call.entries[2:])
        first.die()
        told = json.loads((tmp_path / "other" / f"{NAME}-part2.json").read_text())
        assert told["continues"]["at"] == 2.0
        assert told["paused"] == [{"from": 0.0, "to": 0.125}, {"from": 0.25, "to": 0.26}]
        assert told["transcripts"] == []


class TestServer:
    def test_a_call_with_a_card_number(self, start_server, tmp_path):
        server = start_server("-c", PAUSING, RECORDINGS_DIR=str(tmp_path))
        result = run_caller(
            server.url, "--parameter", "bidirectional=true", "--digits", "1*42#7", "--seconds", "4"
        )
        assert result.returncode == 0, result.stderr
        server.wait_for(" recorded in ")
        output = server.stop()
        told = account(tmp_path)
        assert [each["digit"] for each in told["dtmf"]] == ["1", "*", *["(not shown)"] * 3, "7"]
        ((begin, end),) = [(pause["from"], pause["to"]) for pause in told["paused"]]
        assert told["dtmf"][1]["at"] <= begin < end <= told["dtmf"][5]["at"]
        audio = audio_of(tmp_path)
        first, last = round(8000 * begin), round(8000 * end)
        assert audio[first:last] == SILENCE * (last - first)
        assert audio[first - 160 : first].strip(SILENCE)
        assert audio[last : last + 160].strip(SILENCE)
        assert "is paused at" in output
        assert "goes on at" in output
        shown = [line for line in output.splitlines() if "key " in line]
        assert len(shown) == 4
        assert ['"digit":"(not shown)"' in line for line in shown] == [False, True, True, False]

    @pytest.mark.parametrize("value", ["no", " No "])
    def test_a_stream_that_is_not_to_be_recorded(self, start_server, tmp_path, value):
        server = start_server(RECORDINGS_DIR=str(tmp_path / "recordings"))
        for parameter in (f"record={value}", "record=12345"):
            assert run_caller(server.url, "--seconds", "0.2", "--parameter", parameter).returncode == 0
        server.wait_for(" recorded in ")
        output = server.stop()
        assert output.count("not recorded, its TwiML has record=no") == 1
        told = account(tmp_path / "recordings")
        assert told["customParameters"] == {"record": "12345"}
        assert SID not in output
