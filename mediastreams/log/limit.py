"""Bounds how many lines of the log a peer can cause, so that nobody can fill the disk.

In each minute

- of each kind of refusal, lost connection and the like the first 10 lines are logged, and at the end of the
  minute how many more there were; of status callbacks, where the server has no token to check them, 100;
- of connections that have sent no `start` message, to a route that opens a `Stream`, the first 60 lines are
  logged. Later ones are held back: if `start` comes, they are logged then; else they are counted.

Of each stream the first 100 lines that show a `dtmf` message are logged, and 100 of `mark`; of messages with
an unknown event one for each of 20 names. The stream's summary has their numbers.

All else is logged: the lines of a valid call, and whatever an application logs besides.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import TextIO
from weakref import WeakKeyDictionary

from mediastreams.protocol.messages import Message, Unknown
from mediastreams.streams.stream import MAX_SHOWN, Stream, current

FIRST = 10  # lines of a kind in a minute
MAX_UNSTARTED = 60  # lines in a minute
MAX_NAMES = 20  # of unknown events of a stream
_MAX_HELD = 20  # lines of a connection
_MINUTE = 60.0  # seconds
_BOUNDED = {"dtmf", "mark"}
CALLBACKS = "status callbacks"
"""Those that need not be Twilio's."""
# Of the first one line is enough.
_FIRST_OF = {"a lack of file descriptors": 1, CALLBACKS: 100}
_UNSTARTED = "connections without a start message"


class Route:
    """What the log has of one call of a route's `function`. For the greenlet that runs it."""

    def __init__(self, function: object) -> None:
        self.function = function
        self.held: list[logging.LogRecord] = []
        self.shown: dict[str, int] = {}  # lines that show `dtmf`, `mark` or an unknown event, by event


# The route in which the running code is; None outside of one.
route: ContextVar[Route | None] = ContextVar("route", default=None)


def event_of(record: logging.LogRecord) -> str | None:
    """Return the event of Twilio's message that a line shows; None where it shows none."""
    for argument in record.args if isinstance(record.args, tuple) else ():
        if isinstance(argument, Message):
            return str(argument.__struct_config__.tag)
        if isinstance(argument, Unknown):
            return str(argument)
    event: str | None = getattr(record, "event", None)
    return event


def stream_of(record: logging.LogRecord) -> Stream | None:
    """Return the stream that a line is about: its attribute `stream`, else that of the code that runs."""
    stream: Stream | None = getattr(record, "stream", None) or current.get()
    return stream


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes the log to stderr, within the bounds of this module.

    A record's attribute `limit` says which kind of line it is; it then is bounded with those of its kind,
    unless its stream has started.
    """

    def __init__(self) -> None:
        super().__init__()
        # Not a `WeakMethod`: CPython 3.13 may show a traceback of one at its end.
        self._on_written: WeakKeyDictionary[object, Callable[..., None]] = WeakKeyDictionary()
        self._until = 0.0  # monotonic seconds: the end of the minute
        self._lines: Counter[str] = Counter()  # of this minute, by kind
        self._left_out: Counter[str] = Counter()
        self._opening: set[object] = set()  # the functions that were seen to open a `Stream`

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or those that were held back for it, or none."""
        if time.monotonic() >= self._until:
            self._begin_minute()
        for each in self._within_bounds(record):
            super().emit(each)
            for listener, on_written in list(self._on_written.items()):
                on_written(listener, each)

    def tell(self, on_written: Callable[[logging.LogRecord], None]) -> None:
        """Call a method with each record that is written, where it was logged, while its object lives."""
        self._on_written[on_written.__self__] = on_written.__func__  # type: ignore[attr-defined]  # it is a method

    def close(self) -> None:
        """Write what is counted."""
        self._begin_minute()
        super().close()

    def _begin_minute(self) -> None:
        self._until = time.monotonic() + _MINUTE
        self._lines.clear()
        left_out, self._left_out = self._left_out, Counter()
        for kind, number in left_out.items():
            if number > 0:  # less: `start` came a minute after lines that were counted
                text = "%d more lines of %s were left out"
                arguments = number, kind
                super().emit(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, arguments, None))

    def _within_bounds(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        stream = stream_of(record)
        has_started = stream is not None and stream.start is not None
        kind: str | None = getattr(record, "limit", None)
        if kind is not None and not has_started:
            return [record] if self._is_among_first(kind, _FIRST_OF.get(kind, FIRST)) else []
        current_route = route.get()
        if current_route is None:
            return [record]
        if stream is not None:
            self._opening.add(current_route.function)
        elif current_route.function not in self._opening:
            return [record]  # a route that reads its messages itself: nobody knows whether `start` came
        if has_started:
            held, current_route.held = current_route.held, []
            self._left_out[_UNSTARTED] -= len(held)
            return [*held, record] if _is_to_be_shown(record, current_route.shown) else held
        if self._is_among_first(_UNSTARTED, MAX_UNSTARTED):
            return [record]
        if len(current_route.held) < _MAX_HELD:
            current_route.held.append(record)
        return []

    def _is_among_first(self, kind: str, number: int) -> bool:
        """Count a line; return whether it is among so many first ones of its kind in this minute."""
        self._lines[kind] += 1
        if self._lines[kind] <= number:
            return True
        self._left_out[kind] += 1
        return False


def _is_to_be_shown(record: logging.LogRecord, shown: dict[str, int]) -> bool:
    """Return whether a line of a stream is among the first that show its event; count it in `shown`."""
    event = event_of(record)
    is_unknown = any(isinstance(argument, Unknown) for argument in record.args or ())
    if event is None or not (is_unknown or event in _BOUNDED):
        return True
    if is_unknown and event not in shown and len(shown.keys() - _BOUNDED) == MAX_NAMES:
        return False
    shown[event] = shown.get(event, 0) + 1
    return shown[event] <= (1 if is_unknown else MAX_SHOWN)
