"""The last lines of a terminal, rewritten in place while the log goes on above them.

Of our own, in 60 lines: a log line must not wait for a redraw, and keeps its format.
"""

import contextlib
import logging
import shutil
import sys
import threading
from collections.abc import Hashable
from io import TextIOBase
from typing import TextIO

from mediastreams.config import has_dumb_terminal

MOST_LINES = 10
_UP_AND_ERASE = "\x1b[{}A\x1b[J"


class Console(TextIOBase):
    """A terminal whose last lines are `show`n; what is written to it comes to stand above these.

    `capture` lets the log go through it. All threads may use it.
    """

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._lines: dict[Hashable, str] = {}
        self._shown = 0
        self._lock = threading.Lock()
        self._captured: list[logging.StreamHandler[TextIO]] = []

    def show(self, key: Hashable, line: str) -> None:
        """Show a line, in the place of the last one with this key."""
        with self._lock:
            self._lines[key] = line
            self._draw("")

    def remove(self, key: Hashable) -> None:
        """Show a line no more."""
        with self._lock:
            if self._lines.pop(key, None) is not None:
                self._draw("")

    def write(self, text: str) -> int:
        """Write whole lines above those that are shown."""
        with self._lock:
            self._draw(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: what is written is flushed."""

    def capture(self) -> None:
        """Let the log lines that go to this terminal come to stand above."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._terminal:
                handler.setStream(self)
                self._captured.append(handler)

    def close(self) -> None:
        """Erase the lines, and let the log go to the terminal as before."""
        for handler in self._captured:
            handler.setStream(self._terminal)
        with self._lock:
            self._lines.clear()
            self._draw("")

    def _draw(self, text: str) -> None:
        size = shutil.get_terminal_size()
        most = max(min(MOST_LINES, size.lines - 2), 1)
        lines = list(self._lines.values())
        if len(lines) > most:
            lines[most - 1 :] = [f"... and {len(lines) - most + 1} more"]
        erase = _UP_AND_ERASE.format(self._shown) if self._shown else ""
        below = "".join(f"{line[: size.columns - 1]}\n" for line in lines)
        self._shown = len(lines)
        with contextlib.suppress(OSError):  # the terminal is gone
            self._terminal.write(f"{erase}{text}{below}")
            self._terminal.flush()


def of_stderr() -> Console | None:
    """Return the console of the terminal that the log goes to; None where that is no terminal."""
    if not sys.stderr.isatty() or has_dumb_terminal():
        return None
    return Console(sys.stderr)
