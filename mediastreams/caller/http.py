"""Twilio's HTTP requests, as the simulated caller makes them: for TwiML, and to a statusCallback.

Sources: https://www.twilio.com/docs/usage/webhooks/webhooks-overview, and for the numbers
https://www.twilio.com/docs/api/errors.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode, urlsplit

import httpx

from mediastreams.caller.websocket import CallError, tls_context
from mediastreams.protocol.signature import sign

TIMEOUT = 15  # seconds for a request with its redirects, as Twilio has
MAX_BYTES = 65536  # of a TwiML document
_TWIML_TYPES = ("text/xml", "application/xml", "text/html")
_MAX_REDIRECTS = 10
_MAX_SHOWN = 200  # bytes of an explanation


async def twiml(url: str, form: Mapping[str, str], auth_token: str | None, signed_url: str) -> bytes:
    """Return the TwiML document that a server answers with.

    `form` is what it is told of the call. `auth_token` signs the request for `signed_url`, None sends no
    signature. Raises `CallError`.
    """
    body, kind = await ask("POST", url, form, auth_token, signed_url)
    if kind not in _TWIML_TYPES:
        raise CallError(12300, f"{url} is {kind}, not text/xml")
    if len(body) > MAX_BYTES:
        raise CallError(11750, f"{url} has more than {MAX_BYTES} bytes")
    return body


async def ask(
    method: str, url: str, form: Mapping[str, str], auth_token: str | None, signed_url: str
) -> tuple[bytes, str]:
    """Send a form by GET or POST; return the answer's body and its Content-Type. Otherwise as `twiml`.

    Of the body at most one byte more than a document may have is read.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise CallError(11200, f"{url} does not begin with https://")
    headers = {
        "User-Agent": "TwilioProxy/1.1",
        "Accept": "*/*",
        "Accept-Encoding": "identity",  # so that the bound is one of what is held in memory too
        "Connection": "close",
    }
    encoded = urlencode(form)
    if auth_token is not None and method == "GET":
        headers["X-Twilio-Signature"] = sign(auth_token, _with_query(signed_url, encoded))
    elif auth_token is not None:
        headers["X-Twilio-Signature"] = sign(auth_token, signed_url, form)
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            httpx.AsyncClient(headers=headers, verify=tls_context(), trust_env=False, timeout=None) as client,
        ):
            if method == "GET":
                request = client.build_request(method, _with_query(url, encoded))
            else:
                request = client.build_request(method, url, data=dict(form))
            response = await _follow(client, request)
            body = await _read(response)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ExceptionGroup) as error:
        raise _failure(url, error) from None
    kind = response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    if not response.is_success:
        explanation = body[:_MAX_SHOWN].decode("utf-8", "replace").strip() if kind == "text/plain" else ""
        status = f"{response.status_code} {response.reason_phrase}{': ' if explanation else ''}{explanation}"
        raise CallError(11200, f"{url} was answered with {status}")
    return body, kind


def _with_query(url: str, query: str) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{query}"


async def _follow(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Return the answer behind all redirects, or the first redirect that leads nowhere or goes too far."""
    # Not follow_redirects=True: its error does not have the answer that is to be reported.
    for _ in range(_MAX_REDIRECTS):
        response = await client.send(request, stream=True)
        if response.next_request is None or response.next_request.url.scheme not in ("http", "https"):
            return response
        await response.aclose()
        request = response.next_request
    return await client.send(request, stream=True)


async def _read(response: httpx.Response) -> bytes:
    body = b""
    async for part in response.aiter_raw():
        body += part
        if len(body) > MAX_BYTES:
            break
    await response.aclose()
    return body[: MAX_BYTES + 1]


def _failure(url: str, error: BaseException) -> CallError:
    """Return Twilio's error for an exception of httpx, by what has caused it."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror | UnicodeError | httpx.InvalidURL):
            return CallError(11210, f"no address is known for {urlsplit(url).netloc}")
        if isinstance(cause, ssl.SSLError):
            return CallError(11220, f"{url}: {getattr(cause, 'verify_message', '') or cause.reason}")
        if isinstance(cause, TimeoutError):
            return CallError(11205, f"{url} was not answered within {TIMEOUT} s")
        if isinstance(cause, OSError) and cause.errno:
            return CallError(11205, f"{url}: {os.strerror(cause.errno).lower()}")
        if isinstance(cause, OverflowError):
            return CallError(11205, f"{url}: {cause}")
    return CallError(11200, f"{url} was not answered with HTTP: {error}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__
