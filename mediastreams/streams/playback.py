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

from mediastreams.audio.timeline import RATE
from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol.messages import SendClear, SendMark, SendMarkMetadata, SendMedia, SendMediaMetadata

PARAMETER, VALUE = "bidirectional", "true"

_MOST_MARKS = 1000  # that wait; a peer may return none


class SendError(MediaStreamsError):
    """What cannot be sent to Twilio: the sentence says why."""


class SentMark:
    """A mark that was sent: its `name`, and its `outcome`.

    That is "" until Twilio has returned it; then `played`, or `cleared`: the audio before it was dropped by
    `clear`. Twilio returns both alike; what tells them apart is the time. Where the audio before the mark
    would have been played by the time `clear` was sent, it was; both take the same way to Twilio.

    `played_at` is when that is, on the monotonic clock, and `is_cleared` whether `clear` was sent before it.
    """

    __slots__ = ("is_cleared", "name", "outcome", "played_at")

    def __init__(self, name: str, played_at: float) -> None:
        self.name = name
        self.outcome = ""
        self.played_at = played_at
        self.is_cleared = False

    def __repr__(self) -> str:
        return f"SentMark({self.name!r}, {self.outcome!r})"


class Playback:
    """What one stream is given to play; `Stream.playback` is it, once a bidirectional stream has started.

    `send` takes a message's JSON. Every method may raise what it raises, which for a WebSocket is
    `WebSocketError`: the stream has ended.

    `returned_mark` is the mark that has come back last; None before, and where it was not one of those that
    wait. Of these the latest 1,000 are known.
    """

    __slots__ = ("_clear", "_marks", "_played_at", "_send", "_stream_sid", "returned_mark")

    def __init__(self, stream_sid: str, send: Callable[[str], None]) -> None:
        self._stream_sid = stream_sid
        self._send = send
        self._clear = SendClear(stream_sid).to_json()
        self._played_at = 0.0  # on the monotonic clock: when what was sent has been played
        self._marks: deque[SentMark] = deque(maxlen=_MOST_MARKS)  # those that wait
        self.returned_mark: SentMark | None = None

    @property
    def seconds(self) -> float:
        """How many seconds of what was sent are still to be played; Twilio buffers 600 at the most."""
        return max(self._played_at - time.monotonic(), 0.0)

    def media(self, payload: bytes) -> None:
        """Play mu-law at 8 kHz, of any length, after what was sent before.

        Raises `SendError` where `payload` is not bytes, or begins with the header of a WAV file.
        """
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise SendError(f"media must be bytes of mu-law at 8 kHz, not {type(payload).__name__}")
        payload = bytes(payload)
        if payload[:4] == b"RIFF" and payload[8:12] == b"WAVE":
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
        self._marks.append(mark)  # before it is sent, which may take its time
        self._send(message)
        return mark

    def clear(self) -> None:
        """Drop what was sent and is not played yet. The marks that wait come back at once."""
        now = time.monotonic()
        for mark in self._marks:
            mark.is_cleared = mark.is_cleared or mark.played_at > now
        self._played_at = now
        self._send(self._clear)

    def returned(self, name: str) -> SentMark | None:
        """Take a mark that Twilio has returned, and return it as `returned_mark` is then."""
        self.returned_mark = next((mark for mark in self._marks if mark.name == name), None)
        if self.returned_mark is not None:
            self.returned_mark.outcome = "cleared" if self.returned_mark.is_cleared else "played"
            self._marks.remove(self.returned_mark)
        return self.returned_mark
