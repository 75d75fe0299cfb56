"""A call as its entries tell it: its consumer gets what one beside the call's stream gets."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.streams import SID, FakeConnection, dtmf, media, start, stop

from mediastreams.cluster.entries import (
    Announced,
    DetailsItem,
    DtmfItem,
    EndItem,
    MarkItem,
    MediaItem,
    PausesItem,
    StateItem,
    StopItem,
    TrackState,
    TranscriptItem,
    decode_entry,
    encode_entry,
    encode_item,
)
from mediastreams.cluster.stream import RemoteStream
from mediastreams.config import Settings
from mediastreams.consumers.base import Consumer
from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol.messages import Mark, MarkMetadata, MediaFormat
from mediastreams.streams.playback import SendError
from mediastreams.streams.sequence import Loss
from mediastreams.streams.stream import Puts, Stream
from mediastreams.streams.transcript import Transcript


def remote(message=None):
    return RemoteStream(Announced("c", "s", 1.5, 30.0, message or start()))


class Heard(Consumer):
    """Notes everything that it gets."""

    def __init__(self, stream):
        super().__init__(stream)
        self.got = []

    def media(self, message):
        self.got.append(("media", message))

    def audio(self, track, position, payload):
        self.got.append(("audio", track, position, payload))

    def dtmf(self, message):
        self.got.append(("dtmf", message))

    def mark(self, message):
        self.got.append(("mark", message))

    def transcript(self, transcript):
        self.got.append(("transcript", transcript))


def feed(stream, *items):
    consumer = Heard(stream)
    for item in items:
        stream.feed(item, consumer)
    return consumer.got


class TestStart:
    def test_what_start_tells(self):
        stream = remote()
        assert (stream.start, stream.name, stream.rate) == (start(), SID, 8000)
        assert stream.media_format == MediaFormat()
        assert stream.started_at == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
        assert (stream.ended_at, stream.ending, stream.stopped) == (None, "", False)
        assert (stream.received, stream.lost, stream.late, stream.bad) == (0, 0, 0, 0)
        assert (stream.tracks, stream.losses, stream.events, stream.seconds) == ({}, [], {}, 0.0)

    @pytest.mark.parametrize(
        ("media_format", "rate"),
        [(MediaFormat(sample_rate=16000), 16000), (MediaFormat("audio/l16", 16000), 1000)],
    )
    def test_the_rate(self, media_format, rate):
        assert remote(start(media_format=media_format)).rate == rate

    def test_a_sid_that_breaks_a_line(self):
        assert remote(start(sid="MZ\n1")).name == "MZ\\u000a1"

    def test_nothing_can_be_sent(self):
        with pytest.raises(SendError, match="another server"):
            _ = remote().playback

    @pytest.mark.parametrize("method", ["pause_recording", "resume_recording"])
    def test_the_recording_cannot_be_paused(self, method):
        with pytest.raises(MediaStreamsError, match="another server"):
            getattr(remote(), method)()

    def test_calls_do_not_share_tracks(self):
        one, other = remote(), remote()
        feed(one, StateItem(1, 0, 0, 0, {"inbound": TrackState(0, 1, 1, 1, 0)}))
        assert other.tracks == {}


class TestItems:
    def test_a_chunk(self):
        (message, audio) = feed(remote(), MediaItem(2, "outbound", 1, 155, bytes(160), 1240))
        expected = media(2, 155, "outbound")
        assert message == ("media", expected)
        assert audio == ("audio", "outbound", 1240, bytes(160))

    def test_one_that_overlaps(self):
        item = MediaItem(2, "inbound", 1, 0, b"abcd", [(0, b"a"), (3, b"d")])
        assert feed(remote(), item)[1:] == [("audio", "inbound", 0, b"a"), ("audio", "inbound", 3, b"d")]

    @pytest.mark.parametrize("position", [[], None])
    def test_one_without_new_audio(self, position):
        got = feed(remote(), MediaItem(2, "inbound", 1, 0, b"abcd", position))
        assert [kind for kind, *_ in got] == ["media"]

    def test_keys_marks_and_texts(self):
        got = feed(
            remote(),
            DtmfItem(2, "inbound_track", "1", False),
            MarkItem(3, "m"),
            TranscriptItem("inbound", "hi", True, 0.5, 1.0, 0.25),
        )
        assert got == [
            ("dtmf", dtmf(2)),
            ("mark", Mark(3, SID, MarkMetadata("m"))),
            ("transcript", Transcript("inbound", "hi", True, 0.5, 1.0, 0.25)),
        ]

    def test_a_key_that_is_secret(self):
        ((_, message),) = feed(remote(), DtmfItem(2, "inbound_track", "7", True))
        assert (message.dtmf.digit, message.dtmf.shown) == ("7", "(not shown)")
        assert '"7"' not in str(message)

    def test_a_key_that_is_secret_here(self):
        stream = RemoteStream(Announced("c", "s", 1.5, 30.0, start()), hides_keys=True)
        ((_, message),) = feed(stream, DtmfItem(2, "inbound_track", "7", False))
        assert (message.dtmf.digit, message.dtmf.shown) == ("7", "(not shown)")

    def test_that_no_audio_follows_is_nothing_for_a_consumer(self):
        assert feed(remote(), StopItem()) == []

    def test_the_numbers(self):
        stream = remote()
        state = StateItem(10, 1, 2, 3, {"inbound": TrackState(80, 1040, 5, 800, 160)})
        assert feed(stream, state) == []
        assert (stream.received, stream.lost, stream.late, stream.bad) == (10, 1, 2, 3)
        track = stream.tracks["inbound"]
        assert (track.first, track.end, track.chunks, track.bytes, track.missing) == (80, 1040, 5, 800, 160)
        assert stream.seconds == 0.12
        feed(stream, StateItem(11, 1, 2, 3, {"inbound": TrackState(80, 1200, 6, 960, 160)}))
        assert (stream.tracks["inbound"], track.end) == (track, 1200)

    def test_the_details(self):
        stream = remote()
        details = DetailsItem(
            {"media": 5, "start": 1}, {"inbound": [(160, 320)], "outbound": [(0, 1)]}, [(3, 5, 160)]
        )
        feed(stream, StateItem(1, 0, 0, 0, {"inbound": TrackState(0, 320, 1, 160, 160)}), details)
        assert stream.events == {"media": 5, "start": 1}
        assert stream.losses == [Loss(range(3, 5), 160)]
        assert stream.tracks["inbound"].gaps == [range(160, 320)]

    def test_the_pauses_of_the_recording(self):
        stream = remote()
        assert not stream.pauses.all
        feed(stream, PausesItem([(160, None)]))
        assert stream.pauses.is_open
        feed(stream, PausesItem([(160, 320)]))
        assert (stream.pauses.all, remote().pauses.all) == (((160, 320),), ())

    def test_a_text_before_the_numbers_is_left_out_if_there_was_a_pause(self):
        """A worker that takes a call over does not know yet where its audio begins."""
        stream, text = remote(), Transcript("inbound", "hi", True, 5.0, 6.0)
        assert not stream.is_left_out(text)
        feed(stream, PausesItem([(160, 320)]))
        assert stream.is_left_out(text)
        feed(stream, StateItem(1, 0, 0, 0, {"inbound": TrackState(0, 320, 1, 160, 160)}))
        assert not stream.is_left_out(text)

    @pytest.mark.parametrize(("ending", "stopped"), [("stop", True), ("dropped", False)])
    def test_the_end(self, ending, stopped):
        stream = remote()
        feed(stream, EndItem(ending, 2.25))
        assert (stream.ending, stream.stopped) == (ending, stopped)
        assert stream.ended_at == datetime(1970, 1, 1, 0, 0, 2, 250_000, tzinfo=UTC)


class _Both:
    """Notes what a consumer gets, and puts the same into items as a server does."""

    def __init__(self):
        self.put_chunks = []

    def begin(self, stream, message):
        return Puts([self.put_chunks.append], [])

    def end(self, stream):
        pass


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 200)), max_size=30))
def test_overlaps_and_gaps_are_as_they_are_beside_the_stream(chunks):
    """The parts of a chunk for which no audio came before are the same on both sides."""
    noted = _Both()
    with Stream(FakeConnection(), Settings(), noted) as local:
        local.receive(start().to_json())
        for number, (timestamp, size) in enumerate(chunks, 2):
            local.receive(media(number, timestamp, size=size).to_json())
        local.receive(stop(len(chunks) + 2).to_json())
    sent, expected = [], []
    for message, position, filled in noted.put_chunks:
        payload = message.media.payload
        parts = [range(position, position + len(payload))] if filled is None else filled
        cut = [(part.start, payload[part.start - position : part.stop - position]) for part in parts]
        where = position if filled is None else cut
        m = message.media
        sent.append(("media", message.sequence_number, m.track, m.chunk, m.timestamp, payload, where))
        expected.append(("media", message))
        expected += [("audio", "inbound", *each) for each in cut]
    assert (
        feed(remote(), *decode_entry(encode_entry("c", 1, [encode_item(item) for item in sent])).items)
        == expected
    )
