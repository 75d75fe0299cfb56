"""The pauses of a stream's recording: the parts of the call's timeline of which no recording keeps anything.

A pause is defined by positions, not by the order of messages. So it does not matter how much later a
recording takes the audio, and a chunk that comes after the pause, but belongs into it, is left out as well.
"""

from collections.abc import Iterable

from mediastreams.audio.mulaw import SILENCE

MAX_PAUSES = 100
"""Of a stream: they are in each entry on Redis while it lasts."""

Pause = tuple[int, int | None]
"""The position at which it begins, and the one behind it; None: it goes on."""


class Pauses:
    """The pauses of one stream, in their order. Any thread may read while another one changes them."""

    all: tuple[Pause, ...]
    """The pauses; each change replaces the tuple."""

    def __init__(self, pauses: Iterable[Pause] = ()) -> None:
        self.all = tuple(pauses)

    @property
    def is_open(self) -> bool:
        """Whether the recording is paused now."""
        return bool(self.all) and self.all[-1][1] is None

    def begin(self, position: int) -> bool:
        """Pause from a position on; return False where the recording is paused already."""
        if self.is_open:
            return False
        if self.all and self.all[-1][1] == position:  # nothing came in between
            self.all = (*self.all[:-1], (self.all[-1][0], None))
        else:
            self.all = (*self.all, (position, None))
        return True

    def end(self, position: int) -> bool:
        """End the pause at a position; return False where the recording is not paused."""
        if not self.is_open:
            return False
        start = self.all[-1][0]
        self.all = (*self.all[:-1], *([(start, position)] if position > start else []))
        return True

    def overlaps(self, start: int, stop: int) -> bool:
        """Return whether the recording is paused anywhere from `start` to `stop`, or at `start`."""
        stop = max(stop, start + 1)
        return any(begin < stop and (end is None or start < end) for begin, end in self.all)

    def silenced(self, position: int, mulaw: bytes) -> bytes:
        """Return the audio at a position, with silence in place of what a pause leaves out."""
        stop = position + len(mulaw)
        for begin, end in self.all:
            first, last = max(begin, position), stop if end is None else min(end, stop)
            if first < last:
                left_out = SILENCE * (last - first)
                mulaw = mulaw[: first - position] + left_out + mulaw[last - position :]
        return mulaw
