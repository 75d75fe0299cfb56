"""Who is live, and whose turn it is, with connections that only note what is done to them."""

import os
import socket

import gevent
import pytest

from mediastreams.server import connections
from mediastreams.server.connections import FEW, Live


class Connection:
    def __init__(self):
        self._socket, self.peer = socket.socketpair()
        self.awaits_turn = None
        self.looks = 0
        self.done = []  # but for looks at its limits in time

    @property
    def turns(self):
        return self.done.count("turn")

    def fileno(self):
        return self._socket.fileno()

    def end(self):
        self._socket.close()
        self.peer.close()

    def wake(self):
        self.done.append("wake")
        if self.awaits_turn is not None:
            self.take_turn()

    def look(self, now):
        self.looks += 1

    def drain(self, code, reason):
        self.done.append((code, reason))

    def wait_for_turn(self, live, ticks):
        """Wait as a WebSocket does, `ticks` None as one that also sends, in a greenlet; returns that."""

        def wait():
            self.awaits_turn = gevent.getcurrent()
            if ticks is None:
                live.give_turn_soon(self)
            else:
                live.give_turn(self, ticks)
            gevent.get_hub().switch()
            self.done.append("turn")

        greenlet = gevent.spawn(wait)
        gevent.sleep(0)
        return greenlet

    def take_turn(self):
        greenlet, self.awaits_turn = self.awaits_turn, None
        greenlet.switch()


@pytest.fixture
def join():
    """Return a function that lets so many connections join; they leave with the test."""
    joined = []

    def join(live, number):
        new = [Connection() for _ in range(number)]
        for connection in new:
            live.join(connection)
            joined.append((live, connection))
        return new

    yield join
    for live, connection in joined:
        if connection in live._websockets:
            live.leave(connection)
        connection.end()


def test_how_many(join):
    live = Live(44)
    assert len(live) == 0
    one, _ = join(live, 2)
    assert len(live) == 2
    live.leave(one)
    assert len(live) == 1


@pytest.mark.parametrize(("gather_ms", "gathers"), [(44, True), (0, False)])
def test_more_than_few_are_read_in_turn(join, gather_ms, gathers):
    live = Live(gather_ms)
    join(live, FEW)
    assert not live.gathering
    (last,) = join(live, 1)
    assert live.gathering is gathers
    live.leave(last)
    assert not live.gathering


def test_a_turn_comes_once_and_in_its_time(join):
    live = Live(44)
    members = join(live, FEW + 1)
    early, late = members[:2]
    waiting = [late.wait_for_turn(live, 15), early.wait_for_turn(live, 2)]
    gevent.joinall(waiting, timeout=10, raise_error=True, count=1)
    assert (early.done, late.done) == (["turn"], [])
    assert len(gevent.joinall(waiting, timeout=10)) == 2
    assert late.done == ["turn"]


def test_a_turn_comes_soon_after_data(join):
    live = Live(1000)
    members = join(live, FEW + 1)
    one, other = members[:2]
    waiting = [one.wait_for_turn(live, None), other.wait_for_turn(live, None)]
    one.peer.send(b"a message")
    waiting[0].join(10)
    assert (one.turns, other.turns) == (1, 0)
    gevent.sleep(0.05)  # it has something to read and waits for no turn
    assert one.turns == 1
    again = one.wait_for_turn(live, None)
    again.join(10)
    assert (one.turns, other.turns) == (2, 0)
    other.peer.close()  # an end is something to read
    waiting[1].join(10)
    assert other.turns == 1


def test_those_that_left_get_no_turn_and_leave_no_descriptor(join):
    live = Live(1000)
    members = join(live, FEW + 1)
    before = set(os.listdir("/dev/fd"))
    for _ in range(2):
        waiting = [each.wait_for_turn(live, None) for each in members[:2]]
        for each in members[:2]:
            live.leave(each)
            gevent.get_hub().loop.run_callback(each.take_turn)
        gevent.joinall(waiting, timeout=10, raise_error=True)
        assert set(os.listdir("/dev/fd")) == before
        for each in members[:2]:
            live.join(each)


def test_nobody_waits_for_a_turn_when_few_are_left(join):
    live = Live(1000)
    members = join(live, FEW + 1)
    waiting = members[0].wait_for_turn(live, 500)
    live.leave(members[1])
    waiting.join(10)
    assert members[0].done == ["wake", "turn"]


def test_their_limits_in_time_are_looked_at(join):
    live = Live(44)
    (connection,) = join(live, 1)
    with gevent.Timeout(10):
        while not connection.looks:
            gevent.sleep(0.01)
    assert connection.done == []
    live.leave(connection)


def test_drain_closes_all(join):
    live = Live(44)
    members = join(live, 3)
    live.drain(1001, "going away")
    assert [each.done for each in members] == [[(1001, "going away")]] * 3


def test_wait_until_empty(join):
    live = Live(44)
    assert live.wait_until_empty(0)
    (connection,) = join(live, 1)
    assert not live.wait_until_empty(0.01)
    gevent.spawn(live.leave, connection)
    assert live.wait_until_empty(10)


def test_the_ring_holds_the_longest_wait():
    """A read just after a message may be a whole 20 ms later than `gather_ms`."""
    live = Live(44)
    assert len(live._ring) * connections.TICK_MS > 44 + connections.CHUNK_MS
