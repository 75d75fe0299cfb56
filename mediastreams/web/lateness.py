"""Measures how late the messages of a stream are handled, from their `timestamp`."""

import time
from collections.abc import Callable

_WINDOW_SECONDS = 60.0


class Lateness:
    """How late one stream's messages are handled: compared with the earliest of the last one or two minutes.

    How long the fastest message takes to the server cannot be known here, and clocks drift. For the server's
    thread.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._before = self._earliest = float("inf")
        self._until = 0.0

    def sample(self, timestamp: int) -> None:
        """Call `observe` with how many seconds late a message is now, by its `timestamp` in milliseconds."""
        now = time.monotonic()
        if now > self._until:
            self._before, self._earliest = self._earliest, float("inf")
            self._until = now + _WINDOW_SECONDS
        age = now - timestamp / 1000
        self._earliest = min(self._earliest, age)
        self._observe(age - min(self._before, self._earliest))
