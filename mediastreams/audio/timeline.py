"""Positions audio on the call's timeline by `timestamp`, and tells which audio is missing.

A position is a number of samples from the start of the stream: at 8 kHz a `timestamp` of 20 ms is
position 160.

- A chunk that continues the track is put behind the last one. Timestamps are rounded, and in captured calls
  they step by 19.97 ms a chunk: to place each chunk by its own timestamp would cut audio now and then.
- A chunk that is 10 ms or more ahead leaves a gap of that length.
- A chunk that is 10 ms or more behind fills what is still a gap there, and continues the track where it
  reaches past the end. On overlap the earlier audio is kept.
- A timestamp more than an hour off is implausible, unless that much time has passed: the chunk is appended
  instead. So is one with which all gaps together would be longer than an hour plus the time that has passed.

Small steps may add up: a track may lag behind its timestamps by up to 1 %. From there on chunks overlap.
"""

import time
from bisect import bisect_left, bisect_right
from operator import attrgetter, itemgetter
from typing import NamedTuple

RATE = 8000  # samples a second, where `start` announces nothing else

_JUMP = 10  # ms, half a chunk: rounding is less, a lost chunk is more
_ROUNDING = 2  # ms
_MAX_DRIFT = 20  # ms: what many small steps ahead may add up to; and behind, beside 1 % of the time
_IMPLAUSIBLE = 3600  # seconds
MAX_GAPS = 1000  # that are remembered; audio for an older one comes too late


class PositionMap:
    """Maps samples that were handed on to their positions, where some were left out or put in between.

    It starts at the `position` of the first sample and keeps the latest 1,000 breaks. One thread calls
    `break_at`; any thread may call `position`.
    """

    def __init__(self, position: int) -> None:
        self._breaks = [(0, position)]

    def break_at(self, handed_on: int, position: int) -> None:
        """Set the position of the sample that follows `handed_on` samples."""
        self._breaks = [*self._breaks[-MAX_GAPS:], (handed_on, position)]

    def position(self, handed_on: int) -> int:
        """Return the position of the sample that has `handed_on` samples before it."""
        at, position = self._breaks[max(bisect_right(self._breaks, handed_on, key=itemgetter(0)) - 1, 0)]
        return position + handed_on - at


class Discontinuity(NamedTuple):
    """How a chunk does not continue its track."""

    ms: int
    """The gap before it, in milliseconds; below 0, how far it goes back."""
    is_implausible: bool = False
    """Whether it was appended nevertheless, because its timestamp is implausible."""
    filled: list[range] | None = None
    """Where it goes back: the positions for which no audio came before. None: all of its own."""


class TrackTimeline:
    """One track's audio on the timeline.

    Its stream makes it with the first `timestamp` of the track, in milliseconds, its samples a second, and
    `beside`: another track of the stream, whose time holds for this one too; None for the first. Only the
    thread that receives the stream's messages calls `add`; other threads may read.
    """

    chunks: int = 0
    """How many chunks were added."""
    bytes: int = 0
    """How many bytes of audio they have, one sample each."""
    first: int
    """The position of the first sample."""
    end: int
    """The position behind the last sample."""
    gaps: list[range]
    """Positions without audio: the latest 1,000 gaps."""
    missing: int = 0
    """How many samples all gaps have together."""
    discontinuity: Discontinuity | None = None
    """How the last chunk does not continue the track; None where it does."""

    def __init__(self, timestamp: int, rate: int = RATE, beside: "TrackTimeline | None" = None) -> None:
        self._rate = rate
        self._jump = self._samples(_JUMP)
        self._max_drift = self._samples(_MAX_DRIFT)
        self._shift: int = beside._shift if beside else 0  # from a timestamp's position to the assumed one
        due = position = timestamp * rate // 1000 + self._shift
        if beside:
            if abs(due - beside._due) > _IMPLAUSIBLE * rate:  # `add` finds whether it is plausible
                due = beside._due
            position = due + beside.end - beside._due  # it lags as much
        self._due: int = due  # where the next chunk is due by its timestamp; `end` is where it is put
        self._began: float = beside._began if beside else time.monotonic()
        # Where the stream's audio begins: from there on it drifts.
        self._begin: int = beside._begin if beside else position
        self.first: int = position
        self.end: int = position
        self.gaps = []

    def add(self, timestamp: int, samples: int) -> int:
        """Add a chunk of so many samples and return its position."""
        self.chunks += 1
        self.bytes += samples
        due = timestamp * self._rate // 1000 + self._shift
        step = due - self._due
        position = self.end
        lag = position - due
        jump, drift = self._jump, self._max_drift
        self.discontinuity = None
        # The case of nearly all chunks, without a call.
        if not (-jump < step < jump and (-drift < lag < drift or self._is_in_time(step, lag))):
            lag += step  # before this chunk
            gap = step - lag if abs(lag) <= self._samples(_ROUNDING) or 0 <= step < jump else step
            if self._is_implausible(step, gap):
                self.discontinuity = Discontinuity(self._ms(step), is_implausible=True)
                self._shift -= step
                due = self._due
            elif gap < 0:
                position += gap
                filled = self._fill(position, position + samples, due + samples)
                self.discontinuity = Discontinuity(self._ms(gap), filled=filled)
                return position
            else:
                self.discontinuity = Discontinuity(self._ms(gap))
                self.gaps.append(range(position, position + gap))
                del self.gaps[:-MAX_GAPS]
                self.missing += gap
                position += gap
        self._due = due + samples
        self.end = position + samples
        return position

    def _is_in_time(self, step: int, lag: int) -> bool:
        """Return whether what small steps have added up to is still no gap and no overlap."""
        if step >= 0:
            return lag > -self._max_drift
        return lag < self._max_drift + (self.end - self._begin) // 100

    def _is_implausible(self, step: int, gap: int) -> bool:
        passed = int((time.monotonic() - self._began) * self._rate)
        most = _IMPLAUSIBLE * self._rate
        if step > most:  # a track may have been silent for hours
            return self.end + gap - self._begin > most + passed
        return step < -most or self.missing + gap > most + passed

    def _samples(self, ms: int) -> int:
        return ms * self._rate // 1000

    def _ms(self, samples: int) -> int:
        return samples * 1000 // self._rate

    def _fill(self, start: int, stop: int, due: int) -> list[range]:
        """Fill the gaps between `start` and `stop`, and return the positions that had no audio."""
        if start < self.first:  # the time before the first chunk is a gap as well, once audio for it comes
            self.gaps.insert(0, range(start, self.first))
            self.missing += self.first - start
            self.first = start
        begin = bisect_right(self.gaps, start, key=attrgetter("stop"))
        end = bisect_left(self.gaps, stop, key=attrgetter("start"))
        touched = self.gaps[begin:end]
        filled = [range(max(gap.start, start), min(gap.stop, stop)) for gap in touched]
        rest = [part for gap in touched for part in (range(gap.start, start), range(stop, gap.stop)) if part]
        self.gaps[begin:end] = rest
        self.missing -= sum(map(len, filled))
        del self.gaps[:-MAX_GAPS]
        if stop > self.end:
            filled.append(range(self.end, stop))
            self.end, self._due = stop, due
        return filled


class UndecodedTrack(TrackTimeline):
    """One track of an encoding that is not decoded: its chunks and bytes are counted.

    How long a chunk is cannot be told. So a position is a `timestamp`, in milliseconds, `end` is the latest
    one, and there are no gaps.
    """

    def __init__(self, timestamp: int) -> None:
        super().__init__(timestamp, 1000)

    def add(self, timestamp: int, size: int) -> int:
        """Count a chunk of so many bytes and return its position."""
        self.chunks += 1
        self.bytes += size
        self.end = max(self.end, timestamp)
        return timestamp
