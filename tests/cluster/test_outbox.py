"""What waits for Redis, and what is dropped when it waits for too long."""

import pytest
from support.clock import Clock
from support.streams import SID, FakeConnection, start

from mediastreams.cluster import outbox as module
from mediastreams.cluster.entries import decode_entry, encode_item
from mediastreams.cluster.outbox import Outbox
from mediastreams.config import Settings
from mediastreams.protocol.messages import MediaFormat
from mediastreams.streams.stream import Stream

WINDOW = 10.0


def make(media_format=None, window=WINDOW):
    stream = Stream(FakeConnection(), Settings())
    stream.receive(start(media_format=media_format or MediaFormat()).to_json())
    return Outbox(stream, SID, "c", window)


def chunk(track="inbound", size=160):
    return encode_item(("media", 1, track, 1, 0, bytes(size), 0))


MARK = encode_item(("mark", 2, "m"))
END = encode_item(("end", "stop", 1.5))


def taken(outbox, most=4):
    return [decode_entry(fields).n for fields in outbox.take(most)]


@pytest.fixture
def clock(monkeypatch):
    return Clock.of(module, monkeypatch)


class TestTaking:
    def test_in_their_order_so_many_at_once(self):
        outbox = make()
        assert outbox.is_empty
        for _ in range(6):
            outbox.put([chunk()])
        assert taken(outbox) == [1, 2, 3, 4]
        assert taken(outbox) == [1, 2, 3, 4]
        outbox.settle([True] * 4)
        assert not outbox.is_empty
        assert taken(outbox) == [5, 6]
        outbox.settle([True] * 2)
        assert outbox.is_empty
        assert taken(outbox) == []
        assert outbox.dropped == 0

    def test_what_was_not_sent_comes_again(self):
        outbox = make()
        for _ in range(6):
            outbox.put([chunk()])
        taken(outbox)
        outbox.settle([])
        assert taken(outbox) == [1, 2, 3, 4]
        outbox.settle([True, True, False, False])
        assert taken(outbox) == [3, 4, 5, 6]
        assert outbox.dropped == 0

    def test_what_a_reader_would_take_for_a_repeat_does_not(self):
        outbox = make()
        for _ in range(4):
            outbox.put([chunk()])
        taken(outbox)
        outbox.settle([False, True, False, False])
        assert taken(outbox) == [3, 4]
        assert outbox.dropped == pytest.approx(0.02)

    def test_an_entry(self):
        outbox = make()
        outbox.put([chunk(), MARK])
        entry = decode_entry(outbox.take(1)[0])
        assert (entry.call, entry.n, len(entry.items)) == ("c", 1, 2)

    def test_nothing_follows_the_last(self):
        outbox = make()
        outbox.put_last([END])
        outbox.put([chunk()])
        outbox.put_last([END])
        assert outbox.has_ended
        assert taken(outbox) == [1]


class TestDropping:
    def test_what_is_older_than_the_window(self, clock):
        outbox = make()
        for _ in range(20):
            outbox.put([chunk() for _ in range(10)])
            clock.now += 1
        outbox.drop_old()
        assert taken(outbox) == [11, 12, 13, 14]
        assert outbox.dropped == pytest.approx(10 * 0.2)
        assert outbox.unsent() == pytest.approx(10 * 0.2)

    def test_also_before_they_are_taken(self, clock):
        outbox = make()
        for _ in range(20):
            outbox.put([chunk()])
            clock.now += 1
        assert taken(outbox) == [11, 12, 13, 14]
        assert outbox.dropped == pytest.approx(10 * 0.02)

    def test_what_was_taken_is_not_dropped(self, clock):
        outbox = make()
        for _ in range(6):
            outbox.put([chunk()])
        taken(outbox)
        clock.now += 11
        outbox.drop_old()
        outbox.settle([True] * 4)
        assert outbox.is_empty
        assert outbox.dropped == pytest.approx(0.04)

    @pytest.mark.parametrize(
        ("media_format", "items", "seconds"),
        [
            (None, [chunk(), chunk("outbound"), chunk()], 0.04),
            (None, [chunk(), chunk("outbound", 800)], 0.1),
            (None, [MARK], 0.0),
            (None, [encode_item(("media", 1, "inbound", 1, 0, bytes(160), ((0, bytes(40)),)))], 0.02),
            (MediaFormat(sample_rate=16000), [chunk()], 0.01),
            (MediaFormat("audio/l16"), [chunk(), chunk(), chunk("outbound")], 0.04),
        ],
    )
    def test_the_seconds_are_those_of_the_longer_track(self, clock, media_format, items, seconds):
        outbox = make(media_format)
        outbox.put(items)
        assert outbox.unsent() == pytest.approx(seconds)
        clock.now += 11
        outbox.drop_old()
        assert outbox.dropped == pytest.approx(seconds)

    @pytest.mark.parametrize(("size", "left"), [(160, 300), (60_000, 5), (2_000_000, 1)])
    def test_large_messages_do_not_grow_it(self, clock, size, left):
        outbox = make()
        for _ in range(300):
            outbox.put([chunk(size=size)])
        outbox.settle([])
        assert len(taken(outbox, 1000)) == left
        assert outbox.dropped == pytest.approx((300 - left) * size / 8000)

    @pytest.mark.parametrize("rate", [1000, 8000, 16000, 48000, 10**9])
    def test_the_window_fits(self, clock, rate):
        """Both tracks of the whole window, at the pace of a call, and never more than at 48 kHz."""
        outbox = make(MediaFormat(sample_rate=rate))
        size = min(rate, 48000) // 5
        for _ in range(50):
            outbox.put([chunk(size=size), chunk("outbound", size)])
            clock.now += 0.199
        outbox.drop_old()
        assert outbox.dropped == 0

    @pytest.mark.parametrize(
        ("announced", "is_doubtful", "left"), [(b"1-1", False, [2]), (None, True, [2]), (None, False, [])]
    )
    def test_the_end_of_an_announced_call_is_kept(self, clock, announced, is_doubtful, left):
        outbox = make()
        outbox.announced, outbox.is_doubtful = announced, is_doubtful
        outbox.put([chunk()])
        outbox.put_last([END])
        clock.now += 11
        outbox.drop_old()
        assert taken(outbox) == left

    def test_one_that_is_closed(self):
        outbox = make()
        outbox.put([chunk()])
        outbox.close()
        outbox.put([chunk()])
        assert outbox.is_empty
        assert outbox.dropped == pytest.approx(0.02)
