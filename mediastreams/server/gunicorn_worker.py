"""The same server under gunicorn: `gunicorn app:app`, with `gunicorn.conf.py`."""

from types import FrameType
from typing import Any

import gevent
import gunicorn.glogging
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

from mediastreams.config import load
from mediastreams.server.handler import handler_of
from mediastreams.server.state import ServerState


class Worker(GeventWebSocketWorker):  # type: ignore[misc]
    """A gunicorn worker whose connections are those of `handler.Handler`.

    It takes settings and state from the application's `MediaStreams`, else the settings that `load` returns.
    Each worker has a state of its own, so MAX_STREAMS counts for each. On SIGTERM it drains as `serve` does
    and refuses new handshakes with 503; gunicorn's own worker would let them time out.
    """

    state: ServerState | None = None
    """The state of this worker's server; None until the application is loaded."""

    def run(self) -> None:
        """Serve until gunicorn ends the worker."""
        extensions = getattr(self.wsgi, "extensions", {})
        self.state = extensions["mediastreams"].state if "mediastreams" in extensions else ServerState(load())
        # Above MAX_STREAMS a handshake is still answered (503), and so is /healthz.
        self.worker_connections = self.state.settings.max_streams + 100
        self.state.open()
        self.wsgi_handler = handler_of(self.state)
        super().run()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, then let gunicorn end the worker. A second signal ends it at once."""
        if self.state is None:  # the application is not loaded yet
            super().handle_exit(sig, frame)
            return
        if self.state.live.draining:
            self.handle_quit(sig, frame)
            return
        # In a greenlet, because the signal's own frame must not wait.
        gevent.spawn(self.state.drain).link(lambda _: super(Worker, self).handle_exit(sig, frame))


class JsonLogger(gunicorn.glogging.Logger):  # type: ignore[misc]
    """gunicorn's own log, as JSON."""

    def setup(self, cfg: Any) -> None:
        """Set up gunicorn's handlers."""
        from mediastreams.json_log import JsonFormatter  # its library is imported only where it is used

        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
