"""When a stream is read next, while many are live."""

import sys

TICK_MS = 2
CHUNK_MS = 20  # how often Twilio sends a message of a track, as observed
PROBE = 32  # reads until one is early on purpose


class ReadSchedule:
    """When to read one stream again, so that many messages have gathered and none is late.

    A message comes every 20 ms (`m`). A read every 44 ms, at any moment, finds 2 of them, seldom 3. A read
    just after a message finds 3 if it comes a whole 60 ms after the last one, and the oldest of them has
    waited for little more than 40 ms:

        m         m         m         m         m         m         m
         ^read                         ^read: 3 messages             ^read: 3 messages

    The number of messages tells where that moment is. One more than last time: the last of them came just
    now. One less: the next is about to come. Every 32 reads one is a tick early on purpose: if it finds no
    message less, the moment has moved, and is looked for again.
    """

    def __init__(self, gather_ms: int) -> None:
        self._short = max(gather_ms // TICK_MS, 1)
        self._long = (gather_ms // CHUNK_MS + 1) * CHUNK_MS // TICK_MS
        self._before = sys.maxsize  # messages of the last read; the first may have begun anywhere
        self._known = False  # whether the moment is known
        self._early = False  # whether the last read came before its message
        self._probing = False  # whether the last read was early on purpose
        self._reads = 0  # since it was last early

    def ticks(self, count: int) -> int:
        """Return in how many ticks to read again, after a read that found `count` messages."""
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
