"""Twilio's buffer of the audio that a server sends, which is played in real time.

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages, "Send WebSocket messages to
Twilio".
"""

from collections import deque
from collections.abc import Callable

from mediastreams.audio.timeline import RATE

MAX_SECONDS = 600  # of audio

# Receives a position, in samples from the beginning of the stream, and the mu-law that is played there.
OnPlayed = Callable[[int, bytes], None]


class Buffer:
    """One bidirectional stream's buffer: mu-law and marks, in the order in which they came.

    Every method takes the time, `now`, in seconds since the beginning of the stream, and first plays what is
    due by then.
    """

    def __init__(self, on_played: OnPlayed, rate: int = RATE) -> None:
        self._rate = rate  # samples a second
        self._on_played = on_played
        # Audio, as views that can be cut without a copy, and the names of marks.
        self._queue: deque[memoryview | str] = deque()
        self._buffered = 0  # bytes of audio
        self._position = 0  # of the first sample in the queue
        self._returned: list[str] = []

    def media(self, payload: bytes, now: float) -> int:
        """Buffer audio; return how many bytes of it are discarded, because 10 minutes are buffered."""
        self._play(now)
        if not self._buffered:
            self._position = max(self._position, round(now * self._rate))
        kept = memoryview(payload)[: MAX_SECONDS * self._rate - self._buffered]
        if kept:
            self._queue.append(kept)
            self._buffered += len(kept)
        return len(payload) - len(kept)

    def mark(self, name: str, now: float) -> None:
        """Buffer a mark."""
        self._play(now)
        self._queue.append(name)

    def clear(self, now: float) -> None:
        """Drop the buffered audio; the marks among it are to be returned."""
        self._play(now)
        self._returned += [part for part in self._queue if isinstance(part, str)]
        self._queue.clear()
        self._buffered = 0

    def play(self, now: float) -> list[str]:
        """Return the marks that are to be returned by now, each once: played, or dropped by `clear`."""
        self._play(now)
        returned, self._returned = self._returned, []
        return returned

    def _play(self, now: float) -> None:
        due = round(now * self._rate) - self._position
        while self._queue:
            part = self._queue[0]
            if isinstance(part, str):
                self._returned.append(part)
            elif due <= 0:
                return
            else:
                played, rest = part[:due], part[due:]
                self._on_played(self._position, bytes(played))
                self._position += len(played)
                self._buffered -= len(played)
                due -= len(played)
                if rest:
                    self._queue[0] = rest
                    return
            self._queue.popleft()
