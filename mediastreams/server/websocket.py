"""One WebSocket of the server, with the methods of gevent-websocket's: receive, send, close, closed.

What gevent-websocket 0.10.1 does beneath these methods is replaced, because of it: close codes never leave,
a peer's Close is answered with the text of a bytearray, unmasked frames pass, nothing is bounded, and two
greenlets that send interleave their frames.

**Reading.** A WebSocket is read by the greenlet that receives from it, never by the hub: a slow application
holds back its own caller only (TCP does the rest). What that greenlet waits for is one of two things:

- while few streams are live, and on a stream that talks back, that there is something to read;
- else its turn (`live`). To wake up is most of what a message costs, so each stream is read once in a while,
  with the messages that have gathered.

**Writing.** `send` and the automatic answers to Ping and Close write whole frames, one after the other. What
the socket does not take waits in one place, from which the hub goes on; `send` returns when all has left.
"""

import contextlib
import logging
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import getcurrent
from gevent.event import Event
from gevent.hub import get_hub
from gevent.ssl import SSLSocket
from geventwebsocket.exceptions import WebSocketError
from geventwebsocket.websocket import WebSocket as GeventWebSocket

from mediastreams.server import frames
from mediastreams.server.connections import Live
from mediastreams.server.frames import Close, FrameReader, Violation
from mediastreams.server.pacing import ReadSchedule

logger = logging.getLogger(__name__)

READ_BYTES = 16384  # 40 messages; one read of a flood must not hold up the others
MOST_UNSENT = 65536  # bytes that a peer may leave unread and still have its Pings answered
CLOSE_SECONDS = 5.0  # for the peer to take what was not sent yet, and to answer a Close

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_READ, _WRITE = 1, 2  # libev's names for them


@dataclass(frozen=True)
class Lost:
    """The end of a connection without a Close: how it ended."""

    how: str


class WebSocket(GeventWebSocket):  # type: ignore[misc]
    """One WebSocket (RFC 6455), from the 101 to the end of the connection.

    `closed` is True once a Close was sent or received, or the connection has ended. From then on
    `close_code` is the code of whichever Close was first, 1005 where it had none and 1006 where none came,
    and `close_reason` its reason or how the connection ended; before, they are None and "". `ending` sums
    it up: `peer closed` or `server closed` with the code, `dropped`, `timed out` (a limit in time was
    passed), or `drained`; before, it is "". `stream` is what receives from it, for the log; None
    where nothing does.

    `peer` is the other end's address, for the log. `idle_seconds` bounds the time for which `receive` waits
    and nothing comes, and that in which the peer takes nothing of what is sent.
    """

    __slots__ = (
        "_awaits_data",
        "_connection",
        "_deadline",
        "_drained",
        "_frames",
        "_gathered",
        "_heard",
        "_heard_at",
        "_hub",
        "_idle_seconds",
        "_inbox",
        "_live",
        "_pace",
        "_peer_has_closed",
        "_pending",
        "_readable",
        "_recv",
        "_send",
        "_sent_at",
        "_talks_back",
        "_told",
        "_unsent",
        "_writable",
        "awaits_turn",
        "close_code",
        "close_reason",
        "closed",
        "ending",
        "environ",
        "handler",
        "peer",
        "stream",
    )

    def __init__(
        self,
        environ: dict[str, Any],
        handler: Any,
        live: Live,
        *,
        max_message_bytes: int,
        idle_seconds: float,
        peer: str,
    ) -> None:
        # Not the base's __init__: that one reads through the HTTP handler's buffer.
        self.environ = environ
        self.handler = handler
        self.stream: object = None  # for the log
        self.closed = False
        self.close_code: int | None = None
        self.close_reason = ""
        self.ending = ""
        self.peer = peer
        self._live = live
        self._idle_seconds = idle_seconds
        self._hub = get_hub()

        self._connection = handler.socket
        self._connection.settimeout(0)
        secure = isinstance(self._connection, SSLSocket)
        # The plain socket under gevent's spares 2 us a read.
        under = self._connection if secure else self._connection._sock
        self._recv = under.recv
        self._send = under.send
        self._pending = under.pending if secure else None  # what TLS has decrypted and not handed out
        self._readable = self._hub.loop.io(under.fileno(), _READ)
        self._writable = self._hub.loop.io(under.fileno(), _WRITE)

        self._frames = FrameReader(max_message_bytes)
        self._pace = ReadSchedule(live.gather_ms)
        self._gathered = 0  # messages of the last read
        self._inbox: list[Any] = []  # frames.Event and Lost, the next one last
        self.awaits_turn: Any = None  # the greenlet that waits in receive, for its turn or to read
        self._awaits_data: Any = None
        self._talks_back = False
        self._told = False
        self._peer_has_closed = False

        self._unsent = bytearray()
        self._drained: Event | None = None
        self._sent_at = 0.0

        self._deadline: tuple[float, int, str] | None = None
        self._heard = False
        self._heard_at = time.monotonic()

    def receive(self) -> str | bytes | None:
        """Wait for the next message and return it: a text as str, a binary one as bytes.

        None says that the WebSocket has ended, however it did; another call raises `WebSocketError`.
        """
        while not self.closed:
            if not self._inbox:
                self._wait()
                self._read()
                continue
            event = self._inbox.pop()
            if type(event) is str or type(event) is bytes:
                return event
            self._end(event)
        if self._told:
            raise WebSocketError("the WebSocket is closed")
        self._told = True
        return None

    def send(self, message: str | bytes, binary: bool | None = None) -> None:
        """Send one message and return when the socket has taken it.

        A str is sent as text and bytes as binary, unless `binary` says otherwise. Raises
        `WebSocketError` where the WebSocket is closed, or ends before all was taken.
        """
        if binary is None:
            binary = not isinstance(message, str)
        self.send_frame(message, frames.BINARY if binary else frames.TEXT)

    def send_frame(self, message: str | bytes, opcode: int) -> None:
        """Send one frame with this opcode, such as a Ping of one's own; else as `send`."""
        payload = message.encode() if isinstance(message, str) else bytes(message)
        self._talks_back = True
        while self._unsent and not self.closed:  # one message at the most waits here
            self._wait_until_sent()
        if self.closed:
            raise WebSocketError("the WebSocket is closed")
        self._write(frames.frame(opcode, payload))
        while self._unsent:
            self._wait_until_sent()
        if self.close_code == frames.ABNORMAL:
            raise WebSocketError(self.close_reason)

    def close(self, code: int = frames.NORMAL, message: str | bytes = "") -> None:
        """Send a Close with this code and reason (`message`); what `receive` waits for then is None.

        The connection itself ends when the route's function returns. Does nothing where the WebSocket is
        closed already. Raises `ValueError` for a code that may not be sent.
        """
        if self.closed:
            return
        reason = message if isinstance(message, str) else bytes(message).decode(errors="replace")
        self._close(code, reason, f"server closed {code}")

    def drain(self, code: int, reason: str) -> None:
        """Close it as `close` does, because the server ends."""
        if not self.closed:
            self._close(code, reason, "drained")

    def close_after(self, seconds: float, code: int, reason: str) -> None:
        """Close with this code and reason, unless `keep` is called within this time."""
        self._deadline = (time.monotonic() + seconds, code, reason)

    def keep(self) -> None:
        """Undo `close_after`."""
        self._deadline = None

    def take(self, data: bytes) -> None:
        """Act on what was received: bytes of the peer, in any pieces."""
        self._heard = True
        events = self._frames.feed(data)
        self._gathered = len(events)
        if self._inbox:
            events[:0] = reversed(self._inbox)
        events.reverse()
        self._inbox = events
        if self._frames.pings:
            self._answer_pings()

    def _answer_pings(self) -> None:
        pings, self._frames.pings = self._frames.pings, []
        for ping in pings:
            if len(self._unsent) > MOST_UNSENT:
                self._lose("it does not read the answers to its Pings")
                return
            if not self.closed:
                self._write(frames.frame(frames.PONG, ping))

    def wake(self) -> None:
        """Let the greenlet that waits in `receive` look again. For the hub to call."""
        greenlet = self.awaits_turn or self._awaits_data
        self.awaits_turn = self._awaits_data = None
        if greenlet is not None:
            greenlet.switch()

    def look(self, now: float) -> None:
        """Close what is overdue at the time `now` (monotonic). For the hub to call."""
        # A peer is not silent while nobody listens: the application may be busy, or sending.
        listens = self.awaits_turn is not None or self._awaits_data is not None
        if self._heard or not listens:
            self._heard = False
            self._heard_at = now
        if self._unsent and now - self._sent_at > self._idle_seconds:
            self._lose(f"it has read nothing for {self._idle_seconds:g} s", "timed out")
        if self.closed:
            return
        if self._deadline is not None and now > self._deadline[0]:
            self._refuse(*self._deadline[1:], "timed out")
        elif now - self._heard_at > self._idle_seconds:
            self._refuse(frames.GOING_AWAY, f"nothing received for {self._idle_seconds:g} s", "timed out")

    def finish(self) -> None:
        """End the connection as section 7.1 has it: each side's Close, then that of TCP.

        Waits for the peer 5 s at the most, and reads until it has ended its side: to close a socket that
        holds unread data would reset the connection, and our Close might be lost with it.
        """
        self.close()
        self._talks_back = True  # nobody else is to be read with it
        gevent.sleep(0)  # a greenlet of the application that still waits in receive is told now
        try:
            with gevent.Timeout(CLOSE_SECONDS, False):  # type: ignore[arg-type]
                while self._unsent:
                    self._wait_until_sent()
                if self.close_code in (frames.PROTOCOL_ERROR, frames.INVALID_DATA, frames.TOO_BIG):
                    self._shut_down()  # the peer's next frame cannot be found; there is none to wait for
                while not self._peer_has_closed:
                    if any(isinstance(event, Close | Lost) for event in self._inbox):
                        break
                    self._inbox.clear()
                    self._wait()
                    self._read()
        finally:
            self._readable.close()
            self._writable.close()
        self._shut_down()

    def _wait(self) -> None:
        """Wait until there is something to read, or for the next turn, or until another wakes us."""
        if self.awaits_turn is not None or self._awaits_data is not None:
            raise RuntimeError("another greenlet receives from this WebSocket")
        if self._live.gathering and not self._talks_back:
            self.awaits_turn = getcurrent()
            self._live.give_turn(self, self._pace.ticks(self._gathered))
            self._gathered = 0
            try:
                self._hub.switch()
            finally:
                self.awaits_turn = None
        else:
            self._awaits_data = getcurrent()
            self._readable.start(self.wake)
            try:
                self._hub.switch()
            finally:
                self._awaits_data = None
                self._readable.stop()

    def _read(self) -> None:
        while True:
            try:
                data = self._recv(READ_BYTES)
            except WOULD_BLOCK:
                return
            except OSError as error:
                self._inbox.insert(0, Lost(_sentence(error)))
                return
            if not data:
                self._inbox.insert(0, Lost("it ended without a Close"))
                return
            self.take(data)
            if self._pending is None or not self._pending():
                return

    def _end(self, event: Close | Violation | Lost) -> None:
        if isinstance(event, Close):
            self._peer_has_closed = True
            self._write(frames.close_frame(event.code, ""))
            self._has_closed(event.code, event.reason, f"peer closed {event.code}")
        elif isinstance(event, Violation):
            self._refuse(event.code, event.reason, f"server closed {event.code}")
        else:
            self._lose(event.how)

    def _refuse(self, code: int, reason: str, ending: str) -> None:
        logger.warning("%s: closed with %d, %s", self.peer, code, reason, extra={"stream": self.stream})
        self._close(code, reason, ending)

    def _close(self, code: int, reason: str, ending: str) -> None:
        self._write(frames.close_frame(code, reason))
        if not self.closed:  # else the peer was gone already
            self._has_closed(code, reason, ending)

    def _lose(self, how: str, ending: str = "dropped") -> None:
        """Give the connection up: there is nobody to send to."""
        self._unsent.clear()
        self._writable.stop()
        self._peer_has_closed = True
        if not self.closed:
            logger.warning("%s: connection lost, %s", self.peer, how, extra={"stream": self.stream})
            self._has_closed(frames.ABNORMAL, how, ending)
        if self._drained is not None:
            self._drained.set()

    def _has_closed(self, code: int, reason: str, ending: str) -> None:
        self.closed = True
        self.close_code, self.close_reason, self.ending = code, reason, ending
        if self.awaits_turn is not None or self._awaits_data is not None:
            self._hub.loop.run_callback(self.wake)

    def _write(self, data: bytes) -> None:
        """Send whole frames, or what the socket takes of them; the hub goes on with the rest."""
        if not self._unsent:
            data = data[self._try_to_send(data) :]
            if not data or self.close_code == frames.ABNORMAL:
                return
            self._sent_at = time.monotonic()
            self._writable.start(self._send_on)
        self._unsent += data

    def _send_on(self) -> None:
        sent = self._try_to_send(self._unsent)
        if sent:
            self._sent_at = time.monotonic()
            del self._unsent[:sent]
        if not self._unsent:
            self._writable.stop()
            if self._drained is not None:
                self._drained.set()

    def _try_to_send(self, data: bytes | bytearray) -> int:
        try:
            return int(self._send(data))
        except WOULD_BLOCK:
            return 0
        except OSError as error:
            self._lose(_sentence(error))
            return 0

    def _wait_until_sent(self) -> None:
        if self._drained is None:
            self._drained = Event()
        self._drained.clear()
        self._drained.wait()

    def _shut_down(self) -> None:
        # It may be gone already; and this side has nothing more to say in any case.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)


def _sentence(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
