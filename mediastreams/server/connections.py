"""The live WebSockets of this process: how many, whose turn it is to be read, and who is overdue."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

from gevent.event import Event
from gevent.hub import get_hub

from mediastreams.server.pacing import CHUNK_MS, TICK_MS

FEW = 16  # so many cost 8 % of a core when each message wakes the server (bench/README.md)
WATCH_SECONDS = 0.25  # how often the limits in time are looked at


class Connection(Protocol):
    """What this needs of a WebSocket (`websocket.WebSocket` has it). For the hub to call."""

    awaits_turn: Any
    """The greenlet that waits for its turn, None where none does."""

    def wake(self) -> None:
        """Let the greenlet that waits to receive look again."""

    def look(self, now: float) -> None:
        """Close what is overdue at the time `now` (monotonic)."""

    def drain(self, code: int, reason: str) -> None:
        """Close it, because the server ends."""


class Live:
    """The WebSockets that have joined and not left.

    While more than `FEW` are there, each is read in its turn (`pacing`); with `gather_ms` 0, and while they
    are few, each is read when there is something to read.
    """

    def __init__(self, gather_ms: int) -> None:
        self.draining = False
        self.gathering = False
        self.gather_ms = gather_ms
        self._websockets: set[Connection] = set()
        # Whose turn comes in how many ticks: a ring, as long as the longest wait.
        self._ring: list[list[Connection]] = [[] for _ in range((gather_ms + CHUNK_MS) // TICK_MS + 2)]
        self._tick = 0
        self._empty = Event()
        self._empty.set()
        self._ticks: Any = None
        self._watch: Any = None

    def __len__(self) -> int:
        return len(self._websockets)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._websockets))

    def join(self, websocket: Connection) -> None:
        """Count a WebSocket, and watch its time."""
        if not self._websockets:
            loop = get_hub().loop
            self._watch = loop.timer(WATCH_SECONDS, WATCH_SECONDS)
            self._watch.start(self._look)
            self._ticks = loop.timer(0, TICK_MS / 1000)
        self._websockets.add(websocket)
        self._empty.clear()
        self._set_pace()

    def leave(self, websocket: Connection) -> None:
        """Undo `join`."""
        self._websockets.remove(websocket)
        self._set_pace()
        if not self._websockets:
            self._watch.close()
            self._ticks.close()
            self._empty.set()

    def give_turn(self, websocket: Connection, ticks: int) -> None:
        """Wake the WebSocket's receiver in so many ticks, unless something else does."""
        self._ring[(self._tick + ticks) % len(self._ring)].append(websocket)

    def drain(self, code: int, reason: str) -> None:
        """Close all of them, because the server ends."""
        for websocket in list(self._websockets):
            websocket.drain(code, reason)

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until all have left, `seconds` at most; return whether they have."""
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
