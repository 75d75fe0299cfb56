"""Rewrites the last lines of a terminal in place, below the log.

Not rich 15: its import takes 15 ms of CPU, a redraw 2.5 times as long, and it alters the tabs of log lines.
"""

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Hashable
from functools import partial
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
        self._is_drawn = True  # what the lines are
        self._tasks: Any = get_original("queue", "SimpleQueue")()  # functions without arguments
        get_original("_thread", "start_new_thread")(self._work, ())

    def show(self, key: Hashable, line: str) -> None:
        """Show a line; it replaces the line of the same key."""
        self._put(partial(self._change, key, line))

    def remove(self, key: Hashable) -> None:
        """Remove the line of this key. Without such a line, do nothing."""
        # Whatever waits: a line that is not removed would stay for ever.
        self._tasks.put(partial(self._change, key, None))

    def write(self, text: str) -> int:
        """Write `text`, whole lines, above the lines that are shown."""
        self._put(partial(self._draw, text))
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def wait(self, seconds: float) -> bool:
        """Wait until everything so far is on the terminal, for `seconds` at most. Return whether it is."""
        is_done = get_original("_thread", "allocate_lock")()
        is_done.acquire()
        self._tasks.put(self._draw)
        self._tasks.put(is_done.release)
        return bool(is_done.acquire(timeout=seconds))

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
        self._put(self._lines.clear)
        self.wait(_CLOSE_SECONDS)

    def _put(self, task: Callable[[], object]) -> None:
        if self._tasks.qsize() < _MAX_TASKS:
            self._tasks.put(task)

    def _work(self) -> None:
        while True:
            self._tasks.get()()
            if not self._is_drawn and self._tasks.empty():  # else a later task draws
                self._draw()

    def _change(self, key: Hashable, line: str | None) -> None:
        if line is None:
            self._lines.pop(key, None)
        else:
            self._lines[key] = line
        self._is_drawn = False

    def _draw(self, text: str = "") -> None:
        self._is_drawn = True
        size = self._size()
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

    def _size(self) -> os.terminal_size:
        """Return the size of this terminal; `shutil` asks stdout, which may be a file."""
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self._terminal.fileno())
            if size.columns and size.lines:
                return size
        return shutil.get_terminal_size()


def _cut(line: str, columns: int) -> str:
    """Return the part of a line that fits into so many columns; a wide character takes two."""
    for i, character in enumerate(line):
        columns -= 2 if east_asian_width(character) in "WF" else 1
        if columns < 0:
            return line[:i]
    return line


def of_stderr() -> Console | None:
    """Return the console of the terminal that the log goes to; None when it goes elsewhere, or nowhere."""
    if sys.stderr is None or not sys.stderr.isatty() or has_dumb_terminal():
        return None
    return Console(sys.stderr)
