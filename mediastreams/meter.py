"""Who is speaking, and how loud: a line for each track on the terminal, once a second."""

import math

from mediastreams import mulaw
from mediastreams.console import Console
from mediastreams.consumer import Consumer
from mediastreams.messages import Media, Track
from mediastreams.stream import Stream
from mediastreams.track import RATE

SPEAKING = -45.0  # dBFS; a quiet line has -60 and less, a voice on the phone -35 to -15
_LOWEST = -60.0
_CELLS = 24


def line(name: str, seconds: float, track: Track, level: float) -> str:
    """Return the line of a track: whose it is, how far the call is, the meter, dBFS, whether it speaks."""
    minutes, rest = divmod(int(seconds), 60)
    cells = round((max(level, _LOWEST) / -_LOWEST + 1) * _CELLS)
    loud = "silence" if level == -math.inf else f"{level:.0f} dBFS"
    speaks = "speaking" if level >= SPEAKING else ""
    bar = "#" * cells + "-" * (_CELLS - cells)
    return f"{name[:8]} {minutes}:{rest:02} {track:<8} [{bar}] {loud:>8} {speaks}".rstrip()


class Meter(Consumer):
    """Shows the level of each track's latest second of audio on `console`, until the stream ends."""

    def __init__(self, stream: Stream, console: Console) -> None:
        super().__init__(stream)
        self._console = console
        self._heard: dict[Track, bytearray] = {}

    def media(self, message: Media) -> None:
        """Gather the audio, and show its level once there is a second of it."""
        track = message.media.track
        heard = self._heard.setdefault(track, bytearray())
        heard += message.media.payload
        if len(heard) < RATE:
            return
        text = line(self.stream.name, self.stream.seconds, track, mulaw.level(heard))
        self._console.show((self, track), text)
        heard.clear()

    def stop(self) -> None:
        """Remove the lines."""
        for track in self._heard:
            self._console.remove((self, track))
