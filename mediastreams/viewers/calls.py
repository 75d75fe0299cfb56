"""The calls feed: what pages learn of calls, and its source in this process.

`Calls` is the interface; `servers.AllCalls` is another source, with the calls of other servers, too.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import Set
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import gevent
from gevent.hub import get_hub

from mediastreams.consumers.feeds import Kind
from mediastreams.consumers.registry import EVERY, TICK_SECONDS, Consumers
from mediastreams.streams.stream import Stream
from mediastreams.viewers.call import Call, Told
from mediastreams.viewers.consumer import Conversation, Meter, Sound
from mediastreams.viewers.lines import Lines
from mediastreams.viewers.messages import Changed, Detail, Levels, Removed, Snapshot

MAX_ENDED = 100  # ended calls that are remembered
LEVELS_SECONDS = 0.2
COUNTS_SECONDS = 1.0  # how often changed counts are sent

_AT_ONCE = 100  # calls that are looked at before the server's other work goes on


class Watcher(Protocol):
    """Receives what happens, in the server's thread. It must not wait."""

    def tell(self, message: Changed | Removed | Levels | Told | Detail) -> None:
        """Take what happened; or details of a call, which replace those of before."""

    def greet(self) -> None:
        """Take note that what pages are told of the server itself has changed."""


class Calls(Protocol):
    """A source of calls. For the server's thread."""

    is_alone: bool
    """Whether calls of other servers should be there, and cannot."""

    def open(self, watcher: Watcher) -> None:
        """Tell `watcher` from now on."""

    def close(self) -> None:
        """Undo `open`."""

    def settle(self) -> None:
        """Wait until all calls are known, a second at most."""

    def snapshot(self) -> Snapshot:
        """Return all calls, newest first: those that are live, and the last 100 that have ended."""

    def detail(self, id: str) -> Detail | None:
        """Return what there is of a call; None where it is not known, or is told later."""

    def rate(self, id: str) -> int | None:
        """Return the sample rate of a call; None where it is not live, or not decodable."""

    def watch(self, shown: Set[str], selected: Set[str], listened: Set[str]) -> None:
        """Tell levels of the calls that are shown, waves, lines, keys and marks of those that are selected.

        And audio of those that are listened to. More may be told. This replaces what was asked for before.
        """


class LiveCalls:
    """The calls of this process: a source for the page.

    `begin` and `end` are called for each stream. While nobody watches, no stream's audio is touched. For the
    server's thread.
    """

    is_alone = False
    """It has all calls that it should have."""

    server = ""
    """The name with which the ids of the calls begin, if there is one; it is set before the first call."""

    def __init__(self, consumers: Consumers, lines: Lines) -> None:
        """Add the consumers of the page to `consumers`. `lines` has the log of each stream."""
        self._consumers = consumers
        self._lines = lines
        self._ids = itertools.count(1)
        self._live: dict[str, Call] = {}
        self._ended: dict[str, Call] = {}
        # Weak: a consumer that comes late still finds the call of its stream.
        self._of_stream: WeakKeyDictionary[Stream, Call] = WeakKeyDictionary()
        self._watcher: Watcher | None = None
        self._told: deque[Told] = deque()  # by other threads
        self._is_taking = False
        self._loop: Any = None
        self._ticking: gevent.Greenlet[[], None] | None = None
        self._metered: set[str] = set()
        self._heard: set[str] = set()
        self._selected: set[str] = set()
        self._meter = consumers.register_attachable(Meter, EVERY)
        self._sound = consumers.register_attachable(Sound, TICK_SECONDS / 2)  # at each tick
        consumers.register(partial(Conversation, call_of=self._of_stream.__getitem__))

    def begin(self, stream: Stream) -> None:
        """Add the call of a stream that has started."""
        n = next(self._ids)
        id = f"{self.server}/{n}" if self.server else str(n)
        call = Call(id, stream, self._lines.of(stream), self._tell_from_any_thread)
        self._live[call.id] = self._of_stream[stream] = call
        self._tell(Changed([call.row()]))

    def end(self, stream: Stream) -> None:
        """Move the call of a stream that has ended, and that need not have begun, to the ended ones."""
        call = self._of_stream.get(stream)
        if call is None:
            return
        del self._live[call.id]
        self._ended[call.id] = call
        self._take()  # what its consumers told last comes before its end
        self._tell(Changed([call.end()]))
        if len(self._ended) > MAX_ENDED:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._tell(Removed([oldest]))

    def open(self, watcher: Watcher) -> None:
        """Tell `watcher` from now on."""
        self._loop = get_hub().loop
        self._watcher = watcher
        self._ticking = gevent.spawn(self._tick)

    def close(self) -> None:
        """Undo `open`."""
        self.watch(set(), set(), set())
        self._watcher = None
        if self._ticking is not None:
            self._ticking.kill(block=False)

    def settle(self) -> None:
        """Do nothing: all are known."""

    def snapshot(self) -> Snapshot:
        """Return all calls, newest first."""
        live, ended = (
            [call.row() for call in reversed(calls.values())] for calls in (self._live, self._ended)
        )
        return Snapshot(live, ended)

    def detail(self, id: str) -> Detail | None:
        """Return what there is of a call; None where it is not known."""
        self._take()  # it has what its consumers told so far, which must not come again behind it
        call = self._call(id)
        return call.detail() if call else None

    def rate(self, id: str) -> int | None:
        """Return the sample rate of a call; None where it is not live, or not decodable."""
        call = self._live.get(id)
        stream = call.stream if call else None
        return stream.rate if stream is not None and stream.media_format.is_decodable else None

    def watch(self, shown: Set[str], selected: Set[str], listened: Set[str]) -> None:
        """Attach the consumers that are needed for this, and detach the others."""
        for id in self._selected ^ selected:
            if call := self._call(id):
                call.is_selected = id in selected
                call.log.tell = call.tell_line if call.is_selected else None
        self._selected = set(selected)
        heard = selected | listened
        self._attach(self._meter, Meter, self._metered, shown)
        self._attach(self._sound, Sound, self._heard, heard)
        self._metered, self._heard = set(shown), set(heard)

    def _attach(
        self, kind: Kind, consumer: type[Meter] | type[Sound], before: Set[str], now: Set[str]
    ) -> None:
        for id in before ^ now:
            call = self._live.get(id)
            if call is None or call.stream is None:
                continue
            if id in now:
                self._consumers.attach(call.stream, kind, partial(consumer, call=call))
            else:
                self._consumers.detach(call.stream, kind)

    def _call(self, id: str) -> Call | None:
        return self._live.get(id) or self._ended.get(id)

    def _tell(self, message: Changed | Removed | Levels | Told) -> None:
        if self._watcher is not None:
            self._watcher.tell(message)

    def _tell_from_any_thread(self, message: Told) -> None:
        if self._watcher is None:
            return
        self._told.append(message)
        if not self._is_taking:  # else it is taken with those before
            self._is_taking = True
            self._loop.run_callback_threadsafe(self._take)

    def _take(self) -> None:
        self._is_taking = False  # before: what comes from now on asks again
        with contextlib.suppress(IndexError):
            while True:
                self._tell(self._told.popleft())

    def _tick(self) -> None:
        ticks = 0
        while True:
            gevent.sleep(LEVELS_SECONDS)
            ticks += 1
            if levels := {id: call.levels_now() for id in self._metered if (call := self._live.get(id))}:
                self._tell(Levels(levels))
            if ticks * LEVELS_SECONDS >= COUNTS_SECONDS:
                ticks = 0
                self._tell_counts()

    def _tell_counts(self) -> None:
        calls = list(self._live.values())
        for i in range(0, len(calls), _AT_ONCE):
            if changed := [part for call in calls[i : i + _AT_ONCE] if (part := call.changes())]:
                self._tell(Changed(changed))
            gevent.sleep(0)
