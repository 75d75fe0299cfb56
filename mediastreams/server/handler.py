"""The handler of a connection: upgrades a request to a WebSocket only when its route asks for it.

gevent-websocket 0.10.1 upgrades every path before the application has seen it; after that 101 Twilio can
only report 31921 for whatever is wrong. Here the application runs first, and a refusal is an HTTP status.
"""

import contextlib
import errno
import io
import logging
from collections.abc import Callable, Mapping
from http.client import LineTooLong
from typing import Any, Protocol

import gevent
from gevent.pywsgi import WSGIHandler
from geventwebsocket.handler import WebSocketHandler

from mediastreams.server import handshake
from mediastreams.server.clock import Timeout
from mediastreams.server.connections import Live
from mediastreams.server.handshake import Refusal
from mediastreams.server.send_buffer import WOULD_BLOCK
from mediastreams.server.sockets import LOG_LEVEL, UPGRADE, refusal
from mediastreams.server.state import ServerState
from mediastreams.server.websocket import WebSocket
from mediastreams.text import printable

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 65536  # of all headers of a request; Twilio's have about 1,000
_MAX_SHOWN = 200


class Admission(Protocol):
    """Admits the WebSockets of one kind, and counts them: `ServerState` does it for streams."""

    live: Live
    """Those that are live."""

    @property
    def max_message_bytes(self) -> int:
        """How long a message of a peer may be."""

    @property
    def idle_seconds(self) -> float:
        """How many seconds a peer may be silent, or read nothing."""

    def refusal(self, environ: Mapping[str, Any], path: str) -> Refusal | None:
        """Return why a handshake is refused; None if it is accepted.

        `path` is that of the request line, as it was sent.
        """

    def join(self, websocket: WebSocket) -> None:
        """Count a WebSocket that was opened."""

    def leave(self, websocket: WebSocket) -> None:
        """Undo `join`."""


class Handler(WebSocketHandler):  # type: ignore[misc]
    """One connection: HTTP requests, and at most one upgrade, after which it is a WebSocket's.

    The server makes one for each connection and runs it in a greenlet of its own.
    """

    state: ServerState
    """The state of the server; set on a subclass (`handler_of`)."""
    on_request: Callable[[], None] | None = None
    """Is called with each request; None: nothing is."""
    logger = logger
    websocket: WebSocket | None = None
    environ: Any
    _deadline: Timeout
    _run: Callable[[WebSocket], None]
    _admission: Admission

    @property
    def peer(self) -> str:
        """The other end's address; behind a tunnel or a proxy it is the address of that."""
        address = self.client_address
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "-"

    def handle(self) -> None:
        """Serve the connection; ignore a peer that is gone before its answer."""
        with contextlib.suppress(OSError):
            super().handle()

    def read_request(self, raw_requestline: str) -> Any:
        """Read a request's headers. Raises `ValueError` for a body in chunks, which Twilio never sends.

        pywsgi fails with a traceback on a malformed one.
        """
        result = super().read_request(raw_requestline)
        if self.headers.get("Transfer-Encoding"):
            raise ValueError("Transfer-Encoding")
        return result

    def MessageClass(self, rfile: Any, *_: Any) -> Any:  # noqa: N802  # pywsgi's name
        """Read a request's headers, of `MAX_HEADER_BYTES`: pywsgi would keep 6 MB of them."""
        return super().MessageClass(_Bounded(rfile))

    def handle_one_request(self) -> Any:
        """Read one request within START_TIMEOUT and answer it; pywsgi would wait for ever."""
        if self.status is not None:  # it has answered one: who sends many at once never waits for a socket
            gevent.sleep(0)
        self._start_deadline()
        self.environ = None  # not the last request's, if this one is none
        try:
            return super().handle_one_request()
        except Timeout as expired:
            if expired is not self._deadline:
                raise
            if self.status is None:  # else a request was answered before, and only the connection was kept
                self._log_refusal(
                    "timeout", 408, "%s sent no whole request within %g s", self.peer, self._deadline.seconds
                )
            return None
        finally:
            self._deadline.close()

    def _start_deadline(self) -> None:
        self._deadline = Timeout(self.state.live.clock, self.state.settings.start_timeout)

    def run_application(self) -> None:
        """Let the application answer; a route of `Sockets` upgrades through the environment."""
        self._deadline.close()
        if self.on_request is not None:
            self.on_request()
        self.environ[UPGRADE] = self.upgrade
        try:
            WSGIHandler.run_application(self)
            if self.websocket is not None:
                # Not inside the application: each switch between greenlets copies the C stack, 4.2 kB of it
                # beneath Flask and its middleware, and 2.4 kB here.
                self._run(self.websocket)
        finally:
            if self.websocket is not None:
                self._finish(self.websocket)
            else:  # pywsgi now reads the rest of the request's body
                self._start_deadline()
                if not self.state.keeps_connections:
                    self.close_connection = True  # gunicorn waits for those that are kept

    def _sendall(self, data: Any) -> None:
        """Send of an answer; give it up when none of it is read for IDLE_TIMEOUT. pywsgi waits for ever."""
        unsent = memoryview(data)
        while unsent:
            deadline = Timeout(self.state.live.clock, self.state.settings.idle_timeout)
            try:
                unsent = unsent[self.socket.send(unsent) :]
            except Timeout as expired:
                if expired is not deadline:
                    raise
                # No warning: a browser does so while the audio that it plays is paused, and asks again.
                line = "%s: it has read nothing of its answer for %g s"
                logger.debug(line, self.peer, deadline.seconds, extra={"limit": "errors of HTTP"})
                raise ConnectionResetError(errno.ECONNRESET, "nothing is read") from None
            finally:
                deadline.close()
        self.response_length += len(data)

    def finalize_headers(self) -> None:
        """Say in the answer that the connection ends, where it does: pywsgi tells only HTTP/1.0."""
        super().finalize_headers()
        is_given = any(name.lower() == b"connection" for name, _ in self.response_headers)
        if not self.state.keeps_connections and not is_given:
            self.response_headers.append((b"Connection", b"close"))
            self.close_connection = True

    def upgrade(self, run: Callable[[WebSocket], None], admission: Admission | None = None) -> None:
        """Answer 101 (RFC 6455, section 4.2); `run` gets the WebSocket once the application has returned.

        `admission` admits it; None: it is a stream, and the state of the server does. Raises an
        `HTTPException` if the handshake is refused.
        """
        self._admission = admission = admission or self.state
        refused = admission.refusal(self.environ, self.path)
        if refused is not None:
            self.environ[LOG_LEVEL] = logging.NOTSET
            why = printable(refused.why or refused.text)
            self._log_refusal(
                refused.reason,
                refused.status,
                "%s: refused with %d, %s",
                self.peer,
                refused.status,
                why,
            )
            raise refusal(refused.status, refused.text, refused.headers)
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", handshake.accept(self.environ["HTTP_SEC_WEBSOCKET_KEY"])),
        ]
        # gevent-websocket's start_response keeps Date, length and chunks out of the answer to a WebSocket.
        self.environ["wsgi.websocket"] = True
        self.start_response("101 Switching Protocols", headers)
        self.write(b"")
        websocket = WebSocket(
            self.environ,
            self,
            admission.live,
            max_message_bytes=admission.max_message_bytes,
            idle_seconds=admission.idle_seconds,
            peer=self.peer,
        )
        self.environ["wsgi.websocket"] = self.websocket = websocket
        admission.join(websocket)
        # What came directly behind the handshake is in the HTTP reader's buffer: one read empties it.
        with contextlib.suppress(*WOULD_BLOCK):
            if ahead := self.rfile.read1(io.DEFAULT_BUFFER_SIZE):
                websocket.feed(ahead)
        self.rfile.close()
        self._run = run

    def _finish(self, websocket: WebSocket) -> None:
        try:
            websocket.finish()
        finally:
            self._admission.leave(websocket)
            self.environ["wsgi.websocket"] = None

    def log_request(self) -> None:
        """Log an HTTP request and its answer; a call logs its own lines.

        Importing Flask-Sockets replaces this method of pywsgi's handler, which this one does not call.
        """
        if self.websocket is not None:
            return
        if self.environ is not None:  # None: what came is not HTTP
            code = getattr(self, "code", 0)
            level = self.environ.get(LOG_LEVEL)
            request = printable(f"{self.environ['REQUEST_METHOD']} {self.environ['PATH_INFO']}")
            line = '%s "%s" %s', self.peer, request, code or "-"
            if code >= 400 and level is None:
                self._log_refusal("", code, *line, level=logging.INFO)
            elif level != logging.NOTSET:
                logger.log(level or logging.INFO, *line)
        elif self.status == "414":
            self._log_refusal(
                "malformed", 400, "%s: refused with 414, the request line is too long", self.peer
            )

    def _handle_client_error(self, ex: Exception) -> Any:
        """Log in one line what a peer sent instead of HTTP; pywsgi prints some of it as a traceback."""
        tls = self.requestline.startswith("\x16\x03")
        what = (
            "TLS, where plain HTTP is spoken (use http:// and ws:// here)" if tls else "no HTTP it can read"
        )
        self._log_refusal("malformed", 400, "%s: refused with 400, this is %s", self.peer, what)
        return ("400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    def log_error(self, message: str, *values: object) -> None:
        """Log in one line what else pywsgi has to say of a peer."""
        text = printable(message % values if values else message)
        logger.warning("%s: %s", self.peer, text[:_MAX_SHOWN], extra={"limit": "errors of HTTP"})

    def _log_refusal(
        self, reason: str, status: int, line: str, *arguments: object, level: int = logging.WARNING
    ) -> None:
        """Count a refused request and log it, within the bounds of its kind (`log.limit`)."""
        self.state.count_refused(reason, status)
        logger.log(level, line, *arguments, extra={"limit": f"refusals with {status}"})


class _Bounded:
    """The headers of one request, to be read line by line."""

    def __init__(self, rfile: Any) -> None:
        self._rfile = rfile
        self._left = MAX_HEADER_BYTES

    def readline(self, size: int) -> bytes:
        line: bytes = self._rfile.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("headers")
        return line


def handler_of(state: ServerState) -> type[Handler]:
    """Return the handler class for the connections of a server."""
    return type("Handler", (Handler,), {"state": state})
