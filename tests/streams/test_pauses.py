"""What pauses leave out, compared with a map of every position."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediastreams.audio.mulaw import SILENCE
from mediastreams.streams.pauses import Pauses

PAUSES = st.lists(st.integers(0, 60), max_size=9).map(sorted)
"""When it begins, when it ends, when it begins again, and so on."""


def paused(changes):
    """Return the pauses that these changes make, and each position that is in one."""
    pauses, positions = Pauses(), set()
    for n, position in enumerate(changes):
        (pauses.end if n % 2 else pauses.begin)(position)
        begin = changes[n] if not n % 2 else None
        if begin is not None:
            positions |= set(range(begin, changes[n + 1] if n + 1 < len(changes) else 1000))
    return pauses, positions


@given(PAUSES, st.integers(0, 70), st.integers(0, 30))
def test_audio_in_a_pause_is_silence(changes, position, size):
    pauses, positions = paused(changes)
    audio = bytes(range(size))
    expected = b"".join(SILENCE if position + n in positions else audio[n : n + 1] for n in range(len(audio)))
    assert pauses.silenced(position, audio) == expected


@given(PAUSES, st.integers(0, 70), st.integers(0, 30))
def test_what_overlaps_a_pause(changes, start, size):
    pauses, positions = paused(changes)
    assert pauses.overlaps(start, start + size) == any(
        each in positions for each in range(start, start + max(size, 1))
    )


@given(PAUSES)
def test_they_are_apart_and_in_order(changes):
    pauses, positions = paused(changes)
    ends = [position for pause in pauses.all for position in pause if position is not None]
    assert ends == sorted(set(ends))
    assert pauses.is_open == (len(changes) % 2 == 1)
    assert Pauses(list(pauses.all)).all == pauses.all
    assert {p for p in range(61) if pauses.overlaps(p, p)} == positions & set(range(61))


def test_a_second_time_changes_nothing():
    pauses = Pauses()
    assert not pauses.end(5)
    assert pauses.begin(10)
    assert not pauses.begin(20)
    assert pauses.end(30)
    assert not pauses.end(40)
    assert pauses.all == ((10, 30),)


@pytest.mark.parametrize("position", [10, 30])
def test_nothing_between_two_is_one(position):
    pauses = Pauses()
    pauses.begin(10)
    pauses.end(position)
    pauses.begin(position)
    assert pauses.all == ((10, None),)
