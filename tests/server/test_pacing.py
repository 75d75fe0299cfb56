"""When a stream is read: the arithmetic alone. What that costs is measured in bench/."""

import random

import pytest

from mediastreams.server.pacing import TICK_MS, ReadSchedule


def gathered(gather_ms, phase, jitter, tracks=1, seconds=20):
    """Return how late each message of a stream was read, in ms, and the messages of a read.

    A message of each track comes every 20 ms, later by up to `jitter` ms. The first second is left out.
    """
    chance = random.Random(f"{phase} {jitter}")
    arrivals = sorted(
        phase + 20 * n + chance.uniform(0, jitter) for n in range(seconds * 50) for _ in range(tracks)
    )
    pace, now, at, reads, late = ReadSchedule(gather_ms), 0.0, 0, 0, []
    while now < seconds * 1000 - 100:
        begin = at
        while at < len(arrivals) and arrivals[at] <= now:
            if arrivals[at] > 1000:
                late.append(now - arrivals[at])
            at += 1
        reads += 1
        now += TICK_MS * pace.ticks(at - begin)
    return late, at / reads


def of_all_phases(gather_ms, jitter, tracks=1):
    lates, sizes = zip(*(gathered(gather_ms, phase / 2, jitter, tracks) for phase in range(40)), strict=True)
    late = sorted(each for of_one in lates for each in of_one)
    return late[int(len(late) * 0.99)], late[-1], sum(sizes) / len(sizes)


@pytest.mark.parametrize(("tracks", "messages"), [(1, 2.8), (2, 5.6)])
def test_three_messages_of_a_track_are_read_at_once_and_none_is_late(tracks, messages):
    p99, most, size = of_all_phases(44, jitter=0.3, tracks=tracks)
    assert p99 < 44
    assert most < 45
    assert size > messages


def test_a_longer_gathering():
    p99, _, size = of_all_phases(84, jitter=0.3)
    assert p99 < 85
    assert size > 4.7


@pytest.mark.parametrize("jitter", [2, 8, 19, 40])
def test_what_comes_unevenly_waits_for_20_ms_more_at_most(jitter):
    _, most, size = of_all_phases(44, jitter)
    assert most <= 62
    assert size > 2


@pytest.mark.parametrize("gather_ms", [1, 10, 20, 44, 1000])
def test_silence_is_looked_at_every_so_often(gather_ms):
    pace = ReadSchedule(gather_ms)
    assert [pace.ticks(0) for _ in range(5)] == [max(gather_ms // TICK_MS, 1)] * 5


class TestEachRead:
    """What one read finds decides when the next one is: after 22 ticks (44 ms), or 30 (60 ms)."""

    SHORT, LONG, PROBE, NEARER = 22, 30, 29, 21
    FOUND = ((2, SHORT), (3, PROBE), (2, NEARER))  # one message more, then the probe finds one less
    STEADY = 31 * ((3, LONG),)

    def check(self, reads, gather_ms=44):
        pace = ReadSchedule(gather_ms)
        answers = [(count, pace.ticks(count)) for count, _ in reads]
        assert answers == list(reads)
        assert all(isinstance(ticks, int) for _, ticks in answers)

    def test_one_message_more_is_the_moment(self):
        self.check([*self.FOUND, (3, self.LONG)], gather_ms=45)

    def test_the_first_read_may_find_anything(self):
        self.check([(9, self.SHORT), (9, self.SHORT), (8, self.SHORT), (9, self.PROBE)])

    def test_the_same_number_or_a_single_message_is_none(self):
        self.check([(2, self.SHORT), (2, self.SHORT), (0, self.SHORT), (1, self.SHORT), (2, self.PROBE)])

    def test_each_32nd_read_is_early_on_purpose(self):
        probe = (3, self.PROBE)
        self.check([*self.FOUND, *self.STEADY, probe, (2, self.NEARER), *self.STEADY, probe])

    def test_a_probe_that_finds_as_much_as_before_has_lost_the_moment(self):
        lost = [(3, self.PROBE), (3, self.SHORT), (3, self.SHORT), (4, self.PROBE)]
        self.check([*self.FOUND, *self.STEADY, *lost])

    def test_one_message_less_once_is_early_and_twice_has_lost_the_moment(self):
        early = [(3, self.LONG), (2, self.NEARER)]
        self.check([*self.FOUND, *early, *early, (2, self.NEARER), (2, self.SHORT), (3, self.PROBE)])

    def test_the_shortest_times(self):
        self.check([(0, 2), (2, 9), (1, 1), (2, 10)], gather_ms=4)
        self.check([(0, 1), (2, 9), (1, 1), (2, 10)], gather_ms=2)
