"""Twilio's HTTP requests, as the simulated caller makes them: for TwiML, and to a statusCallback.

Sources: https://www.twilio.com/docs/usage/webhooks/webhooks-overview, and for the numbers
https://www.twilio.com/docs/api/errors.
"""

import http.client
import socket
import ssl
import urllib.error
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

import certifi
import gevent
from gevent.hub import get_hub

from mediastreams.protocol.signature import sign
from mediastreams.websocket_client import CallError

PATIENCE = 15  # seconds, as Twilio has
MOST_BYTES = 65536  # of a TwiML document
_TWIML_TYPES = ("text/xml", "application/xml", "text/html")
_MOST_SHOWN = 200


def twiml(url: str, form: Mapping[str, str], auth_token: str | None, signed_url: str) -> bytes:
    """Return the TwiML document that a server answers with.

    `form` is what it is told of the call. `auth_token` signs the request for `signed_url`, None sends no
    signature. Raises `CallError`.
    """
    body, kind = ask("POST", url, form, auth_token, signed_url)
    if kind not in _TWIML_TYPES:
        raise CallError(12300, f"{url} is {kind}, not text/xml")
    if len(body) > MOST_BYTES:
        raise CallError(11750, f"{url} has more than {MOST_BYTES} bytes")
    return body


def ask(
    method: str, url: str, form: Mapping[str, str], auth_token: str | None, signed_url: str
) -> tuple[bytes, str]:
    """Send a form by GET or POST; return the answer's body and its Content-Type. Otherwise as `twiml`."""
    encoded = urlencode(form)
    headers = {"User-Agent": "TwilioProxy/1.1", "Accept": "*/*"}
    if auth_token is not None and method == "GET":
        headers["X-Twilio-Signature"] = sign(auth_token, _with_query(signed_url, encoded))
    elif auth_token is not None:
        headers["X-Twilio-Signature"] = sign(auth_token, signed_url, form)
    if urlsplit(url).scheme not in ("http", "https"):
        raise CallError(11200, f"{url} does not begin with https://")
    data = encoded.encode() if method == "POST" else None
    full_url = url if method == "POST" else _with_query(url, encoded)
    try:
        with gevent.Timeout(PATIENCE, TimeoutError()):  # urllib bounds each read only
            # In another thread: urllib and the look-up of a name would hold up the calls.
            answer = get_hub().threadpool.apply(_answer, (full_url, data, headers))
    except TimeoutError as error:
        raise _failure(url, error) from None
    if isinstance(answer, CallError):
        raise answer
    return answer


def _with_query(url: str, query: str) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{query}"


def _answer(url: str, data: bytes | None, headers: dict[str, str]) -> tuple[bytes, str] | CallError:
    # An error is returned: what is raised in a thread of gevent's pool is also printed.
    try:
        return _open(Request(url, data, headers))
    except urllib.error.HTTPError as error:
        with error:
            return CallError(11200, f"{url} was answered with {error.code} {_explanation(error)}")
    except (OSError, http.client.HTTPException, ValueError) as error:  # the last: a host that is none
        return _failure(url, error.reason if isinstance(error, urllib.error.URLError) else error)


def _open(request: Request) -> tuple[bytes, str]:
    # Not urlopen: that one also opens files, and asks a proxy that Twilio does not know.
    opener = OpenerDirector()
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    for handler in (
        *(HTTPHandler(), HTTPSHandler(context=context)),
        *(HTTPRedirectHandler(), HTTPErrorProcessor(), HTTPDefaultErrorHandler()),
    ):
        opener.add_handler(handler)
    with opener.open(request, timeout=PATIENCE) as answer:
        return answer.read(MOST_BYTES + 1), answer.headers.get_content_type()


def _explanation(error: urllib.error.HTTPError) -> str:
    plain = error.headers.get_content_type() == "text/plain"
    body = error.read(_MOST_SHOWN).decode("utf-8", "replace").strip() if plain else ""
    return f"{error.reason}: {body}" if body else str(error.reason)


def _failure(url: str, reason: object) -> CallError:
    if isinstance(reason, socket.gaierror | UnicodeError | http.client.InvalidURL):
        return CallError(11210, f"no address is known for {urlsplit(url).netloc}")
    if isinstance(reason, ssl.SSLError):
        return CallError(11220, f"{url}: {getattr(reason, 'verify_message', '') or reason.reason}")
    if isinstance(reason, TimeoutError):
        return CallError(11205, f"{url} was not answered within {PATIENCE} s")
    if isinstance(reason, OSError):
        return CallError(11205, f"{url}: {(reason.strerror or str(reason)).lower()}")
    return CallError(11200, f"{url} was not answered with HTTP: {reason}")
