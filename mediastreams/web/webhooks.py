"""The routes for Twilio's webhooks: the TwiML of a call, and the status callbacks of calls and streams.

Sources: https://www.twilio.com/docs/voice/twiml/stream, "statusCallback", and
https://www.twilio.com/docs/usage/webhooks/webhooks-security.
"""

import logging
import re
from pathlib import Path
from urllib.parse import quote

import gevent
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import HTTPException

from mediastreams.config import Settings
from mediastreams.log.limit import CALLBACKS
from mediastreams.protocol import error_codes, signature, twiml
from mediastreams.server.sockets import LOG_LEVEL, refusal
from mediastreams.text import printable
from mediastreams.web import metrics
from mediastreams.web.call_streams import CallStreams

logger = logging.getLogger(__name__)

MAX_BYTES = 65536  # of a webhook's body; Twilio's have about 1,000
MAX_ATTEMPTS = 5  # to resume a stream, in a row; before the second one is a pause of 1 s, then of 2, 4 and 8
_STABLE_SECONDS = 60.0  # after a stream that lasted so long they are counted anew
_MAX_SHOWN = 200  # characters of a form's value in the log
_HOST = re.compile(r"[A-Za-z0-9._\-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")


class Webhooks(Blueprint):
    """The routes `/twiml/<name>`, `/stream-status` and `/call-status`.

    With TWILIO_AUTH_TOKEN they answer only Twilio. They serve the files of the application's folder `twiml`,
    and those of the package that have other names.
    """

    def __init__(self, settings: Settings, streams: CallStreams | None = None) -> None:
        """Make them; `streams` tells how those of each call went. None: of none it is known."""
        super().__init__("mediastreams_webhooks", __name__)
        self.settings = settings
        """The settings; the addresses are those of their public address."""
        self._streams = streams or CallStreams()
        self.before_request(self._check)
        self.add_url_rule("/twiml/<name>", view_func=self.twiml, methods=["GET", "POST"])
        self.add_url_rule("/stream-status", view_func=self.stream_status, methods=["POST"])
        self.add_url_rule("/call-status", view_func=self.call_status, methods=["POST"])

    def twiml(self, name: str) -> Response:
        """Answer with the TwiML document of this name, with or without `.xml`.

        Its streams get the host of PUBLIC_URL, or of the request without that. Its number is DIAL_NUMBER, and
        `{{From}}` and the like are filled in as in a TwiML Bin. A call whose stream has ended, and which asks
        how to go on, gets it again or what is behind it.
        """
        # The name is looked up among the files that exist, and never becomes part of a path.
        documents = _documents()
        path = documents.get(name.removesuffix(".xml"))
        if path is None:
            raise refusal(404, f"There is no such TwiML document; there are: {', '.join(documents)}.")
        base = self.settings.public_url or f"ws{self._origin().removeprefix('http')}"
        try:
            document = self._next(twiml.load(str(path)), path.name)
            document = twiml.filled(document, path.name, request.values)
            document = twiml.address(document, path.name, base, self.settings.dial_number)
        except twiml.TwimlError as error:
            logger.error("TwiML cannot be served: %s", error)
            raise refusal(500, "This TwiML document is broken; the log says how.") from None
        return Response(document, content_type="text/xml; charset=utf-8")

    def _next(self, document: bytes, where: str) -> bytes:
        """Return the document for a call that comes in, or for one whose stream has ended."""
        asked = request.args.get("resume", "")
        if not re.fullmatch("[1-9][0-9]?", asked) or not twiml.resumes(document, where):
            return document
        call = request.values.get("CallSid", "")
        stream = self._streams.latest(call)
        extra = {"callSid": _shown(call), "limit": "calls that go on"}
        if stream is not None and stream.is_over:
            logger.info("Call %s goes on, its stream is over", _shown(call), extra=extra)
            return twiml.rest(document, where)
        attempt = int(asked)
        if stream is not None and (stream.seconds is None or stream.seconds >= _STABLE_SECONDS):
            attempt = 1
        if attempt > MAX_ATTEMPTS:
            text = "Call %s goes on without its stream, which broke %d times in a row"
            logger.error(text, _shown(call), attempt, extra=extra)
            return twiml.rest(document, where)
        broken = _shown(stream.stream_sid) if stream else "of which nothing is known"
        text = "Call %s: its stream %s broke, it is resumed (attempt %d of %d)"
        logger.warning(text, _shown(call), broken, attempt, MAX_ATTEMPTS, extra=extra)
        pause = 2 ** (attempt - 2) if attempt > 1 else 0
        return twiml.resumed(document, where, attempt, pause, stream.stream_sid if stream else None)

    def stream_status(self) -> Response:
        """Log the `statusCallback` of a `<Stream>` in one line."""
        form = request.form
        sid, event = form.get("StreamSid", ""), form.get("StreamEvent", "")
        if not sid or not event:
            raise self._refuse(400, "malformed", "StreamSid and StreamEvent are missing.")
        name, text = form.get("StreamName", sid), form.get("StreamError", "")
        line = _shown(event)
        if name != sid:
            line += f' (name "{_shown(name)}")'
        if code := error_codes.find(text):
            line += f", {error_codes.meaning(code)}; check {error_codes.ERRORS[code].check}"
        if text and not (code and text.strip() in (str(code), error_codes.ERRORS[code].title.strip())):
            line += f" (Twilio: {_shown(text)})"
        level = logging.ERROR if event == "stream-error" else logging.INFO
        call_sid = _shown(form.get("CallSid", ""))
        extra = {"streamSid": _shown(sid), "callSid": call_sid, "event": _shown(event), **self._bounds}
        logger.log(level, "Stream %s: %s", _shown(sid), line, extra=extra)
        request.environ[LOG_LEVEL] = logging.NOTSET
        return Response(status=204)

    def call_status(self) -> Response:
        """Log the status callback of a call in one line.

        Source: https://www.twilio.com/docs/voice/api/call-resource#statuscallback
        """
        form = request.form
        sid, status = form.get("CallSid", ""), form.get("CallStatus", "")
        if not sid or not status:
            raise self._refuse(400, "malformed", "CallSid and CallStatus are missing.")
        line = _shown(status)
        if seconds := form.get("CallDuration", ""):
            line += f", {_shown(seconds)} s"
        if sip := form.get("SipResponseCode", ""):
            line += f", SIP {_shown(sip)}"
        level = logging.WARNING if status in ("busy", "failed", "no-answer") else logging.INFO
        extra = {"callSid": _shown(sid), "event": _shown(status), **self._bounds}
        logger.log(level, "Call %s: %s", _shown(sid), line, extra=extra)
        request.environ[LOG_LEVEL] = logging.NOTSET
        return Response(status=204)

    @property
    def _bounds(self) -> dict[str, str]:
        """What bounds the lines of status callbacks in the log: without the token anybody can send them."""
        return {"limit": CALLBACKS} if self.settings.twilio_auth_token is None else {}

    def _check(self) -> None:
        if (request.content_length or 0) > MAX_BYTES:
            raise self._refuse(413, "too large", f"A webhook has {MAX_BYTES} bytes at most.")
        seconds = self.settings.start_timeout
        try:
            with gevent.Timeout(seconds, TimeoutError()):
                form = request.form.to_dict(flat=False)
        except TimeoutError:
            raise self._refuse(408, "timeout", f"The request was not whole within {seconds:g} s.") from None
        except OSError:  # of gevent: the peer has gone before the end of the body
            raise self._refuse(400, "malformed", "The body of the request was cut off.") from None
        token = self.settings.twilio_auth_token
        if token is None:
            return
        if why := signature.fault(token, self._urls(), request.headers.get("X-Twilio-Signature"), form):
            why = f"{why}. PUBLIC_URL must be the address that Twilio uses"
            raise self._refuse(403, "signature", signature.REFUSED, why)

    def _urls(self) -> list[str]:
        """Return the URLs that Twilio may have signed."""
        if self.settings.public_url:
            origins = [f"https{self.settings.public_url.removeprefix('wss')}"]
        else:
            host = self._origin().partition("://")[2]
            origins = [f"https://{host}", f"http://{host}"]
        query = request.query_string.decode("latin-1")
        path = _quoted(request.path) + (f"?{query}" if query else "")
        return [url for origin in origins for url in signature.webhook_urls(origin + path)]

    def _origin(self) -> str:
        """Return the scheme and host of the request, as `https://host` or `http://host`.

        Behind it comes the path beneath which the application is mounted, if there is one.
        """
        host = request.headers.get("Host", "")
        if not _HOST.fullmatch(host):
            raise self._refuse(400, "malformed", "The Host is no host.")
        forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
        scheme = "https" if "https" in (forwarded, request.scheme) else "http"
        return f"{scheme}://{host}{_quoted(request.root_path)}"

    @staticmethod
    def _refuse(status: int, reason: str, text: str, why: str = "") -> HTTPException:
        """Log a refused webhook in one line and return the refusal. The log has `why` instead of `text`."""
        request.environ[LOG_LEVEL] = logging.NOTSET
        metrics.refused(reason, status)
        what = f'{request.remote_addr}: "{_shown(f"{request.method} {request.path}")}" refused with {status}'
        extra = {"limit": f"refusals with {status}"}
        logger.warning("%s, %s", what, printable(why or text), extra=extra)
        return refusal(status, text)


def _documents() -> dict[str, Path]:
    """Return the TwiML documents by name: the package's, and the application's in place of those.

    The package's are in `mediastreams/twiml` when installed, and in `twiml` beside it in a checkout.
    """
    package = Path(__file__).parents[1]
    own = package / "twiml" if (package / "twiml").is_dir() else package.parent / "twiml"
    folders = (own, Path(current_app.root_path, "twiml"))
    paths = {path.stem: path for folder in folders for path in folder.glob("*.xml")}
    return dict(sorted(paths.items()))


def _quoted(path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=~")


def _shown(text: str) -> str:
    shown = printable(text[: _MAX_SHOWN + 1])
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
