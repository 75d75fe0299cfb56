"""What is sent and the socket has not taken yet."""

import ssl
from collections.abc import Callable
from typing import Any

from gevent.event import Event
from gevent.hub import get_hub

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_WRITE = 2  # libev's name for it


class SendBuffer:
    """Sends on a non-blocking socket, in order; the hub goes on with what the socket does not take at once.

    `send` and `fileno` are the socket's. For the server's thread.
    """

    waiting: bytearray
    """The bytes that wait; only to be read."""
    error: OSError | None
    """What has ended the connection while sending; None where nothing has."""

    def __init__(self, send: Callable[[Any], int], fileno: int) -> None:
        self.error = None
        self._send = send
        self.waiting = bytearray()
        self._is_given_up = False
        self._has_progressed = False
        self._writable = get_hub().loop.io(fileno, _WRITE)
        self._emptied: Event | None = None

    def has_progressed(self) -> bool:
        """Return whether nothing waits, or the socket has taken something since the last call."""
        has_progressed, self._has_progressed = self._has_progressed, False
        return has_progressed or not self.waiting

    def write(self, data: bytes) -> None:
        """Send `data` behind what waits. Never blocks; does nothing after an error and after `give_up`."""
        if self._is_given_up:
            return
        if not self.waiting:
            data = data[self._try_to_send(data) :]
            if not data or self._is_given_up:
                return
            self._writable.start(self._send_on)
        self.waiting += data

    def wait(self) -> None:
        """Block this greenlet until nothing waits any more."""
        while self.waiting:
            if self._emptied is None:
                self._emptied = Event()
            self._emptied.clear()
            self._emptied.wait()

    def give_up(self) -> None:
        """Drop what waits: there is nobody to send to."""
        self._is_given_up = True
        self.waiting.clear()
        self._has_emptied()

    def close(self) -> None:
        """Free what the event loop holds. Nothing may be written afterwards."""
        self._writable.close()

    def _send_on(self) -> None:
        del self.waiting[: self._try_to_send(self.waiting)]
        if not self.waiting:
            self._has_emptied()

    def _has_emptied(self) -> None:
        self._writable.stop()
        if self._emptied is not None:
            self._emptied.set()

    def _try_to_send(self, data: bytes | bytearray) -> int:
        """Return how many bytes the socket takes."""
        try:
            sent = self._send(data)
        except WOULD_BLOCK:
            return 0
        except OSError as error:
            self.error = error
            self.give_up()
            return 0
        self._has_progressed = True
        return sent
