"""Keeps a track's audio until it is recognised, and from one session at a provider to the next.

A provider ends a session after some minutes, or the network does. Audio that has no final text by then is
sent again in the next session, so that no word between the two is lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from mediastreams.audio.timeline import RATE
from mediastreams.exceptions import MediaStreamsError

_MIN_CHUNK = 0.1  # seconds: providers want 100 ms a message
_MAX_CHUNK = 0.5  # seconds: Amazon takes 1 s of audio a message, Google 25 kB
_MAX_KEPT = 30  # seconds
_MAX_SENT_AGAIN = 10  # seconds

# Receives a text, whether it is final, and where it begins and ends, in seconds of the track's audio.
OnText = Callable[[str, bool, float, float], None]


class SessionError(MediaStreamsError):
    """A session that a provider has refused or ended; the sentence says why."""


class Backlog:
    """One track's audio from the last final text on. Only the event loop's thread may use it."""

    rate: int
    """The audio's sample rate: mu-law, a byte a sample."""
    dropped: int
    """How many samples were never sent, because the provider did not take them in time."""
    has_ended: bool
    """Whether the track has ended."""
    has_final: bool
    """Whether the current session has given a final text."""

    def __init__(self, on_text: OnText, rate: int = RATE) -> None:
        self.rate = rate
        self.dropped = 0
        self.has_ended = self.has_final = False
        self._on_text = on_text
        self._changed = asyncio.Event()
        self._kept = bytearray()
        # Positions are samples from the beginning of the track.
        self._kept_from = 0
        self._sent_to = 0
        self._session_from = 0
        self._session_number = 0
        self._session_until = 0.0  # monotonic seconds

    def feed(self, mulaw: bytes) -> None:
        """Keep audio to be sent; beyond 30 s the oldest is dropped."""
        self._kept += mulaw
        excess = len(self._kept) - _MAX_KEPT * self.rate
        if excess > 0:
            self._forget(excess)
            if self._kept_from > self._sent_to:
                self.dropped += self._kept_from - self._sent_to
                if self._sent_to == self._session_from:  # nothing was sent yet: it begins later
                    self._session_from = self._kept_from
                else:
                    self._session_until = 0.0
                self._sent_to = self._kept_from
        self._changed.set()

    def finish(self) -> None:
        """End the track: no more audio comes."""
        self.has_ended = True
        self._changed.set()

    async def wait_for_audio(self, seconds: float = 0.0) -> bool:
        """Wait for so much unsent audio, or the end of track or session; return whether there is audio."""
        least, session = max(seconds * self.rate, 1), self._session_number
        while self._unsent() < least and not self.has_ended and session == self._session_number:
            self._changed.clear()
            await self._changed.wait()
        return self._unsent() > 0

    def take(self, seconds: float = _MAX_KEPT) -> bytes:
        """Return unsent audio, at most so many seconds of it, which then counts as sent."""
        begin = self._sent_to - self._kept_from
        audio = bytes(self._kept[begin : begin + int(seconds * self.rate)])
        self._sent_to += len(audio)
        return audio

    def begin(self, seconds: float) -> None:
        """Begin a session of at most `seconds`, with the audio that has no final text yet."""
        self.rewind()
        self._session_number += 1
        self._session_from = self._kept_from
        self._session_until = time.monotonic() + seconds
        self.has_final = False
        self._changed.set()

    def rewind(self) -> None:
        """Send the audio that has no final text yet again, at most the latest 10 s of it."""
        self._forget(max(self._sent_to - self._kept_from - _MAX_SENT_AGAIN * self.rate, 0))
        self._sent_to = self._kept_from

    def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the session's audio as it comes, 100 to 500 ms at a time, until its time is over.

        It is also over when audio is dropped that was not sent: texts behind that would have a wrong time.
        """
        return self._chunks(self._session_number)  # of this session, whenever the iteration begins

    async def _chunks(self, session: int) -> AsyncIterator[bytes]:
        # gRPC still iterates after its session has failed, which must take no audio from the next session.
        while (
            await self.wait_for_audio(_MIN_CHUNK)
            and session == self._session_number
            and time.monotonic() < self._session_until
        ):
            yield self.take(_MAX_CHUNK)

    def add_text(self, text: str, final: bool, start: float, end: float) -> None:
        """Hand on a text, in seconds of the session; forget the audio of a final one.

        Raises `SessionError` when the provider's values cannot be used.
        """
        if not (isinstance(text, str) and 0 <= start <= end):  # also false for NaN
            raise SessionError("a text without its time")
        end = min(end, (self._sent_to - self._session_from) / self.rate)
        start = min(start, end)
        if final:
            self.has_final = True
            self._forget(max(self._session_from + int(end * self.rate) - self._kept_from, 0))
        before = self._session_from / self.rate
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair could not be handed on
        self._on_text(text.strip(), final, before + start, before + end)

    def _unsent(self) -> int:
        return self._kept_from + len(self._kept) - self._sent_to

    def _forget(self, samples: int) -> None:
        del self._kept[:samples]
        self._kept_from += samples
