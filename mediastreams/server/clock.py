"""Limits in time that a pause of the machine does not use up.

After SIGSTOP and SIGCONT, or when a laptop wakes up, what was sent meanwhile waits in the sockets. So a limit
counts only time in which the server ran, and what has come is read before anybody is judged.
"""

import time
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.hub import get_hub

LOOK_SECONDS = 0.25  # how often the limits are looked at
MAX_STEP = 2 * LOOK_SECONDS  # what counts at most of the time between two looks


class Watched(Protocol):
    """What has a limit in time."""

    def look(self, now: float) -> None:
        """Act on what is overdue at the time `now` of the clock. Called on the hub."""


class Clock:
    """Counts the seconds in which the server ran, and looks at what has a limit. For the server's thread."""

    def __init__(self) -> None:
        self._counted = 0.0
        self._looked_at = time.monotonic()
        self._watched: set[Watched] = set()
        self._timer: Any = None

    def now(self) -> float:
        """Return the time, in seconds since a moment that has no meaning."""
        return self._counted + min(time.monotonic() - self._looked_at, MAX_STEP)

    def join(self, watched: Watched) -> None:
        """Look at `watched` a few times a second, until it leaves."""
        if not self._watched:
            self._count()
            self._timer = get_hub().loop.timer(LOOK_SECONDS, LOOK_SECONDS)
            self._timer.start(self._look)
        self._watched.add(watched)

    def leave(self, watched: Watched) -> None:
        """Undo `join`; does nothing the second time."""
        if watched not in self._watched:
            return
        self._watched.remove(watched)
        if not self._watched:
            self._timer.close()

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait until `event` is set, at most `seconds`; return whether it is."""
        until = self.now() + seconds
        while (left := until - self.now()) > 0:
            if event.wait(min(left, LOOK_SECONDS)):
                return True
            self._count()
        return event.is_set()

    def _count(self) -> None:
        self._counted = self.now()
        self._looked_at = time.monotonic()

    def _look(self) -> None:
        self._count()
        for watched in list(self._watched):
            watched.look(self._counted)


class Timeout(BaseException):
    """Is raised in the greenlet that makes it when `seconds` have passed, unless it is closed before.

    As gevent's `Timeout`, but on a `Clock`.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self._clock = clock
        self._greenlet = gevent.getcurrent()
        self._until = clock.now() + seconds
        self._is_overdue = False
        clock.join(self)

    def close(self) -> None:
        """Raise no more."""
        self._clock.leave(self)

    def look(self, now: float) -> None:
        """Raise in the greenlet, if it had the time since the last look to read what has come."""
        if now < self._until:
            return
        if not self._is_overdue:
            self._is_overdue = True
            return
        self.close()
        self._greenlet.throw(self)
