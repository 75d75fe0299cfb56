"""The thread that sends what waits in the outboxes to one Redis.

Each call has an entry every 200 ms. The calls are in four groups, and every 50 ms one pipeline has the
entries of a group: Python runs one thread at a time, and with all calls at once the server would wait for
four times as long. Where Redis is away, everything waits in the outboxes, and afterwards leaves them at most
four times as fast as it came.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from gevent.monkey import get_original
from redis import Redis
from redis.exceptions import ResponseError

from mediastreams.cluster.commands import Command, bulk, packed, pipeline
from mediastreams.cluster.connection import AwayError, Shard, is_refusal
from mediastreams.cluster.entries import CALLS, KEPT_SECONDS, VERSION, EntryError, Fields, decode_announced
from mediastreams.cluster.figures import Figures, Group, groups, warn_of_policy
from mediastreams.cluster.outbox import Outbox
from mediastreams.text import printable

logger = logging.getLogger(__name__)

_EVERY = 0.05  # seconds
_GROUPS = 4  # of calls
_AT_ONCE = 4  # entries of a call
_CALLS_AT_ONCE = 250  # in a pipeline: what it sends and receives is in memory
_EXPIRE_EVERY = 10.0  # seconds; the key would outlive its call by an hour also without
_FIGURES_EVERY = 5.0  # seconds
_GRACE = 10.0  # seconds after an absence without trimming: workers come back later, and read what was there
_TRIM_EVERY = 3600.0  # seconds
_MAX_CALL = 25 * 3600  # seconds; Twilio's longest take 24 hours
_MAX_ANNOUNCED = 1000  # calls that are looked through for one that may have been announced
_MAX_DELETED = 1000  # announcements at once
_LIMIT = {"limit": "what Redis did not take"}


class _Call(NamedTuple):
    group: int
    head: bytes
    """How the command that puts an entry in begins."""


class _Sending(NamedTuple):
    outbox: Outbox
    entries: list[Fields]
    is_new: bool
    has_ended: bool
    expiry: int | None


class Sender:
    """Sends the calls of one shard: `add` gives it one. Any thread may use it; it has one of its own."""

    def __init__(
        self,
        shard: Shard,
        window: float,
        on_done: Callable[[Outbox], None],
        on_figures: Callable[[Figures], None],
    ) -> None:
        """Make it, without a thread.

        `on_done` is called with each outbox of which nothing more is sent, `on_figures` every 5 seconds, both
        in its thread.
        """
        self._shard = shard
        self._window = window
        self._on_done = on_done
        self._on_figures = on_figures
        self._calls: dict[Outbox, _Call] = {}
        self._added = self._looks = 0
        self._hurried: deque[Outbox] = deque()
        self._has_doubts = False  # there are outboxes that are doubtful
        self._ended: deque[tuple[float, bytes]] = deque()  # announcements, and when they are deleted
        self._latest = b"0-0"  # the id of an entry, and so the time on Redis's clock
        self._middle = _middle(0)  # of the command that puts an entry in
        self._sent = self._told_sent = 0
        self._dropped = self._told_dropped = 0.0  # `_dropped` is that of calls that are done
        self._figures_at = self._trim_at = 0.0
        self._keep_until = 0.0
        self._is_checked = self._is_ending = self._has_failed = False

    def start(self) -> None:
        """Start the thread."""
        get_original("_thread", "start_new_thread")(self._run, ())

    def end(self) -> None:
        """Let the thread end."""
        self._is_ending = True

    def add(self, outbox: Outbox) -> None:
        """Send a call, from its announcement to its end."""
        self._added += 1
        head = b"*10\r\n" + bulk(b"XADD", outbox.key.encode())
        self._calls[outbox] = _Call(self._added % _GROUPS, head)
        self.hurry(outbox)

    def hurry(self, outbox: Outbox) -> None:
        """Send what there is of a call with the next pipeline."""
        self._hurried.append(outbox)

    @property
    def is_away(self) -> bool:
        """Whether Redis could not be asked the last time."""
        return self._shard.is_away

    @property
    def is_idle(self) -> bool:
        """Whether everything is sent."""
        return all(outbox.is_empty and outbox.announcement is None for outbox in list(self._calls))

    def unsent(self) -> float:
        """Return how many seconds of audio wait, of all calls."""
        return sum(outbox.unsent() for outbox in list(self._calls))

    def _run(self) -> None:
        sleep = get_original("time", "sleep")
        look_at = time.monotonic()
        while not self._is_ending:
            self._tick_safely(time.monotonic())
            now = time.monotonic()
            look_at = max(look_at + _EVERY, now)
            sleep(look_at - now)

    def _tick_safely(self, now: float) -> None:
        try:
            self._tick(now)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                logger.exception("Redis %s: calls could not be published", self._shard.name)

    def _tick(self, now: float) -> None:
        due = self._due()
        for outbox in due:
            outbox.fill()
        told: Mapping[str, Group] = {}
        is_time = now >= self._figures_at
        try:
            if due:
                self._shard.run(lambda client: self._send_all(client, due))
            if is_time:
                told = self._shard.run(self._look_around)
        except AwayError:
            self._keep_until = now + _GRACE
            for outbox in due:
                outbox.drop_old()
                if outbox.has_ended and outbox.is_empty and outbox.announcement is not None:
                    self._forget(outbox)  # nothing is left of it
        if is_time:
            self._figures_at = now + _FIGURES_EVERY
            self._tell(told)

    def _due(self) -> list[Outbox]:
        """Return the calls that cannot wait for their turn, and those whose turn it is."""
        self._looks += 1
        group = self._looks % _GROUPS
        due: dict[Outbox, None] = {}
        while self._hurried:
            due[self._hurried.popleft()] = None
        due |= {outbox: None for outbox, call in list(self._calls.items()) if call.group == group}
        return [outbox for outbox in due if outbox in self._calls]

    def _tell(self, groups: Mapping[str, Group]) -> None:
        sent, dropped = self._sent, self._dropped + sum(outbox.dropped for outbox in list(self._calls))
        is_up = not self._shard.is_away
        self._on_figures(
            Figures(self._shard.name, is_up, sent - self._told_sent, dropped - self._told_dropped, groups)
        )
        self._told_sent, self._told_dropped = sent, dropped

    def _send_all(self, client: Redis, outboxes: list[Outbox]) -> None:
        if self._has_doubts:
            _settle_doubts(
                client, {outbox.call: outbox for outbox in list(self._calls) if outbox.is_doubtful}
            )
            self._has_doubts = False
        for i in range(0, len(outboxes), _CALLS_AT_ONCE):
            self._send(client, outboxes[i : i + _CALLS_AT_ONCE])

    def _look_around(self, client: Redis) -> dict[str, Group]:
        if not self._is_checked:
            warn_of_policy(client, self._shard.name)
            self._is_checked = True
            logger.info("Calls are published on Redis %s", self._shard.name)
        self._clean_up(client)
        return groups(client)

    def _send(self, client: Redis, outboxes: list[Outbox]) -> None:
        now = time.monotonic()
        commands: list[Command] = []
        all_sending = [
            sending for outbox in outboxes if (sending := self._commands(outbox, now, commands)) is not None
        ]
        if not all_sending:
            return
        try:
            answers = pipeline(client, commands) if commands else []
        except BaseException:
            for sending in all_sending:
                sending.outbox.settle([])
                self._has_doubts |= sending.is_new
                sending.outbox.is_doubtful = sending.is_new
            raise
        if now >= self._keep_until:
            self._middle = _middle(int(self._latest.partition(b"-")[0]) - int(self._window * 1000))
        refusal: ResponseError | None = None
        each = iter(answers)
        for sending in all_sending:
            refusal = self._note(sending, each, now) or refusal
        if refusal is not None:
            raise refusal

    def _commands(self, outbox: Outbox, now: float, commands: list[Command]) -> _Sending | None:
        """Append what is to be sent of a call."""
        has_stopped = outbox.has_stopped
        has_ended = outbox.has_ended  # before the entries: afterwards none comes
        entries = outbox.take(_AT_ONCE)
        announcement = outbox.announcement
        if not entries and announcement is None and not has_ended:
            return None
        if announcement is not None:
            command = packed(b"XADD", CALLS.encode(), b"*", b"v", VERSION, b"m", announcement[b"m"])
            commands.append((CALLS, command))
        for fields in entries:
            content = fields[b"m"]
            command = b"%b%b$%d\r\n%b\r\n" % (self._calls[outbox].head, self._middle, len(content), content)
            commands.append((outbox.key, command))
        # The last time before a worker can have finished, who lets the entries go sooner.
        is_last = has_stopped or has_ended
        expiry = None
        if outbox.expires_at < (math.inf if is_last else now):
            expiry = KEPT_SECONDS if is_last else int(self._window) + KEPT_SECONDS
        if expiry is not None:
            commands.append((outbox.key, packed(b"EXPIRE", outbox.key.encode(), b"%d" % expiry)))
        return _Sending(outbox, entries, announcement is not None, has_ended, expiry)

    def _note(self, sending: _Sending, answers: Iterator[Any], now: float) -> ResponseError | None:
        """Note the answers for one call; return a refusal, where there is one."""
        outbox = sending.outbox
        errors: list[ResponseError] = []
        if sending.is_new:
            answer = next(answers)
            if isinstance(answer, bytes):
                outbox.announcement, outbox.announced = None, answer
                self._latest = answer
            else:
                errors.append(answer)
        sent = []
        for _ in sending.entries:
            answer = next(answers)
            if type(answer) is bytes:
                sent.append(True)
                self._latest = answer
            else:
                sent.append(False)
                errors.append(answer)
        if sent:
            outbox.settle(sent)
            self._sent += sum(sent)
        if sending.expiry is not None:
            answer = next(answers)
            if isinstance(answer, ResponseError):
                errors.append(answer)
            elif answer:  # else there is no entry yet
                is_last = sending.expiry == KEPT_SECONDS
                outbox.expires_at = math.inf if is_last else now + _EXPIRE_EVERY
        if errors:
            return self._note_errors(outbox, errors)
        if sending.has_ended and outbox.is_empty:
            self._forget(outbox)
        return None

    def _note_errors(self, outbox: Outbox, errors: list[ResponseError]) -> ResponseError | None:
        """Send nothing more of a call with which something is wrong; otherwise return why it is refused."""
        fault = next((error for error in errors if not is_refusal(error)), None)
        if fault is None:
            return errors[0]
        outbox.close()
        logger.error(
            "Stream %s: not published any more: Redis %s answers %s",
            outbox.stream.name,
            self._shard.name,
            printable(str(fault)),
            extra=_LIMIT,
        )
        self._forget(outbox)
        return None

    def _forget(self, outbox: Outbox) -> None:
        """Send nothing more of a call, and log what was not."""
        del self._calls[outbox]
        self._dropped += outbox.dropped
        if outbox.announced is not None:
            self._ended.append((time.monotonic() + KEPT_SECONDS, outbox.announced))
        if outbox.dropped and not outbox.is_closed:
            logger.warning(
                "Stream %s: %.1f s of its audio were not published, Redis %s was away or slow for too long",
                outbox.stream.name,
                outbox.dropped,
                self._shard.name,
                extra=_LIMIT,
            )
        self._on_done(outbox)

    def _clean_up(self, client: Redis) -> None:
        """Delete the announcements of calls that ended an hour ago, and what other servers have left."""
        now = time.monotonic()
        ids = [id for at, id in list(self._ended)[:_MAX_DELETED] if now >= at]
        try:
            if ids:
                client.xdel(CALLS, *ids)
            latest = int(self._latest.partition(b"-")[0])  # by Redis's clock; this machine's may be wrong
            if latest and now >= self._trim_at:
                self._trim_at = now + _TRIM_EVERY
                client.xtrim(CALLS, minid=max(latest - _MAX_CALL * 1000, 0), approximate=True)
        except ResponseError as error:
            logger.warning(
                "Redis %s: calls stay in %s: %s", self._shard.name, CALLS, printable(str(error)), extra=_LIMIT
            )
        for _ in ids:
            self._ended.popleft()


def _middle(oldest: int) -> bytes:
    """Return what is between the key and the content of an entry, in the command that puts it in.

    `oldest`: in milliseconds on Redis's clock; what is older goes.
    """
    return bulk(b"MINID", b"~", b"%d" % max(oldest, 0), b"*", b"v", VERSION) + bulk(b"m")


def _settle_doubts(client: Redis, doubtful: dict[str, Outbox]) -> None:
    """Find out which of these calls Redis has announced, though the connection was lost before it said so.

    Else workers would find them twice.
    """
    try:
        latest: Any = client.xrevrange(CALLS, count=_MAX_ANNOUNCED)
    except ResponseError:  # what is wrong with it, the next XADD tells
        latest = []
    for id, fields in latest:
        try:
            outbox = doubtful.get(decode_announced(fields).call)
        except EntryError:
            continue
        if outbox is not None:
            outbox.announcement, outbox.announced = None, id
    for outbox in doubtful.values():
        outbox.is_doubtful = False
