"""Judges a WebSocket handshake (RFC 6455, section 4.2). No I/O."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mediastreams.config import Settings
from mediastreams.protocol import signature

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_VERSION = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


@dataclass(frozen=True)
class Refusal:
    """Why a handshake is refused."""

    status: int
    """The HTTP status of the answer."""
    reason: str
    """Its label in the metrics."""
    text: str
    """The answer's body, one line."""
    headers: dict[str, str] | None = None
    """More headers of the answer."""
    why: str = ""
    """What the log says instead of `text`; "" where it says the same."""


def check(
    environ: Mapping[str, Any], path: str, settings: Settings, *, live: int, draining: bool
) -> Refusal | None:
    """Return why the handshake of a WSGI environment is refused; None if it is accepted.

    `path` is that of the request line, as it was sent. `live` is the number of live streams, `draining`
    whether the server drains.
    """
    return (
        check_request(environ)
        or _check_signature(environ, path, settings)
        or _check_room(settings, live, draining)
    )


def accept(key: str) -> str:
    """Return the `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`."""
    digest = hashlib.sha1((key.strip() + _GUID).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def check_request(environ: Mapping[str, Any]) -> Refusal | None:
    """Return why a request is no handshake that can be accepted; None where it is one."""
    if environ["REQUEST_METHOD"] != "GET":
        return Refusal(405, "method", "A WebSocket handshake is a GET.", {"Allow": "GET"})
    version = environ["SERVER_PROTOCOL"]
    if version != "HTTP/1.1":
        return Refusal(400, "malformed", f"A WebSocket handshake needs HTTP/1.1, this is {version}.")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != "13":
        text = "This server speaks version 13 of the WebSocket protocol (RFC 6455) only."
        return Refusal(426, "version", text, _VERSION)
    if not _is_key(environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()):
        return Refusal(400, "malformed", "Sec-WebSocket-Key must be 16 bytes in base64.")
    if environ.get("CONTENT_LENGTH", "0") != "0":
        return Refusal(400, "malformed", "A WebSocket handshake has no body.")
    return None


def _check_signature(environ: Mapping[str, Any], path: str, settings: Settings) -> Refusal | None:
    if settings.twilio_auth_token is None:
        return None
    base = settings.public_url or f"wss://{environ.get('HTTP_HOST', '')}"
    try:
        urls = signature.handshake_urls(base, path.partition("?")[0])
    except ValueError:  # a Host that is no host
        urls = []
    given = environ.get("HTTP_X_TWILIO_SIGNATURE")
    why = signature.fault(settings.twilio_auth_token, urls, given)
    if not why:
        return None
    return Refusal(
        403,
        "signature",
        signature.REFUSED,
        why=f"{why}. PUBLIC_URL must be the address in the TwiML",
    )


def _check_room(settings: Settings, live: int, draining: bool) -> Refusal | None:
    if draining:
        return Refusal(503, "draining", "The server is draining and takes no more streams.")
    if live >= settings.max_streams:
        return Refusal(503, "streams", f"{settings.max_streams} streams are live (MAX_STREAMS).")
    return None


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
