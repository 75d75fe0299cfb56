"""The server: one gevent WSGI server, whose handler upgrades a request only when its route asks for it.

gevent-websocket 0.10.1 upgrades every path before the application has seen it; after that 101 Twilio can
only report 31921 for whatever is wrong. Here the application runs first, and a refusal is an HTTP status.
"""

import base64
import binascii
import errno
import hashlib
import logging
import signal
import sys

import gevent
from flask import Flask
from gevent.pywsgi import WSGIHandler, WSGIServer
from geventwebsocket.handler import WebSocketHandler
from geventwebsocket.websocket import Stream, WebSocket

from mediastreams.config import Settings
from mediastreams.messages import printable
from mediastreams.sockets import UPGRADE, refusal

logger = logging.getLogger(__name__)

_MOST_SHOWN = 200


class Handler(WebSocketHandler):  # type: ignore[misc]
    """One connection: HTTP requests, and at most one upgrade, after which it is a WebSocket's."""

    logger = logger
    websocket: WebSocket | None = None

    def run_application(self) -> None:
        """Let the application answer; a route of `Sockets` upgrades through the environment."""
        self.environ[UPGRADE] = self.upgrade
        try:
            WSGIHandler.run_application(self)
        finally:
            if self.websocket is not None and not self.websocket.closed:
                self.websocket.close()

    def upgrade(self) -> WebSocket:
        """Answer 101 and return the WebSocket (RFC 6455, section 4.2).

        Raises a refusal, an `HTTPException`, where the handshake is not valid.
        """
        key = self.environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
        if self.request_version != "HTTP/1.1":
            raise refusal(400, f"A WebSocket handshake needs HTTP/1.1, this is {self.request_version}.")
        if self.environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != "13":
            raise refusal(
                426,
                "This server speaks version 13 of the WebSocket protocol (RFC 6455) only.",
                {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
            )
        if not _is_key(key):
            raise refusal(400, "Sec-WebSocket-Key must be 16 bytes in base64.")
        self.websocket = WebSocket(self.environ, Stream(self), self)
        # gevent-websocket's start_response keeps Date, length and chunks out of the answer to a WebSocket.
        self.environ["wsgi.websocket"] = self.websocket
        accept = hashlib.sha1((key + self.GUID).encode()).digest()
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", base64.b64encode(accept).decode()),
        ]
        self.start_response("101 Switching Protocols", headers)
        self.write(b"")
        return self.websocket

    def log_request(self) -> None:
        """Log an HTTP request and its answer; a call logs its own lines.

        Importing Flask-Sockets replaces this method of pywsgi's handler, which this one does not call.
        """
        if self.websocket is None and self.environ is not None:  # None: what came is not HTTP
            request = f"{self.environ['REQUEST_METHOD']} {self.environ['PATH_INFO']}"
            logger.info('%s "%s" %s', self._peer, printable(request), getattr(self, "code", "-"))

    def log_error(self, message: str, *values: object) -> None:
        """Log in one line what a peer sent instead of HTTP, such as TLS or a scan."""
        text = printable(message % values if values else message)
        logger.warning("%s %s", self._peer, text[:_MOST_SHOWN])

    @property
    def _peer(self) -> str:
        return f"{self.client_address[0]}:{self.client_address[1]}" if self.client_address else "-"


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def serve(app: Flask, settings: Settings) -> None:
    """Serve `app` on the settings' host and port until SIGINT or SIGTERM.

    Prints where it listens. Where it cannot listen there, the program exits with one line that says why.
    """
    address = settings.http_server_host, settings.http_server_port
    server = WSGIServer(address, app, handler_class=Handler, log=None, error_log=logger)
    try:
        server.start()
    except OSError as error:
        sys.exit(_cannot_listen(settings, error))
    host = settings.http_server_host
    if host in ("127.0.0.1", "::1", "0.0.0.0", "::"):
        host = "localhost"
    print(f"Server listening on: http://{host}:{server.server_port}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, server.stop)
    server.serve_forever()


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
