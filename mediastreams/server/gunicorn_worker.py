"""The same server under gunicorn: `gunicorn app:app`, with `gunicorn.conf.py`."""

from types import FrameType
from typing import Any

import gevent
import gunicorn.glogging
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

from mediastreams import log
from mediastreams.config import load
from mediastreams.server.handler import handler_of
from mediastreams.server.state import ServerState


class Worker(GeventWebSocketWorker):  # type: ignore[misc]
    """A gunicorn worker whose connections are those of `handler.Handler`.

    It takes settings and state of the application's `MediaStreams`; each worker has its own, so MAX_STREAMS
    counts for each. On SIGTERM it drains as `serve` does, while it answers new handshakes with 503;
    gunicorn's own would leave them to time out.
    """

    state: ServerState | None = None

    def run(self) -> None:
        """Serve until told to end."""
        extensions = getattr(self.wsgi, "extensions", {})
        self.state = extensions["mediastreams"].state if "mediastreams" in extensions else ServerState(load())
        # Beyond MAX_STREAMS a handshake is answered (503), and so is /healthz.
        self.worker_connections = self.state.settings.max_streams + 100
        self.state.open()
        self.wsgi_handler = handler_of(self.state)
        super().run()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, then let gunicorn end the worker; at a second signal at once."""
        if self.state is None:  # no application is loaded yet
            super().handle_exit(sig, frame)
            return
        if self.state.live.draining:
            self.handle_quit(sig, frame)
            return
        # Not in the signal's own frame, which may not wait.
        gevent.spawn(self.state.drain).link(lambda _: super(Worker, self).handle_exit(sig, frame))


class Logger(gunicorn.glogging.Logger):  # type: ignore[misc]
    """gunicorn's own log, as JSON where LOG_FORMAT says so."""

    def setup(self, cfg: Any) -> None:
        """Set gunicorn's handlers up."""
        super().setup(cfg)
        settings = load()
        if settings.log_format == "json":
            for handler in self.error_log.handlers:
                handler.setFormatter(log.formatter(settings))
