"""The server: one gevent WSGI server, whose handler upgrades a request only when its route asks for it.

gevent-websocket 0.10.1 upgrades every path before the application has seen it; after that 101 Twilio can
only report 31921 for whatever is wrong. Here the application runs first, and a refusal is an HTTP status.
"""

import base64
import binascii
import contextlib
import errno
import gc
import hashlib
import io
import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from flask import Flask
from gevent.event import Event
from gevent.pywsgi import WSGIHandler, WSGIServer
from geventwebsocket.handler import WebSocketHandler
from werkzeug.exceptions import HTTPException

from mediastreams import terminal
from mediastreams.config import Settings
from mediastreams.consumers import feeds
from mediastreams.consumers.feeds import Consumers
from mediastreams.protocol import signature
from mediastreams.server import frames
from mediastreams.server.connections import Live
from mediastreams.server.sockets import LOGGED, UPGRADE, refusal
from mediastreams.server.websocket import CLOSE_SECONDS, WOULD_BLOCK, WebSocket
from mediastreams.text import printable
from mediastreams.web import metrics, webhooks

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

COUNT_SECONDS = 5.0  # how often the metrics are brought up to date for other processes, that may be asked
_MOST_SHOWN = 200


class House:
    """What the connections of one process share: the settings, and the WebSockets that are live."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.live = Live(settings.gather_ms)
        self._counting: gevent.Greenlet[[], None] | None = None

    def open(self) -> None:
        """Say what the settings leave open."""
        if self.settings.twilio_auth_token is None:
            logger.warning("TWILIO_AUTH_TOKEN is not set: anybody who finds the address can send a stream")

    def join(self, websocket: WebSocket) -> None:
        """Count a WebSocket that was opened."""
        self.live.join(websocket)
        metrics.live(len(self.live))
        if not self._counting:
            self._counting = gevent.spawn(self._count)

    def leave(self, websocket: WebSocket) -> None:
        """Undo `join`."""
        self.live.leave(websocket)
        metrics.live(len(self.live))
        if websocket.stream is not None:
            metrics.ended(websocket.stream)

    def count(self) -> None:
        """Let the metrics have what the live streams have counted."""
        metrics.count(websocket.stream for websocket in self.live if websocket.stream is not None)

    def _count(self) -> None:
        while len(self.live):
            gevent.sleep(COUNT_SECONDS)
            self.count()
        self._counting = None

    def drain(self) -> None:
        """Take no more streams, wait for the live ones, and close with 1001 those that are left.

        Then wait for their consumers, as long as DRAIN_TIMEOUT leaves, and a second at the least.
        """
        self.live.draining = True
        seconds = self.settings.drain_timeout
        began = time.monotonic()
        if len(self.live):
            logger.info("Draining: waiting up to %g s for %d live streams", seconds, len(self.live))
        if not self.live.wait_until_empty(seconds):
            logger.warning("Closing %d streams that are still live", len(self.live))
            self.live.drain(frames.GOING_AWAY, "the server is going away")
            self.live.wait_until_empty(CLOSE_SECONDS + 1)
        feeds.finish(max(seconds - (time.monotonic() - began), 1.0))


class Handler(WebSocketHandler):  # type: ignore[misc]
    """One connection: HTTP requests, and at most one upgrade, after which it is a WebSocket's.

    `house` is set on a subclass, one for each process (`handler_of`).
    """

    house: House
    logger = logger
    websocket: WebSocket | None = None
    environ: Any
    _deadline: gevent.Timeout
    _run: Callable[[WebSocket], None]

    @property
    def peer(self) -> str:
        """The other end's address; behind a tunnel or proxy that is the tunnel's."""
        address = self.client_address
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "-"

    def handle(self) -> None:
        """Serve the connection; a peer that has gone before its answer is no error."""
        with contextlib.suppress(OSError):
            super().handle()

    def read_request(self, raw_requestline: str) -> Any:
        """Read a request's headers. Raises `ValueError` for a body in chunks, which Twilio never sends.

        pywsgi fails with a traceback where such a body is not as it should be.
        """
        result = super().read_request(raw_requestline)
        if self.headers.get("Transfer-Encoding"):
            raise ValueError("Transfer-Encoding")
        return result

    def handle_one_request(self) -> Any:
        """Read one request and answer it; a client that trickles it gets START_TIMEOUT in all.

        pywsgi waits for ever.
        """
        self._start_deadline()
        self.environ = None  # not the last request's, where this one is none
        try:
            return super().handle_one_request()
        except gevent.Timeout as expired:
            if expired is not self._deadline:
                raise
            if self.status is None:  # else it has been answered before, and only kept the connection
                metrics.refused("timeout")
                logger.warning("%s sent no whole request within %g s", self.peer, self._deadline.seconds)
            return None
        finally:
            self._deadline.close()

    def _start_deadline(self) -> None:
        self._deadline = gevent.Timeout.start_new(self.house.settings.start_timeout)

    def run_application(self) -> None:
        """Let the application answer; a route of `Sockets` upgrades through the environment."""
        self._deadline.close()
        self.environ[UPGRADE] = self.upgrade
        if own := self._own.get(self.environ["PATH_INFO"]):
            self.application = own
        try:
            WSGIHandler.run_application(self)
            if self.websocket is not None:
                # Not inside the application: each switch between greenlets copies the C stack, 4.2 kB of it
                # beneath Flask and its middleware, and 2.4 kB here.
                self._run(self.websocket)
        finally:
            if self.websocket is not None:
                self._finish(self.websocket)
            else:  # what is left of the request's body is read now
                self._start_deadline()

    @property
    def _own(self) -> dict[str, "WSGIApplication"]:
        """The paths that the server answers itself, whatever the application is."""
        return {"/healthz": self._health, "/metrics": self._metrics}

    def _health(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        live = self.house.live
        state = {"status": "draining" if live.draining else "ok", "streams": len(live)}
        status = "503 Service Unavailable" if live.draining else "200 OK"
        body = json.dumps(state).encode() + b"\n"
        return self._answer(environ, start_response, status, "application/json", body)

    def _metrics(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        self.house.count()
        return self._answer(environ, start_response, "200 OK", metrics.CONTENT_TYPE, metrics.page())

    @staticmethod
    def _answer(
        environ: "WSGIEnvironment", start_response: "StartResponse", status: str, kind: str, body: bytes
    ) -> list[bytes]:
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def upgrade(self, run: Callable[[WebSocket], None]) -> None:
        """Answer 101 (RFC 6455, section 4.2); once the application has returned, `run` gets the WebSocket.

        Raises a refusal, an `HTTPException`, where the handshake is not valid, is not Twilio's, or comes
        when no more streams are taken.
        """
        self._check_handshake()
        self._check_signature()
        self._check_room()
        key = self.environ["HTTP_SEC_WEBSOCKET_KEY"].strip()
        accept = hashlib.sha1((key + self.GUID).encode(), usedforsecurity=False).digest()
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", base64.b64encode(accept).decode()),
        ]
        # gevent-websocket's start_response keeps Date, length and chunks out of the answer to a WebSocket.
        self.environ["wsgi.websocket"] = True
        self.start_response("101 Switching Protocols", headers)
        self.write(b"")
        settings = self.house.settings
        websocket = WebSocket(
            self.environ,
            self,
            self.house.live,
            max_message_bytes=settings.max_message_bytes,
            idle_seconds=settings.idle_timeout,
            peer=self.peer,
        )
        self.environ["wsgi.websocket"] = self.websocket = websocket
        self.house.join(websocket)
        # What came directly behind the handshake is in the HTTP reader's buffer: one read empties it.
        with contextlib.suppress(*WOULD_BLOCK):
            if ahead := self.rfile.read1(io.DEFAULT_BUFFER_SIZE):
                websocket.take(ahead)
        self.rfile.close()
        self._run = run

    def _finish(self, websocket: WebSocket) -> None:
        try:
            websocket.finish()
        finally:
            self.house.leave(websocket)
            self.environ["wsgi.websocket"] = None

    def _refuse(
        self, status: int, reason: str, text: str, headers: dict[str, str] | None = None, *, why: str = ""
    ) -> HTTPException:
        """Log a refused handshake in one line and return the refusal; `why` is more than the peer is told."""
        self.environ[LOGGED] = reason
        logger.warning("%s: refused with %d, %s", self.peer, status, printable(why or text))
        return refusal(status, text, headers)

    def _check_handshake(self) -> None:
        if self.environ["REQUEST_METHOD"] != "GET":
            raise self._refuse(405, "method", "A WebSocket handshake is a GET.", {"Allow": "GET"})
        if self.request_version != "HTTP/1.1":
            raise self._refuse(
                400, "malformed", f"A WebSocket handshake needs HTTP/1.1, this is {self.request_version}."
            )
        if self.environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != "13":
            raise self._refuse(
                426,
                "version",
                "This server speaks version 13 of the WebSocket protocol (RFC 6455) only.",
                {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
            )
        if not _is_key(self.environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()):
            raise self._refuse(400, "malformed", "Sec-WebSocket-Key must be 16 bytes in base64.")
        if self.environ.get("CONTENT_LENGTH", "0") != "0":
            raise self._refuse(400, "malformed", "A WebSocket handshake has no body.")

    def _check_signature(self) -> None:
        settings = self.house.settings
        if settings.twilio_auth_token is None:
            return
        base = settings.public_url or f"wss://{self.environ.get('HTTP_HOST', '')}"
        try:
            urls = signature.handshake_urls(base, self.path.partition("?")[0])
        except ValueError:  # a Host that is no host
            urls = []
        given = self.environ.get("HTTP_X_TWILIO_SIGNATURE")
        if why := signature.fault(settings.twilio_auth_token, urls, given):
            raise self._refuse(
                403,
                "signature",
                "The signature is not that of Twilio for this address.",
                why=f"{why}. PUBLIC_URL must be the address in the TwiML",
            )

    def _check_room(self) -> None:
        live, most = self.house.live, self.house.settings.max_streams
        if live.draining:
            raise self._refuse(503, "draining", "The server is draining and takes no more streams.")
        if len(live) >= most:
            raise self._refuse(503, "streams", f"{most} streams are live (MAX_STREAMS).")

    def log_request(self) -> None:
        """Log an HTTP request and its answer; a call logs its own lines.

        Importing Flask-Sockets replaces this method of pywsgi's handler, which this one does not call.
        """
        if self.websocket is not None:
            return
        if self.environ is not None:  # None: what came is not HTTP
            path, code = self.environ["PATH_INFO"], getattr(self, "code", 0)
            if code >= 400 and path not in self._own:
                metrics.refused(self.environ.get(LOGGED, ""), code)
            if LOGGED in self.environ:
                return
            level = logging.DEBUG if path in self._own else logging.INFO  # asked for every few seconds
            request = printable(f"{self.environ['REQUEST_METHOD']} {path}")
            logger.log(level, '%s "%s" %s', self.peer, request, code or "-")
        elif self.status == "414":
            metrics.refused("malformed")
            logger.warning("%s: refused with 414, the request line is too long", self.peer)

    def _handle_client_error(self, ex: Exception) -> Any:
        """Log in one line what a peer sent instead of HTTP; pywsgi prints some of it as a traceback."""
        metrics.refused("malformed")
        tls = self.requestline.startswith("\x16\x03")
        what = (
            "TLS, where plain HTTP is spoken (use http:// and ws:// here)" if tls else "no HTTP it can read"
        )
        logger.warning("%s: refused with 400, this is %s", self.peer, what)
        return ("400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    def log_error(self, message: str, *values: object) -> None:
        """Log in one line what else pywsgi has to say of a peer."""
        text = printable(message % values if values else message)
        logger.warning("%s: %s", self.peer, text[:_MOST_SHOWN])


def handler_of(house: House) -> type[Handler]:
    """Return the handler class for the connections of `house`."""
    return type("Handler", (Handler,), {"house": house})


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def serve(app: Flask, settings: Settings, audience: Consumers | None = None) -> None:
    """Serve `app` on the settings' host and port until SIGINT or SIGTERM.

    The first of these drains (`House.drain`), a second one ends the server at once. Prints where it
    listens. Where it cannot listen there, the program exits with one line that says why.

    With an `audience`, and where the log goes to a terminal and has INFO, each stream has its `Meter` there.
    """
    house = House(settings)
    address = settings.http_server_host, settings.http_server_port
    server = WSGIServer(address, app, handler_class=handler_of(house), log=None, error_log=logger)
    try:
        server.start()
    except OSError as error:
        sys.exit(_cannot_listen(settings, error))
    house.open()
    asked, urged = Event(), Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, lambda: (urged if asked.is_set() else asked).set())
    host = settings.http_server_host
    if host in ("127.0.0.1", "::1", "0.0.0.0", "::"):
        host = "localhost"
    port = server.server_port or settings.http_server_port
    said = [f"Server listening on: http://{host}:{port}"]
    if "webhooks" in app.blueprints:
        said += webhooks.addresses(settings, port)
    is_text = settings.log_format == "text"
    for line in said:
        print(line, flush=True) if is_text else logger.info(line)
    screen = terminal.of_stderr() if audience and is_text and logger.isEnabledFor(logging.INFO) else None
    if audience and screen:
        screen.capture()
        audience.show_on(screen)
    gc.freeze()  # what was imported is not looked at again by each collection
    asked.wait()
    drained = gevent.spawn(house.drain)
    drained.link(lambda _: urged.set())
    urged.wait()
    server.stop(timeout=0)
    if screen:
        screen.close()


def _cannot_listen(settings: Settings, error: OSError) -> str:
    host, port = settings.http_server_host, settings.http_server_port
    if error.errno == errno.EADDRINUSE:
        return (
            f"HTTP_SERVER_PORT={port} cannot be used: another program listens there. "
            f"Set another, such as HTTP_SERVER_PORT={port + 1 if port < 65535 else 5000}."
        )
    if error.errno == errno.EACCES:
        return f"HTTP_SERVER_PORT={port} cannot be used: the system allows only ports from 1024 to this user."
    return f"HTTP_SERVER_HOST={host} cannot be used: {error.strerror or error}"
