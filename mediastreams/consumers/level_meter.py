"""Shows who is speaking, and how loud: a line for each track on the terminal, once a second."""

import math
import time

from mediastreams.audio import mulaw
from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Media, Track
from mediastreams.streams.stream import Stream
from mediastreams.terminal import Console

SPEAKING = -45.0  # dBFS; a quiet line has -60 and less, a voice on the phone -35 to -15
_LOWEST = -60.0
_CELLS = 24
_EVERY = 0.95  # seconds; consumers are called each 0.2


def line(name: str, seconds: float, track: Track, level: float) -> str:
    """Return a track's line: stream, time in the call, track, meter, `level` in dBFS, whether it speaks."""
    minutes, rest = divmod(int(seconds), 60)
    cells = round((max(level, _LOWEST) / -_LOWEST + 1) * _CELLS)
    loud = "silence" if level == -math.inf else f"{level:.0f} dBFS"
    speaks = "speaking" if level >= SPEAKING else ""
    bar = "#" * cells + "-" * (_CELLS - cells)
    return f"{name[:8]} {minutes}:{rest:02} {track:<8} [{bar}] {loud:>8} {speaks}".rstrip()


class LevelMeter(Consumer):
    """Shows the level of each track's latest second of audio on `console`, until the stream ends.

    A stream whose format is not decodable is not shown.
    """

    def __init__(self, stream: Stream, console: Console) -> None:
        super().__init__(stream)
        self._console = console
        self._latest: dict[Track, bytearray] = {}
        self._shown_at = time.monotonic()

    def media(self, message: Media) -> None:
        """Keep the audio, at most a second of it."""
        if not self.stream.media_format.is_decodable:
            return
        latest = self._latest.setdefault(message.media.track, bytearray())
        latest += message.media.payload
        del latest[: -self.stream.rate]

    def flush(self) -> None:
        """Show the levels, once a second; a track of which nothing came is silent."""
        now = time.monotonic()
        if now - self._shown_at < _EVERY:
            return
        self._shown_at = now
        for track, latest in self._latest.items():
            text = line(self.stream.name, self.stream.seconds, track, mulaw.level(latest))
            self._console.show((self, track), text)
            latest.clear()

    def stop(self) -> None:
        """Remove the lines."""
        for track in self._latest:
            self._console.remove((self, track))
