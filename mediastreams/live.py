"""The live WebSockets of this process: how many, whose turn it is to be read, and who is overdue."""

import time
from typing import TYPE_CHECKING, Any

from gevent.event import Event
from gevent.hub import get_hub

if TYPE_CHECKING:
    from mediastreams.websocket import WebSocket

FEW = 50  # so many cost less than 5 % of a core when each message wakes the server
TURNS = 16  # in one gathering: how finely the reads are spread over it
WATCH_SECONDS = 0.25  # how often the limits in time are looked at


class Live:
    """The WebSockets that have joined and not left.

    While more than `FEW` are there, each is read once in `gather_ms` milliseconds, in its turn; with
    `gather_ms` 0 each is read when there is something to read, as the few are.
    """

    def __init__(self, gather_ms: int) -> None:
        self.draining = False
        self.gathering = False
        self._gather_seconds = gather_ms / 1000
        self._websockets: set[WebSocket] = set()
        self._turns: list[tuple[WebSocket, ...]] = [()] * TURNS
        self._turn = 0
        self._empty = Event()
        self._empty.set()
        self._ticks: Any = None
        self._watch: Any = None

    def __len__(self) -> int:
        return len(self._websockets)

    def join(self, websocket: "WebSocket") -> None:
        """Count a WebSocket, watch its time, and give it a turn: the one that fewest have."""
        if not self._websockets:
            loop = get_hub().loop
            self._watch = loop.timer(WATCH_SECONDS, WATCH_SECONDS)
            self._watch.start(self._look)
            self._ticks = loop.timer(0, self._gather_seconds / TURNS)
        self._websockets.add(websocket)
        self._empty.clear()
        turn = min(range(TURNS), key=lambda i: len(self._turns[i]))
        self._turns[turn] += (websocket,)
        self._set_pace()

    def leave(self, websocket: "WebSocket") -> None:
        """Undo `join`."""
        self._websockets.remove(websocket)
        self._turns = [tuple(w for w in turn if w is not websocket) for turn in self._turns]
        self._set_pace()
        if not self._websockets:
            self._watch.close()
            self._ticks.close()
            self._empty.set()

    def close(self, code: int, reason: str) -> None:
        """Close all of them."""
        for websocket in list(self._websockets):
            websocket.close(code, reason)

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until all have left, `seconds` at the most; say whether they have."""
        return bool(self._empty.wait(seconds))

    def _set_pace(self) -> None:
        gathering = len(self._websockets) > FEW and self._gather_seconds > 0
        if gathering == self.gathering:
            return
        self.gathering = gathering
        if gathering:
            self._ticks.start(self._tick)
            return
        self._ticks.stop()
        for websocket in self._websockets:  # no turn comes any more to those that wait for one
            get_hub().loop.run_callback(websocket.wake)

    def _tick(self) -> None:
        self._turn = (self._turn + 1) % TURNS
        for websocket in self._turns[self._turn]:
            greenlet = websocket.awaits_turn
            if greenlet is not None:
                websocket.awaits_turn = None
                greenlet.switch()

    def _look(self) -> None:
        now = time.monotonic()
        for websocket in list(self._websockets):
            websocket.look(now)
