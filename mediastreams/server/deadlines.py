"""The limits in time of one WebSocket. No I/O."""

from dataclasses import dataclass

from mediastreams.server.frames import CloseCode


@dataclass(frozen=True)
class Overdue:
    """A limit that was passed."""

    code: int
    """The code to close with; 1006 where the peer would not read a Close."""
    reason: str
    """Which limit it is."""


class Deadlines:
    """What a peer must do in time: send something, read what it is sent, and what `close_after` says.

    It must do the first two within `idle_seconds` each. `now` is a time of the server's `Clock`. For the
    server's thread.
    """

    def __init__(self, idle_seconds: float, now: float) -> None:
        self._idle_seconds = idle_seconds
        self._sent_at = now
        self._read_at = now
        self._until: tuple[float, Overdue] | None = None
        self._was_overdue = False

    def close_after(self, until: float, code: int, reason: str) -> None:
        """Close with this code and reason at the time `until`, unless `keep` is called before."""
        self._until = until, Overdue(code, reason)

    def keep(self) -> None:
        """Undo `close_after`."""
        self._until = None

    def look(self, now: float, *, sends: bool, reads: bool) -> Overdue | None:
        """Return what was overdue at the last look and still is; None where nothing is.

        Between two looks the server reads what has come. `sends`: whether the peer has sent something since
        the last look, or nobody waited for it. `reads`: whether it has read something, or was sent nothing.
        """
        if sends:
            self._sent_at = now
        if reads:
            self._read_at = now
        overdue = self._overdue(now)
        was_overdue, self._was_overdue = self._was_overdue, overdue is not None
        return overdue if was_overdue else None

    def _overdue(self, now: float) -> Overdue | None:
        seconds = self._idle_seconds
        if now - self._read_at > seconds:
            return Overdue(CloseCode.ABNORMAL, f"it has read nothing for {seconds:g} s")
        if self._until is not None and now > self._until[0]:
            return self._until[1]
        if now - self._sent_at > seconds:
            return Overdue(CloseCode.GOING_AWAY, f"nothing received for {seconds:g} s")
        return None
