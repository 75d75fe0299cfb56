"""Sends audio, marks and `clear` on a bidirectional stream, and matches the marks that Twilio returns.

A stream is bidirectional where its TwiML has it in `<Connect>`. The `start` message does not tell; so the
TwiML says it with a `<Parameter name="bidirectional" value="true"/>`, as `twiml/connect-stream.xml` does.
Nothing is sent to a stream without it: a message to a `<Start><Stream>` may end it (Twilio's 31924).

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages, from "Send" on.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol.messages import (
    MediaFormat,
    SendClear,
    SendMark,
    SendMarkMetadata,
    SendMedia,
    SendMediaMetadata,
)

PARAMETER, VALUE = "bidirectional", "true"

_MAX_MARKS = 1000  # that wait: a peer may return none


class SendError(MediaStreamsError):
    """What cannot be sent to Twilio; the sentence says why."""


@dataclass(eq=False)
class SentMark:
    """One mark that was sent.

    Twilio returns played and cleared marks alike; the time tells them apart. A mark was played where the
    audio before it ends before `clear` is sent: both take the same way to Twilio.
    """

    name: str
    """Its name, not necessarily the only one of this name."""
    played_at: float
    """When the audio before it has been played, on the monotonic clock."""
    is_cleared: bool = False
    """Whether `clear` was sent before `played_at`."""
    outcome: str = ""
    """`played` or `cleared`; "" until Twilio has returned the mark."""


class Playback:
    """What one bidirectional stream is given to play: `Stream.playback`.

    `send` sends a message's JSON. What it raises, every method may raise: `WebSocketError` where the stream
    has ended. For the route's greenlet.
    """

    returned_mark: SentMark | None = None
    """The mark that came back last; None before, and where it is not among the latest 1,000 that wait."""

    def __init__(
        self, stream_sid: str, send: Callable[[str], None], media_format: MediaFormat | None = None
    ) -> None:
        """`media_format` is the stream's; None is mu-law at 8 kHz."""
        self._stream_sid = stream_sid
        self._format = media_format or MediaFormat()
        self._is_decodable = self._format.is_decodable
        self._send = send
        self._played_at = 0.0  # on the monotonic clock: when what was sent has been played
        self._marks: deque[SentMark] = deque(maxlen=_MAX_MARKS)  # that wait

    @property
    def seconds(self) -> float:
        """How many seconds of what was sent are still to be played; Twilio buffers at most 600."""
        return max(self._played_at - time.monotonic(), 0.0)

    def media(self, payload: bytes) -> None:
        """Play mu-law at the stream's rate, of any length, after what was sent before.

        Raises `SendError` where `payload` is not bytes, or begins with the header of a WAV file, and where
        the stream's format is not mu-law: how long its audio plays is then not known.
        """
        if not self._is_decodable:
            raise SendError(f"media can be sent as mu-law only, and this stream is {self._format}")
        if type(payload) is not bytes:  # what is heard is; the rest takes a third of the time
            if not isinstance(payload, bytes | bytearray | memoryview):
                raise SendError(f"media must be bytes of mu-law, not {type(payload).__name__}")
            payload = bytes(payload)
        if payload.startswith(b"RIFF") and payload[8:12] == b"WAVE":
            raise SendError("media must be mu-law without a file's header, which Twilio plays as noise")
        if not payload:
            return
        # Before it is sent: meanwhile another greenlet may send a mark or `clear`, which come behind it.
        self._played_at = max(self._played_at, time.monotonic()) + len(payload) / self._format.sample_rate
        self._send(SendMedia(self._stream_sid, SendMediaMetadata(payload)).to_json())

    def mark(self, name: str) -> SentMark:
        """Ask Twilio to return a mark of this name when the audio sent before it was played or cleared.

        A name may be used again. Raises `SendError` where it is not text, or empty.
        """
        if not isinstance(name, str) or not name:
            raise SendError(f"a mark's name must be a text, not {name!r}")
        try:
            message = SendMark(self._stream_sid, SendMarkMetadata(name)).to_json()
        except UnicodeEncodeError:
            raise SendError(f"a mark's name must be a text that has UTF-8, not {name!r}") from None
        mark = SentMark(name, self._played_at)
        self._marks.append(mark)  # before it is sent: it may come back before `send` returns
        self._send(message)
        return mark

    def clear(self) -> None:
        """Drop what was sent and is not played yet. Twilio returns the marks that wait at once."""
        now = time.monotonic()
        for mark in self._marks:
            mark.is_cleared = mark.is_cleared or mark.played_at > now
        self._played_at = now
        self._send(SendClear(self._stream_sid).to_json())

    def returned(self, name: str) -> SentMark | None:
        """Match a mark that Twilio has returned; return it as `returned_mark`."""
        mark = next((mark for mark in self._marks if mark.name == name), None)
        if mark is not None:
            mark.outcome = "cleared" if mark.is_cleared else "played"
            self._marks.remove(mark)
        self.returned_mark = mark
        return mark
