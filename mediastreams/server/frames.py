"""RFC 6455 on bytes: what a client sends, as messages; what a server sends, as frames. No I/O.

    bytes -> FrameReader.feed -> str | bytes | Close | Violation

Most of what Twilio sends is one whole, masked text frame of some 400 bytes: `feed` takes these on a short
road. Everything else (fragments, frames that a read has cut, control frames) goes the long one, which acts
on each byte as it comes: a violation is known before the rest of the message has arrived.
"""

import codecs
import struct
from dataclasses import dataclass

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which websockets has no wheel: the same in Python, by one big XOR
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# The header's bits (section 5.2).
_FIN, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
# What the frames of the short road begin with: a whole text, masked, its length in 16 bits.
_TEXT_OF_16 = (_FIN | TEXT) << 8 | _MASKED | 126
_START = struct.Struct("!HH").unpack_from
_CONTROL = 0x8
_MOST_IN_CONTROL = 125

NORMAL, GOING_AWAY, PROTOCOL_ERROR, INVALID_DATA, POLICY, TOO_BIG, INTERNAL_ERROR = (
    1000, 1001, 1002, 1007, 1008, 1009, 1011,
)  # fmt: skip
# These never stand in a frame: a Close without a code, and no Close at all.
NO_STATUS, ABNORMAL = 1005, 1006
# Section 7.4, and what IANA has registered since.
_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


@dataclass(frozen=True)
class Close:
    """The peer's Close: its code, 1005 where it gave none, and its reason."""

    code: int
    reason: str


@dataclass(frozen=True)
class Violation:
    """What the peer did against the protocol or a limit: the code to close with, and why."""

    code: int
    reason: str


Event = str | bytes | Close | Violation


class _ViolationError(Exception):
    """Carries a `Violation` out of the long road."""


def _violation(reason: str, code: int = PROTOCOL_ERROR) -> _ViolationError:
    return _ViolationError(Violation(code, reason))


class FrameReader:
    """Reads the frames of one client: `feed` it what was received, in any pieces.

    `max_message_bytes` bounds a message, in one frame or in many. A larger one is a violation as soon as
    a header announces it; no memory is reserved for what a header says. `pings` has the payloads of the
    Pings that came and are to be answered.
    """

    __slots__ = (
        "_decoder",
        "_ended",
        "_events",
        "_fin",
        "_header",
        "_mask",
        "_max",
        "_opcode",
        "_parts",
        "_remaining",
        "_size",
        "pings",
    )

    def __init__(self, max_message_bytes: int) -> None:
        self.pings: list[bytes] = []
        self._events: list[Event] = []
        self._max = max_message_bytes
        self._ended = False
        # The start of a frame that cannot be acted on yet: a header, or a control frame; 131 bytes at most.
        self._header = b""
        # The message that is being received: its opcode (None between messages), its length so far as
        # announced, and what of it was unmasked, with the decoder of a text.
        self._opcode: int | None = None
        self._size = 0
        self._parts: list[str | bytes] = []
        self._decoder: codecs.IncrementalDecoder | None = None
        # Its current frame: whether that is the last one, the bytes to come, and the mask for the next.
        self._fin = False
        self._remaining = 0
        self._mask = b""

    def feed(self, data: bytes) -> list[Event]:
        """Return the messages that `data` completes, in their order; Pings are added to `pings`.

        A Close or a Violation is the last event; what follows it is not read.
        """
        events: list[Event] = []
        self._events = events
        if self._header:
            data = self._header + data
            self._header = b""
        at, end = 0, len(data)
        while at < end and not self._ended:
            begin = at + 8
            if begin < end and self._opcode is None:
                start, length = _START(data, at)
                stop = begin + length
                if start == _TEXT_OF_16 and 126 <= length <= self._max and stop <= end:
                    try:
                        text = apply_mask(data[begin:stop], data[at + 4 : begin]).decode()
                    except UnicodeDecodeError:
                        self._end(Violation(INVALID_DATA, "text that is not UTF-8"))
                        break
                    events.append(text)
                    at = stop
                    continue
            try:
                at = self._payload(data, at) if self._remaining else self._frame(data, at)
            except _ViolationError as error:
                self._end(error.args[0])
        return events

    def _end(self, event: Close | Violation) -> None:
        self._ended = True
        self._parts = []
        self._events.append(event)

    def _frame(self, data: bytes, at: int) -> int:
        """Read a header, and a control frame whole; return where to go on (section 5.2)."""
        first, opcode = data[at], data[at] & _OPCODE
        if first & _RESERVED:
            raise _violation("reserved bits are set")
        if opcode & _CONTROL:
            if opcode > PONG:
                raise _violation(f"reserved opcode {opcode:#x}")
            if not first & _FIN:
                raise _violation("a fragmented control frame")
        elif opcode > BINARY:
            raise _violation(f"reserved opcode {opcode:#x}")
        elif opcode == CONTINUATION and self._opcode is None:
            raise _violation("a continuation of nothing")
        elif opcode != CONTINUATION and self._opcode is not None:
            raise _violation("a new message inside a message")
        if len(data) - at < 2:
            return self._keep(data, at)
        second = data[at + 1]
        if not second & _MASKED:
            raise _violation("an unmasked frame")
        length, begin = second & _LENGTH, at + 2
        if length > _MOST_IN_CONTROL:
            if opcode & _CONTROL:
                raise _violation("a control frame of more than 125 bytes")
            begin += 2 if length == 126 else 8
            if len(data) < begin:
                return self._keep(data, at)
            least = 126 if length == 126 else 1 << 16
            length = int.from_bytes(data[at + 2 : begin])
            if length < least or length >= 1 << 63:
                raise _violation("a length that is not written as section 5.2 says")
        if not opcode & _CONTROL and self._size + length > self._max:
            raise _violation(f"a message of more than {self._max} bytes", TOO_BIG)
        begin += 4
        if len(data) < begin + (length if opcode & _CONTROL else 0):
            return self._keep(data, at)
        mask = data[begin - 4 : begin]
        if opcode & _CONTROL:
            self._control(opcode, apply_mask(data[begin : begin + length], mask))
            return begin + length
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        self._size += length
        self._fin, self._remaining, self._mask = bool(first & _FIN), length, mask
        if not length:
            self._frame_is_complete()
        return begin

    def _keep(self, data: bytes, at: int) -> int:
        self._header = data[at:]
        return len(data)

    def _payload(self, data: bytes, at: int) -> int:
        """Unmask what has come of a data frame; return where it ends."""
        piece = data[at : at + self._remaining]
        clear = apply_mask(piece, self._mask)
        turn = len(piece) % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        self._remaining -= len(piece)
        self._parts.append(clear if self._decoder is None else self._decode(clear))
        if not self._remaining:
            self._frame_is_complete()
        return at + len(piece)

    def _frame_is_complete(self) -> None:
        if not self._fin:
            return
        if self._decoder is None:
            self._events.append(b"".join(self._parts))  # type: ignore[arg-type]
        else:
            self._parts.append(self._decode(b"", final=True))
            self._events.append("".join(self._parts))  # type: ignore[arg-type]
        self._opcode, self._decoder, self._parts, self._size = None, None, [], 0

    def _decode(self, clear: bytes, *, final: bool = False) -> str:
        assert self._decoder is not None
        try:
            return self._decoder.decode(clear, final)
        except UnicodeDecodeError:
            raise _violation("text that is not UTF-8", INVALID_DATA) from None

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.pings.append(payload)
        elif opcode == CLOSE:
            self._end(_close(payload))


def _close(payload: bytes) -> Close:
    """Return what a Close frame says (section 5.5.1)."""
    if not payload:
        return Close(NO_STATUS, "")
    if len(payload) == 1:
        raise _violation("a Close with half a code")
    code = int.from_bytes(payload[:2])
    if code not in _CODES:
        raise _violation(f"close code {code}, which may not be sent")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise _violation("a reason that is not UTF-8", INVALID_DATA) from None


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one whole frame of a server: not masked, not fragmented."""
    length = len(payload)
    if length < 126:
        return bytes((_FIN | opcode, length)) + payload
    if length < 1 << 16:
        return struct.pack("!BBH", _FIN | opcode, 126, length) + payload
    return struct.pack("!BBQ", _FIN | opcode, 127, length) + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a Close frame; a `code` of 1005 leaves it empty, and a reason is cut to its 123 bytes.

    Raises `ValueError` where the code may not be sent.
    """
    if code == NO_STATUS:
        return frame(CLOSE, b"")
    if code not in _CODES:
        raise ValueError(f"close code {code} may not be sent (RFC 6455, section 7.4)")
    cut = reason.encode()[: _MOST_IN_CONTROL - 2].decode(errors="ignore").encode()
    return frame(CLOSE, struct.pack("!H", code) + cut)
