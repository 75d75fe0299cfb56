"""The consumers of a server: which are registered, and the feeds of each stream.

A recogniser is one of them that also publishes: its transcripts go to the stream's other consumers. So these
end after it, and each gets every transcript before its `stop`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import gevent

from mediastreams.consumers.base import Consumer
from mediastreams.consumers.feeds import Feed, Kind, Make
from mediastreams.protocol.messages import Dtmf, Mark, Start
from mediastreams.streams.stream import Chunk, Puts, Stream
from mediastreams.streams.transcript import Transcript

TICK_SECONDS = 0.1
EVERY = 0.2 - TICK_SECONDS / 2  # seconds: at the second tick
END_SECONDS = 3.0  # for the consumers to take what waits and to finish, at the end of their stream
_LEFT_SECONDS = 0.25  # of these, for those that end after the recogniser

Publish = Callable[[Transcript], None]


class Tap(Protocol):
    """What takes all that comes of one stream at once, in the server's thread; so it must not wait."""

    def put(self, item: Chunk | Dtmf | Mark) -> None:
        """Take a message."""

    def transcript(self, transcript: Transcript) -> None:
        """Take a text; any thread may call it."""

    def end(self) -> None:
        """Called once, last: the stream has ended."""


Factory = TypeVar("Factory", bound=Make)


@dataclass
class _Live:
    """What a live stream has."""

    feeds: list[Feed]
    """The feeds that it began with."""
    puts: Puts
    taps: list[Tap]
    attached: dict[Kind, Feed] = field(default_factory=dict)


class Consumers:
    """The consumers of a server's streams: `register` adds one, a `Stream` is handed to all of them.

    `on_missed` is called at the end of a stream with a consumer's name and how many messages it missed. For
    the server's thread.
    """

    def __init__(self, on_missed: Callable[[str, int], None] | None = None) -> None:
        self._kinds: list[Kind] = []
        self._taps: list[Callable[[Stream, Start], Tap | None]] = []
        self._live: dict[Stream, _Live] = {}
        self._on_missed = on_missed
        self._ticking: Any = None

    def register(self, factory: Factory, every: float = EVERY) -> Factory:
        """Add a consumer: a class, or what else makes a `Consumer` of a `Stream`. Returns it.

        It is called for each stream that starts from now on, in the thread of its consumers. They are called
        every so many seconds with what came since; to handle more at once costs less.
        """
        self._kinds.append(Kind(factory, every))
        return factory

    def recognise(self, factory: Callable[[Stream, Publish], Consumer]) -> None:
        """Have streams transcribed by what `factory` makes; any thread may call its `publish`."""
        self._kinds.append(Kind(factory, EVERY, publishes=True))

    def register_attachable(self, factory: Callable[..., Consumer], every: float = EVERY) -> Kind:
        """Add a consumer that no stream begins with: `attach` gives it to one. Otherwise as `register`."""
        kind = Kind(factory, every, is_attachable=True)
        self._kinds.append(kind)
        return kind

    def tap(self, begin: Callable[[Stream, Start], Tap | None]) -> None:
        """Have each stream that starts be tapped by what `begin` returns, if not None.

        A tap costs less than a consumer: nothing waits for a thread of its own.
        """
        self._taps.append(begin)

    def attach(self, stream: Stream, kind: Kind, make: Make) -> None:
        """Give a live stream the consumer that `make` makes, of a kind that is attachable.

        It gets `start` first, and then the audio, keys and marks that come from now on, but no transcripts.
        Does nothing where the stream has ended, or has one of this kind.
        """
        live = self._live.get(stream)
        if live is None or stream.start is None or kind in live.attached:
            return
        live.attached[kind] = feed = kind.begin(make, stream, stream.start)
        self._connect(feed, live.puts)

    def detach(self, stream: Stream, kind: Kind) -> None:
        """Undo `attach`, without waiting for the consumer's `stop`; does nothing where there is none."""
        live = self._live.get(stream)
        feed = live.attached.pop(kind, None) if live is not None else None
        if live is None or feed is None:
            return
        for puts in live.puts:
            if feed.put in puts:
                puts.remove(feed.put)
        feed.end()

    def begin(self, stream: Stream, message: Start) -> Puts:
        """Make the feeds of a stream that has started; return what takes its messages."""
        feeds: list[Feed] = []
        taps = [tap for begin in self._taps if (tap := begin(stream, message)) is not None]
        puts = Puts([tap.put for tap in taps], [tap.put for tap in taps])

        def publish(transcript: Transcript) -> None:
            for tap in taps:
                tap.transcript(transcript)
            for feed in feeds:
                if not feed.kind.publishes:
                    feed.transcript(transcript)

        for kind in self._kinds:
            if kind.is_attachable:
                continue
            make = partial(kind.factory, publish=publish) if kind.publishes else kind.factory
            feed = kind.begin(make, stream, message)
            feeds.append(feed)
            self._connect(feed, puts)
        self._live[stream] = _Live(feeds, puts, taps)
        return puts

    def end(self, stream: Stream) -> None:
        """Let a stream's consumers finish, a recogniser first; wait for them, 3 s in all."""
        live = self._live.pop(stream, None)
        if live is None:  # it has not started
            return
        feeds = [*live.feeds, *live.attached.values()]
        deadline = time.monotonic() + END_SECONDS
        self._end([feed for feed in feeds if feed.kind.publishes], END_SECONDS - _LEFT_SECONDS)
        for tap in live.taps:
            tap.end()
        self._end([feed for feed in feeds if not feed.kind.publishes], deadline - time.monotonic())

    def finish(self, seconds: float) -> None:
        """Wait at most so long until the consumers of all streams have finished, and log which have not."""
        # Not gevent.wait: its time-out counts from when the loop last read the clock, and may end too early.
        with gevent.Timeout(seconds, False):  # type: ignore[arg-type]
            for feed in self._unfinished():
                feed.finished.wait()
        for feed in self._unfinished():
            feed.log_unfinished()

    def _connect(self, feed: Feed, puts: Puts) -> None:
        """Let a feed get what its kind wants, and be run."""
        if feed.kind.wants_chunks:
            puts.chunks.append(feed.put)
        if feed.kind.wants_events:
            puts.events.append(feed.put)
        if not self._ticking:
            self._ticking = gevent.spawn(self._tick)

    def _end(self, feeds: list[Feed], seconds: float) -> None:
        for feed in feeds:
            feed.end()
        with gevent.Timeout(seconds, False):  # type: ignore[arg-type]
            for feed in feeds:
                feed.finished.wait()
        for feed in feeds:
            feed.close(END_SECONDS)
            if feed.missed and self._on_missed is not None:
                self._on_missed(feed.name, feed.missed)

    def _unfinished(self) -> list[Feed]:
        return [feed for kind in self._kinds for feed in kind.feeds if not feed.finished.is_set()]

    def _tick(self) -> None:
        while any(kind.feeds for kind in self._kinds):
            for kind in self._kinds:
                kind.tick()
            gevent.sleep(TICK_SECONDS)
        self._ticking = None
