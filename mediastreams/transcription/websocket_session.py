"""A provider's WebSocket session: its messages and its time are bounded.

SessionError
    NotConnectedError    the WebSocket could not be opened
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from mediastreams import client
from mediastreams.transcription.provider import PATIENCE
from mediastreams.transcription.session import SessionError

MAX_BYTES = 65536  # of a provider's message
_CLOSE_TIMEOUT = 1.0  # seconds for the provider's Close


class NotConnectedError(SessionError):
    """A WebSocket that could not be opened."""


@contextlib.asynccontextmanager
async def open_websocket(url: str, headers: dict[str, str]) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket to a wss:// URL with these headers, and close it at the end.

    Raises `NotConnectedError` when it cannot be opened, `SessionError` when the provider ends it.
    """
    try:
        websocket = await client.open_websocket(url, headers, MAX_BYTES)
    except (OSError, InvalidHandshake) as error:
        raise NotConnectedError(client.why_not_connected(error, url)) from None
    try:
        yield websocket
    except ConnectionClosed as error:
        raise SessionError(_why_closed(error)) from None
    finally:
        await client.close(websocket, _CLOSE_TIMEOUT)


async def converse(
    websocket: ClientConnection,
    messages: AsyncIterator[str | bytes],
    on_message: Callable[[str | bytes, bool], bool],
) -> None:
    """Send `messages`, and meanwhile hand each answer to `on_message`, with whether all were sent.

    Returns when `on_message` returns True, or when the provider ends the connection after all were sent.
    Raises `SessionError` when the provider reads nothing for 10 s, and `ConnectionClosed`.
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
        while not on_message(await websocket.recv(), has_sent_all):
            pass
    except ConnectionClosed as error:
        if is_stuck:
            raise SessionError(f"the server has read nothing for {PATIENCE:.0f} s") from None
        if not has_sent_all or _is_ours(error):
            raise
    finally:
        sender.cancel()


def _is_ours(error: ConnectionClosed) -> bool:
    """Return whether our Close came first, which is because of what was wrong."""
    return error.sent is not None and not error.rcvd_then_sent


def _why_closed(error: ConnectionClosed) -> str:
    if _is_ours(error):
        return f"the server sent a wrong frame: {error.sent}"
    if error.rcvd is not None:
        return f"it sent a Close, {error.rcvd}"
    return "the server dropped the connection without a Close"
