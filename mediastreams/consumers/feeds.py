"""The consumers of the streams of this process, and the threads in which they run.

The server's thread puts each message into a `Feed` and goes on. Every 200 ms it looks which feeds have
something waiting, and lets a native thread go through them. There is one thread for each kind of consumer, as
long as it gets ahead; where a consumer does not return, another thread takes over the feeds behind it. A
thread is woken for all streams at once: handing a message over costs less than 1 us so, in a thread for each
stream it would be 10.

One kind may be the recogniser. It also publishes: its transcripts go to the feeds of the stream's other
consumers. So these end after it, and each gets every transcript before its `stop`.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult, Event
from gevent.hub import get_hub
from gevent.threadpool import ThreadPool

from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Dtmf, Mark, Start
from mediastreams.streams.stream import Chunk, Stream, current
from mediastreams.streams.transcript import Transcript

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.1
EVERY = 0.2 - TICK_SECONDS / 2  # seconds: at the second tick
MANY = 100  # messages: they come faster than in a call, and are not left to wait
MAX_WAITING = 6000  # messages: a minute of both tracks, 3.6 MB
MAX_BYTES = 1_000_000  # of audio, where messages are larger than Twilio's
MAX_THREADS = 16  # of a kind: so many consumers may be stuck before the others of the kind wait
END_SECONDS = 3.0  # for the consumers to take what waits and to finish, at the end of their stream
_LEFT_SECONDS = 0.25  # of these, for those that end after the recogniser

Make = Callable[[Stream], Consumer]
Publish = Callable[[Transcript], None]
Factory = TypeVar("Factory", bound=Make)
_Item = Chunk | Dtmf | Mark | Transcript


class Feed:
    """One consumer of one stream, and what waits for it.

    `media` and `event` are for the thread that receives the stream's messages, `transcript` is for any
    thread, and `run` for one thread of the kind's at a time; all else is for the server's thread.
    """

    def __init__(self, kind: "_Kind", make: Make, stream: Stream, start: Start) -> None:
        self.kind = kind
        self.is_due = False  # a thread has been asked to run it
        self.next_run = 0.0
        self.finished = Event()
        self._dropped = 0
        self._make = make
        self._stream = stream
        self._start: Start | None = start
        self._waiting: deque[_Item] = deque()
        self._ended = False
        self._is_finished = False
        self._is_stopped = False
        self._consumer: Consumer | None = None
        self._loop: Any = get_hub().loop

    @property
    def name(self) -> str:
        """The consumer's class, or before it is made what makes it, for the log."""
        return self.kind.name if self._consumer is None else type(self._consumer).__name__

    @property
    def has_work(self) -> bool:
        """Whether there is something for a thread to do."""
        return not self._is_finished and bool(self._waiting or self._start or self._ended)

    def media(self, chunk: Chunk) -> None:
        """Keep a chunk of audio; the oldest that waits is dropped where there are too many."""
        if len(self._waiting) >= MANY:
            self._hurry(len(chunk[0].media.payload))
        self._waiting.append(chunk)

    def event(self, message: Dtmf | Mark) -> None:
        """Keep a key or a mark, likewise."""
        if len(self._waiting) >= MANY:
            self._hurry(1)
        self._waiting.append(message)

    def transcript(self, transcript: Transcript) -> None:
        """Keep a transcript and run at once; a partial one is dropped where too much waits."""
        if transcript.final or len(self._waiting) < MAX_WAITING:
            self._waiting.append(transcript)
            self._loop.run_callback_threadsafe(self.kind.run, self)

    def end(self) -> None:
        """Let the consumer finish after what waits."""
        self._ended = True

    def _hurry(self, size: int) -> None:
        if self._is_finished:
            self._waiting.clear()
        elif not self.is_due:
            self.kind.run(self)
        room = max(min(MAX_WAITING, MAX_BYTES // max(size, 1)), MANY)
        while len(self._waiting) >= room:
            with contextlib.suppress(IndexError):  # the thread was faster
                self._waiting.popleft()
            if not self._dropped:
                logger.warning("Stream %s: %s is too slow and misses messages", self._stream.name, self.name)
            self._dropped += 1

    def close(self) -> int:
        """Log whether the consumer missed messages or has not finished; return how many it missed."""
        if self._dropped:
            logger.warning("Stream %s: %s missed %d messages", self._stream.name, self.name, self._dropped)
        if not self.finished.is_set():
            logger.warning(
                "Stream %s: %s has not finished within %g s, and is no longer waited for",
                self._stream.name,
                self.name,
                END_SECONDS,
            )
        return self._dropped

    def log_what_is_lost(self) -> None:
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
        token = current.set(self._stream)
        try:
            self._run()
        except BaseException:  # whatever it is, it must not end the thread of the others
            logger.exception("Stream %s: %s failed and gets nothing more", self._stream.name, self.name)
            self._finish()
        finally:
            current.reset(token)
            self.is_due = False

    def _run(self) -> None:
        if self._is_finished:
            return
        if self._start is not None:
            self._consumer = self._make(self._stream)
            self._consumer.start(self._start)
            self._start = None
        consumer = self._consumer
        assert consumer is not None
        ended = self._ended  # before the messages: afterwards none comes
        for _ in range(len(self._waiting)):
            try:
                item = self._waiting.popleft()
            except IndexError:  # the server has dropped the rest
                break
            _hand_over(item, consumer)
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


def _hand_over(item: _Item, consumer: Consumer) -> None:
    if type(item) is tuple:
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


class _Kind:
    """One registered factory: the feeds of its consumers, and the threads that run them."""

    def __init__(self, factory: Callable[..., Consumer], every: float) -> None:
        self.factory = factory
        self.every = every
        self.feeds: set[Feed] = set()
        self._due: deque[Feed] = deque()
        self._jobs: list[AsyncResult[None]] = []
        self._done = 0  # feeds that were run
        self._done_before = -1
        self._pool: ThreadPool | None = None

    @property
    def name(self) -> str:
        """The name of what makes its consumers."""
        made_by = getattr(self.factory, "func", self.factory)  # of a functools.partial
        return getattr(made_by, "__name__", repr(made_by))

    @property
    def wants_messages(self) -> bool:
        """Whether its consumers want more than transcripts, as far as can be told."""
        cls = getattr(self.factory, "func", self.factory)
        if not isinstance(cls, type):
            return True
        return any(
            getattr(cls, name) is not getattr(Consumer, name)
            for name in ("media", "audio", "dtmf", "mark", "flush")
        )

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
        self._run(at_most=MAX_THREADS if is_stuck else 1)

    def run(self, feed: Feed) -> None:
        """Have this feed run without waiting for the tick, if a thread is free."""
        if not feed.is_due:
            feed.is_due = True
            self._due.append(feed)
        self._run(at_most=1)

    def _run(self, at_most: int) -> None:
        self._jobs = [job for job in self._jobs if not job.ready()]
        if not self._due or len(self._jobs) >= at_most:
            return
        if self._pool is None:  # not before the first stream: gunicorn may fork after the import
            self._pool = ThreadPool(MAX_THREADS)
        self._jobs.append(self._pool.spawn(self._run_due))

    def _run_due(self) -> None:
        while self._due:
            try:
                feed = self._due.popleft()
            except IndexError:  # another thread was faster
                return
            feed.run()
            self._done += 1


class Consumers:
    """The consumers of a server's streams: `register` adds one, a `Stream` is given to all of them.

    `on_missed` is called at the end of a stream with a consumer's name and how many messages it missed.

    For the server's thread.
    """

    def __init__(self, on_missed: Callable[[str, int], None] | None = None) -> None:
        self._kinds: list[_Kind] = []
        self._recogniser: _Kind | None = None
        self._feeds: dict[Stream, tuple[Feed | None, list[Feed]]] = {}
        self._on_missed = on_missed
        self._ticking: Any = None

    def register(self, factory: Factory, every: float = EVERY) -> Factory:
        """Add a consumer: a class, or what else makes a `Consumer` of a `Stream`. Returns it.

        It is called for each stream that starts from now on, in the thread of its consumers. `every` is how
        many seconds of messages these get at once; to handle more at once costs less.
        """
        self._kinds.append(_Kind(factory, every))
        return factory

    def recognise(self, factory: Callable[[Stream, Publish], Consumer]) -> None:
        """Have streams transcribed by what `factory` makes; its `publish` takes the transcripts.

        That function may be called in any thread.
        """
        self._recogniser = _Kind(factory, EVERY)

    def begin(self, stream: Stream, message: Start) -> Sequence[Feed]:
        """Return the feeds of a stream that has started: of each consumer that wants its messages."""
        feeds = [Feed(kind, kind.factory, stream, message) for kind in self._kinds]
        recogniser = None
        if self._recogniser is not None:

            def publish(transcript: Transcript) -> None:
                for feed in feeds:
                    feed.transcript(transcript)

            make = partial(self._recogniser.factory, publish=publish)
            recogniser = Feed(self._recogniser, make, stream, message)
        self._feeds[stream] = recogniser, feeds
        every = [recogniser, *feeds] if recogniser else feeds
        for feed in every:
            feed.kind.feeds.add(feed)
        if every and not self._ticking:
            self._ticking = gevent.spawn(self._tick)
        return [feed for feed in every if feed.kind.wants_messages]

    def end(self, stream: Stream) -> None:
        """Let a stream's consumers finish, the recogniser first; wait for them, 3 s in all."""
        recogniser, feeds = self._feeds.pop(stream, (None, []))  # without start it has none
        deadline = time.monotonic() + END_SECONDS
        if recogniser is not None:
            self._end([recogniser], END_SECONDS - _LEFT_SECONDS)
        self._end(feeds, deadline - time.monotonic())

    def finish(self, seconds: float) -> None:
        """Wait until the consumers of all streams are done, so long at most, and log which are not."""
        with gevent.Timeout(seconds, False):  # type: ignore[arg-type]
            for feed in self._unfinished():
                feed.finished.wait()
        for feed in self._unfinished():
            feed.log_what_is_lost()

    def _end(self, feeds: list[Feed], seconds: float) -> None:
        for feed in feeds:
            feed.end()
            feed.kind.run(feed)
        with gevent.Timeout(seconds, False):  # type: ignore[arg-type]
            for feed in feeds:
                feed.finished.wait()
        for feed in feeds:
            missed = feed.close()
            if missed and self._on_missed is not None:
                self._on_missed(feed.name, missed)

    def _unfinished(self) -> list[Feed]:
        kinds = [*self._kinds, self._recogniser] if self._recogniser else self._kinds
        return [feed for kind in kinds for feed in kind.feeds if not feed.finished.is_set()]

    def _tick(self) -> None:
        kinds = [*self._kinds, self._recogniser] if self._recogniser else self._kinds
        while any(kind.feeds for kind in kinds):
            for kind in kinds:
                kind.tick()
            gevent.sleep(TICK_SECONDS)
        self._ticking = None
