"""Where each chunk of a track belongs in the time of the call, and what is missing between them.

Places are samples at 8 kHz from the start of the stream: a `timestamp` of 20 ms is the place 160.

- A chunk whose `timestamp` follows on the last one's belongs behind it. Timestamps are rounded and in
  captured calls step by 19.97 ms a chunk, so to place each chunk by its own would cut audio now and then.
- One that is 10 ms or more ahead leaves a gap, and belongs where its `timestamp` says.
- One that is as much behind belongs there too, but only where there is a gap still, or past the end: what
  has come first stays.
- A wild one, more than an hour off, is not believed: the chunk belongs behind the last one. So is
  one with which all gaps would be longer than an hour and the time that has passed.
"""

import time

RATE = 8000
PER_MS = RATE // 1000

_JUMP = 10 * PER_MS  # half a chunk: rounding is less, a lost chunk is more
_MOST_AHEAD = 20 * PER_MS  # what many small steps ahead may add up to
_WILD = 3600 * RATE
MOST_GAPS = 1000  # that are remembered; what belongs into an older one comes too late


class TrackAccount:
    """One track's audio: its chunks, its bytes, and where they stand in the call.

    `first` is the place of its first sample and `end` that behind its last one. `gaps` has the places
    for which no audio has come, of the latest 1,000 gaps; `missing` is how many samples all gaps have.

    `jump` is about the chunk that was placed last: 0 where it followed on, else the milliseconds of the gap
    before it or, below 0, by how much it was behind. Then `is_wild` says whether this was not believed,
    and else `fills`, where it was behind, which places it is the first to have audio for.
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

    def __init__(self, timestamp: int) -> None:
        """Begin with the `timestamp` of the first chunk, in milliseconds."""
        self.chunks = 0
        self.bytes = 0
        self.first = self.end = self._due = timestamp * PER_MS
        self.gaps: list[range] = []
        self.missing = 0
        self.jump = 0
        self.is_wild = False
        self.fills: list[range] = []
        self._shift = 0  # from the place that a timestamp says to that which is believed
        self._began = time.monotonic()

    def place(self, timestamp: int, samples: int) -> int:
        """Account for a chunk of so many samples and return its place."""
        self.chunks += 1
        self.bytes += samples
        due = timestamp * PER_MS + self._shift
        step = due - self._due
        place = self.end
        self.jump = 0
        if not -_JUMP < step < _JUMP or due - place >= _MOST_AHEAD:
            self.is_wild = self._is_wild(step, due - place)
            if self.is_wild:
                self.jump = step // PER_MS
                self._shift += place - due
                due = place
            elif step < 0:
                self.jump = step // PER_MS
                self._fill(due, due + samples)
                return due
            elif due > place:
                self.jump = (due - place) // PER_MS
                self.gaps = [*self.gaps[1 - MOST_GAPS :], range(place, due)]
                self.missing += due - place
                place = due
        self._due = due + samples
        self.end = place + samples
        return place

    def _is_wild(self, step: int, gap: int) -> bool:
        if abs(step) > _WILD:
            return True
        passed = int((time.monotonic() - self._began) * RATE)
        return self.missing + gap > _WILD + passed

    def _fill(self, start: int, stop: int) -> None:
        """Fill what is still empty from `start` to `stop`, and note it in `fills`."""
        if start < self.first:  # the time before the first chunk is a gap as well, once it is looked at
            self.gaps.insert(0, range(start, self.first))
            self.missing += self.first - start
            self.first = start
        self.fills, gaps = [], []
        for gap in self.gaps:
            part = range(max(gap.start, start), min(gap.stop, stop))
            if not part:
                gaps.append(gap)
                continue
            self.fills.append(part)
            self.missing -= len(part)
            gaps += filter(None, (range(gap.start, part.start), range(part.stop, gap.stop)))
        self.gaps = gaps[-MOST_GAPS:]
        if stop > self.end:
            self.fills.append(range(self.end, stop))
            self.end = self._due = stop
