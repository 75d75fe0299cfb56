"""A provider's WebSocket: its certificate is verified, its messages and its time are bounded.

No redirect is followed and no proxy used, so that keys and tokens go to the provider alone.

    SessionError
        NotConnectedError    the WebSocket could not be opened
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import certifi
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
)

from mediastreams.transcription.provider import PATIENCE
from mediastreams.transcription.session import SessionError

MAX_BYTES = 65536  # of a provider's message
_GOODBYE = 1.0  # seconds for the provider's Close
# What it logs is not in the log's form, and may repeat a secret. Errors are raised as well.
_logger = logging.getLogger("websockets.client")
_logger.disabled = True


class NotConnectedError(SessionError):
    """A WebSocket that could not be opened."""


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error that a redirect is: it is not followed."""
        return exc


@contextlib.asynccontextmanager
async def open_websocket(
    url: str, headers: dict[str, str], context: ssl.SSLContext
) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket to a wss:// URL with these headers, and close it at the end.

    Raises `NotConnectedError` where it cannot be opened, `SessionError` where the provider ends it.
    """
    connecting = _Connect(
        url,
        additional_headers=headers,
        ssl=context,
        proxy=None,
        compression=None,
        user_agent_header=None,
        open_timeout=PATIENCE,
        ping_interval=None,
        max_size=MAX_BYTES,
        logger=_logger,
    )
    try:
        websocket = await connecting
    except (OSError, InvalidHandshake) as error:
        raise NotConnectedError(why_not_connected(error, url)) from None
    try:
        yield websocket
    except ConnectionClosed as error:
        raise SessionError(_why_closed(error)) from None
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await websocket.close()
        websocket.transport.abort()  # also where it does not read our Close


async def converse(
    websocket: ClientConnection,
    messages: AsyncIterator[str | bytes],
    take: Callable[[str | bytes, bool], bool],
) -> None:
    """Send `messages` while what comes is given to `take`, with whether all are sent.

    Returns when `take` returns True, or when the provider ends the connection after all are sent. Raises
    `SessionError` where the provider reads nothing for 10 s, and `ConnectionClosed`.
    """
    has_sent_all = is_stuck = False

    async def send() -> None:
        nonlocal has_sent_all, is_stuck
        with contextlib.suppress(ConnectionClosed):  # `recv` raises it too
            async for message in messages:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await websocket.send(message)
                except TimeoutError:
                    is_stuck = True
                    websocket.transport.abort()
            has_sent_all = True

    sender = asyncio.create_task(send())
    try:
        while not take(await websocket.recv(), has_sent_all):
            pass
    except ConnectionClosed as error:
        if is_stuck:
            raise SessionError(f"the server has read nothing for {PATIENCE:.0f} s") from None
        if not has_sent_all or _is_ours(error):
            raise
    finally:
        sender.cancel()


def verified_context() -> ssl.SSLContext:
    """Return a TLS context that verifies the server. It takes 20 ms, and so is made once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    context.load_verify_locations(certifi.where())  # on macOS python.org's Python has none of its own
    return context


def why_not_connected(error: Exception, url: str) -> str:
    """Return the sentence that says why there is no connection to the host of `url`."""
    parts = urlsplit(url)
    port = parts.port or 443
    at = f"{parts.hostname}:{port}"
    match error:
        case InvalidStatus():
            return f"the server answered {error.response.status_code} {_explained(error)}"
        case InvalidMessage():
            return "the connection ended without an answer, or with one that is not HTTP/1.1"
        case InvalidHandshake():
            return f"the server answered, but not as a WebSocket: {error}"
        case TimeoutError():
            return f"{at} did not answer within {PATIENCE:.0f} s"
        case ConnectionRefusedError():
            return f"nothing listens on {at} (is the server running?)"
        case socket.gaierror():
            return f"no address is known for {parts.hostname} ({error.strerror})"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not valid: {error.verify_message}"
        case ssl.SSLError():
            return f"{error.reason or error.strerror} (does port {port} speak TLS?)"
        case OSError():
            return f"{at}: {error.strerror or error}"
    return str(error)


def _explained(error: InvalidStatus) -> str:
    """Return the reason phrase, and the text of the body if it is one."""
    response = error.response
    is_text = any(kind.startswith("text/plain") for kind in response.headers.get_all("Content-Type"))
    body = bytes(response.body or b"") if is_text else b""
    text = body.decode("utf-8", "replace").strip()[:200]
    return f"{response.reason_phrase}: {text}" if text else response.reason_phrase


def _is_ours(error: ConnectionClosed) -> bool:
    """Return whether our Close came first, which is because of what was wrong."""
    return error.sent is not None and not error.rcvd_then_sent


def _why_closed(error: ConnectionClosed) -> str:
    if _is_ours(error):
        return f"the server sent a wrong frame: {error.sent}"
    if error.rcvd is not None:
        return f"it sent a Close, {error.rcvd}"
    return "the server dropped the connection without a Close"
