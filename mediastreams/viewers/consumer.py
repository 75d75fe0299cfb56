"""The consumers that let the page know of a stream. Nothing here waits for a page."""

import time
from collections.abc import Callable

from mediastreams.audio import mulaw
from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Dtmf, Mark, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.viewers.call import LEVEL_SECONDS, Call
from mediastreams.viewers.messages import PEAKS_PER_SECOND

_METER_SECONDS = 0.2  # of audio in a level

# The peak of each mu-law code, in percent of full scale: the larger of two has the larger percentage.
_PERCENT = bytes(
    round(abs(int.from_bytes(mulaw.decode(bytes([code])), "little", signed=True)) * 100 / 32768)
    for code in range(256)
)


class Conversation(Consumer):
    """Notes what is said, the keys and the marks of its stream. Each stream has one; it gets no audio."""

    def __init__(self, stream: Stream, call_of: Callable[[Stream], Call]) -> None:
        super().__init__(stream)
        self._call = call_of(stream)

    def transcript(self, transcript: Transcript) -> None:
        """Note a text."""
        self._call.note_transcript(transcript)

    def dtmf(self, message: Dtmf) -> None:
        """Note a key and when it was pressed."""
        self._call.note_digit(message.dtmf.shown, self.stream.seconds)

    def mark(self, message: Mark) -> None:
        """Note a mark and when it came back."""
        self._call.note_mark(message.mark.name, self.stream.seconds)


class Meter(Consumer):
    """Measures the level of each track's last 200 ms, while somebody's page shows the call."""

    def __init__(self, stream: Stream, call: Call) -> None:
        super().__init__(stream)
        self._call = call
        self._latest: dict[Track, bytearray] = {}

    def audio(self, track: Track, _position: int, payload: bytes) -> None:
        """Keep the audio."""
        self._latest.setdefault(track, bytearray()).extend(payload)

    def flush(self) -> None:
        """Measure."""
        samples = int(_METER_SECONDS * self.stream.rate)
        until = time.monotonic() + LEVEL_SECONDS
        for track, latest in self._latest.items():
            if latest:
                self._call.levels[track] = mulaw.level(latest[-samples:]), until
                latest.clear()


class Sound(Consumer):
    """Hands on a stream's audio and its peaks, while somebody has selected the call or listens to it."""

    def __init__(self, stream: Stream, call: Call) -> None:
        super().__init__(stream)
        self._call = call
        self._parts: dict[Track, list[tuple[int, bytearray]]] = {}
        self._peaks: dict[Track, Peaks] = {}

    def audio(self, track: Track, position: int, payload: bytes) -> None:
        """Add the audio to what it continues."""
        parts = self._parts.setdefault(track, [])
        if parts and parts[-1][0] + len(parts[-1][1]) == position:
            parts[-1][1].extend(payload)
        else:
            parts.append((position, bytearray(payload)))
        peaks = self._peaks.get(track)
        if peaks is None:
            first = min(timeline.first for timeline in list(self.stream.tracks.values()))
            peaks = self._peaks[track] = Peaks(self.stream.rate, first)
        peaks.add(position, payload)

    def flush(self) -> None:
        """Hand on what has come."""
        for track, parts in self._parts.items():
            for position, payload in parts:
                self._call.tell_audio(track, position, bytes(payload))
            parts.clear()
            for start, values in self._peaks[track].take():
                self._call.tell_wave(track, start, values)

    def stop(self) -> None:
        """Hand on the rest."""
        self.flush()


class Peaks:
    """The peaks of one track, each of 20 ms, counted from the position `first`."""

    def __init__(self, rate: int, first: int) -> None:
        self._rate = rate
        self._first = first
        self._runs: list[tuple[int, list[int]]] = []  # each with the index of its first peak
        self._is_whole = True  # whether all audio of the last peak has come

    def add(self, position: int, payload: bytes) -> None:
        """Add audio."""
        percents = payload.translate(_PERCENT)
        begin = position - self._first
        end = begin + len(percents)
        at = begin
        while at < end:
            index = at * PEAKS_PER_SECOND // self._rate
            behind = -(-(index + 1) * self._rate // PEAKS_PER_SECOND)  # where the next peak begins
            self._put(index, max(percents[at - begin : behind - begin]))
            at = behind
        self._is_whole = at == end

    def take(self) -> list[tuple[int, list[int]]]:
        """Return the peaks that are whole, as runs without a gap, each with the index of its first."""
        runs, self._runs = self._runs, []
        if runs and not self._is_whole:
            start, peaks = runs[-1]
            self._runs = [(start + len(peaks) - 1, [peaks.pop()])]
        return [run for run in runs if run[1] and run[0] >= 0]

    def _put(self, index: int, peak: int) -> None:
        if self._runs:
            start, peaks = self._runs[-1]
            if index == start + len(peaks):
                peaks.append(peak)
                return
            if index == start + len(peaks) - 1:
                peaks[-1] = max(peaks[-1], peak)
                return
        self._runs.append((index, [peak]))
