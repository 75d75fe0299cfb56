"""A worker: takes calls of each consumer's group, reads their entries, and runs the consumers.

For each kind of consumer and each shard there is one loop, a thread that talks to Redis; the consumers run in
the threads of a pool. Nothing here uses gevent's hub.
"""

import itertools
import logging
import math
import os
import secrets
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis.exceptions import ResponseError

from mediastreams.cluster.commands import read_streams
from mediastreams.cluster.connection import AwayError, Shard, Shards, is_refusal
from mediastreams.cluster.entries import EntryError, Fields, audio_key, decode_entry, encode, words_key
from mediastreams.cluster.group import LEASE_SECONDS, Group, Lease
from mediastreams.cluster.job import MAX_WAITING, Job, Kind
from mediastreams.text import printable

logger = logging.getLogger(__name__)

READ_SECONDS = 0.05
_RENEW_SECONDS = 1.0
_TAKE_SECONDS = 0.1
_TAKE_OVER_SECONDS = 0.4
_MAX_THREADS = 32  # of a kind
_MAX_READ = 10_000  # entries at once: meanwhile no lease is renewed
_MAX_WORDS = 10_000  # that wait for a server
_WORDS_KEPT_SECONDS = 7200
_START_SECONDS = 2.0
_RELEASE_SECONDS = 3.0  # for what hands calls over, at the end


class Slots:
    """How many more calls a worker takes of one kind. Any thread may use it."""

    def __init__(self, free: int, loops: int) -> None:
        """Make it for so many loops, which share what is free."""
        self._free = free
        self._loops = loops
        self._lock = threading.Lock()

    def take(self) -> int:
        """Take some that are free, and return how many.

        Not all where there are other loops: this one's Redis may not answer for a while.
        """
        with self._lock:
            taken = math.ceil(self._free / self._loops)
            self._free -= taken
        return taken

    def give(self, slots: int) -> None:
        """Give back what is not used, or not any more."""
        with self._lock:
            self._free += slots


class Loop:
    """The calls of one kind of consumer on one shard: takes them, renews the leases, reads what comes.

    For one thread; `drain` and `hand_over` may be called by another.
    """

    def __init__(self, kind: Kind, shard: Shard, group: str, worker: str, slots: Slots) -> None:
        self.name = kind.name
        self.jobs: dict[bytes, Job] = {}
        self.asked = threading.Event()  # it has asked Redis for calls
        self._kind = kind
        self._shard = shard
        self._group = Group(shard, group, worker)
        self._slots = slots
        self._pool = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix=kind.name)
        self._is_draining = False
        self._is_handing_over = False
        self._take_at = self._renew_at = self._take_over_at = 0.0
        self._was_away = False
        self._fault = ""

    def drain(self) -> None:
        """Take no more calls."""
        self._is_draining = True

    def hand_over(self) -> None:
        """Let other workers go on with the calls that are there."""
        self._is_handing_over = True

    def run(self, ended: threading.Event) -> None:
        """Work until `ended` is set."""
        while not ended.wait(READ_SECONDS):
            try:
                self._turn()
            except AwayError:
                self._was_away = True
            except ResponseError as error:  # such as a key of another type
                self._note_fault(printable(str(error)))
            except Exception as error:
                if repr(error) != self._fault:
                    self._fault = repr(error)
                    logger.exception("Redis %s: a turn of %s failed", self._shard.name, self._kind.name)
            self._run_jobs()

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew(now)
        if self._was_away:
            self._was_away = False
            # The others have been away as well, and renew what is theirs first.
            self._take_over_at = now + LEASE_SECONDS
            for job in self.jobs.values():
                job.back()
        if not self._is_draining and now >= self._take_at:
            self._take(now)
        self.asked.set()
        self._read()
        self._send_words()
        for job in self.jobs.values():
            job.judge()

    def _note_fault(self, fault: str) -> None:
        """Log what is wrong, if it was not the last time."""
        if fault != self._fault:
            self._fault = fault
            logger.error("Redis %s: %s", self._shard.name, fault)

    def _renew(self, now: float) -> None:
        kept = self._group.renew([job.lease for job in self.jobs.values()])
        for id, job in self.jobs.items():
            if id in kept:
                job.renewed(now)
            elif not (job.is_finishing or job.is_over):
                job.lose()
        self._renew_at = now + _RENEW_SECONDS

    def _take(self, now: float) -> None:
        free = self._slots.take()
        # The busier a worker is, the later it asks: so calls go where the most slots are free.
        used = len(self.jobs) / max(len(self.jobs) + free, 1)
        self._take_at = now + _TAKE_SECONDS * (1 + 4 * used)
        try:
            if free:
                free -= self._begin(self._group.take(free), now)
            if free and now >= self._take_over_at:
                self._take_over_at = now + _TAKE_OVER_SECONDS
                free -= self._begin(self._group.take_over(free), now)
        finally:
            self._slots.give(free)

    def _begin(self, leases: Sequence[Lease], now: float) -> int:
        begun = 0
        for lease in leases:
            if job := self.jobs.get(lease.id):  # its own, which it was too slow to renew
                job.lease = lease  # which has the token of now
                job.renewed(now)
                continue
            self.jobs[lease.id] = Job(self._kind, self._group, lease)
            begun += 1
        return begun

    def _read(self) -> None:
        """Read what has come for all calls."""
        jobs: defaultdict[str, list[Job]] = defaultdict(list)  # a peer may use a streamSid twice
        for job in self.jobs.values():
            if job.wants_entries:
                jobs[audio_key(job.lease.announced.start.stream_sid)].append(job)
        if not jobs:
            return
        refusals: list[ResponseError] = []

        def take(key: str, entries: list[tuple[bytes, Fields]]) -> None:
            for id, fields in entries:
                behind = [job for job in jobs[key] if _order(job.cursor) < _order(id)]
                try:
                    entry = decode_entry(fields)
                except EntryError as error:
                    for job in behind:
                        job.skip(id, str(error))
                else:
                    for job in behind:
                        job.add(id, entry)

        def fail(key: str, error: ResponseError) -> None:
            if is_refusal(error):
                refusals.append(error)
                return
            for job in jobs[key]:
                job.fail(str(error))

        def read(client: Any) -> None:
            read_streams(client, cursors, most, take, fail)
            if refusals:
                raise refusals[0]

        cursors = {key: min((job.cursor for job in here), key=_order) for key, here in jobs.items()}
        most = max(min(MAX_WAITING, _MAX_READ // len(cursors)), 1)  # of each call
        self._shard.run(read)

    def _send_words(self) -> None:
        jobs = [job for job in self.jobs.values() if job.words and job.is_mine]
        if not jobs:
            return
        counts = [len(job.words) for job in jobs]

        def send(client: Any) -> list[Any]:
            with client.pipeline(transaction=False) as pipeline:
                for job, count in zip(jobs, counts, strict=True):
                    key = words_key(job.lease.announced.server)
                    for words in list(job.words)[:count]:
                        pipeline.xadd(key, encode(words), maxlen=_MAX_WORDS, approximate=True)
                    pipeline.expire(key, _WORDS_KEPT_SECONDS)
                answers: list[Any] = pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, ResponseError) and is_refusal(answer):
                    raise answer
            return answers

        answers = iter(self._shard.run(send))
        for job, count in zip(jobs, counts, strict=True):
            for _ in range(count):
                job.words.popleft()
            errors = [each for each in itertools.islice(answers, count + 1) if isinstance(each, Exception)]
            if errors:
                key = words_key(job.lease.announced.server)
                self._note_fault(f"words for {printable(key)}: {printable(str(errors[0]))}")

    def _run_jobs(self) -> None:
        for id, job in list(self.jobs.items()):
            if job.is_running:
                job.warn_if_stuck()
                continue
            if job.is_over:
                del self.jobs[id]
                self._slots.give(1)
                continue
            if self._is_handing_over:
                job.hand_over()
            if job.has_work:
                job.is_running = True
                self._pool.submit(job.run)


def _order(id: bytes) -> tuple[int, int]:
    """Return what puts IDs of entries in their order."""
    milliseconds, _, number = id.partition(b"-")
    return int(milliseconds), int(number or 0)


class Worker:
    """A worker program: the loops of all its kinds on all shards."""

    def __init__(self, shards: Shards, kinds: Sequence[tuple[Kind, str, int]]) -> None:
        """Make it of kinds, each with the name of its group and how many calls it takes at a time."""
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._ended = threading.Event()
        self._loops = []
        for kind, group, calls in kinds:
            slots = Slots(calls, len(shards.all))
            self._loops += [Loop(kind, shard, group, self.name, slots) for shard in shards.all]
        self._threads = [
            threading.Thread(target=loop.run, args=(self._ended,), daemon=True) for loop in self._loops
        ]

    def start(self) -> None:
        """Begin to take calls; where Redis is there, its groups are there when this returns."""
        for thread in self._threads:
            thread.start()
        until = time.monotonic() + _START_SECONDS
        for loop in self._loops:
            loop.asked.wait(until - time.monotonic())
        names = dict.fromkeys(loop.name for loop in self._loops)
        logger.info("Worker %s takes calls for %s", self.name, " and ".join(names))

    def stop(self, seconds: float, hurry: threading.Event) -> None:
        """Take no more calls, let those that are there end for so many seconds, and hand the others over.

        `hurry` ends the wait. A call that cannot be handed over is taken over after 5 s.
        """
        logger.info("Draining: waiting up to %g s for %d calls", seconds, self._count())
        for loop in self._loops:
            loop.drain()
        self._wait(seconds, hurry)
        handed_over = self._count()
        for loop in self._loops:
            loop.hand_over()
        self._wait(_RELEASE_SECONDS, threading.Event())
        self._ended.set()
        for thread in self._threads:
            thread.join(1)
        left = self._count()
        if handed_over > left:
            logger.info("Handed over: %d calls", handed_over - left)
        if left:
            logger.warning("%d calls could not be handed over, other workers take them over", left)

    def _count(self) -> int:
        return sum(len(loop.jobs) for loop in self._loops)

    def _wait(self, seconds: float, hurry: threading.Event) -> None:
        until = time.monotonic() + seconds
        while self._count() and time.monotonic() < until:
            if hurry.wait(READ_SECONDS):
                return
