"""What Twilio does with the audio that a server sends: it buffers it, and plays it in real time.

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages, "Send WebSocket messages to
Twilio".
"""

from collections import deque
from collections.abc import Callable

from mediastreams.audio.timeline import RATE

MOST = 600 * RATE  # bytes: Twilio buffers 10 minutes

# A place, in samples from the beginning of the stream, and the mu-law that is played there.
Heard = Callable[[int, bytes], None]


class Buffer:
    """One bidirectional stream's buffer: audio and marks, in the order in which they came.

    Every method takes the time, `now`, in seconds since the beginning of the stream, and first plays what is
    due by then. `heard` gets what is played.
    """

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        # Audio, as views that can be cut without a copy, and the names of marks.
        self._queue: deque[memoryview | str] = deque()
        self._waiting = 0  # bytes of audio
        self._place = 0  # of the first sample that waits
        self._returned: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be played, and no mark."""
        return not self._queue

    def media(self, payload: bytes, now: float) -> int:
        """Put audio behind what waits; return how many bytes of it are discarded, because 10 minutes wait."""
        self._play(now)
        if not self._waiting:
            self._place = max(self._place, round(now * RATE))
        taken = memoryview(payload)[: MOST - self._waiting]
        if taken:
            self._queue.append(taken)
            self._waiting += len(taken)
        return len(payload) - len(taken)

    def mark(self, name: str, now: float) -> None:
        """Put a mark behind what waits."""
        self._play(now)
        self._queue.append(name)

    def clear(self, now: float) -> None:
        """Drop the audio that waits; the marks among it are returned."""
        self._play(now)
        self._returned += [part for part in self._queue if isinstance(part, str)]
        self._queue.clear()
        self._waiting = 0

    def play(self, now: float) -> list[str]:
        """Return the marks that are to be returned by now, each once: played, or dropped by `clear`."""
        self._play(now)
        returned, self._returned = self._returned, []
        return returned

    def _play(self, now: float) -> None:
        due = round(now * RATE) - self._place
        while self._queue:
            part = self._queue[0]
            if isinstance(part, str):
                self._returned.append(part)
            elif due <= 0:
                return
            else:
                played, rest = part[:due], part[due:]
                self._heard(self._place, bytes(played))
                self._place += len(played)
                self._waiting -= len(played)
                due -= len(played)
                if rest:
                    self._queue[0] = rest
                    return
            self._queue.popleft()
