"""The page's consumers: levels, peaks, audio, and the notes of a conversation."""

import math
import random
import time

import pytest
from support.streams import FakeConnection, dtmf, media, start

from mediastreams.audio import mulaw
from mediastreams.config import Settings
from mediastreams.protocol.messages import Mark, MarkMetadata
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.viewers.call import Call
from mediastreams.viewers.consumer import Conversation, Meter, Peaks, Sound
from mediastreams.viewers.lines import StreamLog
from mediastreams.viewers.messages import Audio, Wave

LOUD = mulaw.encode(b"\x00\x40\x00\xc0" * 80)  # 20 ms at 51 % of full scale


@pytest.fixture
def stream():
    stream = Stream(FakeConnection(), Settings())
    stream.receive(start().to_json())
    return stream


@pytest.fixture
def told():
    return []


@pytest.fixture
def call(stream, told):
    return Call("7", stream, StreamLog(), told.append)


class TestConversation:
    def test_it_notes_words_keys_and_marks(self, stream, call):
        stream.receive(media(2, 0, size=8000).to_json())
        consumer = Conversation(stream, {stream: call}.__getitem__)
        consumer.transcript(Transcript("inbound", "hello", True, 0.0, 0.5))
        consumer.dtmf(dtmf(3))
        consumer.mark(Mark(4, stream.name, MarkMetadata("m")))
        detail = call.detail()
        assert [each.text for each in detail.transcripts] == ["hello"]
        assert [(each.digit, each.at) for each in detail.digits] == [("1", 1.0)]
        assert [(each.name, each.at) for each in detail.marks] == [("m", 1.0)]

    def test_a_secret_key_is_not_shown(self, stream, call):
        message = dtmf(3)
        message.dtmf = message.dtmf.as_secret()
        Conversation(stream, lambda _: call).dtmf(message)
        assert [each.digit for each in call.detail().digits] == ["(not shown)"]


class TestMeter:
    def test_the_level_of_the_last_200_ms(self, stream, call):
        meter = Meter(stream, call)
        for _ in range(10):
            meter.audio("inbound", 0, LOUD)
        for _ in range(10):
            meter.audio("inbound", 0, mulaw.SILENCE * 160)
        meter.audio("outbound", 0, LOUD)
        before = time.monotonic()
        meter.flush()
        level, until = call.levels["inbound"]
        assert level == -math.inf
        assert 0.2 < until - before < 1
        assert call.levels["outbound"][0] == pytest.approx(-6.0, abs=0.2)

    def test_what_nothing_came_of_is_not_measured_again(self, stream, call):
        meter = Meter(stream, call)
        meter.audio("inbound", 0, LOUD)
        meter.flush()
        call.levels.clear()
        meter.flush()
        assert call.levels == {}


def expected_peaks(rate, first, chunks):
    """Return the peak of each 20 ms, by its index, sample by sample."""
    peaks = {}
    for position, payload in chunks:
        for n, code in enumerate(payload):
            index = (position + n - first) * 50 // rate
            sample = abs(int.from_bytes(mulaw.decode(bytes([code])), "little", signed=True))
            peaks[index] = max(peaks.get(index, 0), round(sample * 100 / 32768))
    return {index: peak for index, peak in peaks.items() if index >= 0}


def taken(peaks, runs):
    for start_, values in peaks.take():
        for n, value in enumerate(values):
            runs[start_ + n] = max(value, runs.get(start_ + n, 0))
    return runs


class TestPeaks:
    @pytest.mark.parametrize("rate", [8000, 16000, 11025, 1000])
    def test_as_one_counts_them_by_hand(self, rate):
        noise = random.Random(rate)
        first, position, chunks = 1240, 1240, []
        peaks, runs = Peaks(rate, first), {}
        for n in range(200):
            position += noise.choice([0, 0, 0, 7, 300])  # a gap now and then
            payload = noise.randbytes(noise.choice([160, 160, 1, 333]))
            chunks.append((position, payload))
            peaks.add(position, payload)
            position += len(payload)
            if n % 7 == 0:
                taken(peaks, runs)
        position += rate  # what follows completes the last one
        peaks.add(position, b"\xff" * rate)
        taken(peaks, runs)
        expected = expected_peaks(rate, first, chunks)
        assert {index: runs[index] for index in expected} == expected

    def test_one_that_is_not_whole_waits(self):
        peaks = Peaks(8000, 0)
        peaks.add(0, LOUD[:100])
        assert peaks.take() == []
        peaks.add(100, LOUD[100:] + LOUD)
        assert peaks.take() == [(0, [51, 51])]
        assert peaks.take() == []

    def test_a_gap_is_not_sent(self):
        peaks = Peaks(8000, 0)
        peaks.add(0, LOUD)
        peaks.add(480, LOUD)
        assert peaks.take() == [(0, [51]), (3, [51])]

    def test_late_audio_goes_back(self):
        peaks = Peaks(8000, 0)
        peaks.add(480, LOUD)
        peaks.add(160, LOUD)
        assert peaks.take() == [(3, [51]), (1, [51])]

    def test_never_more_than_full_scale(self):
        peaks = Peaks(8000, 0)
        peaks.add(0, bytes([0x00]) * 160)
        assert peaks.take() == [(0, [98])]


class TestSound:
    def test_audio_that_continues_is_one_piece(self, stream, call, told):
        stream.receive(media(2, 155).to_json())
        sound = Sound(stream, call)
        for position in (1240, 1400, 1720, 1880):
            sound.audio("inbound", position, LOUD)
        sound.flush()
        assert told == [
            Audio("7", "inbound", 1240, LOUD * 2),
            Audio("7", "inbound", 1720, LOUD * 2),
            Wave("7", "inbound", 0, [51, 51]),
            Wave("7", "inbound", 3, [51, 51]),
        ]
        told.clear()
        sound.flush()
        assert told == []

    def test_both_tracks_have_one_time(self, stream, call, told):
        stream.receive(media(2, 155).to_json())
        stream.receive(media(3, 195, "outbound").to_json())
        sound = Sound(stream, call)
        sound.audio("outbound", 1560, LOUD)
        sound.flush()
        assert told == [Audio("7", "outbound", 1560, LOUD), Wave("7", "outbound", 2, [51])]
