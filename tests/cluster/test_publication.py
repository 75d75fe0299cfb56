"""What becomes of a stream's messages before they are sent."""

import threading

import pytest
from support.clock import Clock
from support.consumers import mark
from support.server import SECONDS
from support.streams import SID, FakeConnection, dtmf, media, start, stop, warnings

from mediastreams.cluster import publication as module
from mediastreams.cluster.entries import (
    DetailsItem,
    DtmfItem,
    EndItem,
    MarkItem,
    MediaItem,
    PausesItem,
    StateItem,
    StopItem,
    TranscriptItem,
    decode_entry,
)
from mediastreams.cluster.outbox import Outbox
from mediastreams.cluster.publication import MAX_ITEMS, Publication
from mediastreams.config import Settings
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript


class Published:
    """A stream whose messages go into an outbox that nobody sends."""

    def __init__(self):
        self.hurries = 0
        self.stream = Stream(FakeConnection(), Settings())
        self.stream.receive(start().to_json())
        self.outbox = Outbox(self.stream, SID, "c", 60.0)
        self.publication = Publication(self.stream, self.outbox, self.hurry)

    def hurry(self):
        self.hurries += 1

    def put(self, message, position=0, filled=None):
        self.publication.put((message, position, filled))

    def entries(self, fill=True):
        if fill:
            self.outbox.fill()
        entries = [decode_entry(fields) for fields in self.outbox.take(1_000_000)]
        self.outbox.settle([True] * len(entries))
        return entries

    def items(self):
        return [item for entry in self.entries() for item in entry.items]

    def end(self, ending="stop"):
        with self.stream:
            self.stream.receive(stop(9).to_json())
        assert self.stream.ending == ending
        self.publication.end()


@pytest.fixture
def published():
    return Published()


def of_the_call(items):
    return [item for item in items if not isinstance(item, StateItem | DetailsItem)]


class TestEntries:
    def test_what_comes_in_its_order(self, published):
        published.put(media(2, 0))
        published.publication.put(dtmf(3))
        published.publication.put(mark(4))
        published.publication.transcript(Transcript("inbound", "Hi.", True, 0.5, 1.0, 0.25))
        published.put(media(5, 20, "outbound"), 160)
        first, key, returned, text, last = of_the_call(published.items())
        assert (first.sequence_number, first.position, first.payload) == (2, 0, media(2, 0).media.payload)
        assert key == DtmfItem(3, "inbound_track", dtmf(3).dtmf.digit, False)
        assert returned == MarkItem(4, mark(4).mark.name)
        assert text == TranscriptItem("inbound", "Hi.", True, 0.5, 1.0, 0.25)
        assert (last.sequence_number, last.track, last.position) == (5, "outbound", 160)

    def test_nothing_makes_none(self, published):
        assert published.entries() == []
        published.put(media(2, 0))
        assert len(published.entries()) == 1
        assert published.entries() == []

    def test_a_chunk_that_overlaps(self, published):
        message = media(2, 0)
        message.media.payload = bytes(range(160))
        published.put(message, 1000, [range(1010, 1020), range(1100, 1160)])
        published.put(message, 1000, [])
        parts, nothing = (item.position for item in of_the_call(published.items()))
        assert parts == [(1010, bytes(range(10, 20))), (1100, bytes(range(100, 160)))]
        assert nothing == []

    def test_more_than_a_call_has(self, published):
        for n in range(2 * MAX_ITEMS + 1):
            published.put(media(2 + n, 20 * n))
        full = published.entries(fill=False)
        assert [len(of_the_call(entry.items)) for entry in full] == [MAX_ITEMS] * 2
        assert len(of_the_call(published.items())) == 1

    def test_the_pauses_come_first_in_each_entry(self, published):
        """So a worker knows them, whichever entries it gets."""
        stream = published.stream
        published.put(media(2, 0))
        assert not any(isinstance(item, PausesItem) for item in published.items())
        stream.receive(media(2, 0).to_json())
        stream.pause_recording()
        for number in (3, 4):
            published.put(media(number, 20 * number))
            assert published.items()[0] == PausesItem([(160, None)])
        stream.receive(media(3, 20).to_json())
        stream.resume_recording()
        published.put(media(5, 100))
        assert published.items()[0] == PausesItem([(160, 320)])

    def test_a_pause_that_is_left_out_is_taken_back(self, published):
        stream = published.stream
        stream.receive(media(2, 0).to_json())
        stream.pause_recording()
        published.put(media(2, 0))
        assert published.items()[0] == PausesItem([(160, None)])
        stream.resume_recording()  # nothing has come in between
        published.put(media(3, 20))
        assert published.items()[0] == PausesItem([])

    def test_the_last_entry_has_them_as_well(self, published):
        published.stream.receive(media(2, 0).to_json())
        published.stream.pause_recording()
        published.stream.receive(media(3, 20).to_json())
        published.end()
        (entry,) = published.entries()
        assert entry.items[0] == PausesItem([(160, 320)])

    def test_the_numbers_come_once_a_second(self, published, monkeypatch):
        clock = Clock.of(module, monkeypatch)
        told = []
        for n in range(11):
            published.put(media(2 + n, 20 * n))
            told.append(sum(isinstance(item, StateItem) for item in published.items()))
            clock.now += 0.2
        assert told == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]

    def test_they_come_with_a_track_that_begins(self, published):
        told = []
        for number, track in enumerate(("inbound", "inbound", "outbound", "outbound"), 2):
            published.stream.receive(media(number, 20 * number, track).to_json())
            published.put(media(number, 20 * number, track))
            told.append([set(item.tracks) for item in published.items() if isinstance(item, StateItem)])
        assert told == [[{"inbound"}], [], [{"inbound", "outbound"}], []]

    def test_they_come_also_where_nothing_else_does(self, monkeypatch):
        """Else workers would take the server for lost."""
        clock = Clock.of(module, monkeypatch)
        published = Published()
        told = []
        for _ in range(11):
            told.append([type(item) for item in published.items() if not isinstance(item, DetailsItem)])
            clock.now += 0.2
        assert told == [[], [], [], [], [], [StateItem], [], [], [], [], [StateItem]]

    def test_nothing_is_lost_between_threads(self, published):
        """The server puts in, and the sender takes out."""
        count = 5_000  # fewer than an outbox keeps
        taken = []
        is_over = threading.Event()

        def take():
            while not is_over.is_set():
                taken.extend(of_the_call(published.items()))

        thread = threading.Thread(target=take)
        thread.start()
        message = media(2, 0)
        for n in range(count):
            published.put(message, n)
        is_over.set()
        thread.join()
        taken += of_the_call(published.items())
        assert [item.position for item in taken] == list(range(count))


class TestTheEnd:
    def test_the_rest_and_how_it_ended(self, published):
        published.put(media(2, 0))
        published.end()
        *_, last = published.entries()
        assert [type(item) for item in last.items] == [StateItem, DetailsItem, EndItem]
        assert last.items[-1] == EndItem("stop", published.stream.ended_at.timestamp())
        assert published.hurries == 1
        assert published.outbox.has_ended

    def test_no_audio_follows(self, published):
        published.put(media(2, 0))
        assert not published.outbox.has_stopped
        published.publication.stop_audio()
        assert published.outbox.has_stopped
        assert published.hurries == 1
        chunk, told = of_the_call(published.items())
        assert isinstance(chunk, MediaItem)
        assert told == StopItem()

    def test_nothing_comes_after_it(self, published):
        published.end()
        published.entries()
        published.put(media(2, 0))
        published.publication.transcript(Transcript("inbound", "late", True, 0, 1, 0))
        published.publication.stop_audio()
        assert published.entries() == []


class TestWhatCannotBeEncoded:
    @pytest.mark.parametrize("position", [2**64, -(2**64)])
    def test_a_position(self, published, caplog, position):
        published.put(media(2, 0))
        published.put(media(3, 20), position)
        published.put(media(4, 40), position)
        published.end()
        entries = published.entries()
        assert entries[-1].items[-1].ending == "failed"
        assert [line for line in warnings(caplog) if "not published any more" in line] == [
            f"Stream {SID}: not published any more: can't serialize ints < -2**63 or > 2**64 - 1"
        ]

    def test_half_a_character(self, published, caplog):
        published.publication.transcript(Transcript("inbound", "\ud800", True, 0, 1, 0))
        (entry,) = published.entries()
        assert entry.items[-1].ending == "failed"
        assert "not published any more: 'utf-8' codec can't encode" in caplog.text

    def test_a_number_of_the_stream(self, published, caplog):
        published.stream.bad = 2**64
        published.put(media(2, 0))
        (entry,) = published.entries()
        assert entry.items[-1].ending == "failed"
        published.end()
        assert published.entries() == []
        assert caplog.text.count("not published any more") == 1


def test_an_entry_that_is_made_as_the_stream_ends_comes_before_the_last(published, monkeypatch):
    """The sender has taken the items, and has not put them in yet."""
    published.put(media(2, 0))
    taken, goes_on = threading.Event(), threading.Event()
    put = published.outbox.put

    def wait_and_put(items):
        taken.set()
        goes_on.wait(SECONDS)
        put(items)

    monkeypatch.setattr(published.outbox, "put", wait_and_put)
    filling = threading.Thread(target=published.outbox.fill)
    filling.start()
    taken.wait(SECONDS)
    with published.stream:
        published.stream.receive(stop(9).to_json())
    ending = threading.Thread(target=published.publication.end)
    ending.start()
    goes_on.set()
    filling.join()
    ending.join()
    items = published.items()
    assert isinstance(items[0], MediaItem)
    assert isinstance(items[-1], EndItem)
