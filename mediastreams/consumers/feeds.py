"""Queues between the streams and their consumers, and the threads that empty them.

The server's thread puts each message into the `Feed` of each consumer and goes on. Every 200 ms a native
thread runs the feeds in which something waits: one thread for each kind of consumer, and where a consumer
does not return, another one for the feeds behind it. A thread is woken for all streams at once: handing a
message over costs less than 1 us so; with a thread for each stream it would be 10.

A consumer that wants no audio gets what is rare, and at once (`EventFeed`): to look every 200 ms whether
something waits for one of 1,000 would cost 0.8 % of a core.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gevent.event import AsyncResult, Event
from gevent.hub import get_hub
from gevent.threadpool import ThreadPool

from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Dtmf, Mark, Start
from mediastreams.streams.stream import Chunk, Stream, current
from mediastreams.streams.transcript import Transcript

logger = logging.getLogger(__name__)

MANY = 100  # messages: they come faster than in a call, so the feed runs at once
MAX_WAITING = 6000  # messages: a minute of both tracks, 3.6 MB
MAX_BYTES = 1_000_000  # of audio, where messages are larger than Twilio's
MAX_THREADS = 16  # of a kind: so many consumers may be stuck before the others of the kind wait

Make = Callable[[Stream], Consumer]


class Feed:
    """The queue of one consumer of one stream.

    `put` is for the thread that receives the stream's messages, `transcript` for any thread, `run` for one
    thread of the kind's at a time, all else for the server's thread.
    """

    def __init__(self, kind: "Kind", make: Make, stream: Stream, start: Start) -> None:
        self.kind = kind
        self.name = kind.name  # for the log; when the consumer is made, its class
        self.missed = 0  # messages that were dropped
        self.is_due = False  # a thread was asked to run it
        self.next_run = 0.0  # the earliest, on the monotonic clock
        self.finished = Event()  # the consumer has finished, or failed
        self._make = make
        self._stream = stream
        self._start: Start | None = start  # until the consumer got it
        self._waiting: deque[Chunk | Dtmf | Mark | Transcript] = deque()
        self._has_ended = False
        self._is_stopped = False
        self._is_finished = False
        self._consumer: Consumer | None = None
        self._loop: Any = get_hub().loop

    @property
    def _label(self) -> str:
        return f"Stream {self._stream.name}: {self.name}"

    @property
    def has_work(self) -> bool:
        """Whether there is something for a thread to do."""
        return not self._is_finished and bool(self._waiting or self._start or self._has_ended)

    def put(self, item: Chunk | Dtmf | Mark) -> None:
        """Queue an item; where too many wait, the oldest are dropped and counted."""
        if len(self._waiting) >= MANY:
            self._hurry(len(item[0].media.payload) if type(item) is tuple else 1)
        self._waiting.append(item)

    def transcript(self, transcript: Transcript) -> None:
        """Queue a transcript and run at once; a partial one is dropped where too many items wait."""
        if transcript.final or len(self._waiting) < MAX_WAITING:
            self._waiting.append(transcript)
            self._loop.run_callback_threadsafe(self.kind.run, self)

    def end(self) -> None:
        """Let the consumer finish after what waits."""
        self._has_ended = True
        self.kind.end(self)

    def close(self, waited: float) -> None:
        """Log what the consumer missed, and whether it has not finished after `waited` seconds."""
        if self.missed:
            logger.warning("%s missed %d messages", self._label, self.missed)
        if not self.finished.is_set():
            logger.warning(
                "%s has not finished within %g s, and is no longer waited for", self._label, waited
            )

    def log_unfinished(self) -> None:
        """Log how many messages the consumer will not get, because the server ends."""
        logger.warning(
            "%s is not finished, the server ends with %d messages waiting for it",
            self._label,
            len(self._waiting),
            extra={"stream": self._stream},
        )

    def run(self) -> None:
        """Hand what waits to the consumer."""
        token = current.set(self._stream)
        try:
            if not self._is_finished:
                self._run()
        except BaseException:  # whatever it is, it must not end the thread of the others
            logger.exception("%s failed and gets nothing more", self._label)
            self._finish()
        finally:
            current.reset(token)
            self.is_due = False

    def _hurry(self, size: int) -> None:
        if self._is_finished:
            self._waiting.clear()
        elif not self.is_due:
            self.kind.run(self)
        room = max(min(MAX_WAITING, MAX_BYTES // max(size, 1)), MANY)
        while len(self._waiting) >= room:
            with contextlib.suppress(IndexError):  # the thread was faster
                self._waiting.popleft()
            if not self.missed:
                logger.warning("%s is too slow and misses messages", self._label)
            self.missed += 1

    def _run(self) -> None:
        if self._start is not None:
            self._consumer = self._make(self._stream)
            self.name = type(self._consumer).__name__
            self._consumer.start(self._start)
            self._start = None
        consumer = self._consumer
        assert consumer is not None
        has_ended = self._has_ended  # before the messages: afterwards none comes
        for _ in range(len(self._waiting)):
            try:
                item = self._waiting.popleft()
            except IndexError:  # the server has dropped the rest
                break
            _hand_over(item, consumer)
        if not has_ended:
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


class EventFeed(Feed):
    """The queue of a consumer that wants no audio: it runs as soon as something waits."""

    def put(self, item: Chunk | Dtmf | Mark) -> None:
        """Queue a key or a mark, and run."""
        super().put(item)
        self.kind.run(self)

    def run(self) -> None:
        """Hand what waits to the consumer, and run again for what came meanwhile."""
        super().run()
        if not self._is_finished and (self._waiting or (self._has_ended and not self._is_stopped)):
            self._loop.run_callback_threadsafe(self.kind.run, self)


def _hand_over(item: Chunk | Dtmf | Mark | Transcript, consumer: Consumer) -> None:
    if type(item) is tuple:  # nearly all are
        message, position, filled = item
        consumer.media(message)
        track, payload = message.media.track, message.media.payload
        if filled is None:
            consumer.audio(track, position, payload)
            return
        for part in filled:
            consumer.audio(track, part.start, payload[part.start - position : part.stop - position])
    elif isinstance(item, Transcript):
        consumer.transcript(item)
    elif isinstance(item, Dtmf):
        consumer.dtmf(item)
    elif isinstance(item, Mark):
        consumer.mark(item)


class Kind:
    """One registered factory: the feeds of the consumers it makes, and the threads that run them.

    For the server's thread; `_run_due` is what the pool's threads run.
    """

    def __init__(
        self,
        factory: Callable[..., Consumer],
        every: float,
        *,
        publishes: bool = False,
        is_attachable: bool = False,
    ) -> None:
        """Make a kind whose feeds run every so many seconds.

        `publishes`: what it makes is a recogniser. `is_attachable`: no stream begins with one.
        """
        made_by = getattr(factory, "func", factory)  # of a functools.partial
        self.factory = factory
        self.name: str = getattr(made_by, "__name__", repr(made_by))
        self.publishes = publishes
        self.is_attachable = is_attachable
        # What the consumers want beside transcripts, as far as the class shows.
        self.wants_chunks = _has(made_by, "media", "audio", "flush")
        self.wants_events = self.wants_chunks or _has(made_by, "dtmf", "mark")
        self.feeds: set[Feed] = set()  # of which the consumer has not finished
        self._ticked: set[Feed] = set()  # those at which the tick looks
        self._every = every
        self._due: deque[Feed] = deque()
        self._jobs: list[AsyncResult[None]] = []
        self._runs = 0  # of feeds
        self._runs_before = -1  # the last tick
        self._pool: ThreadPool | None = None

    def begin(self, make: Make, stream: Stream, start: Start) -> Feed:
        """Return a new feed, for a consumer that `make` makes."""
        feed = (Feed if self.wants_chunks else EventFeed)(self, make, stream, start)
        self.feeds.add(feed)
        if self.wants_chunks:
            self._ticked.add(feed)
        else:
            self.run(feed)
        return feed

    def end(self, feed: Feed) -> None:
        """Run a feed that gets nothing more, again and again until its consumer has finished."""
        if feed not in self.feeds:  # it has failed before
            return
        self._ticked.add(feed)
        self.run(feed)

    def tick(self) -> None:
        """Run the feeds that are due; in one more thread where the others are stuck."""
        now = time.monotonic()
        for feed in list(self._ticked):
            if feed.finished.is_set():
                self._ticked.remove(feed)
                self.feeds.remove(feed)
            elif now >= feed.next_run and not feed.is_due and feed.has_work:
                feed.next_run = now + self._every
                feed.is_due = True
                self._due.append(feed)
        is_stuck = self._runs == self._runs_before
        self._runs_before = self._runs
        self._wake(MAX_THREADS if is_stuck else 1)

    def run(self, feed: Feed) -> None:
        """Run this feed without waiting for the tick, if a thread is free."""
        if not feed.is_due:
            feed.is_due = True
            self._due.append(feed)
        self._wake(1)

    def _wake(self, max_threads: int) -> None:
        self._jobs = [job for job in self._jobs if not job.ready()]
        if not self._due or len(self._jobs) >= max_threads:
            return
        if self._pool is None:  # not before the first stream: gunicorn may fork after the import
            self._pool = ThreadPool(MAX_THREADS)
        job = self._pool.spawn(self._run_due)
        job.rawlink(self._rewake)
        self._jobs.append(job)

    def _rewake(self, _job: "AsyncResult[None]") -> None:
        # What became due after the thread had looked for the last time, but before its job counted as ended.
        self._wake(1)

    def _run_due(self) -> None:
        while self._due:
            try:
                feed = self._due.popleft()
            except IndexError:  # another thread was faster
                return
            feed.run()
            self._runs += 1


def _has(made_by: object, *methods: str) -> bool:
    """Return whether a class of consumers has one of these methods; True for what is no class."""
    return not isinstance(made_by, type) or any(
        getattr(made_by, name) is not getattr(Consumer, name) for name in methods
    )
