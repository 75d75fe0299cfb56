"""Dials the url of a `<Stream>` as Twilio does; each failure has the error code that Twilio reports."""

import asyncio
import contextlib
import errno
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.http11 import Request
from websockets.protocol import State

from mediastreams import client
from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol import error_codes
from mediastreams.text import printable

TIMEOUT = 10.0  # seconds for a server that does not read
CLOSE_TIMEOUT = 5.0  # seconds for the server's answer to a Close


class CallError(MediaStreamsError):
    """A call that Twilio would report as failed."""

    code: int
    """Twilio's error code."""

    def __init__(self, code: int, cause: str) -> None:
        super().__init__(printable(f"{error_codes.meaning(code)}: {cause}"))
        self.code = code


class WebSocket:
    """The WebSocket of one call, which `dial` has opened."""

    status: str
    """The server's answer to the handshake, such as "101 Switching Protocols"."""

    def __init__(self, connection: ClientConnection) -> None:
        assert connection.response is not None
        self.status = f"{connection.response.status_code} {connection.response.reason_phrase}"
        self._connection = connection

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Yield each message of the server until the connection ends, however it does."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield await self._connection.recv()

    async def send(self, text: str) -> None:
        """Send a text message. Raises `CallError` when the connection has ended or nobody reads."""
        # A transport that cannot write any more is closing before the connection knows.
        if self._connection.state is not State.OPEN or self._connection.transport.is_closing():
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
        await client.close(self._connection, CLOSE_TIMEOUT)

    async def drop(self) -> None:
        """Reset the connection (TCP RST), without a Close."""
        self._connection.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        )
        self.abandon()
        await self._connection.wait_closed()

    def abandon(self) -> None:
        """End the connection at once. Does nothing when it has ended."""
        self._connection.transport.abort()

    def _failure(self) -> CallError:
        """Return how the server has ended the connection."""
        protocol = self._connection.protocol
        if protocol.close_rcvd is not None:
            return CallError(31921, f"it sent a Close, {protocol.close_rcvd}")
        if protocol.close_sent is not None:  # by the websockets package, with what is wrong
            return CallError(31924, f"the server sent a wrong frame: {protocol.close_sent.reason}")
        return CallError(31903, "the server dropped the connection without a Close")


async def dial(url: str, headers: dict[str, str]) -> WebSocket:
    """Connect to `url` and shake hands, with Twilio's headers and these. Raises `CallError`."""
    headers = {"user-agent": "Twilio.TmeWs/1.0", "accept-encoding": "gzip", **headers}
    try:
        return WebSocket(await client.open_websocket(url, headers, None, _Connection))
    except (OSError, InvalidHandshake) as error:
        raise CallError(_code(error, url), client.why_not_connected(error, url)) from None


def _code(error: Exception, url: str) -> int:
    """Return Twilio's code for a WebSocket that could not be opened."""
    match error:
        case InvalidHandshake():
            return 31920
        case TimeoutError():
            return 31901
        case ConnectionRefusedError():
            return 31902
        case ConnectionResetError() if url.startswith("ws://"):
            return 31903
        case ssl.SSLError() | ConnectionAbortedError() | ConnectionResetError():
            return 31910
        case socket.gaierror() | OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH):
            return 31904
    return 31900


class _Protocol(ClientProtocol):
    """Writes the names of the handshake's headers in lower case, as Twilio does."""

    def send_request(self, request: Request) -> None:
        headers = Headers((name.lower(), value) for name, value in request.headers.raw_items())
        super().send_request(Request(request.path, headers))


class _Connection(ClientConnection):
    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(_Protocol(protocol.uri, max_size=None), **options)
