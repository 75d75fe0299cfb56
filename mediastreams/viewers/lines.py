"""Keeps the last lines of the log of each stream, for the page."""

import logging
from collections.abc import Callable
from weakref import WeakKeyDictionary

from mediastreams.log.limit import stream_of
from mediastreams.streams.stream import Stream
from mediastreams.viewers.messages import Logged

MAX_LINES = 200
_MAX_CHARACTERS = 2000  # of a line, with its traceback

_format = logging.Formatter("%(message)s").format


class StreamLog:
    """The last lines of one stream's log. Any thread may read."""

    lines: list[Logged]
    """The last 200."""
    tell: Callable[[Logged], None] | None = None
    """Is called with each further line, in the thread that logs; None: nothing is."""

    def __init__(self) -> None:
        self.lines = []


class Lines:
    """The logs of all streams; keeps no stream alive. The log calls `add`, one thread at a time."""

    def __init__(self) -> None:
        self._logs: WeakKeyDictionary[Stream, StreamLog] = WeakKeyDictionary()

    def of(self, stream: Stream) -> StreamLog:
        """Return the log of a stream. Any thread may call it."""
        return self._logs.setdefault(stream, StreamLog())

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record that was written to the log, if it is about a stream."""
        stream = stream_of(record)
        if stream is None:
            return
        try:
            text = _format(record)
        except Exception:  # arguments that do not fit: the log itself has complained
            text = str(record.msg)
        if len(text) > _MAX_CHARACTERS:
            text = f"{text[:_MAX_CHARACTERS]}..."
        line = Logged(record.created, record.levelname, text.encode(errors="backslashreplace").decode())
        log = self.of(stream)
        log.lines.append(line)
        del log.lines[:-MAX_LINES]
        if log.tell is not None:
            log.tell(line)
