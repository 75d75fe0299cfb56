"""The live WebSockets of this process: how many there are, and whose turn it is to be read."""

import selectors
import time
from typing import Any, Protocol

from gevent.event import Event
from gevent.hub import get_hub
from gevent.monkey import get_original

from mediastreams.server.clock import Clock, Watched
from mediastreams.server.pacing import CHUNK_MS, TICK_MS

FEW = 16  # so many cost 8 % of a core when each message wakes the server (bench/README.md)

# Not gevent's, which would wait for the hub; this one is only asked.
_Selector = get_original("selectors", "DefaultSelector")


class Connection(Watched, Protocol):
    """What this needs of a WebSocket (`websocket.WebSocket` has it). For the hub to call."""

    awaits_turn: Any
    """The greenlet that waits for its turn, None where none does."""

    def fileno(self) -> int:
        """Return the descriptor of its socket."""

    def wake(self) -> None:
        """Let the greenlet that waits to receive look again."""

    def drain(self, code: int, reason: str) -> None:
        """Close it, because the server ends."""


class Live:
    """The WebSockets that have joined and not left. For the server's thread.

    While more than `FEW` are there, each is read in its turn: in so many ticks (`give_turn`), or soon after
    something has come (`give_turn_soon`). While they are few, and with `gather_ms` 0, each is read when there
    is something to read.
    """

    clock: Clock
    """What their limits in time are counted by."""
    draining: bool
    """Whether the server drains, and takes no more."""
    gathering: bool
    """Whether each is read in its turn."""
    gather_ms: int
    """How many milliseconds of messages are read at once."""

    def __init__(self, gather_ms: int) -> None:
        self.clock = Clock()
        self.draining = False
        self.gathering = False
        self.gather_ms = gather_ms
        self._websockets: set[Connection] = set()
        # The turns of the next ticks: a ring, as long as the longest wait.
        self._ring: list[list[Connection]] = [[] for _ in range((gather_ms + CHUNK_MS) // TICK_MS + 2)]
        self._tick = 0
        self._soon: set[Connection] = set()  # that get a turn when something has come
        self._readable: selectors.BaseSelector  # tells of which of these; open while there are any
        self._empty = Event()
        self._empty.set()
        self._ticks: Any = None

    def __len__(self) -> int:
        return len(self._websockets)

    def join(self, websocket: Connection) -> None:
        """Add a WebSocket, and look at its limits in time."""
        if not self._websockets:
            self._ticks = get_hub().loop.timer(0, TICK_MS / 1000)
        self._websockets.add(websocket)
        self.clock.join(websocket)
        self._empty.clear()
        self._set_pace()

    def leave(self, websocket: Connection) -> None:
        """Undo `join`."""
        self._websockets.remove(websocket)
        self.clock.leave(websocket)
        if websocket in self._soon:
            self._soon.remove(websocket)
            self._readable.unregister(websocket)
            if not self._soon:
                self._readable.close()
        self._set_pace()
        if not self._websockets:
            self._ticks.close()
            self._empty.set()

    def give_turn(self, websocket: Connection, ticks: int) -> None:
        """Wake the WebSocket's receiver in so many ticks, unless something else does."""
        self._ring[(self._tick + ticks) % len(self._ring)].append(websocket)

    def give_turn_soon(self, websocket: Connection) -> None:
        """Wake the WebSocket's receiver at most 2 ms after something has come, unless something else does.

        From then on it gets its turns so whenever it waits for one.
        """
        if websocket in self._soon:
            return
        if not self._soon:
            self._readable = _Selector()
        self._soon.add(websocket)
        self._readable.register(websocket, selectors.EVENT_READ, websocket)

    def drain(self, code: int, reason: str) -> None:
        """Close all of them, because the server ends."""
        for websocket in list(self._websockets):
            websocket.drain(code, reason)

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until all have left, at most `seconds` of the clock; return whether they have."""
        return self.clock.wait(self._empty, seconds)

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
                _take_turn(websocket)
        if self._soon:
            for key, _ in self._readable.select(0):
                _take_turn(key.data)


def _take_turn(websocket: Connection) -> None:
    greenlet = websocket.awaits_turn
    if greenlet is not None:
        websocket.awaits_turn = None
        greenlet.switch()
