"""Dials the url of a `<Stream>` as Twilio does; each failure has the error code that Twilio reports.

RFC 6455 is the websockets package's.
"""

import asyncio
import contextlib
import errno
import functools
import os
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import certifi
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.datastructures import Headers, HeadersLike
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.uri import parse_uri

from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol import error_codes
from mediastreams.protocol.signature import sign
from mediastreams.text import printable

TIMEOUT = 10.0  # seconds for each of: the connection, TLS, the handshake, and a server that does not read
CLOSE_TIMEOUT = 5.0  # seconds for the server's answer to a Close


class CallError(MediaStreamsError):
    """A call that Twilio would report as failed: its error `code` and the `cause`."""

    def __init__(self, code: int, cause: str) -> None:
        super().__init__(code, cause)
        self.code = code
        self.cause = cause

    def __str__(self) -> str:
        return printable(f"{error_codes.meaning(self.code)}: {self.cause}")


class WebSocket:
    """The WebSocket of one call, which `dial` has opened.

    `status` is the server's answer to the handshake, "101 Switching Protocols".
    """

    def __init__(self, connection: ClientConnection, status: str) -> None:
        self.status = status
        self._connection = connection

    @property
    def closed(self) -> bool:
        """Whether the server has ended the WebSocket or the connection."""
        # A transport that cannot write any more is closing before the connection knows.
        return self._connection.state is not State.OPEN or self._connection.transport.is_closing()

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Yield each message of the server until the connection ends, however it does."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield await self._connection.recv()

    async def send(self, text: str) -> None:
        """Send one text message. Raises `CallError` where the connection has ended or nobody reads."""
        if self.closed:
            raise self._failure()
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._connection.send(text)
        except TimeoutError:
            raise CallError(31903, f"the server has read nothing for {TIMEOUT:.0f} s") from None
        except ConnectionClosed:
            raise self._failure() from None

    async def close(self) -> None:
        """Close with 1000, as Twilio does after `stop`, and wait until the server does the same."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._connection.close()
        self.abandon()

    async def drop(self) -> None:
        """Reset the connection (TCP RST), without a Close."""
        self._connection.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        )
        self.abandon()
        await self._connection.wait_closed()

    def abandon(self) -> None:
        """End the connection at once. Where it has ended, this does nothing."""
        self._connection.transport.abort()

    def _failure(self) -> CallError:
        """Return how the server has ended the connection."""
        protocol = self._connection.protocol
        if protocol.close_rcvd is not None:
            return CallError(31921, f"it sent a Close, {protocol.close_rcvd}")
        if protocol.close_sent is not None:  # by the websockets package, with what is wrong
            return CallError(31924, f"the server sent a wrong frame: {protocol.close_sent.reason}")
        return CallError(31903, "the server dropped the connection without a Close")


async def dial(url: str, signed_url: str, auth_token: str | None) -> WebSocket:
    """Connect to `url` and shake hands. Raises `CallError`.

    `auth_token` signs the handshake for `signed_url`; None sends no signature.
    """
    uri = parse_uri(url)
    options: dict[str, Any] = {"sock": await _connect(uri.host, uri.port)}
    if uri.secure:
        options |= {"ssl": tls_context(), "ssl_handshake_timeout": TIMEOUT}
    try:
        connection = await connect(
            url,
            additional_headers=_headers(signed_url, auth_token),
            user_agent_header=None,
            compression=None,
            proxy=None,
            open_timeout=None,
            ping_interval=None,
            close_timeout=None,
            max_size=None,
            create_connection=_Connection,
            **options,
        )
    except ConnectionAbortedError:
        raise CallError(31910, f"no TLS answer within {TIMEOUT:.0f} s") from None
    except ssl.SSLCertVerificationError as error:
        raise CallError(31910, f"the certificate is not valid: {error.verify_message}") from None
    except OSError as error:  # SSLError, or the end of the connection
        reason = getattr(error, "reason", None) or error.strerror or "the connection ended"
        raise CallError(31910, f"{reason} (does port {uri.port} speak TLS?)") from None
    assert connection.response is not None
    return WebSocket(connection, _status(connection.response))


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS context of all connections; it verifies whom it speaks to."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # on macOS python.org's Python has none of its own
    return context


class _Protocol(ClientProtocol):
    """Writes the names of the handshake's headers in lower case, as Twilio does."""

    def send_request(self, request: Request) -> None:
        headers = Headers((name.lower(), value) for name, value in request.headers.raw_items())
        super().send_request(Request(request.path, headers))


class _Connection(ClientConnection):
    """A connection whose handshake is Twilio's, and fails with `CallError`."""

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(_Protocol(protocol.uri, max_size=None), **options)

    async def handshake(
        self, additional_headers: HeadersLike | None = None, user_agent_header: str | None = None
    ) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                await super().handshake(additional_headers, user_agent_header)
        except TimeoutError:
            raise CallError(31901, f"no answer to the handshake within {TIMEOUT:.0f} s") from None
        except InvalidHandshake as error:  # that connect() does not see, or it would follow a redirect
            raise CallError(31920, _refusal(self.response, error)) from None


async def _connect(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to the first address of `host` that answers."""
    at = f"{host}:{port}"
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _connect_to_any(host, port)
    except socket.gaierror as error:
        raise CallError(31904, f"no address is known for {host} ({error.strerror})") from None
    except TimeoutError:
        raise CallError(31901, f"{at} did not answer within {TIMEOUT:.0f} s") from None
    except ConnectionRefusedError:
        raise CallError(31902, f"nothing listens on {at} (is the server running?)") from None
    except OSError as error:
        unreachable = error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CallError(31904 if unreachable else 31900, f"{at}: {reason}") from None


async def _connect_to_any(host: str, port: int) -> socket.socket:
    # Not loop.create_connection(): where a name has several addresses, its error has no errno.
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, number, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with contextlib.ExitStack() as undo:
            connection = undo.enter_context(socket.socket(family, kind, number))
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, address)
            except OSError as error:
                failure = error
            else:
                undo.pop_all()
                return connection
    raise failure or OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))


def _headers(signed_url: str, auth_token: str | None) -> dict[str, str]:
    """Return the headers that are Twilio's own."""
    headers = {"user-agent": "Twilio.TmeWs/1.0", "accept-encoding": "gzip"}
    if auth_token is not None:
        # Twilio speaks wss only; a ws:// address is this machine's name for the same.
        wss = urlunsplit(urlsplit(signed_url)._replace(scheme="wss"))
        headers["x-twilio-signature"] = sign(auth_token, wss)
    return headers


def _status(response: Response) -> str:
    return f"{response.status_code} {response.reason_phrase}"


def _refusal(response: Response | None, error: InvalidHandshake) -> str:
    if response is None:
        return "the connection ended without an answer, or with one that is not HTTP/1.1"
    if isinstance(error, InvalidStatus):
        return f"the server answered {_status(response)}{_explanation(response)}"
    return f"the server answered {_status(response)}, but not as a WebSocket: {error}"


def _explanation(response: Response) -> str:
    """Return what the refusal says of itself: ngrok's error code, or the text of the body."""
    if ngrok := response.headers.get_all("ngrok-error-code"):
        return f" ({ngrok[0]}: is the tunnel up, and the server behind it?)"
    body = bytes(response.body or b"")
    plain = any(kind.startswith("text/plain") for kind in response.headers.get_all("content-type"))
    if plain and body:
        return f": {body.decode('utf-8', 'replace').strip()[:200]}"
    return ""
