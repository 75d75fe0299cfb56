"""The live WebSockets of this process: how many, whose turn it is to be read, and who is overdue."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gevent.event import Event
from gevent.hub import get_hub

if TYPE_CHECKING:
    from mediastreams.server.websocket import WebSocket

FEW = 16  # so many cost 8 % of a core when each message wakes the server (bench/README.md)
TICK_MS = 2
CHUNK_MS = 20  # how often Twilio sends a message of a track, as observed
PROBE = 32  # reads until the moment is looked for again
WATCH_SECONDS = 0.25  # how often the limits in time are looked at


class Pace:
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


class Live:
    """The WebSockets that have joined and not left.

    While more than `FEW` are there, each is read in its turn (`Pace`); with `gather_ms` 0, and while they
    are few, each is read when there is something to read.
    """

    def __init__(self, gather_ms: int) -> None:
        self.draining = False
        self.gathering = False
        self.gather_ms = gather_ms
        self._websockets: set[WebSocket] = set()
        # Whose turn comes in how many ticks: a ring, as long as the longest wait.
        self._ring: list[list[WebSocket]] = [[] for _ in range((gather_ms + CHUNK_MS) // TICK_MS + 2)]
        self._tick = 0
        self._empty = Event()
        self._empty.set()
        self._ticks: Any = None
        self._watch: Any = None

    def __len__(self) -> int:
        return len(self._websockets)

    def __iter__(self) -> "Iterator[WebSocket]":
        return iter(list(self._websockets))

    def join(self, websocket: "WebSocket") -> None:
        """Count a WebSocket, and watch its time."""
        if not self._websockets:
            loop = get_hub().loop
            self._watch = loop.timer(WATCH_SECONDS, WATCH_SECONDS)
            self._watch.start(self._look)
            self._ticks = loop.timer(0, TICK_MS / 1000)
        self._websockets.add(websocket)
        self._empty.clear()
        self._set_pace()

    def leave(self, websocket: "WebSocket") -> None:
        """Undo `join`."""
        self._websockets.remove(websocket)
        self._set_pace()
        if not self._websockets:
            self._watch.close()
            self._ticks.close()
            self._empty.set()

    def give_turn(self, websocket: "WebSocket", ticks: int) -> None:
        """Wake the WebSocket's receiver in so many ticks, unless something else does."""
        self._ring[(self._tick + ticks) % len(self._ring)].append(websocket)

    def drain(self, code: int, reason: str) -> None:
        """Close all of them, because the server ends."""
        for websocket in list(self._websockets):
            websocket.drain(code, reason)

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until all have left, `seconds` at the most; say whether they have."""
        return bool(self._empty.wait(seconds))

    def _set_pace(self) -> None:
        gathering = len(self._websockets) > FEW and self.gather_ms > 0
        if gathering == self.gathering:
            return
        self.gathering = gathering
        if gathering:
            self._tick = self._now()
            self._ticks.start(self._turn)
            return
        self._ticks.stop()
        for websocket in self._websockets:  # no turn comes any more to those that wait for one
            get_hub().loop.run_callback(websocket.wake)

    @staticmethod
    def _now() -> int:
        return int(time.monotonic() * 1000) // TICK_MS

    def _turn(self) -> None:
        # By the clock: a timer that fires late would make each wait longer.
        now = self._now()
        while self._tick < now:
            self._tick += 1
            place = self._tick % len(self._ring)
            turn, self._ring[place] = self._ring[place], []
            for websocket in turn:
                greenlet = websocket.awaits_turn
                if greenlet is not None:
                    websocket.awaits_turn = None
                    greenlet.switch()

    def _look(self) -> None:
        now = time.monotonic()
        for websocket in list(self._websockets):
            websocket.look(now)
