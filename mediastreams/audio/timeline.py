"""Where each chunk of a track belongs in the time of the call, and what is missing between them.

Places are samples at 8 kHz from the start of the stream: a `timestamp` of 20 ms is the place 160.

- A chunk whose `timestamp` follows on the last one's belongs behind it. Timestamps are rounded and in
  captured calls step by 19.97 ms a chunk, so to place each chunk by its own would cut audio now and then.
- One that is 10 ms or more ahead leaves a gap as long as that.
- One that is as much behind belongs there too, but only where there is a gap still, or past the end: what
  has come first stays.
- A wild one, more than an hour off, is not believed: the chunk belongs behind the last one. So is
  one with which all gaps would be longer than an hour and the time that has passed.

A track may lag behind its timestamps like that, by up to 1 %; one that lags more has chunks that overlap.
"""

import time
from bisect import bisect_right
from operator import itemgetter

RATE = 8000
PER_MS = RATE // 1000

_JUMP = 10 * PER_MS  # half a chunk: rounding is less, a lost chunk is more
_ROUNDING = 2 * PER_MS
_MOST_AHEAD = 20 * PER_MS  # what many small steps ahead may add up to
_MOST_BEHIND = 20 * PER_MS  # and behind, with 1 % of the time
_WILD = 3600 * RATE
MOST_GAPS = 1000  # that are remembered; what belongs into an older one comes too late


class Places:
    """Which place each sample has that was handed on, where some were left out or put in between.

    `begin` is the place of the first. Of the latest 1,000 breaks it knows.
    """

    __slots__ = ("_breaks",)

    def __init__(self, begin: int) -> None:
        self._breaks = [(0, begin)]

    def go_on(self, handed_on: int, place: int) -> None:
        """Know that after so many samples the next one has this place."""
        self._breaks = [*self._breaks[-MOST_GAPS:], (handed_on, place)]

    def of(self, handed_on: int) -> int:
        """Return the place of the sample that has so many before it."""
        at, place = self._breaks[max(bisect_right(self._breaks, handed_on, key=itemgetter(0)) - 1, 0)]
        return place + handed_on - at


class TrackAccount:
    """One track's audio: its chunks, its bytes, and where they stand in the call.

    `first` is the place of its first sample and `end` that behind its last one. `gaps` has the places
    for which no audio has come, of the latest 1,000 gaps; `missing` is how many samples all gaps have.

    `jump` is about the chunk that was placed last: 0 where it followed on, else the milliseconds of the gap
    before it or, below 0, by how much it was behind. Then `is_wild` says whether this was not believed (at
    first, whether the first timestamp was not), and else `fills`, where it was behind, which places it is the
    first to have audio for.
    """

    __slots__ = (
        "_began",
        "_due",
        "_shift",
        "bytes",
        "chunks",
        "end",
        "fills",
        "first",
        "gaps",
        "is_wild",
        "jump",
        "missing",
    )

    def __init__(self, timestamp: int, beside: "TrackAccount | None" = None) -> None:
        """Begin with the `timestamp` of the first chunk, in milliseconds.

        `beside` is another track of the stream, whose time is this one's too; None is for the first.
        """
        self.chunks = 0
        self.bytes = 0
        self._shift: int = beside._shift if beside else 0  # from the place a timestamp says to that believed
        due = timestamp * PER_MS + self._shift
        place = due
        is_wild = False
        if beside:
            step = due - beside._due
            if abs(step) > _WILD:
                is_wild = True
                self._shift -= step
                due = beside._due
            place = due + beside.end - beside._due  # it lags as much
        self.first: int = place
        self.end: int = place
        self._due: int = due  # where the next chunk is due by its timestamp; `end` is where it is put
        self.gaps: list[range] = []
        self.missing = 0
        self.jump = 0
        self.is_wild = is_wild
        self.fills: list[range] = []
        self._began: float = beside._began if beside else time.monotonic()

    def place(self, timestamp: int, samples: int) -> int:
        """Account for a chunk of so many samples and return its place."""
        self.chunks += 1
        self.bytes += samples
        due = timestamp * PER_MS + self._shift
        step = due - self._due
        place = self.end
        self.jump = 0
        if not -_JUMP < step < _JUMP or not self._is_in_time(step, place - due):
            lag = place - due + step  # before this chunk
            gap = step - lag if abs(lag) <= _ROUNDING or 0 <= step < _JUMP else step
            self.is_wild = self._is_wild(step, gap)
            self.jump = gap // PER_MS
            if self.is_wild:
                self.jump = step // PER_MS
                self._shift -= step
                due = self._due
            elif gap < 0:
                self._fill(place + gap, place + gap + samples, due + samples)
                return place + gap
            else:
                if len(self.gaps) == MOST_GAPS:
                    del self.gaps[0]
                self.gaps.append(range(place, place + gap))
                self.missing += gap
                place += gap
        self._due = due + samples
        self.end = place + samples
        return place

    def _is_in_time(self, step: int, lag: int) -> bool:
        """Say whether what small steps have added up to is still no gap and no overlap."""
        if step >= 0:
            return lag > -_MOST_AHEAD
        return lag < _MOST_BEHIND + (self.end - self.first) // 100

    def _is_wild(self, step: int, gap: int) -> bool:
        if abs(step) > _WILD:
            return True
        passed = int((time.monotonic() - self._began) * RATE)
        return self.missing + gap > _WILD + passed

    def _fill(self, start: int, stop: int, due: int) -> None:
        """Fill what is still empty from `start` to `stop`, and note it in `fills`."""
        if start < self.first:  # the time before the first chunk is a gap as well, once it is looked at
            self.gaps.insert(0, range(start, self.first))
            self.missing += self.first - start
            self.first = start
        self.fills = []
        begin = end = bisect_right(self.gaps, start, key=_stop_of)
        left: list[range] = []
        while end < len(self.gaps) and self.gaps[end].start < stop:
            gap = self.gaps[end]
            part = range(max(gap.start, start), min(gap.stop, stop))
            self.fills.append(part)
            self.missing -= len(part)
            left += filter(None, (range(gap.start, part.start), range(part.stop, gap.stop)))
            end += 1
        self.gaps[begin:end] = left
        del self.gaps[:-MOST_GAPS]
        if stop > self.end:
            self.fills.append(range(self.end, stop))
            self.end, self._due = stop, due


def _stop_of(gap: range) -> int:
    return gap.stop
