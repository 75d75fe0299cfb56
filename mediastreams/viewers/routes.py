"""The HTTP routes of the live page: its login, its files, and the recordings that it plays.

Everything beneath `/page/` needs the cookie, but the login. Without it `/` is a form for the token.
"""

import logging
import mimetypes
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import gevent
import msgspec
from flask import Blueprint, Flask, current_app, redirect, request
from gevent.hub import get_hub
from werkzeug.exceptions import HTTPException, NotFound
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
# Not from the system's tables, which a Windows program may have changed.
_TYPES = mimetypes.MimeTypes(filenames=())
for _type, _suffix in (("text/javascript", ".js"), ("text/vtt", ".vtt"), ("audio/wav", ".wav")):
    _TYPES.add_type(_type, _suffix)


class Page(Blueprint):
    """The routes `/`, `/login.js`, `/login.css` and those beneath `/page/`.

    A route of the application for `/`, whenever it was added, takes precedence; `/page/` is the same page.
    """

    def __init__(self, access: Access, settings: Settings) -> None:
        super().__init__("live_page", __name__)
        self._access = access
        self._login_seconds = settings.start_timeout
        folder = settings.recordings_dir
        self._recordings = None if folder is None else Recordings(folder)
        self.before_app_request(self._admit)
        self.after_app_request(self._protect)
        # Where the application has no route, see `_admit`.
        self._rules = {
            "/": Rule("/", endpoint=f"{self.name}.page"),
            "/favicon.ico": Rule("/favicon.ico", endpoint=f"{self.name}.icon"),
        }
        self.add_url_rule("/page/", view_func=self.page)
        self.add_url_rule("/page/icon", view_func=self.icon)
        self.add_url_rule("/login.js", view_func=self.file, defaults={"name": "login.js"})
        self.add_url_rule("/login.css", view_func=self.file, defaults={"name": "login.css"})
        self.add_url_rule("/page/login", view_func=self.login, methods=["POST"])
        self.add_url_rule("/page/<path:name>", view_func=self.file, endpoint="page_file")
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
        if seconds := self._access.wait_seconds():
            text = f"There were {MAX_FAILURES} failed logins in a minute: wait {seconds:.0f} s."
            response = self._form(429, text)
            response.headers["Retry-After"] = f"{seconds:.0f}"
            self._log_failure(429, "there were too many failed ones")
            return response
        if not self._access.log_in(self._read_token()):
            self._log_failure(403, "the token is wrong")
            return self._form(403, "This is not the token.")
        response = redirect(self.path(current_app), 303)
        response.set_cookie(**self._access.cookie(request.environ))
        return response

    def file(self, name: str) -> Response:
        """Answer with a file of the page."""
        path = {path.name: path for path in FOLDER.iterdir()}.get(name)
        if path is None:
            raise refusal(404, "The page has no such file.")
        return Response(path.read_bytes(), content_type=_type_of(name))

    def icon(self) -> Response:
        """Answer that there is none to a browser that asks whichever page it shows."""
        return Response(status=204)

    def recordings(self) -> Response:
        """Answer with a list of the recordings."""
        found = {"recordings": None, "more": False}
        if self._recordings is not None:
            before = request.args.get("before", "")
            recordings = self._recordings
            found = _in_thread(lambda: recordings.newest(before))
        return _json(found)

    def recording(self, name: str) -> Response:
        """Answer with a file of a recording, or with the range of it that is asked for."""
        recordings = self._found()
        file = _in_thread(lambda: recordings.open(name))
        if file is None:
            raise refusal(404, "There is no such file of a recording.")
        response = Response(FileWrapper(_Reading(file), _BLOCK), direct_passthrough=True)  # type: ignore[arg-type]
        response.content_type = _type_of(name)
        response.content_length = file.size
        response.last_modified = datetime.fromtimestamp(file.mtime, UTC)
        response.set_etag(file.etag)
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
        found = _in_thread(lambda: recordings.peaks(name))
        if found is None:
            raise refusal(404, "There is no such WAV file of a recording.")
        return _json(found)

    def _admit(self) -> Response | None:
        """Refuse who may not look; and let `/` be the page where the application has nothing there."""
        rule = self._rules.get(request.path)
        if rule and isinstance(request.routing_exception, NotFound) and request.method in ("GET", "HEAD"):
            request.routing_exception = None
            request.url_rule, request.view_args = rule, {}
        if not self._is_ours():
            return None
        request.environ[LOG_LEVEL] = logging.DEBUG  # a watched call's log stays as it is
        access, environ = self._access, request.environ
        if not self._is_secret():
            refused = access.address_refusal(environ)
        elif refused := access.refusal(environ):
            self._log_refusal(refused)
        return refused and refusal(refused.status, refused.text).response  # type: ignore[return-value]

    def _protect(self, response: Response) -> Response:
        if self._is_ours():
            response.headers.update(_HEADERS)
            if not self._is_secret():
                # Without a referrer a browser posts the form with `Origin: null`.
                response.headers["Referrer-Policy"] = "same-origin"
        return response

    def _is_ours(self) -> bool:
        if request.blueprint == self.name:
            return True
        return request.routing_exception is not None and request.path.startswith("/page/")

    def _is_secret(self) -> bool:
        """Return whether a request of the page's needs the cookie."""
        path = request.path
        return path.startswith("/page/") and path != "/page/" and request.endpoint != f"{self.name}.login"

    def _found(self) -> Recordings:
        if self._recordings is None:
            raise refusal(404, "There are no recordings: RECORDINGS_DIR is not set.")
        return self._recordings

    def _read_token(self) -> str:
        if (request.content_length or 0) > MAX_BYTES:
            raise refusal(413, f"A login has at most {MAX_BYTES} bytes.")
        try:
            with gevent.Timeout(self._login_seconds, TimeoutError()):
                return request.form.get("token", "")
        except TimeoutError:
            raise refusal(408, f"The login was not whole within {self._login_seconds:g} s.") from None
        except OSError:  # of gevent: the peer has gone before the end of the body
            raise refusal(400, "The body of the login was cut off.") from None

    def _form(self, status: int = 200, sentence: str = "") -> Response:
        form = (FOLDER / "login.html").read_text(encoding="utf-8")
        if sentence:
            form = form.replace("<form", f'<p class="error" role="alert">{sentence}</p>\n<form', 1)
        return Response(form, status, content_type=_type_of("login.html"))

    @staticmethod
    def _log_failure(status: int, why: str) -> None:
        metrics.refused("page", status)
        line = "%s: a login to the page was refused with %d, %s"
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

    def __init__(self, file: RecordedFile) -> None:
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int) -> bytes:
        return _in_thread(lambda: self._file.read(size))


def _in_thread(function: Callable[[], _T]) -> _T:
    """Return what `function` returns, or raise what it raises; others are served meanwhile."""
    result: _T = get_hub().threadpool.apply(function)
    return result


def _json(data: object) -> Response:
    return Response(msgspec.json.encode(data), content_type="application/json")


def _type_of(name: str) -> str:
    guessed = _TYPES.guess_type(name)[0] or "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed
