"""A call that this worker has: what its entries bring goes to one consumer."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from mediastreams.cluster.connection import AwayError
from mediastreams.cluster.entries import Begun, Done, EndItem, Entry, Heard, MediaItem, StopItem, Words
from mediastreams.cluster.group import LEASE_SECONDS, Group, Lease, Place
from mediastreams.cluster.stream import RemoteStream
from mediastreams.consumers.base import Consumer
from mediastreams.streams.stream import Stream, current
from mediastreams.streams.transcript import Transcript
from mediastreams.text import printable

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 1.0
MAX_WAITING = 100  # entries; more stay in Redis until the consumer has taken these
_MARGIN = 0.5  # seconds before a lease ends in which nothing is begun
_MAX_WORDS = 1000  # that wait for Redis; then the oldest are dropped
_MAX_PLACES = 200  # entries, 40 s: audio that a consumer gets again is not older
_STUCK_SECONDS = 10.0  # in one method of the consumer
_LOST_AFTER = 2.0  # seconds, beside IDLE_TIMEOUT: the server itself judges first

Publish = Callable[[Transcript], None]
Unheard = Callable[[float], None]


@dataclass(frozen=True)
class Kind:
    """A consumer that a worker runs."""

    name: str
    """What the log calls it."""
    make: Callable[[Stream, Publish, Unheard], Consumer]
    """Makes one of a stream, of what publishes a text, and of what counts seconds that are not recognised."""
    recognises: bool = False
    """Whether it is a recogniser: it ends with the audio, before the other consumers of the call."""
    every: float = 0.0
    """Seconds from one `flush` to the next, at least."""
    hides_keys: bool = False
    """Whether logs and accounts show no key here, whatever the server shows."""


class Job:
    """A call and its consumer, from the lease on until the consumer has finished, or another worker has it.

    `run` is for one thread of the pool at a time; all else for the thread of the group's loop.
    """

    lease: Lease
    cursor: bytes
    """The ID of the last entry that was read."""
    is_running: bool = False
    """Whether a thread was asked to run it."""
    is_finishing: bool = False
    """Whether it is being taken out of the group, which may not have it any more."""
    is_over: bool = False
    """Whether there is nothing more to do."""

    def __init__(self, kind: Kind, group: Group, lease: Lease) -> None:
        self.lease = lease
        self.cursor = lease.place.cursor
        self.words: deque[Words] = deque(maxlen=_MAX_WORDS)
        self._kind = kind
        self._group = group
        self._stream = RemoteStream(lease.announced, kind.hides_keys)
        self._stream.recall(lease.place.stream)
        self._label = f"Stream {self._stream.name}: {kind.name}"
        self._valid_until = lease.asked_at + LEASE_SECONDS - _MARGIN
        self._came_at = time.monotonic()
        self._waiting: deque[tuple[bytes, Entry]] = deque()
        self._consumer: Consumer | None = None
        self._place = lease.place
        # Of the entries that the consumer got: each with the place before it, and where its audio ends.
        self._places: deque[tuple[Place, int]] = deque(maxlen=_MAX_PLACES)
        self._flushed_at = self._kept_at = 0.0  # when it was flushed, and when the last checkpoint was kept
        self._missed = 0  # entries
        self._unheard = 0.0  # seconds
        self._has_sent_done = False
        self._has_ended = False
        self._is_stopped = False
        self._has_failed = self._is_unreadable = False
        self._is_lost = False
        self._is_handed_over = False
        # When the consumer has returned last, or the run has begun; None: no thread runs it.
        self._runs_since: float | None = None
        self._was_stuck = False

    @property
    def wants_entries(self) -> bool:
        """Whether entries are to be read for it."""
        return not self._has_ended and not self._is_unreadable and len(self._waiting) < MAX_WAITING

    @property
    def has_work(self) -> bool:
        """Whether `run` has something to do."""
        return bool(self._consumer is None or self._waiting or self._is_done or self._is_handed_over)

    @property
    def _is_done(self) -> bool:
        return self._is_stopped or self._has_failed or self._is_lost

    @property
    def is_mine(self) -> bool:
        """Whether no other worker can have the call yet: its lease does not end within half a second."""
        return time.monotonic() < self._valid_until

    def renewed(self, asked_at: float) -> None:
        """Note that the lease was renewed; Redis was asked at `asked_at`, on the monotonic clock."""
        self._valid_until = asked_at + LEASE_SECONDS - _MARGIN

    def lose(self) -> None:
        """Give the call up: another worker has it."""
        if not self._is_lost:
            logger.warning("%s is another worker's now", self._label)
        self._is_lost = True

    def hand_over(self) -> None:
        """Let another worker go on with the call."""
        self._is_handed_over = True

    def back(self) -> None:
        """Note that Redis is back: the time in which nothing could come does not count."""
        self._came_at = time.monotonic()

    def add(self, id: bytes, entry: Entry) -> None:
        """Add an entry that was read."""
        self.cursor = id
        self._came_at = time.monotonic()
        if entry.call == self.lease.announced.call:  # else of a former stream with the same SID
            self._waiting.append((id, entry))

    def skip(self, id: bytes, why: str) -> None:
        """Pass over an entry that cannot be read."""
        self.cursor = id
        logger.error("%s misses entry %s, it cannot be used: %s", self._label, id.decode(), printable(why))

    def fail(self, why: str) -> None:
        """End the call: its entries cannot be read."""
        logger.error("%s: its entries cannot be read: %s", self._label, printable(why))
        self._is_unreadable = True
        self._waiting.append((self.cursor, Entry("", 0, [EndItem("failed", time.time())])))

    def judge(self) -> None:
        """End the call if its server is lost: it has sent nothing for longer than IDLE_TIMEOUT."""
        if self._waiting or self._has_ended:
            return
        if time.monotonic() - self._came_at > self.lease.announced.idle_timeout + _LOST_AFTER:
            logger.warning("%s: its server %s is lost", self._label, self.lease.announced.server)
            self._waiting.append((self.cursor, Entry("", 0, [EndItem("server lost", time.time())])))

    def run(self) -> None:
        """Hand what has come to the consumer."""
        token = current.set(self._stream)
        self._runs_since = time.monotonic()
        try:
            self._run()
        except AwayError:  # it has been logged; the next run tries again
            pass
        except BaseException:  # whatever it is, it must not end the thread of the others
            logger.exception("%s failed and gets nothing more", self._label)
            self._has_failed = True
            self._abandon()
        finally:
            current.reset(token)
            self._runs_since = None
            self.is_running = False

    def warn_if_stuck(self) -> None:
        """Log, once, that a method of the consumer does not return.

        The call stays here: another worker's consumer would not return either.
        """
        since = self._runs_since
        if since is None or self._was_stuck or time.monotonic() - since < _STUCK_SECONDS:
            return
        self._was_stuck = True
        logger.warning("%s has not returned for %g s, and holds its call", self._label, _STUCK_SECONDS)

    def _run(self) -> None:
        if self._is_lost:
            self._abandon()
            self.is_over = True
            return
        if not self.is_mine:  # until the lease is renewed, or lost
            return
        if self._has_failed:
            self._finish()
            return
        if self._consumer is None:
            if self._is_handed_over:
                self._hand_on()
                return
            self._begin()
        self._feed_waiting()
        if self._has_ended:
            self._end()
        elif self._is_handed_over:
            self._hand_on()
        else:
            self._flush()

    def _begin(self) -> None:
        announced, place = self.lease.announced, self.lease.place
        consumer = self._kind.make(self._stream, self._publish, self._on_unheard)
        self._consumer = consumer
        if self._kind.recognises:
            self.words.append(Begun(announced.call))
        if self.lease.is_takeover:
            logger.info("%s is taken over", self._label)
            consumer.resume(announced.start, place.state)
        else:
            logger.info("%s is taken", self._label)
            consumer.start(announced.start)

    def _feed_waiting(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        while self._waiting and not self._has_ended and self.is_mine:
            id, entry = self._waiting.popleft()
            before = self._place
            if not entry.n:
                self._feed(entry, consumer)
                continue
            if entry.n <= before.n:  # a repeat: its server did not know that Redis had it
                continue
            if entry.n > before.n + 1:
                self._miss(entry.n - before.n - 1)
            self._feed(entry, consumer)
            self._place = Place(id, entry.n)
            self._places.append((before, _audio_end(entry)))

    def _feed(self, entry: Entry, consumer: Consumer) -> None:
        for item in entry.items:
            self._runs_since = time.monotonic()
            self._stream.feed(item, consumer)
            if isinstance(item, EndItem) or (self._kind.recognises and isinstance(item, StopItem)):
                self._has_ended = True
                return

    def _miss(self, entries: int) -> None:
        if not self._missed:
            logger.warning("%s misses entries, Redis does not have them any more", self._label)
        self._missed += entries

    def _flush(self) -> None:
        now = time.monotonic()
        if not self.is_mine or now - self._flushed_at < self._kind.every:
            return
        assert self._consumer is not None
        self._flushed_at = now
        self._consumer.flush()
        if now - self._kept_at >= CHECKPOINT_SECONDS:
            self._keep()

    def _end(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        if not self._is_stopped:
            if not self.is_mine:
                return
            self._is_stopped = True
            consumer.stop()
            if self._missed:
                logger.warning("%s missed %d entries", self._label, self._missed)
        if consumer.is_finished():
            self._finish()

    def _finish(self) -> None:
        if self._kind.recognises and not self._has_sent_done:
            self._has_sent_done = True
            self.words.append(Done(self.lease.announced.call, self._unheard))
        if self.words:  # they are sent first: nobody else would
            return
        self.is_finishing = True
        try:
            if not self._group.finish(self.lease):
                self.lose()
            self.is_over = True
        finally:
            self.is_finishing = False

    def _keep(self) -> bool:
        """Keep a checkpoint; return whether that was done.

        Not while words wait, which another worker would not say again: they are sent first.
        """
        assert self._consumer is not None
        checkpoint = self._consumer.checkpoint()
        if self.words:
            return False
        place = self._place
        if checkpoint is not None:
            if checkpoint.position is not None:
                place = next((before for before, end in self._places if end > checkpoint.position), place)
            place = Place(place.cursor, place.n, True, checkpoint.state)
        self._kept_at = time.monotonic()
        if self._group.checkpoint(self.lease, replace(place, stream=self._stream.known())):
            return True
        self.lose()
        return False

    def _hand_on(self) -> None:
        if self._consumer is not None:
            self._consumer.flush()
            if not self._keep():
                return
        self._group.release(self.lease)
        self.is_over = True  # also where the consumer raises: the call is another worker's
        self._abandon()

    def _abandon(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.abandon()

    def _publish(self, transcript: Transcript) -> None:
        t = transcript
        self.words.append(Heard(self.lease.announced.call, t.track, t.text, t.final, t.start, t.end, t.lag))

    def _on_unheard(self, seconds: float) -> None:
        self._unheard += seconds


def _audio_end(entry: Entry) -> int:
    """Return the position behind the last audio of an entry; -1 without any."""
    ends = [-1]
    for item in entry.items:
        if not isinstance(item, MediaItem):
            continue
        if isinstance(item.position, int):
            ends.append(item.position + len(item.payload))
        elif item.position:
            ends += [start + len(part) for start, part in item.position]
    return max(ends)
