"""Connections to other servers: opens WebSockets, and says why a server cannot be reached.

The server's certificate is verified, no redirect is followed and no proxy used, so that keys and tokens go to
the host of the URL alone.
"""

import asyncio
import contextlib
import functools
import importlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import certifi
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.http11 import Response
from websockets.uri import parse_uri

TIMEOUT = 10.0  # seconds for each of: the connection, TLS, the handshake, the end after a Close
_MAX_SHOWN = 200  # characters of what a refusal says

# It may log a secret, and not in the log's form. Errors are raised as well.
_logger = logging.getLogger("websockets.client")
_logger.disabled = True


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error that a redirect is: it is not followed."""
        return exc


async def open_websocket(
    url: str,
    headers: dict[str, str],
    max_bytes: int | None,
    connection: type[ClientConnection] = ClientConnection,
) -> ClientConnection:
    """Return a WebSocket to a ws:// or wss:// URL. `max_bytes` bounds its messages; None does not.

    Raises `OSError` or `InvalidHandshake`; `why_not_connected` explains them.
    """
    uri = parse_uri(url)
    options: dict[str, Any] = {"open_timeout": TIMEOUT}
    if uri.secure:  # TLS has its own time
        options = {"open_timeout": 2 * TIMEOUT, "ssl": tls_context(), "ssl_handshake_timeout": TIMEOUT}
    async with asyncio.timeout(TIMEOUT):
        connected = await _connect_socket(uri.host, uri.port)
    connecting = _Connect(
        url,
        sock=connected,
        additional_headers=headers,
        user_agent_header=None,
        compression=None,
        proxy=None,
        ping_interval=None,
        close_timeout=TIMEOUT,
        max_size=max_bytes,
        logger=_logger,
        create_connection=connection,
        **options,
    )
    try:
        return await connecting
    except TimeoutError:
        raise TimeoutError(f"no answer to the handshake within {TIMEOUT:.0f} s") from None


async def close(websocket: ClientConnection, seconds: float) -> None:
    """Close a WebSocket. Its connection ends within so many seconds, also when the server reads nothing."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await websocket.close()
    websocket.transport.abort()


@functools.cache  # it takes 20 ms
def tls_context() -> ssl.SSLContext:
    """Return the TLS context of all connections, which verifies the server."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # on macOS python.org's Python has none of its own
    return context


def why_not_connected(error: BaseException, url: str) -> str:
    """Return the sentence that says why there is no connection to the host of `url`."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme in ("wss", "https") else 80)
    at = f"{parts.hostname}:{port}"
    match error:
        case InvalidStatus():
            return f"the server answered {_status(error.response)}"
        case InvalidMessage():
            return "the connection ended without an answer, or with one that is not HTTP/1.1"
        case InvalidHandshake():
            return f"the server answered 101 Switching Protocols, but not as a WebSocket: {error}"
        case TimeoutError(args=(str(sentence),)):
            return sentence
        case TimeoutError() | ConnectionAbortedError():  # the latter: of TLS
            return f"{at} did not answer within {TIMEOUT:.0f} s"
        case ConnectionRefusedError():
            return f"nothing listens on {at} (is the server running?)"
        case socket.gaierror():
            return f"no address is known for {parts.hostname} ({error.strerror})"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not valid: {error.verify_message}"
        case ConnectionResetError() if parts.scheme in ("ws", "http"):
            return f"{at} ended the connection"
        case ssl.SSLError() | ConnectionResetError():
            reason = getattr(error, "reason", None) or error.strerror or "the connection ended"
            return f"{reason} (does port {port} speak TLS?)"
        case OSError(errno=int(number)):
            return f"{at}: {os.strerror(number)}"
    return f"{at}: {error}"


async def read_at_most(max_bytes: int, parts: AsyncIterator[bytes]) -> bytes:
    """Return all bytes of `parts`; when there are more than `max_bytes`, the first `max_bytes` + 1."""
    data = b""
    async for part in parts:
        data += part
        if len(data) > max_bytes:
            break
    return data[: max_bytes + 1]


def prepare_threads(*modules: str) -> None:
    """Import what the first connection of a thread would import, and these modules; before the thread starts.

    Under gunicorn gevent has patched the locks of imports: there two threads that import at once have waited
    for each other for ever. Elsewhere it does nothing.
    """
    from gevent import get_hub, monkey  # what connects without gevent need not have it

    if monkey.is_module_patched("threading"):
        for module in ("encodings.idna", *modules):
            importlib.import_module(module)
        _ = get_hub().resolver


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its cause, the cause of that, and so on; of a group the first exception."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__


async def _connect_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to the first address of `host` that answers."""
    # Not loop.create_connection(): its error for a name with several addresses has no errno.
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, number, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with contextlib.ExitStack() as closing:
            attempt = closing.enter_context(socket.socket(family, kind, number))
            attempt.setblocking(False)
            try:
                await loop.sock_connect(attempt, address)
            except OSError as error:
                failure = error
            else:
                closing.pop_all()
                return attempt  # no duplicate: on Windows the loop takes only the object that it connected
    assert failure is not None  # a host without an address is a gaierror
    raise failure


def _status(response: Response) -> str:
    """Return the status, and what else a refusal says: ngrok's error code, or the text of the body."""
    status = f"{response.status_code} {response.reason_phrase}"
    if ngrok := response.headers.get_all("ngrok-error-code"):
        return f"{status} ({ngrok[0]}: is the tunnel up, and the server behind it?)"
    if any(kind.startswith("text/plain") for kind in response.headers.get_all("content-type")):
        text = bytes(response.body or b"").decode("utf-8", "replace").strip()[:_MAX_SHOWN]
        return f"{status}: {text}" if text else status
    return status
