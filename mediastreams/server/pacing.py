"""When a stream is to be read next, while many are live."""

import sys

TICK_MS = 2
CHUNK_MS = 20  # how often Twilio sends a message of a track, as observed
PROBE = 32  # reads until the moment is looked for again


class ReadSchedule:
    """When a stream is to be read next, so that most gathers and none of it is late.

    Read every 44 ms, a stream of a message each 20 ms gives 2 of them, seldom 3, and the oldest has waited
    for up to 44 ms. Read just after a message has come, it may be read a whole 60 ms later: there
    are always 3, and the oldest has waited for little more than 40 ms, since it came 20 ms after the last
    read. What tells the moment is the number of messages: one more than before, and the last of them came
    just now; one less, and the next is about to come. Coming a tick earlier now and then must be too early:
    so the moment is known to lie within a tick.
    """

    __slots__ = ("_before", "_early", "_known", "_long", "_probing", "_reads", "_short")

    def __init__(self, gather_ms: int) -> None:
        self._short = max(gather_ms // TICK_MS, 1)
        self._long = (gather_ms // CHUNK_MS + 1) * CHUNK_MS // TICK_MS
        self._before = sys.maxsize  # the first read may have begun anywhere
        self._known = False  # whether the moment is
        self._early = False  # whether the last read was
        self._probing = False  # whether the last read was to be
        self._reads = 0

    def ticks(self, count: int) -> int:
        """Return in how many ticks to read again, after a read that gave so many messages."""
        before, self._before = self._before, count
        probing, self._probing = self._probing, False
        if not self._known:
            if count <= before or count < 2:
                return self._short
            self._known, self._reads = True, PROBE - 1
        elif count < before:
            self._known = not self._early  # twice: this stream has other moments, or none
            if self._known:
                self._before = before
            self._early, self._reads = True, 0
            return max(self._short - 1, 1)  # nearer to the moment than it was first found
        elif probing:
            self._known = False
            return self._short
        self._early = False
        self._reads += 1
        self._probing = self._reads >= PROBE
        return self._long - 1 if self._probing else self._long
