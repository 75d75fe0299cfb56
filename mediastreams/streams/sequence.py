"""Which messages of a stream are lost or late, by `sequenceNumber`.

`sequenceNumber` counts messages of every kind from 1, at `start`.
"""

from bisect import bisect_right
from typing import NamedTuple

# Beyond so many separate losses in one stream, a late message counts as a repeat.
_MAX_LOSSES = 1000


class Loss(NamedTuple):
    """Messages that never came: their `sequenceNumber`s, and the position in the audio (see `timeline`)."""

    numbers: range
    position: int


class SequenceTracker:
    """Follows one stream's `sequenceNumber`s, from `start` on. For the thread that receives its messages."""

    lost: int
    """How many messages never came."""
    late: int
    """How many came after a later one, or again."""
    losses: list[Loss]
    """The latest 1,000 losses."""

    def __init__(self) -> None:
        self.lost = 0
        self.late = 0
        self.losses = []
        self.next = -1  # the number that is due; none is before start
        self._unnumbered = 0

    def start(self, number: int) -> None:
        """Begin with the number of the `start` message."""
        self.next = number + 1
        self._unnumbered = 0

    def advance(self) -> None:
        """Note that the message came that was due."""
        self.next += 1
        self._unnumbered = 0

    def unnumbered(self) -> None:
        """Note a message without a usable number, bad or unknown: it stands for one that seems lost."""
        self._unnumbered += 1

    def skip_to(self, number: int, position: int) -> range:
        """Note a message that came before its turn; return the numbers that are lost, at `position`."""
        gap = range(self.next, number)[self._unnumbered :]
        if gap:
            self.lost += len(gap)
            self.losses = [*self.losses[1 - _MAX_LOSSES :], Loss(gap, position)]
        self.next = number + 1
        self._unnumbered = 0
        return gap

    def fill(self, number: int) -> bool:
        """Count a message that came late; return whether it was lost until now, and is no repeat."""
        self.late += 1
        i = bisect_right(self.losses, number, key=_stop)
        if i == len(self.losses) or number not in self.losses[i].numbers:
            return False
        gap, position = self.losses[i]
        self.lost -= 1
        parts = range(gap.start, number), range(number + 1, gap.stop)
        self.losses[i : i + 1] = [Loss(part, position) for part in parts if part]
        del self.losses[:-_MAX_LOSSES]
        return True


def _stop(loss: Loss) -> int:
    return loss.numbers.stop
