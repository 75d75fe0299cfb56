"""A job, entry by entry; the group notes what it is asked for."""

import time
from dataclasses import replace

import pytest
from support.streams import SID, start

from mediastreams.cluster import job as module
from mediastreams.cluster.entries import (
    Announced,
    Begun,
    DetailsItem,
    Done,
    EndItem,
    Entry,
    Heard,
    MediaItem,
    PausesItem,
    StateItem,
    StopItem,
    TrackState,
)
from mediastreams.cluster.group import Lease, Place
from mediastreams.cluster.job import Job, Kind
from mediastreams.consumers.base import Checkpoint, Consumer
from mediastreams.streams.transcript import Transcript

CALL = Announced("call", "server", 0.0, 1.0, start())


class FakeGroup:
    """Notes checkpoints; what it returns tells whether the call is still this worker's."""

    def __init__(self):
        self.asked = []
        self.is_mine = True

    def checkpoint(self, lease, place):
        self.known = place.stream
        self.asked.append(replace(place, stream=()))
        return self.is_mine

    def finish(self, lease):
        self.asked.append("finish")
        return self.is_mine

    def release(self, lease):
        self.asked.append("release")


class Noting(Consumer):
    """Notes what it gets; `position` is that of its checkpoints."""

    position = None

    def __init__(self, stream, publish, unheard):
        super().__init__(stream)
        self.got = []
        self.publish, self.unheard = publish, unheard

    def start(self, message):
        self.got.append("start")

    def resume(self, message, state):
        self.got.append(("resume", state))

    def media(self, message):
        self.got.append(message.media.chunk)

    def flush(self):
        self.got.append("flush")

    def stop(self):
        self.got.append("stop")

    def abandon(self):
        self.got.append("abandon")

    def checkpoint(self):
        return Checkpoint({"chunks": len(self.got)}, self.position)


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock, which only the test moves."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


class Harness:
    """A job with its group and, after the first run, its consumer."""

    def __init__(self, *, recognises=False, every=0.0, place=None, is_takeover=False):
        self.group = FakeGroup()
        self.made = []
        kind = Kind("noting", self.make, recognises, every)
        self.job = Job(
            kind, self.group, Lease(b"1-1", CALL, 1, place or Place(), is_takeover, time.monotonic())
        )

    def make(self, *arguments):
        self.made.append(Noting(*arguments))
        return self.made[0]

    @property
    def got(self):
        return self.made[0].got

    def add(self, n, *items, call="call"):
        self.job.add(f"{n}-1".encode(), Entry(call, n, list(items)))

    def run(self):
        self.job.is_running = True
        self.job.run()
        assert not self.job.is_running


@pytest.fixture
def job(clock):
    return Harness()


def chunk(n):
    return MediaItem(n, "inbound", n, 20 * n, bytes(160), 160 * n)


def test_from_start_to_end(job, clock):
    job.add(1, chunk(1), chunk(2))
    job.run()
    assert job.got == ["start", 1, 2, "flush"]
    assert job.group.asked == [Place(b"1-1", 1, True, {"chunks": 4})]
    job.add(2, chunk(3))
    job.run()
    assert len(job.group.asked) == 1  # not more often than once a second
    clock.now += 1
    job.add(3, EndItem("stop", 1.0))
    job.run()
    assert job.got[-3:] == [3, "flush", "stop"]
    assert job.group.asked[1:] == ["finish"]
    assert job.job.is_over
    assert not job.job.wants_entries


def test_a_kind_that_is_not_flushed_with_each_entry(clock):
    job = Harness(every=0.45)
    for n in range(1, 5):
        job.add(n, chunk(n))
        job.run()
        clock.now += 0.2
    assert job.got == ["start", 1, "flush", 2, 3, 4, "flush"]


def test_an_entry_of_another_call_and_a_repeat(job):
    job.add(1, chunk(1))
    job.add(1, chunk(7))
    job.add(2, chunk(8), call="another")
    job.run()
    assert job.got == ["start", 1, "flush"]
    assert job.job.cursor == b"2-1"


def test_missing_entries(job, caplog):
    job.add(1, chunk(1))
    job.add(5, chunk(5))
    job.add(6, EndItem("stop", 1.0))
    job.run()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        f"Stream {SID}: noting misses entries, Redis does not have them any more",
        f"Stream {SID}: noting missed 3 entries",
    ]


def test_a_checkpoint_from_which_audio_is_wanted_again(job, clock):
    job.add(1, chunk(0), chunk(1))
    job.add(2, chunk(2), chunk(3))
    job.add(3, chunk(4), chunk(5))
    job.run()
    places = {0: 0, 319: 0, 320: 1, 639: 1, 640: 2, 959: 2, 960: 3, 5000: 3}
    for position, n in places.items():
        clock.now += 1
        job.job.renewed(clock.now)
        job.made[0].position = position
        job.run()
        place = job.group.asked[-1]
        assert (place.n, place.cursor) == (n, f"{n}-1".encode() if n else b"0"), position


def test_a_takeover_goes_on_from_its_place(clock):
    job = Harness(place=Place(b"7-1", 7, True, {"a": 1}), is_takeover=True)
    assert job.job.cursor == b"7-1"
    job.add(7, chunk(7))
    job.add(8, chunk(8))
    job.run()
    assert job.got == [("resume", {"a": 1}), 8, "flush"]


def test_a_takeover_knows_what_was_known_of_the_stream(job, clock):
    """No entry tells it again where the server is lost."""
    state = StateItem(9, 3, 0, 0, {"inbound": TrackState(0, 1600, 8, 1280, 320)})
    details = DetailsItem({"dtmf": 1}, {"inbound": [(160, 480)]}, [(2, 5, 160)])
    job.add(1, chunk(1), state, details, PausesItem([(800, None)]))
    job.run()
    other = Harness(place=Place(b"1-1", 1, stream=job.group.known), is_takeover=True)
    other.add(2, EndItem("server lost", 1.0))
    other.run()
    stream, known = other.made[0].stream, job.made[0].stream
    assert (stream.received, stream.lost, stream.losses) == (9, 3, known.losses)
    assert (stream.events, stream.pauses.all) == ({"dtmf": 1}, ((800, None),))
    track = stream.tracks["inbound"]
    assert (track.end, track.chunks, track.missing, track.gaps) == (1600, 8, 320, [range(160, 480)])


def test_nothing_is_begun_while_the_lease_may_have_ended(job, clock):
    job.run()
    clock.now += module.LEASE_SECONDS
    job.add(1, chunk(1))
    job.add(2, EndItem("stop", 1.0))
    job.run()
    assert job.got == ["start", "flush"]
    job.job.renewed(clock.now)
    job.run()
    assert job.got[2:] == [1, "stop"]


def test_a_lease_that_ends_in_the_middle(job, clock):
    job.run()

    def suspended(message):
        clock.now += 10

    job.made[0].media = suspended
    job.add(1, chunk(1))
    job.add(2, chunk(2))
    job.add(3, EndItem("stop", 1.0))
    job.run()
    assert job.got == ["start", "flush"]
    job.job.lose()
    job.run()
    assert job.got == ["start", "flush", "abandon"]
    assert job.job.is_over


def test_a_checkpoint_that_is_not_taken_loses_the_call(job, clock, caplog):
    job.group.is_mine = False
    job.run()
    job.run()
    assert job.got == ["start", "flush", "abandon"]
    assert job.job.is_over
    assert [record.getMessage() for record in caplog.records] == [
        f"Stream {SID}: noting is another worker's now"
    ]


def test_a_hand_over(job, clock):
    job.add(1, chunk(1))
    job.run()
    job.add(2, chunk(2))
    job.job.hand_over()
    job.run()
    assert job.got == ["start", 1, "flush", 2, "flush", "abandon"]
    assert job.group.asked[1:] == [Place(b"2-1", 2, True, {"chunks": 5}), "release"]
    assert job.job.is_over


def test_a_hand_over_before_it_began(job):
    job.job.hand_over()
    job.run()
    assert job.made == []
    assert job.group.asked == ["release"]
    assert job.job.is_over


def test_a_consumer_that_raises_as_it_is_handed_over(job, clock, caplog):
    job.run()
    job.made[0].abandon = lambda: 1 / 0
    job.job.hand_over()
    job.run()
    assert job.group.asked[-1] == "release"  # another worker goes on: the call is not taken out of the group
    assert job.job.is_over
    assert "failed and gets nothing more" in caplog.text


def test_a_consumer_that_raises(job, clock, caplog):
    job.run()
    job.made[0].media = lambda message: 1 / 0
    job.add(1, chunk(1))
    job.run()
    assert job.got == ["start", "flush", "abandon"]
    assert [record.getMessage() for record in caplog.records] == [
        f"Stream {SID}: noting failed and gets nothing more"
    ]
    assert job.job.has_work
    job.run()
    assert job.group.asked[1:] == ["finish"]
    assert job.job.is_over


def test_a_recogniser_ends_with_the_audio_and_says_so(clock):
    job = Harness(recognises=True)
    job.run()
    job.made[0].publish(Transcript("inbound", "hello", True, 1.0, 2.0, 0.5))
    job.made[0].unheard(0.25)
    job.made[0].unheard(0.5)
    job.add(1, chunk(1), StopItem())
    job.add(2, EndItem("stop", 1.0))
    job.run()
    assert job.got == ["start", "flush", 1, "stop"]
    assert list(job.job.words) == [
        Begun("call"),
        Heard("call", "inbound", "hello", True, 1.0, 2.0, 0.5),
        Done("call", 0.75),
    ]
    assert "finish" not in job.group.asked  # the words are sent first
    job.job.words.clear()
    job.run()
    assert job.group.asked[-1] == "finish"


def test_another_consumer_does_not_end_with_the_audio(job):
    job.add(1, chunk(1), StopItem())
    job.run()
    assert job.got == ["start", 1, "flush"]
    assert job.job.wants_entries


def test_a_server_that_is_lost(job, clock, caplog):
    job.add(1, chunk(1))
    job.run()
    clock.now += 3.1
    job.job.back()  # Redis was away
    job.job.judge()
    clock.now += 3.0  # IDLE_TIMEOUT, and two
    job.job.judge()
    assert not caplog.records
    clock.now += 0.1
    job.job.judge()
    job.job.judge()
    job.job.renewed(clock.now)
    job.run()
    assert job.got[-1] == "stop"
    assert job.made[0].stream.ending == "server lost"
    assert [record.getMessage() for record in caplog.records] == [
        f"Stream {SID}: noting: its server server is lost"
    ]


def test_no_more_is_read_than_a_slow_consumer_can_keep(job):
    for n in range(1, module.MAX_WAITING + 1):
        assert job.job.wants_entries
        job.add(n, chunk(n))
    assert not job.job.wants_entries
    job.run()
    assert job.job.wants_entries


def test_no_checkpoint_before_the_words_are_sent(clock):
    job = Harness(recognises=True)
    job.add(1, chunk(1))
    job.run()
    assert list(job.job.words) == [Begun(CALL.call)]
    assert job.group.asked == []
    job.job.hand_over()
    job.run()
    assert job.group.asked == []
    job.job.words.clear()
    job.run()
    assert [type(asked) for asked in job.group.asked] == [Place, str]
    assert job.group.asked[-1] == "release"


def test_one_that_cannot_be_read_ends(clock):
    job = Harness()
    job.add(1, chunk(1))
    job.run()
    job.job.fail("WRONGTYPE")
    assert not job.job.wants_entries
    job.run()
    assert job.got[-1] == "stop"
    assert job.job.is_over
