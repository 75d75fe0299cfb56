"""The limits in time of a WebSocket, by a clock that the test turns."""

import pytest

from mediastreams.server.deadlines import Deadlines, Overdue

SILENT = Overdue(1001, "nothing received for 30 s")
UNREAD = Overdue(1006, "it has read nothing for 30 s")


@pytest.fixture
def deadlines():
    return Deadlines(30, now=100.0)


def look(deadlines, now, *, sends=False, reads=True):
    return deadlines.look(now, sends=sends, reads=reads)


def test_nothing_is_overdue_at_the_limit(deadlines):
    assert look(deadlines, 130.0) is None
    assert look(deadlines, 130.0) is None


def test_silence_is_overdue_at_the_second_look_behind_the_limit(deadlines):
    assert look(deadlines, 130.1) is None  # what has come is read first
    assert look(deadlines, 130.2) == SILENT


def test_what_was_read_meanwhile_ends_the_silence(deadlines):
    assert look(deadlines, 140.0) is None
    assert look(deadlines, 140.2, sends=True) is None
    assert look(deadlines, 170.2) is None
    assert look(deadlines, 170.3) is None
    assert look(deadlines, 170.4) == SILENT


def test_a_peer_that_reads_nothing(deadlines):
    assert look(deadlines, 130.1, sends=True, reads=False) is None
    assert look(deadlines, 130.2, sends=True, reads=False) == UNREAD


def test_a_peer_that_reads_a_little(deadlines):
    assert look(deadlines, 129.0, sends=True) is None
    for now in (158.0, 159.0, 159.0):
        assert look(deadlines, now, sends=True, reads=False) is None
    assert look(deadlines, 159.1, sends=True, reads=False) is None
    assert look(deadlines, 159.2, sends=True, reads=False) == UNREAD


def test_close_after(deadlines):
    deadlines.close_after(110.0, 1008, "no start message")
    assert look(deadlines, 110.0, sends=True) is None
    assert look(deadlines, 110.1, sends=True) is None
    assert look(deadlines, 110.2, sends=True) == Overdue(1008, "no start message")


def test_keep_undoes_it_also_after_the_first_look(deadlines):
    deadlines.close_after(110.0, 1008, "no start message")
    assert look(deadlines, 110.1, sends=True) is None
    deadlines.keep()
    assert look(deadlines, 110.2, sends=True) is None
    assert look(deadlines, 110.3, sends=True) is None
