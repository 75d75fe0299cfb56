"""Who consumes the streams of this process, and the threads in which they do.

The server's thread puts each message into a `Feed` and goes on. Every 200 ms it looks which feeds have
something waiting, and lets a native thread go through them. There is one thread for each kind of consumer,
as long as it gets ahead; where a consumer does not return, another thread takes over the feeds behind it.
A thread is woken for all streams at once: handing a message over costs less than 1 us so, in a thread for
each stream it would be 10.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

import gevent
from gevent.event import AsyncResult, Event
from gevent.hub import get_hub
from gevent.threadpool import ThreadPool

from mediastreams.config import Settings
from mediastreams.consumers.base import Consumer
from mediastreams.consumers.level_meter import Meter
from mediastreams.consumers.recording import Recording, unusable
from mediastreams.protocol.messages import Dtmf, Mark, Media, Start
from mediastreams.streams.stream import Stream, current
from mediastreams.terminal import Console
from mediastreams.transcription import select
from mediastreams.transcription.transcriber import Captions, Transcriber

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.1
EVERY = 0.2 - TICK_SECONDS / 2  # seconds: at the second tick
RECORDED_EVERY = 0.5 - TICK_SECONDS / 2  # what a crash may cost of a recording
MANY = 100  # messages: they come faster than in a call, and are not left to wait
MOST_WAITING = 6000  # messages: a minute of both tracks, 3.6 MB
MOST_BYTES = 1_000_000  # of audio, where messages are larger than Twilio's
MOST_THREADS = 16  # of a kind: so many consumers may be stuck before the others of the kind wait
END_SECONDS = 3.0  # for a consumer to take what waits and to finish, at the end of its stream

Factory = TypeVar("Factory", bound=Callable[[Stream], Consumer])


class Feed:
    """One consumer of one stream, and the messages that wait for it.

    `run` is for another thread, for one at a time; all else is for the server's. `is_due` says that a
    thread has been asked to run it, `finished` that it needs to no more.
    """

    __slots__ = (
        "_consumer",
        "_dropped",
        "_ended",
        "_is_finished",
        "_is_stopped",
        "_loop",
        "_start",
        "_stream",
        "_waiting",
        "finished",
        "is_due",
        "kind",
        "next_run",
    )

    def __init__(self, kind: "_Kind", stream: Stream, start: Start) -> None:
        self.kind = kind
        self.is_due = False
        self.next_run = 0.0
        self.finished = Event()
        self._dropped = 0
        self._stream = stream
        self._start: Start | None = start
        self._waiting: deque[Media | Dtmf | Mark] = deque()
        self._ended = False
        self._is_finished = False
        self._is_stopped = False
        self._consumer: Consumer | None = None
        self._loop: Any = get_hub().loop

    @property
    def name(self) -> str:
        """The consumer's class, or before it is there what makes it, for the log."""
        if self._consumer is not None:
            return type(self._consumer).__name__
        factory = getattr(self.kind.factory, "func", self.kind.factory)  # of a functools.partial
        return getattr(factory, "__name__", repr(factory))

    @property
    def has_work(self) -> bool:
        """Whether there is something for a thread to do."""
        return not self._is_finished and bool(self._waiting or self._start or self._ended)

    def take(self, message: Media | Dtmf | Mark) -> None:
        """Keep a message for the consumer; the oldest that waits is dropped where there are too many."""
        if len(self._waiting) >= MANY:
            self._hurry(message)
        self._waiting.append(message)

    def end(self) -> None:
        """Let the consumer finish after what waits."""
        self._ended = True

    def _hurry(self, message: Media | Dtmf | Mark) -> None:
        if self._is_finished:
            self._waiting.clear()
        elif not self.is_due:
            self.kind.run(self)
        size = len(message.media.payload) if isinstance(message, Media) else 1
        most = max(min(MOST_WAITING, MOST_BYTES // max(size, 1)), MANY)
        while len(self._waiting) >= most:
            with contextlib.suppress(IndexError):  # the thread was faster
                self._waiting.popleft()
            if not self._dropped:
                logger.warning("Stream %s: %s is too slow and misses messages", self._stream.name, self.name)
            self._dropped += 1

    def say_what_it_missed(self) -> None:
        """Log what the consumer did not get, and whether it has not finished, at the end of the stream."""
        if self._dropped:
            self._stream.missed[self.name] = self._dropped
            logger.warning("Stream %s: %s missed %d messages", self._stream.name, self.name, self._dropped)
        if not self.finished.is_set():
            logger.warning(
                "Stream %s: %s has not finished within %g s, and is no longer waited for",
                self._stream.name,
                self.name,
                END_SECONDS,
            )

    def say_what_is_lost(self) -> None:
        """Log what the consumer will not get, at the end of the server."""
        logger.warning(
            "Stream %s: %s is not finished, the server ends with %d messages waiting for it",
            self._stream.name,
            self.name,
            len(self._waiting),
            extra={"stream": self._stream},
        )

    def run(self) -> None:
        """Let the consumer have what waits."""
        current.set(self._stream)
        try:
            self._run()
        except BaseException:  # whatever it is, it must not end the thread of the others
            logger.exception("Stream %s: %s failed and gets nothing more", self._stream.name, self.name)
            self._finish()
        finally:
            self.is_due = False

    def _run(self) -> None:
        if self._is_finished:
            return
        if self._start is not None:
            self._consumer = self.kind.factory(self._stream)
            self._consumer.start(self._start)
            self._start = None
        consumer, waiting = self._consumer, self._waiting
        assert consumer is not None
        ended = self._ended  # before the messages: afterwards none comes
        media, take = consumer.media, waiting.popleft
        for _ in range(len(waiting)):
            try:
                message = take()
            except IndexError:  # the server has dropped the rest
                break
            if type(message) is Media:
                media(message)
            elif isinstance(message, Dtmf):
                consumer.dtmf(message)
            elif isinstance(message, Mark):
                consumer.mark(message)
        if not ended:
            consumer.flush()
            return
        if not self._is_stopped:
            self._is_stopped = True
            consumer.stop()
        if consumer.is_finished():
            self._finish()

    def _finish(self) -> None:
        self._is_finished = True
        self._waiting.clear()
        self._loop.run_callback_threadsafe(self.finished.set)


class _Kind:
    """One registered factory: the feeds of its consumers, and the threads that run them."""

    def __init__(self, factory: Callable[[Stream], Consumer], every: float, last: bool) -> None:
        self.factory = factory
        self.every = every
        self.last = last
        self.feeds: set[Feed] = set()
        self._due: deque[Feed] = deque()
        self._jobs: list[AsyncResult[None]] = []
        self._done = 0  # feeds that were run
        self._done_before = -1
        self._pool: ThreadPool | None = None

    def tick(self) -> None:
        """Have the feeds run whose turn it is; where the threads are stuck, by another one."""
        now = time.monotonic()
        for feed in list(self.feeds):
            if feed.finished.is_set():
                self.feeds.remove(feed)
            elif now >= feed.next_run and not feed.is_due and feed.has_work:
                feed.next_run = now + self.every
                feed.is_due = True
                self._due.append(feed)
        is_stuck = self._done == self._done_before
        self._done_before = self._done
        self._run(most=MOST_THREADS if is_stuck else 1)

    def run(self, feed: Feed) -> None:
        """Have this feed run without waiting for the tick, if a thread is free."""
        if not feed.is_due:
            feed.is_due = True
            self._due.append(feed)
        self._run(most=1)

    def _run(self, most: int) -> None:
        self._jobs = [job for job in self._jobs if not job.ready()]
        if not self._due or len(self._jobs) >= most:
            return
        if self._pool is None:  # not before the first stream: gunicorn may fork after the import
            self._pool = ThreadPool(MOST_THREADS)
        self._jobs.append(self._pool.spawn(self._run_due))

    def _run_due(self) -> None:
        while self._due:
            try:
                feed = self._due.popleft()
            except IndexError:  # another thread was faster
                return
            feed.run()
            self._done += 1


# Those of this process, for its end; `gunicorn` loads more than one application where it is told to.
_all: "WeakSet[Consumers]" = WeakSet()


def finish(seconds: float) -> None:
    """Wait until the consumers of all streams are done, so long at the most, and log which are not."""
    with gevent.Timeout(seconds, False):  # type: ignore[arg-type]
        for consumers in list(_all):
            for feed in consumers.unfinished():
                feed.finished.wait()
    for consumers in list(_all):
        for feed in consumers.unfinished():
            feed.say_what_is_lost()


class Consumers:
    """The consumers of a server's streams: `register` adds one, a `Stream` is given to all of them.

    From the beginning there are a `Recording`, with RECORDINGS_DIR set, and a `Transcriber`, where there is
    an engine for it.
    """

    def __init__(self, settings: Settings) -> None:
        self._kinds: list[_Kind] = []
        self._ticking: Any = None
        _all.add(self)
        self._captions = Captions()
        engine = select.choose(settings)
        if engine is not None:
            self.register(partial(Transcriber, engine=engine, captions=self._captions))
        if settings.recordings_dir is not None:
            if why := unusable(settings.recordings_dir):
                logger.warning("RECORDINGS_DIR=%r cannot be used: %s", settings.recordings_dir, why)
            self.register(partial(Recording, folder=settings.recordings_dir), RECORDED_EVERY, last=True)

    def show_on(self, console: Console) -> None:
        """Show on a terminal's last lines who is speaking, and what is being said."""
        self._captions.console = console
        self.register(partial(Meter, console=console))

    def register(self, factory: Factory, every: float = EVERY, last: bool = False) -> Factory:
        """Add a consumer: a class, or what else makes a `Consumer` of a `Stream`. Returns it.

        It is called for each stream that starts from now on, in the thread of its consumers. `every` is how
        many seconds of messages these get at once; to handle more at once costs less. One that is `last` is
        stopped when the others have finished, because it keeps what they have found.
        """
        self._kinds.append(_Kind(factory, every, last))
        return factory

    def begin(self, stream: Stream, message: Start) -> Sequence[Feed]:
        """Return a feed for each consumer of a stream that has started."""
        feeds = []
        for kind in self._kinds:
            feed = Feed(kind, stream, message)
            kind.feeds.add(feed)
            feeds.append(feed)
        if feeds and not self._ticking:
            self._ticking = gevent.spawn(self._tick)
        return feeds

    def end(self, feeds: Sequence[Feed]) -> None:
        """Let the consumers of a stream finish, and wait for them: for those that are not `last`, for these.

        It waits 3 s at the most, both times.
        """
        for last in (False, True):
            ending = [feed for feed in feeds if feed.kind.last == last]
            for feed in ending:
                feed.end()
                feed.kind.run(feed)
            with gevent.Timeout(END_SECONDS, False):  # type: ignore[arg-type]
                for feed in ending:
                    feed.finished.wait()
            for feed in ending:
                feed.say_what_it_missed()

    def unfinished(self) -> list[Feed]:
        """Return the feeds of which the consumers are not done."""
        return [feed for kind in self._kinds for feed in kind.feeds if not feed.finished.is_set()]

    def _tick(self) -> None:
        while any(kind.feeds for kind in self._kinds):
            for kind in self._kinds:
                kind.tick()
            gevent.sleep(TICK_SECONDS)
        self._ticking = None
