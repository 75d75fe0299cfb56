"""Counts lost and late messages by `sequenceNumber`: it counts messages of every kind, from 1 at `start`."""

from bisect import bisect_right
from typing import Literal, NamedTuple

# Beyond so many separate losses in one stream, a late message counts as a repeat.
_MAX_LOSSES = 1000


class Loss(NamedTuple):
    """Messages that did not come."""

    numbers: range
    """Their `sequenceNumber`s."""
    position: int
    """Where the audio ended when the loss was noticed."""


class SequenceTracker:
    """Follows one stream's `sequenceNumber`s, from `start` on.

    For the thread that receives its messages; other threads may read the attributes.
    """

    due: int = -1
    """The number of the next message; -1 before `start`."""
    lost: int = 0
    """How many messages did not come."""
    late: int = 0
    """How many came after a later one, or again."""
    losses: list[Loss]
    """The latest 1,000 losses."""

    def __init__(self) -> None:
        self.losses = []
        self._unnumbered = 0

    def add_due(self, number: int) -> None:
        """Count a message that comes in its turn, such as `start`."""
        self.due = number + 1
        self._unnumbered = 0

    def add_unnumbered(self) -> None:
        """Count a message without a usable number, bad or unknown: one that seems lost is this one."""
        self._unnumbered += 1

    def add(self, number: int, position: int) -> Literal["", "lost", "late", "repeat"]:
        """Count a message; `position` is where the audio ends.

        Returns `lost` where others are lost before it, `late` where it was lost itself until now, `repeat`
        where it came before, "" otherwise.
        """
        if number < self.due:
            self.late += 1
            return "late" if self._found(number) else "repeat"
        missing = range(self.due, number)[self._unnumbered :]
        self.add_due(number)
        if not missing:
            return ""
        self.lost += len(missing)
        self.losses = [*self.losses[1 - _MAX_LOSSES :], Loss(missing, position)]
        return "lost"

    def _found(self, number: int) -> bool:
        """Remove a number from the losses; return whether it was there."""
        i = bisect_right(self.losses, number, key=lambda loss: loss.numbers.stop)
        if i == len(self.losses) or number not in self.losses[i].numbers:
            return False
        missing, position = self.losses[i]
        self.lost -= 1
        parts = range(missing.start, number), range(number + 1, missing.stop)
        self.losses[i : i + 1] = [Loss(part, position) for part in parts if part]
        del self.losses[:-_MAX_LOSSES]
        return True
