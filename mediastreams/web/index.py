"""The line that `GET /` answers where an application has no page of its own there."""

import logging
from typing import Any

from flask import Blueprint, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from mediastreams.config import Settings
from mediastreams.server.sockets import LOG_LEVEL


class Index(Blueprint):
    """Answers `GET /` with one line: what this server is, and where its WebSocket is.

    A route of the application for `/`, whenever it was added, and the application's own handler of 404 take
    precedence.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__("mediastreams_index", __name__)
        self.settings = settings
        """The settings; the line names their public address."""
        self.before_app_request(self._answer)

    def _answer(self) -> None:
        is_missing = isinstance(request.routing_exception, NotFound)
        if is_missing and request.path == "/" and request.method in ("GET", "HEAD"):
            request.routing_exception = _Unhandled(
                "This server receives the audio of phone calls from Twilio (Media Streams): "
                f"its WebSocket is at {self.settings.public_url or ''}/media, it has no web page.\n"
            )


class _Unhandled(NotFound):
    """The 404 of `/`. It becomes `line` only where the application does not handle it."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self._line = line

    def get_response(self, *_: Any, **__: Any) -> Response:
        """Return the answer. It is logged at DEBUG: whoever scans addresses asks for `/`."""
        request.environ[LOG_LEVEL] = logging.DEBUG
        return Response(self._line, content_type="text/plain; charset=utf-8")
