"""What one process's connections share: settings, live WebSockets, whether the server drains."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from mediastreams.config import Settings
from mediastreams.server import handshake
from mediastreams.server.connections import Live
from mediastreams.server.descriptors import make_room
from mediastreams.server.frames import CloseCode
from mediastreams.server.handshake import Refusal
from mediastreams.server.sockets import SETTINGS
from mediastreams.server.websocket import CLOSE_SECONDS, WebSocket

logger = logging.getLogger(__name__)


def _nothing(*_: object) -> None:
    pass


class ServerState:
    """The state of one process's server, which admits its streams (`handler.Admission`).

    For the server's thread.
    """

    settings: Settings
    """The settings."""
    live: Live
    """The live WebSockets."""
    count_refused: Callable[[str, int], None]
    """Is called with the reason of each refused request ("" if only its status tells it) and the status."""
    close_pages: Callable[[], None] = staticmethod(_nothing)
    """Closes the WebSockets that are no streams, and waits a moment for that: called first in a drain."""
    keeps_connections: bool = True
    """Whether a connection is kept for another request. A proxy would ask an ending server for ever."""
    port: int = 0
    """The port on which the server listens; 0: it does not yet, or on none."""
    workers: int = 1
    """How many processes serve together, each with a state of its own."""
    latest: ClassVar["ServerState | None"] = None
    """The one of this process that was made last; None: none was."""

    def __init__(
        self,
        settings: Settings,
        *,
        opened: Callable[[], None] = _nothing,
        finish: Callable[[float], None] = _nothing,
        count_live: Callable[[int], None] = _nothing,
        count_refused: Callable[[str, int], None] = _nothing,
    ) -> None:
        """Make the state of a server that takes streams.

        `opened` is called when the server takes connections, `count_live` with the number of live WebSockets
        whenever it changes. `finish` is called at the end of a drain with how many seconds are left for the
        streams' consumers.
        """
        self.settings = settings
        self.live = Live(settings.gather_ms)
        self.count_refused = count_refused
        self._count_live = count_live
        self._opened = opened
        self._finish = finish
        ServerState.latest = self

    def open(self) -> None:
        """Warn of what the settings leave open, and of what the system does not allow."""
        self._opened()
        make_room(self.settings)
        if self.settings.twilio_auth_token is None:
            logger.warning("TWILIO_AUTH_TOKEN is not set: anybody who finds the address can send a stream")

    @property
    def max_message_bytes(self) -> int:
        """How long a message of a stream may be."""
        return self.settings.max_message_bytes

    @property
    def idle_seconds(self) -> float:
        """After how many seconds without a message a stream ends."""
        return self.settings.idle_timeout

    def refusal(self, environ: Mapping[str, Any], path: str) -> Refusal | None:
        """Return why a stream's handshake is refused; None if it is accepted."""
        live, settings = self.live, environ.get(SETTINGS, self.settings)
        return handshake.check(environ, path, settings, live=len(live), draining=live.draining)

    def join(self, websocket: WebSocket) -> None:
        """Count a WebSocket that was opened."""
        self.live.join(websocket)
        self._count_live(len(self.live))

    def leave(self, websocket: WebSocket) -> None:
        """Undo `join`."""
        self.live.leave(websocket)
        self._count_live(len(self.live))

    def drain(self, *, is_replaced: bool = False) -> None:
        """Take no more streams, wait up to DRAIN_TIMEOUT for the live ones, and close the others with 1001.

        Then let their consumers finish, in the rest of that time, but at least for a second. `is_replaced`:
        another process takes new streams, and whoever comes here all the same is not refused.
        """
        self.live.draining = not is_replaced
        self.keeps_connections = False
        self.close_pages()
        seconds = self.settings.drain_timeout
        until = self.live.clock.now() + seconds
        if len(self.live):
            logger.info("Draining: waiting up to %g s for %d live streams", seconds, len(self.live))
        if not self.live.wait_until_empty(seconds):
            logger.warning("Closing %d streams that are still live", len(self.live))
            self.live.drain(CloseCode.GOING_AWAY, "the server is going away")
            self.live.wait_until_empty(CLOSE_SECONDS + 1)
        self._finish(max(until - self.live.clock.now(), 1.0))
