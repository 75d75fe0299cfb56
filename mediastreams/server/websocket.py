"""One WebSocket of the server, with the methods of gevent-websocket's: receive, send, close, closed.

What is beneath these methods in gevent-websocket 0.10.1 is replaced: it never sends the close code, answers a
peer's Close with the text of a bytearray, accepts unmasked frames, bounds nothing, and lets two greenlets
that send interleave their frames.

**Reading.** The greenlet that receives also reads the socket, never the hub: a slow application holds back
its own peer only (TCP does the rest). Until it reads, that greenlet waits for one of two things:

- for data, while few streams are live;
- else for its turn (`connections`). Waking up is most of what a message costs, so each stream is read once in
  a while, with the messages that have gathered. A stream that also sends has its turn at most 2 ms after a
  message has come: many of them are read at one waking.

**Writing.** `send` and the automatic answers to Ping and Close write whole frames, one after the other. What
the socket does not take waits in the `SendBuffer`; `send` returns when all has left.

**Ending** (RFC 6455, section 7). Whichever side is first sends a Close, the other answers it, then the server
ends the connection:

    OPEN --- our Close -------------------> CLOSING --- the peer's Close, or the end ---> CLOSED
    OPEN --- the peer's Close, answered, or the end of the connection ------------------> CLOSED
"""

import contextlib
import enum
import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import getcurrent
from gevent.hub import get_hub
from gevent.ssl import SSLSocket
from geventwebsocket.exceptions import WebSocketError
from geventwebsocket.websocket import WebSocket as GeventWebSocket

from mediastreams.server import frames
from mediastreams.server.connections import Live
from mediastreams.server.deadlines import Deadlines
from mediastreams.server.frames import Close, CloseCode, FrameReader, Opcode, Violation
from mediastreams.server.pacing import ReadSchedule
from mediastreams.server.send_buffer import WOULD_BLOCK, SendBuffer

logger = logging.getLogger(__name__)

READ_BYTES = 16384  # 40 messages; one read of a flood must not hold up the others
MAX_UNSENT = 65536  # bytes that a peer may leave unread and still have its Pings answered
CLOSE_SECONDS = 5.0  # for the peer to take what was not sent yet, and to answer a Close

_READ = 1  # libev's name for it


class State(enum.Enum):
    """How far the WebSocket is (sections 4.1, 7.1.3 and 7.1.4)."""

    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


@dataclass(frozen=True)
class Lost:
    """The end of a connection without a Close."""

    how: str
    """How it ended, for the log."""


class WebSocket(GeventWebSocket):  # type: ignore[misc]
    """One WebSocket, from the 101 to the end of the connection; the connection's handler makes it.

    One greenlet receives, and any greenlet of the server's thread may send or close.
    """

    closed: bool
    """Whether its state is no longer OPEN."""
    close_code: int | None
    """The code of the first Close; 1005: it had no code; 1006: none came. None while open."""
    close_reason: str
    """The reason of that Close, or how the connection ended; "" while open."""
    ending: str
    """How it ended, in short: `peer closed` or `server closed` with the code, `dropped`, `timed out` (a limit
    in time was passed), or `drained`; "" while open."""
    peer: str
    """The other end's address, for the log."""
    stream: object
    """The `Stream` that receives from it, for the log; None where none does."""
    awaits_turn: Any
    """The greenlet that waits in `receive` for its turn to read; None where none does."""

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
        """Take over the handler's socket.

        `idle_seconds` bounds the time for which `receive` waits and nothing comes, and that in which the peer
        reads nothing of what is sent.
        """
        # Not the base's __init__: that one reads through the HTTP handler's buffer.
        self.environ = environ
        self.handler = handler
        self.stream = None
        self.closed = False
        self.close_code = None
        self.close_reason = ""
        self.ending = ""
        self.peer = peer
        self._state = State.OPEN
        self._live = live
        self._hub = get_hub()

        self._connection = handler.socket
        self._connection.settimeout(0)
        # Else Nagle's algorithm holds a message back until the peer has acknowledged the one before it: up to
        # 44 ms on a stream of 50 a second. A UNIX socket has no such algorithm.
        with contextlib.suppress(OSError):
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = isinstance(self._connection, SSLSocket)
        # The plain socket under gevent's spares 2 us a read.
        under = self._connection if secure else self._connection._sock
        self._recv = under.recv
        self._pending = under.pending if secure else None  # what TLS has decrypted and not handed out
        self._fileno: int = under.fileno()
        self._readable = self._hub.loop.io(self._fileno, _READ)
        self._deadlines = Deadlines(idle_seconds, live.clock.now())
        self._has_received = False  # since the last look
        self._unsent = SendBuffer(under.send, self._fileno)

        self._frames = FrameReader(max_message_bytes)
        self._schedule = ReadSchedule(live.gather_ms)
        self._gathered = 0  # messages of the last read
        self._inbox: list[Any] = []  # frames.Event and Lost, the next one last
        self.awaits_turn = None
        self._awaits_data: Any = None
        self._also_sends = False
        self._has_received_end = False

    def receive(self) -> str | bytes | None:
        """Wait for the next message and return it: a text as str, a binary one as bytes.

        Returns None when the WebSocket has ended, however it did; another call raises `WebSocketError`.
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
        if self._has_received_end:
            raise WebSocketError("the WebSocket is closed")
        self._has_received_end = True
        return None

    def send(self, message: str | bytes, binary: bool | None = None) -> None:
        """Send one message and return when the socket has taken it.

        A str is sent as text and bytes as binary, unless `binary` says otherwise. Raises
        `WebSocketError` where the WebSocket is closed, or ends before all was taken.
        """
        if binary is None:
            binary = not isinstance(message, str)
        self.send_frame(message, Opcode.BINARY if binary else Opcode.TEXT)

    def send_frame(self, message: str | bytes, opcode: int) -> None:
        """Send one frame with this opcode, such as a Ping of one's own; else as `send`."""
        payload = message.encode() if isinstance(message, str) else bytes(message)
        self._send(frames.frame(opcode, payload))

    def send_frames(self, messages: Iterable[tuple[bytes, int]]) -> None:
        """Send frames together, each of a payload and its opcode; else as `send`."""
        self._send(b"".join([frames.frame(opcode, payload) for payload, opcode in messages]))

    def _send(self, data: bytes) -> None:
        self._also_sends = True
        unsent = self._unsent
        if unsent.waiting:
            unsent.wait()  # so that at most one message waits
        if self.closed:
            raise WebSocketError("the WebSocket is closed")
        unsent.write(data)
        if unsent.waiting:
            unsent.wait()
        if unsent.error is not None:
            self._notice_error()
        if self.closed and self.close_code == CloseCode.ABNORMAL:
            raise WebSocketError(self.close_reason)

    def close(self, code: int = CloseCode.NORMAL, message: str | bytes = "") -> None:
        """Send a Close with this code and reason (`message`); `receive` then returns None.

        The connection itself ends when the route's function returns. Closing twice is allowed and does
        nothing. Raises `ValueError` for a code that may not be sent.
        """
        if self.closed:
            return
        reason = message if isinstance(message, str) else bytes(message).decode(errors="replace")
        self._close(code, reason, f"server closed {code:d}")

    def drain(self, code: int, reason: str) -> None:
        """Close as `close` does, because the server ends."""
        if not self.closed:
            self._close(code, reason, "drained")

    def close_after(self, seconds: float, code: int, reason: str) -> None:
        """Close with this code and reason after so many seconds, unless `keep` is called before."""
        self._deadlines.close_after(self._live.clock.now() + seconds, code, reason)

    def keep(self) -> None:
        """Undo `close_after`."""
        self._deadlines.keep()

    def feed(self, data: bytes) -> None:
        """Act on received bytes, cut anywhere."""
        self._has_received = True
        events = self._frames.feed(data)
        self._gathered = len(events)
        if self._inbox:
            events[:0] = reversed(self._inbox)
        events.reverse()
        self._inbox = events
        if self._frames.pings:
            self._answer_pings()

    def fileno(self) -> int:
        """Return the descriptor of its socket."""
        return self._fileno

    def wake(self) -> None:
        """Let the greenlet that waits in `receive` look again. For the hub to call."""
        greenlet = self.awaits_turn or self._awaits_data
        self.awaits_turn = self._awaits_data = None
        if greenlet is not None:
            greenlet.switch()

    def look(self, now: float) -> None:
        """Close if a limit was passed by the time `now` of the clock. For the hub to call."""
        # Silence does not count while no greenlet waits in `receive`: then nobody has looked.
        sends = self._has_received or not self._is_awaited
        self._has_received = False
        overdue = self._deadlines.look(now, sends=sends, reads=self._unsent.has_progressed())
        self._notice_error()
        if overdue is None:
            return
        if overdue.code == CloseCode.ABNORMAL:
            self._lose(overdue.reason, "timed out")
        elif not self.closed:
            self._refuse(overdue.code, overdue.reason, "timed out")

    def finish(self) -> None:
        """End the connection as section 7.1 describes: a Close from each side, then the end of TCP.

        Waits for the peer at most 5 s, and reads until it has ended its side: closing a socket that holds
        unread data would reset the connection, and our Close might be lost with it.
        """
        self.close()
        self._also_sends = True  # from here on it waits for data, not for messages to gather
        gevent.sleep(0)  # a greenlet of the application that still waits in receive gets its None now
        try:
            with gevent.Timeout(CLOSE_SECONDS, False):  # type: ignore[arg-type]
                self._unsent.wait()
                if self.close_code in (
                    CloseCode.PROTOCOL_ERROR,
                    CloseCode.INVALID_DATA,
                    CloseCode.TOO_BIG,
                ):
                    self._shut_down()  # the peer's next frame cannot be found; there is none to wait for
                while self._state is not State.CLOSED:
                    if any(isinstance(event, Close | Lost) for event in self._inbox):
                        break
                    self._inbox.clear()
                    self._wait()
                    self._read()
        finally:
            self._readable.close()
            self._unsent.close()
        self._shut_down()

    @property
    def _is_awaited(self) -> bool:
        """Whether a greenlet waits in `receive`."""
        return self.awaits_turn is not None or self._awaits_data is not None

    def _wait(self) -> None:
        """Wait until there is something to read, or for the next turn, or until another greenlet wakes us."""
        if self._is_awaited:
            raise RuntimeError("another greenlet receives from this WebSocket")
        if self._live.gathering:
            self.awaits_turn = getcurrent()
            if self._also_sends:
                self._live.give_turn_soon(self)
            else:
                self._live.give_turn(self, self._schedule.ticks(self._gathered))
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
            self.feed(data)
            if self._pending is None or not self._pending():
                return

    def _write(self, data: bytes) -> None:
        self._unsent.write(data)
        self._notice_error()

    def _notice_error(self) -> None:
        if self._unsent.error is not None:
            self._lose(_sentence(self._unsent.error))

    def _answer_pings(self) -> None:
        pings, self._frames.pings = self._frames.pings, []
        for ping in pings:
            if len(self._unsent.waiting) > MAX_UNSENT:
                self._lose("it does not read the answers to its Pings")
                return
            if not self.closed:
                self._write(frames.frame(Opcode.PONG, ping))

    def _end(self, event: Close | Violation | Lost) -> None:
        if isinstance(event, Close):
            self._write(frames.close_frame(event.code, ""))
            self._has_ended(State.CLOSED, event.code, event.reason, f"peer closed {event.code:d}")
        elif isinstance(event, Violation):
            self._refuse(event.code, event.reason, f"server closed {event.code:d}")
        else:
            self._lose(event.how)

    def _refuse(self, code: int, reason: str, ending: str) -> None:
        self._warn("closed with %d, %s", code, reason)
        self._close(code, reason, ending)

    def _close(self, code: int, reason: str, ending: str) -> None:
        self._write(frames.close_frame(code, reason))
        self._has_ended(State.CLOSING, code, reason, ending)

    def _lose(self, how: str, ending: str = "dropped") -> None:
        """Give the connection up: nobody is there to send to."""
        self._unsent.give_up()
        if not self.closed:
            self._warn("connection lost, %s", how)
        self._has_ended(State.CLOSED, CloseCode.ABNORMAL, how, ending)

    def _has_ended(self, state: State, code: int, reason: str, ending: str) -> None:
        """Enter a state; code, reason and ending are those of the first end."""
        if self._state is State.CLOSED:  # the peer was gone before our Close
            return
        self._state = state
        if self.closed:
            return
        self.closed = True
        self.close_code, self.close_reason, self.ending = code, reason, ending
        if self._is_awaited:
            self._hub.loop.run_callback(self.wake)

    def _warn(self, line: str, *arguments: object) -> None:
        extra = {"stream": self.stream, "limit": "lost and closed connections"}
        logger.warning(f"%s: {line}", self.peer, *arguments, extra=extra)

    def _shut_down(self) -> None:
        # It may be gone already; and this side has nothing more to say in any case.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)


def _sentence(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
