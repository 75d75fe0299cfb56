"""Talking back: the messages that a server sends on a bidirectional stream, and what becomes of its marks.

A stream is bidirectional where its TwiML has it in `<Connect>`. The `start` message does not tell; so the
TwiML says it with a `<Parameter name="bidirectional" value="true"/>`, as `twiml/connect-stream.xml` does. To
a stream without it nothing is sent: what a `<Start><Stream>` is sent may end it (Twilio's 31924).

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages, "Send WebSocket messages to
Twilio".
"""

import time
from collections import deque
from collections.abc import Callable

from mediastreams.messages import SendClear, SendMark, SendMarkMetadata, SendMedia, SendMediaMetadata
from mediastreams.track import RATE

PARAMETER, VALUE = "bidirectional", "true"

# With these a file begins, and hardly ever a sound; Twilio would play them as noise.
_FILE_HEADERS = (b"RIFF", b"RIFX", b".snd", b"OggS", b"fLaC", b"ID3")


class SendError(Exception):
    """What cannot be sent to Twilio: the sentence says why."""


class SentMark:
    """A mark that was sent: its `name`, and its `outcome`.

    That is "" until Twilio has returned it; then `played`, or `cleared`: the audio before it was dropped by
    `clear`. Twilio returns both alike; what tells them apart is the time. Where the audio before the mark
    would have been played by the time `clear` was sent, it was; both take the same way to Twilio.
    """

    __slots__ = ("_played_at", "name", "outcome")

    def __init__(self, name: str, played_at: float) -> None:
        self.name = name
        self.outcome = ""
        self._played_at = played_at

    def __repr__(self) -> str:
        return f"SentMark({self.name!r}, {self.outcome!r})"


class Playback:
    """What one stream is given to play; `Stream.playback` is it, once a bidirectional stream has started.

    `send` takes a message's JSON. Every method may raise what it raises, which for a WebSocket is
    `WebSocketError`: the stream has ended.
    """

    __slots__ = ("_clear", "_marks", "_played_at", "_send", "_stream_sid")

    def __init__(self, stream_sid: str, send: Callable[[str], None]) -> None:
        self._stream_sid = stream_sid
        self._send = send
        self._clear = SendClear(stream_sid).to_json()
        self._played_at = 0.0  # on the monotonic clock: when what was sent has been played
        self._marks: deque[tuple[SentMark, bool]] = deque()  # those that wait, and whether clear drops them

    @property
    def seconds(self) -> float:
        """How many seconds of what was sent are still to be played; Twilio buffers 600 at the most."""
        return max(self._played_at - time.monotonic(), 0.0)

    def media(self, payload: bytes) -> None:
        """Play mu-law at 8 kHz, of any length, after what was sent before.

        Raises `SendError` where `payload` is not bytes, or begins with the header of a sound file.
        """
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise SendError(f"media must be bytes of mu-law at 8 kHz, not {type(payload).__name__}")
        payload = bytes(payload)
        if payload.startswith(_FILE_HEADERS):
            raise SendError("media must be mu-law without a file's header, which Twilio plays as noise")
        if not payload:
            return
        self._send(SendMedia(self._stream_sid, SendMediaMetadata(payload)).to_json())
        self._played_at = max(self._played_at, time.monotonic()) + len(payload) / RATE

    def mark(self, name: str) -> SentMark:
        """Ask Twilio to return a mark of this name, once what was sent before was played or cleared.

        Names may be used again. Raises `SendError` where `name` is no text, or has nothing in it.
        """
        if not isinstance(name, str) or not name:
            raise SendError(f"a mark's name must be a text, not {name!r}")
        try:
            message = SendMark(self._stream_sid, SendMarkMetadata(name)).to_json()
        except UnicodeEncodeError:
            raise SendError(f"a mark's name must be a text that has UTF-8, not {name!r}") from None
        mark = SentMark(name, self._played_at)
        self._marks.append((mark, False))  # before it is sent, which may take its time
        self._send(message)
        return mark

    def clear(self) -> None:
        """Drop what was sent and is not played yet. The marks that wait come back at once."""
        now = time.monotonic()
        self._marks = deque((mark, drops or mark._played_at > now) for mark, drops in self._marks)
        self._played_at = now
        self._send(self._clear)

    def returned(self, name: str) -> SentMark | None:
        """Take a mark that Twilio has returned; None for one that was not sent, or was returned before."""
        for i, (mark, drops) in enumerate(self._marks):
            if mark.name == name:
                mark.outcome = "cleared" if drops else "played"
                del self._marks[i]
                return mark
        return None
