"""Rewrites the last lines of a terminal in place, below the log.

Not rich 15: its import takes 15 ms of CPU, a redraw 2.5 times as long, and it alters the tabs of log lines.
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

MAX_LINES = 10
_MAX_TASKS = 10_000  # that wait for a stopped terminal; later ones are dropped
_CLOSE_SECONDS = 1.0  # how long `close` waits for a stopped terminal
_UP_AND_ERASE = "\x1b[{}A\x1b[J"


class Console(TextIOBase):
    """A terminal: `show` rewrites its last lines, and `write` adds text above them.

    `capture` sends the log through it. Any thread may call its methods. The console's own thread writes to
    the terminal, so that no other thread waits when a person stops the terminal (Ctrl-S).
    """

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._lines: dict[Hashable, str] = {}
        self._shown = 0
        self._captured: list[logging.StreamHandler[TextIO]] = []
        # Tasks: a text to write, or a key and its line (None: remove the line).
        self._queue: Any = get_original("queue", "SimpleQueue")()
        self._written = get_original("_thread", "allocate_lock")()
        get_original("_thread", "start_new_thread")(self._work, ())

    def show(self, key: Hashable, line: str) -> None:
        """Show a line; it replaces the line of the same key."""
        self._put((key, line))

    def remove(self, key: Hashable) -> None:
        """Remove the line of this key. Without such a line, do nothing."""
        self._put((key, None))

    def write(self, text: str) -> int:
        """Write `text`, whole lines, above the lines that are shown."""
        self._put(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def wait(self, seconds: float) -> bool:
        """Wait until everything so far is on the terminal, for `seconds` at most. Return whether it is."""
        self._written.acquire(timeout=seconds)
        self._queue.put(self._written)
        done = self._written.acquire(timeout=seconds)
        if done:
            self._written.release()
        return bool(done)

    def capture(self) -> None:
        """Send the log lines of this terminal through the console."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._terminal:
                handler.setStream(self)
                self._captured.append(handler)

    def close(self) -> None:
        """Erase the lines, and send the log straight to the terminal again."""
        for handler in self._captured:
            handler.setStream(self._terminal)
        self._put((None, None))
        self.wait(_CLOSE_SECONDS)

    def _put(self, task: object) -> None:
        if self._queue.qsize() < _MAX_TASKS:
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
                if self._queue.empty():  # else the next task draws
                    self._draw("")

    def _draw(self, text: str) -> None:
        size = shutil.get_terminal_size()
        room = max(min(MAX_LINES, size.lines - 2), 1)
        lines = list(self._lines.values())
        if len(lines) > room:
            lines[room - 1 :] = [f"... and {len(lines) - room + 1} more"]
        erase = _UP_AND_ERASE.format(self._shown) if self._shown else ""
        below = "".join(f"{_cut(line, size.columns - 1)}\n" for line in lines)
        self._shown = len(lines)
        with contextlib.suppress(OSError):  # the terminal is gone
            self._terminal.write(f"{erase}{text}{below}")
            self._terminal.flush()


def _cut(line: str, columns: int) -> str:
    """Return the part of a line that fits into so many columns; a wide character takes two."""
    for i, character in enumerate(line):
        columns -= 2 if east_asian_width(character) in "WF" else 1
        if columns < 0:
            return line[:i]
    return line


def of_stderr() -> Console | None:
    """Return the console of the terminal that the log goes to; None when the log goes elsewhere."""
    if not sys.stderr.isatty() or has_dumb_terminal():
        return None
    return Console(sys.stderr)
