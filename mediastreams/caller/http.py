"""Twilio's HTTP requests, as the simulated caller makes them: for TwiML, and to a statusCallback.

Sources: https://www.twilio.com/docs/usage/webhooks/webhooks-overview, and for the numbers
https://www.twilio.com/docs/api/errors.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

import httpx

from mediastreams.caller.account import Account
from mediastreams.caller.websocket import CallError
from mediastreams.client import causes, read_at_most, tls_context

TIMEOUT = 15  # seconds for a request with its redirects, as Twilio has
MAX_BYTES = 65536  # of a TwiML document
_TWIML_TYPES = ("text/xml", "application/xml", "text/html")
_MAX_REDIRECTS = 10
_FROM, _TO = "+15550100001", "+15550100002"  # numbers of fiction
_MAX_SHOWN = 200  # bytes of an explanation
_HEADERS = {
    "User-Agent": "TwilioProxy/1.1",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # so that the bound is one of what is held in memory too
    "Connection": "close",
}


def call_form(account_sid: str, call_sid: str) -> dict[str, str]:
    """Return the form that describes a call to a webhook."""
    return {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "CallSid": call_sid,
        "CallStatus": "ringing",
        "Called": _TO,
        "Caller": _FROM,
        "Direction": "inbound",
        "From": _FROM,
        "To": _TO,
    }


async def twiml(url: str, form: Mapping[str, str], account: Account) -> bytes:
    """Return the TwiML document that a server answers with. `form` describes the call. Raises `CallError`."""
    body, kind = await ask("POST", url, form, account)
    if kind not in _TWIML_TYPES:
        raise CallError(12300, f"{url} is {kind}, not text/xml")
    if len(body) > MAX_BYTES:
        raise CallError(11750, f"{url} has more than {MAX_BYTES} bytes")
    return body


async def ask(method: str, url: str, form: Mapping[str, str], account: Account) -> tuple[bytes, str]:
    """Send a form by GET or POST; return the answer's body and its Content-Type. Raises `CallError`.

    Of the body at most one byte more than a document may have is read.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise CallError(11200, f"{url} does not begin with https://")
    to, data = url, dict(form)
    if method == "GET":
        to, data = f"{url}{'&' if parts.query else '?'}{urlencode(form)}", {}
    headers = {**_HEADERS, **account.signature(to, data)}
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            httpx.AsyncClient(headers=headers, verify=tls_context(), trust_env=False, timeout=None) as client,
        ):
            response, body = await _answer(client, client.build_request(method, to, data=data or None))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ExceptionGroup) as error:
        raise _failure(url, error) from None
    kind = response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    if not response.is_success:
        explanation = body[:_MAX_SHOWN].decode("utf-8", "replace").strip() if kind == "text/plain" else ""
        status = f"{response.status_code} {response.reason_phrase}{': ' if explanation else ''}{explanation}"
        raise CallError(11200, f"{url} was answered with {status}")
    return body, kind


async def _answer(client: httpx.AsyncClient, request: httpx.Request) -> tuple[httpx.Response, bytes]:
    """Return the answer behind all redirects, or the first redirect that leads nowhere or goes too far."""
    # Not follow_redirects=True: its error does not have the answer that is to be reported.
    response = await client.send(request, stream=True)
    for _ in range(_MAX_REDIRECTS):
        request_behind = response.next_request
        if request_behind is None or request_behind.url.scheme not in ("http", "https"):
            break
        await response.aclose()
        response = await client.send(request_behind, stream=True)
    body = await read_at_most(MAX_BYTES, response.aiter_raw())
    await response.aclose()
    return response, body


def _failure(url: str, error: BaseException) -> CallError:
    """Return Twilio's error for an exception of httpx, by what has caused it."""
    for cause in causes(error):
        match cause:
            case socket.gaierror() | UnicodeError() | httpx.InvalidURL():
                return CallError(11210, f"no address is known for {urlsplit(url).netloc}")
            case ssl.SSLError():
                return CallError(11220, f"{url}: {getattr(cause, 'verify_message', '') or cause.reason}")
            case TimeoutError():
                return CallError(11205, f"{url} was not answered within {TIMEOUT} s")
            case OSError(errno=int(number)):
                return CallError(11205, f"{url}: {os.strerror(number).lower()}")
            case OverflowError():
                return CallError(11205, f"{url}: {cause}")
    return CallError(11200, f"{url} was not answered with HTTP: {error}")
