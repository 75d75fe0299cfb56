"""The same server under gunicorn: `gunicorn app:app`, with `gunicorn.conf.py`."""

import os
import signal
from types import FrameType
from typing import Any

import gevent
import gunicorn.glogging
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

from mediastreams.config import load
from mediastreams.log.locks import use_system_locks
from mediastreams.server.descriptors import Server
from mediastreams.server.handler import handler_of
from mediastreams.server.state import ServerState
from mediastreams.server.workers import Workers

_LOOK_SECONDS = 0.02  # how often a worker that ends looks for another one
_REQUEST_SECONDS = 5.0  # for requests on their way; gunicorn ends a worker 10 s after DRAIN_TIMEOUT


def _hold_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _begin_process() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release_sigterm()


# SIGTERM ends a worker that is not ready yet: the handler that it has from the master would lose the signal,
# and the server would not end before `graceful_timeout`.
os.register_at_fork(before=_hold_sigterm, after_in_parent=_release_sigterm, after_in_child=_begin_process)


class Worker(GeventWebSocketWorker):  # type: ignore[misc]
    """A gunicorn worker whose connections are those of `handler.Handler`.

    It has settings and state of the application's `MediaStreams`; each worker has its own, so MAX_STREAMS
    counts for each.

    On SIGTERM, and after `max_requests`, it drains as `serve` does. While another worker accepts connections,
    or is about to, new calls are that worker's: a reload refuses none. Where there is no other, the whole
    server ends, and new handshakes get 503. gunicorn's own worker would leave them to time out.
    """

    server_class: Any = Server
    workers: Workers | None = None
    """All workers of the master."""
    state: ServerState
    """The state of this worker's server; there is none until the application is loaded."""

    def __init__(self, age: int, *arguments: Any) -> None:
        """Make a worker, in the master."""
        super().__init__(age, *arguments)
        Worker.workers = self._workers = Worker.workers or Workers()
        self._workers.add(age)
        self._servers: list[Any] = []
        self._requests = 0
        self._is_ending = False

    def patch(self) -> None:
        """Let gevent patch the modules of Python, but not the locks of the log."""
        super().patch()
        use_system_locks()

    def ended(self) -> None:
        """Forget the worker, in the master: its process has ended."""
        self._workers.remove(self.age)

    def run(self) -> None:
        """Serve until gunicorn ends the worker."""
        app = self.wsgi
        while not hasattr(app, "extensions") and hasattr(app, "app"):
            app = app.app  # what a middleware of Werkzeug wraps
        extensions = getattr(app, "extensions", {})
        if "mediastreams" in extensions:
            self.state = extensions["mediastreams"].state
        else:  # it is hidden by a function around the application, or mounted beneath another one
            self.state = ServerState.latest or ServerState(load())
        # Above MAX_STREAMS a handshake is still answered (503), and so is /healthz.
        self.worker_connections = self.state.settings.max_streams + 100
        self.state.workers = self.cfg.workers
        address = self.sockets[0].getsockname()
        self.state.port = address[1] if isinstance(address, tuple) else 0
        self.state.open()
        self.wsgi_handler = type("Handler", (handler_of(self.state),), {"on_request": self._count_request})
        make_server = self.server_class

        def make(*arguments: Any, **options: Any) -> Any:
            self._servers.append(make_server(*arguments, **options))
            return self._servers[-1]

        self.server_class = make
        gevent.spawn(self._workers.accepts, self.age)  # when `run` has started the servers, and waits
        super().run()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, then let gunicorn end the worker. A second time it does nothing: SIGQUIT ends it at once."""
        if not hasattr(self, "state"):
            super().handle_exit(sig, frame)
        elif not self._is_ending:
            self._is_ending = True
            gevent.spawn(self._end)  # not in the signal's own frame, which may not wait

    def _end(self) -> None:
        while not (is_replaced := self._workers.hand_over(self.age)):
            if not self._workers.is_another_starting(self.age):
                break
            gevent.sleep(_LOOK_SECONDS)
        self._drain(is_replaced)

    def _count_request(self) -> None:
        self._requests += 1
        if self._requests == self.max_requests:
            gevent.spawn(self._make_room)

    def _make_room(self) -> None:
        """End after `max_requests`: when another worker accepts connections, or between two calls."""
        while not self._workers.hand_over(self.age) and len(self.state.live):
            gevent.sleep(_LOOK_SECONDS)
        if not self._is_ending:
            self._is_ending = True
            self._drain(is_replaced=True)

    def _drain(self, is_replaced: bool) -> None:
        self.state.keeps_connections = False
        if is_replaced:
            for server in self._servers:
                server.stop_accepting()
            self.state.close_pages()
            clock = self.state.live.clock
            until = clock.now() + min(self.state.settings.start_timeout, _REQUEST_SECONDS)
            # Whoever has connected before is served: its request may still be on its way.
            while self._connections() > len(self.state.live) and clock.now() < until:
                gevent.sleep(_LOOK_SECONDS)
        self.state.drain(is_replaced=is_replaced)
        self.alive = False  # as gunicorn's own `handle_exit` has it

    def _connections(self) -> int:
        return sum(server.pool.size - server.pool.free_count() for server in self._servers)


class JsonLogger(gunicorn.glogging.Logger):  # type: ignore[misc]
    """gunicorn's own log, as JSON."""

    def setup(self, cfg: Any) -> None:
        """Set up gunicorn's handlers."""
        from mediastreams.log.json_format import (
            JsonFormatter,  # its library is imported only where it is used
        )

        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
