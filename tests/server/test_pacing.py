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
