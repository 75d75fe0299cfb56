"""The HTTP routes of the live page: its login, its files, and the recordings that it plays.

Everything beneath `/page/` needs the cookie, but the login and its form. Without it `/` is that form.
"""

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import gevent
import msgspec
from flask import Blueprint, Flask, current_app, redirect, request
from gevent.threadpool import ThreadPool
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Rule
from werkzeug.wrappers import Response
from werkzeug.wsgi import FileWrapper

from mediastreams.config import Settings
from mediastreams.server.handshake import Refusal
from mediastreams.server.sockets import LOG_LEVEL, refusal
from mediastreams.text import printable
from mediastreams.viewers.access import MAX_FAILURES, Access
from mediastreams.viewers.recordings import RecordedFile, Recordings
from mediastreams.web import metrics

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

FOLDER = Path(__file__).parents[1] / "web" / "page"
MAX_BYTES = 1024  # of a login
MAX_THREADS = 4  # that read recordings
_OPEN = ("/page/", "/page/login.js", "/page/login.css")  # to everybody: the form for the token
_BLOCK = 65536  # bytes of a recording that are read and sent at once
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; media-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".raw": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".vtt": "text/vtt; charset=utf-8",
    ".wav": "audio/wav",
}


class Page(Blueprint):
    """The route `/`, and those beneath `/page/`.

    A route of the application for `/`, whenever it was added, takes precedence; `/page/` is the same page.
    """

    def __init__(self, access: Access, settings: Settings) -> None:
        super().__init__("mediastreams_page", __name__)
        self._access = access
        self._login_seconds = settings.start_timeout
        folder = settings.recordings_dir
        self._recordings = None if folder is None else Recordings(folder)
        # Not the hub's: what reads recordings keeps nobody waiting who resolves a name.
        self._threads: ThreadPool | None = None  # made by the process that serves
        self.before_app_request(self._admit)
        self.after_app_request(self._protect)
        # Where the application has no route, see `_admit`.
        self._rules = {
            "/": Rule("/", endpoint=f"{self.name}.page"),
            "/favicon.ico": Rule("/favicon.ico", endpoint=f"{self.name}.icon"),
        }
        self.add_url_rule("/page/", view_func=self.page)
        self.add_url_rule("/page/favicon.ico", view_func=self.icon)
        self.add_url_rule("/page/login", view_func=self.login, methods=["POST"])
        self.add_url_rule("/page/<path:name>", view_func=self.file)
        self.add_url_rule("/page/recordings", view_func=self.recordings)
        self.add_url_rule("/page/recordings/<name>", view_func=self.recording)
        self.add_url_rule("/page/recordings/<name>/peaks", view_func=self.peaks)

    def path(self, app: Flask) -> str:
        """Return the path at which `app` has the page: `/` unless that is a route of its own."""
        return "/page/" if app.url_map.bind("").test("/", "GET") else "/"

    def page(self) -> Response:
        """Answer with the page, or with the form for the token."""
        if self._access.is_logged_in(request.environ):
            return self.file("index.html")
        return self._form()

    def login(self) -> Response:
        """Answer a right token with the cookie, and a wrong one with the form."""
        access = self._access
        token = self._read_token()  # first: others may fail while it comes
        if seconds := math.ceil(access.wait_seconds()):
            sentence = f"There were {MAX_FAILURES} failed logins within a minute: wait {seconds} s."
            self._log_failure(429, sentence)
            response = self._form(429, sentence)
            response.headers["Retry-After"] = str(seconds)
            return response
        if not access.log_in(token):
            sentence = "This is not the token of the page."
            self._log_failure(403, sentence)
            return self._form(403, sentence)
        response = redirect(self.path(current_app), 303)
        response.set_cookie(**access.cookie(request.environ))
        return response

    def file(self, name: str) -> Response:
        """Answer with a file of the page."""
        path = {path.name: path for path in FOLDER.iterdir() if path.suffix in _TYPES}.get(name)
        if path is None:
            raise refusal(404, "The page has no such file.")
        return Response(path.read_bytes(), content_type=_TYPES[path.suffix])

    def icon(self) -> Response:
        """Answer that there is none: browsers ask for it without being told to."""
        return Response(status=204)

    def recordings(self) -> Response:
        """Answer with a list of the recordings."""
        found = {"recordings": None, "more": False}
        if self._recordings is not None:
            before, sids = request.args.get("before", ""), request.args.getlist("sid")
            recordings = self._recordings
            found = self._in_thread(lambda: recordings.newest(before, sids))
        return _json(found)

    def recording(self, name: str) -> Response:
        """Answer with a file of a recording, or with the range of it that is asked for."""
        recordings = self._found()
        file = self._in_thread(lambda: recordings.open(name))
        if file is None:
            raise refusal(404, "There is no such file of a recording.")
        response = Response(FileWrapper(_Reading(file, self._in_thread), _BLOCK), direct_passthrough=True)  # type: ignore[arg-type]
        response.content_type = _TYPES[Path(name).suffix]
        response.content_length = file.size
        response.last_modified = datetime.fromtimestamp(file.mtime, UTC)
        response.set_etag(file.etag)
        response.headers["Accept-Ranges"] = "bytes"  # Werkzeug before 3.1 says it of a range only
        if "download" in request.args:
            response.headers.set("Content-Disposition", "attachment", filename=name)
        try:
            return response.make_conditional(request, accept_ranges=True, complete_length=file.size)
        except HTTPException:  # there is no such range
            file.close()
            raise

    def peaks(self, name: str) -> Response:
        """Answer with the peaks of a recording's waveform."""
        recordings = self._found()
        found = self._in_thread(lambda: recordings.peaks(name))
        if found is None:
            raise refusal(404, "There is no such WAV file of a recording.")
        return _json(found)

    def _admit(self) -> None:
        """Refuse who may not look; and let `/` be the page where the application has nothing there."""
        rule = self._rules.get(request.path) if request.method in ("GET", "HEAD") else None
        # Not allowed: Twilio posts to `/`, as to many an application's only route.
        if rule and isinstance(request.routing_exception, NotFound | MethodNotAllowed):
            request.routing_exception = None
            request.url_rule, request.view_args = rule, {}
        if not self._is_ours():
            return
        request.environ[LOG_LEVEL] = logging.DEBUG  # a watched call's log stays as it is
        check = self._access.refusal if self._needs_cookie() else self._access.address_refusal
        if refused := check(request.environ):
            if request.path.startswith("/page/"):  # whoever scans addresses asks for `/`
                self._log_refusal(refused)
            raise refusal(refused.status, refused.text)

    def _protect(self, response: Response) -> Response:
        if self._is_ours():
            response.headers.update(_HEADERS)
            if not self._needs_cookie():
                # Without a referrer a browser posts the form with `Origin: null`.
                response.headers["Referrer-Policy"] = "same-origin"
        return response

    def _is_ours(self) -> bool:
        if request.blueprint == self.name:
            return True
        return request.routing_exception is not None and request.path.startswith("/page/")

    def _needs_cookie(self) -> bool:
        path = request.path
        return path.startswith("/page/") and path not in _OPEN and request.endpoint != f"{self.name}.login"

    def _found(self) -> Recordings:
        if self._recordings is None:
            raise refusal(404, "There are no recordings: RECORDINGS_DIR is not set.")
        return self._recordings

    def _read_token(self) -> str:
        if (request.content_length or 0) > MAX_BYTES:
            raise self._refuse_login(413, f"A login has at most {MAX_BYTES} bytes.")
        try:
            with gevent.Timeout(self._login_seconds, TimeoutError()):
                return request.form.get("token", "")
        except TimeoutError:
            text = f"The login was not whole within {self._login_seconds:g} s."
            raise self._refuse_login(408, text) from None
        except OSError:  # of gevent: the peer has gone before the end of the body
            raise self._refuse_login(400, "The body of the login was cut off.") from None

    def _refuse_login(self, status: int, text: str) -> HTTPException:
        self._log_failure(status, text)
        return refusal(status, text)

    def _form(self, status: int = 200, sentence: str = "") -> Response:
        form = (FOLDER / "login.html").read_text(encoding="utf-8")
        if sentence:
            form = form.replace("<form", f'<p class="error" role="alert">{sentence}</p>\n<form', 1)
        return Response(form, status, content_type=_TYPES[".html"])

    def _in_thread(self, function: Callable[[], _T]) -> _T:
        """Return what `function` returns, or raise what it raises; others are served meanwhile."""
        self._threads = self._threads or ThreadPool(MAX_THREADS)
        result: _T = self._threads.apply(function)
        return result

    @staticmethod
    def _log_failure(status: int, why: str) -> None:
        metrics.refused("page", status)
        line = "%s: a login to the page refused with %d, %s"
        logger.warning(line, request.remote_addr, status, why, extra={"limit": "failed logins to the page"})

    @staticmethod
    def _log_refusal(refused: Refusal) -> None:
        metrics.refused(refused.reason, refused.status)
        logger.warning(
            '%s: "%s" refused with %d, %s',
            request.remote_addr,
            printable(f"{request.method} {request.path}"),
            refused.status,
            printable(refused.why or refused.text),
            extra={"limit": "refusals of the page"},
        )


class _Reading:
    """Reads a recording's file in another thread: a slow disk holds up nobody."""

    def __init__(self, file: RecordedFile, in_thread: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._file = file
        self._in_thread = in_thread
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int) -> bytes:
        return self._in_thread(lambda: self._file.read(size))


def _json(data: object) -> Response:
    return Response(msgspec.json.encode(data), content_type="application/json")
