"""The last lines of a terminal, rewritten in place while the log goes on above them.

Of our own, in 80 lines: a log line keeps its format, and neither it nor the server waits for the terminal.
"""

import contextlib
import logging
import shutil
import sys
from collections.abc import Hashable
from io import TextIOBase
from typing import Any, TextIO
from unicodedata import east_asian_width

from gevent.monkey import get_original

from mediastreams.config import has_dumb_terminal

MOST_LINES = 10
_MOST_TASKS = 10_000  # that wait for a terminal that has stopped; what comes then is not shown
_PATIENCE = 1.0  # seconds
_UP_AND_ERASE = "\x1b[{}A\x1b[J"


class Console(TextIOBase):
    """A terminal whose last lines are `show`n; what is written to it comes to stand above these.

    `capture` lets the log go through it. All threads may use it, and none waits for the terminal, which a
    person may have stopped (Ctrl-S): a thread of the console's own writes.
    """

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._lines: dict[Hashable, str] = {}
        self._shown = 0
        self._captured: list[logging.StreamHandler[TextIO]] = []
        # What is to be done: a text to write, or a line to show (None: no more) by its key.
        self._queue: Any = get_original("queue", "SimpleQueue")()
        self._written = get_original("_thread", "allocate_lock")()
        get_original("_thread", "start_new_thread")(self._work, ())

    def show(self, key: Hashable, line: str) -> None:
        """Show a line, in the place of the last one with this key."""
        self._put((key, line))

    def remove(self, key: Hashable) -> None:
        """Show a line no more."""
        self._put((key, None))

    def write(self, text: str) -> int:
        """Write whole lines above those that are shown."""
        self._put(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: what is written is flushed."""

    def wait(self, seconds: float) -> bool:
        """Wait until all that was asked for is on the terminal; say whether it is."""
        self._written.acquire(timeout=seconds)
        self._queue.put(self._written)
        done = self._written.acquire(timeout=seconds)
        if done:
            self._written.release()
        return bool(done)

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
        self._put((None, None))
        self.wait(_PATIENCE)

    def _put(self, task: object) -> None:
        if self._queue.qsize() < _MOST_TASKS:
            self._queue.put(task)

    def _work(self) -> None:
        while True:
            task = self._queue.get()
            if task is self._written:
                self._draw("")
                self._written.release()
            elif isinstance(task, str):
                self._draw(task)
            else:
                key, line = task
                if key is None:
                    self._lines.clear()
                elif line is None:
                    self._lines.pop(key, None)
                else:
                    self._lines[key] = line
                if self._queue.empty():  # else the next one draws
                    self._draw("")

    def _draw(self, text: str) -> None:
        size = shutil.get_terminal_size()
        most = max(min(MOST_LINES, size.lines - 2), 1)
        lines = list(self._lines.values())
        if len(lines) > most:
            lines[most - 1 :] = [f"... and {len(lines) - most + 1} more"]
        erase = _UP_AND_ERASE.format(self._shown) if self._shown else ""
        below = "".join(f"{_cut(line, size.columns - 1)}\n" for line in lines)
        self._shown = len(lines)
        with contextlib.suppress(OSError):  # the terminal is gone
            self._terminal.write(f"{erase}{text}{below}")
            self._terminal.flush()


def _cut(line: str, columns: int) -> str:
    """Return as much of a line as fits; a character of East Asia takes two columns."""
    for i, character in enumerate(line):
        columns -= 2 if east_asian_width(character) in "WF" else 1
        if columns < 0:
            return line[:i]
    return line


def of_stderr() -> Console | None:
    """Return the console of the terminal that the log goes to; None where that is no terminal."""
    if not sys.stderr.isatty() or has_dumb_terminal():
        return None
    return Console(sys.stderr)
