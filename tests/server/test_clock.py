"""The clock of the limits in time; what a pause of the whole process does is in test_websocket."""

import time

import gevent
import pytest
from gevent.event import Event

from mediastreams.server import clock as module
from mediastreams.server.clock import LOOK_SECONDS, MAX_STEP, Clock, Timeout


class Looks:
    """Notes the times at which it is looked at, and says when there are enough."""

    def __init__(self, enough):
        self.times = []
        self.enough = Event()
        self._enough = enough

    def look(self, now):
        self.times.append(now)
        if len(self.times) == self._enough:
            self.enough.set()


@pytest.fixture
def monotonic(monkeypatch):
    """The system's clock, which stands still until the test moves it."""

    class Monotonic:
        now = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Monotonic.now)
    return Monotonic


class TestClock:
    def test_it_goes_as_the_systems_does(self):
        clock, looks = Clock(), Looks(enough=3)
        clock.join(looks)
        before, began = clock.now(), time.monotonic()
        assert looks.enough.wait(10)
        assert clock.now() - before == pytest.approx(time.monotonic() - began, abs=0.05)
        assert looks.times == sorted(looks.times)
        clock.leave(looks)

    def test_a_pause_counts_for_two_looks(self, monotonic):
        clock = Clock()
        before = clock.now()
        monotonic.now += 3600
        assert clock.now() - before == MAX_STEP == 2 * LOOK_SECONDS

    def test_who_has_left_is_not_looked_at(self):
        clock, gone, stays = Clock(), Looks(enough=1), Looks(enough=2)
        clock.join(gone)
        clock.join(stays)
        clock.leave(gone)
        clock.leave(gone)
        assert stays.enough.wait(10)
        assert gone.times == []
        clock.leave(stays)

    def test_it_may_be_left_and_joined_again(self):
        clock = Clock()
        for _ in range(2):
            looks = Looks(enough=1)
            clock.join(looks)
            assert looks.enough.wait(10)
            clock.leave(looks)

    def test_wait(self):
        clock, event = Clock(), Event()
        assert not clock.wait(event, 0)
        assert not clock.wait(event, 0.01)
        gevent.spawn(event.set)
        assert clock.wait(event, 10)
        assert clock.wait(event, 0)

    def test_wait_goes_on_longer_than_a_look_apart(self):
        clock, began = Clock(), time.monotonic()
        assert not clock.wait(Event(), 3 * LOOK_SECONDS)
        assert time.monotonic() - began >= 3 * LOOK_SECONDS


class TestTimeout:
    def test_it_is_raised_in_the_greenlet_that_made_it(self):
        clock = Clock()
        timeout = Timeout(clock, 0.01)
        with pytest.raises(Timeout) as raised:
            gevent.sleep(10)
        assert raised.value is timeout
        assert timeout.seconds == 0.01

    def test_not_after_it_was_closed(self):
        clock, looks = Clock(), Looks(enough=3)
        timeout = Timeout(clock, 0.01)
        timeout.close()
        timeout.close()
        clock.join(looks)
        assert looks.enough.wait(10)
        clock.leave(looks)

    def test_what_has_come_is_handled_first(self):
        """It is overdue at the first look, and closed before the second."""
        timeout = Timeout(Clock(), 0.0)
        timeout.look(timeout._until)
        timeout.close()
        gevent.sleep(2 * LOOK_SECONDS)
