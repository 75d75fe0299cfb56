"""A consumer group on `ms:calls`: which worker has which call, and from where another can go on.

The group's pending entry of a call is the lease: its owner renews it each second, and what nobody has renewed
for 5 s is another worker's to take. Each taking counts the call's fencing token up, and a checkpoint is kept
only with the token of the last one: a worker that was suspended meanwhile cannot set it back.

Source: https://redis.io/docs/latest/develop/data-types/streams/#consumer-groups
"""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ResponseError

from mediastreams.cluster.connection import Shard, is_refusal
from mediastreams.cluster.entries import (
    CALLS,
    GROUPS,
    KEPT_SECONDS,
    TAKEOVERS,
    Announced,
    EndItem,
    EntryError,
    Fields,
    Item,
    audio_key,
    decode_announced,
    decode_entry,
    decode_items,
    done_key,
    group_key,
)
from mediastreams.text import printable

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_SECONDS = 5.0  # since it was renewed; then another worker may take the call
MAX_ATTEMPTS = 5  # at a call, without a checkpoint: it may be what ends the workers
_KEPT_SECONDS = 7200  # longer than the entries of a call that has ended
_CURSOR = re.compile(b"[0-9]{1,20}(-[0-9]{1,20})?")
_DONE_SECONDS = 60  # that the entries of a call are kept with which all groups have finished
_IDLE = int(LEASE_SECONDS * 1000)

# Each has one key, so that it runs in Redis Cluster as well. The owner is compared and written in one step.
_RENEW = """
local kept = {}
for i = 3, #ARGV do
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
    if #pending == 1 then
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
        kept[#kept + 1] = ARGV[i]
    end
end
return kept
"""
_RELEASE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 1 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'JUSTID')
end
"""
_FINISH = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then
    return 0
end
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
"""
_CHECKPOINT = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
    return 0
end
redis.call(
    'HSET', KEYS[1], 'cursor', ARGV[2], 'n', ARGV[3], 'state', ARGV[4], 'stream', ARGV[5], 'attempts', 0
)
redis.call('EXPIRE', KEYS[1], ARGV[6])
return 1
"""


# By Redis's clock, as the IDs of entries: those of the machines differ.
_CREATED = """
local now = redis.call('TIME')
return redis.call('HSETNX', KEYS[1], ARGV[1], string.format('%d.%06d', now[1], now[2]))
"""
_NOW = "return redis.call('TIME')[1]"


@dataclass(frozen=True)
class Place:
    """A place in the entries of a call, and what the consumer knew there."""

    cursor: bytes = b"0"
    """The ID of the last entry that the consumer got."""
    n: int = 0
    """Its number."""
    has_state: bool = False
    """Whether the consumer has left something for `resume`."""
    state: Any = None
    stream: Sequence[Item] = ()
    """What was known of the stream."""


@dataclass(frozen=True)
class Lease:
    """A call that this worker has taken."""

    id: bytes
    """The ID of its entry in `ms:calls`."""
    announced: Announced
    token: int
    """The fencing token: how many times the call was taken."""
    place: Place
    """From where to go on."""
    is_takeover: bool
    """Whether another worker had it before."""
    asked_at: float
    """When Redis was asked for it, on the monotonic clock."""


class Group:
    """One worker's part in a consumer group of one shard.

    For one thread; `checkpoint`, `finish` and `release` for any.
    """

    def __init__(self, shard: Shard, name: str, worker: str) -> None:
        """Make the part of `worker`, a name that no other process has, in the group `name`."""
        self.shard = shard
        self.name = name
        self._worker = worker
        self._created_at: float | None = None  # seconds since 1970; None: not known yet
        self._cursor: bytes | str = "0-0"  # where to look next for calls to take over
        self._renew, self._release, self._finish, self._checkpoint, self._note_created, self._now = map(
            shard.client.register_script, (_RENEW, _RELEASE, _FINISH, _CHECKPOINT, _CREATED, _NOW)
        )

    def take(self, most: int) -> list[Lease]:
        """Return new calls, at most so many. Raises `AwayError`."""
        return self._ask(lambda client: self._take(client, most), [])

    def take_over(self, most: int) -> list[Lease]:
        """Return calls whose worker has not renewed them for 5 s, at most so many. Raises `AwayError`."""
        return self._ask(lambda client: self._take_over(client, most), [])

    def renew(self, leases: Sequence[Lease]) -> set[bytes]:
        """Renew leases; return the `id` of those that this worker still has. Raises `AwayError`."""
        if not leases:
            return set()
        arguments = [self.name, self._worker, *(lease.id for lease in leases)]

        def renew(client: Any) -> list[bytes]:
            client.hincrby(TAKEOVERS, self.name, 0)  # tells of a Redis that is full, and so has nothing new
            kept: list[bytes] = self._renew([CALLS], arguments, client)
            return kept

        return set(self._ask(renew, list[bytes]()))

    def release(self, lease: Lease) -> None:
        """Let another worker have the call at once. Raises `AwayError`."""
        arguments = [self.name, self._worker, lease.id, _IDLE]
        self._ask(lambda client: self._release([CALLS], arguments, client), None)

    def finish(self, lease: Lease) -> bool:
        """Take the call out of the group; return whether this worker still had it. Raises `AwayError`."""
        arguments = [self.name, self._worker, lease.id]
        is_finished = bool(self._ask(lambda client: self._finish([CALLS], arguments, client), 0))
        if is_finished:
            # Not deleted: the call may have been announced twice.
            key = group_key(lease.announced, self.name)
            self._ask(
                lambda client: client.hdel(key, "cursor", "n", "state", "stream", "token", "attempts"), 0
            )
            self._ask(lambda client: self._make_room(client, lease.announced), None)
        return is_finished

    def checkpoint(self, lease: Lease, place: Place) -> bool:
        """Keep from where to go on; return whether this worker still had the call. Raises `AwayError`."""
        state = msgspec.msgpack.encode(place.state) if place.has_state else b""
        stream = msgspec.msgpack.encode(place.stream)
        arguments = [lease.token, place.cursor, place.n, state, stream, _KEPT_SECONDS]
        keys = [group_key(lease.announced, self.name)]
        return bool(self._ask(lambda client: self._checkpoint(keys, arguments, client), 0))

    def _ask(self, command: Callable[[Any], T], default: T) -> T:
        """Return what `command` returns; `default` where Redis has lost the group, which is made again."""
        try:
            if self._created_at is None:
                self._created_at = self.shard.run(self._create)
            return self.shard.run(command)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._created_at = None
            return default

    def _make_room(self, client: Any, announced: Announced) -> None:
        """Let a call's entries go a minute after the last group has finished with it, not an hour."""
        key = done_key(announced)
        with client.pipeline(transaction=False) as pipeline:
            pipeline.sadd(key, self.name)
            pipeline.expire(key, _KEPT_SECONDS)
            pipeline.scard(key)
            pipeline.hlen(GROUPS)
            *_, finished, groups = pipeline.execute()
        if finished >= groups:
            client.expire(audio_key(announced.start.stream_sid), _DONE_SECONDS)

    def _create(self, client: Any) -> float:
        """Make the group where there is none; return when it was made."""
        with contextlib.suppress(ResponseError):  # BUSYGROUP: it is there
            client.xgroup_create(CALLS, self.name, "0", mkstream=True)
        self._note_created([GROUPS], [self.name], client)
        try:
            return float(client.hget(GROUPS, self.name) or 0)
        except ValueError:  # somebody else has written it
            return 0.0

    def _take(self, client: Any, most: int) -> list[Lease]:
        asked_at = time.monotonic()
        streams = client.xreadgroup(self.name, self._worker, {CALLS: ">"}, count=most) or []
        entries = [entry for _, entries in streams for entry in entries]
        return self._leases(client, entries, asked_at, is_takeover=False)

    def _take_over(self, client: Any, most: int) -> list[Lease]:
        asked_at = time.monotonic()
        self._cursor, entries, *_ = client.xautoclaim(
            CALLS, self.name, self._worker, _IDLE, self._cursor, count=most
        )
        return self._leases(client, entries, asked_at, is_takeover=True)

    def _leases(
        self,
        client: Any,
        entries: Sequence[tuple[bytes | None, Fields | None]],
        asked_at: float,
        is_takeover: bool,
    ) -> list[Lease]:
        """Return the leases of calls that were taken; what cannot be used is taken out of the group.

        Redis is asked for all of them at once: with a distant Redis the first leases would else end before
        the last call is there.
        """
        calls: dict[bytes, Announced] = {}
        unusable: list[bytes] = []
        for id, fields in entries:
            if id is None:  # Redis 6.2: its entry was deleted
                continue
            try:
                if fields is None:  # its entry was deleted, an hour after its end
                    unusable.append(id)
                else:
                    calls[id] = decode_announced(fields)
            except EntryError as error:
                self._complain(id, error)
                unusable.append(id)
        self._leave_out_ended(client, calls, unusable, is_takeover)
        leases = []
        for id, answer in self._count_takings(client, calls, unusable, is_takeover):
            try:
                lease = self._lease(id, calls[id], answer, is_takeover, asked_at)
            except (EntryError, ResponseError) as error:
                if isinstance(error, ResponseError) and is_refusal(error):
                    raise
                self._complain(id, error)
                lease = None
            if lease is None:
                unusable.append(id)
            else:
                leases.append(lease)
        if unusable:
            client.xack(CALLS, self.name, *unusable)
        return leases

    def _complain(self, id: bytes, error: Exception) -> None:
        logger.error("Entry %s of %s cannot be used: %s", id.decode(), CALLS, printable(str(error)))

    def _leave_out_ended(
        self, client: Any, calls: dict[bytes, Announced], unusable: list[bytes], is_takeover: bool
    ) -> None:
        """Move those to `unusable` that had ended before the group was made.

        And new ones of which nothing is left: a server that has ended does not delete what it has announced.
        """
        if not calls:
            return
        created_at = self._created_at or 0.0
        gone_at = 0 if is_takeover else int(self._now([CALLS], client=client)) - KEPT_SECONDS
        older = [id for id in calls if _time_of(id) < max(created_at, gone_at)]
        with client.pipeline(transaction=False) as pipeline:
            for id in older:
                pipeline.xrevrange(audio_key(calls[id].start.stream_sid), count=1)
            answers = pipeline.execute(raise_on_error=False) if older else []
        for id, entries in zip(older, answers, strict=True):
            if isinstance(entries, Exception):
                continue
            is_gone = not entries and _time_of(id) < gone_at
            if is_gone or _had_ended(calls[id], id, entries, created_at):
                del calls[id]
                unusable.append(id)

    def _count_takings(
        self, client: Any, calls: dict[bytes, Announced], unusable: list[bytes], is_takeover: bool
    ) -> list[tuple[bytes, list[Any]]]:
        """Count the taking of each call; return what the group knows of it, or the error.

        A server that lost its connection may have announced a call twice: the second goes to `unusable`.
        """
        if not calls:
            return []
        keys = {id: group_key(announced, self.name) for id, announced in calls.items()}
        with client.pipeline(transaction=False) as pipeline:
            for id, key in keys.items():
                pipeline.hsetnx(key, "entry", id)
                pipeline.hget(key, "entry")
            answers = pipeline.execute(raise_on_error=False)
        firsts: list[bytes] = []
        for id, first in zip(calls, answers[1::2], strict=True):
            (firsts if first == id or isinstance(first, Exception) else unusable).append(id)
        with client.pipeline(transaction=False) as pipeline:
            for id in firsts:
                pipeline.hincrby(keys[id], "token", 1)
                pipeline.hincrby(keys[id], "attempts", 1)
                pipeline.expire(keys[id], _KEPT_SECONDS)
                pipeline.hmget(keys[id], ["cursor", "n", "state", "stream"])
            if is_takeover:
                pipeline.hincrby(TAKEOVERS, self.name, len(firsts))
            answers = pipeline.execute(raise_on_error=False)
        return [(id, answers[4 * i : 4 * i + 4]) for i, id in enumerate(firsts)]

    def _lease(
        self, id: bytes, announced: Announced, answer: list[Any], is_takeover: bool, asked_at: float
    ) -> Lease | None:
        """Return a lease, or None where the call is given up. Raises what is wrong with its place."""
        for each in answer:
            if isinstance(each, Exception):
                raise each
        token, attempts, _, (cursor, n, state, stream) = answer
        if attempts > MAX_ATTEMPTS:
            logger.error(
                "Stream %s: %s has ended %d workers, and is given up",
                *(printable(announced.start.stream_sid), self.name, MAX_ATTEMPTS),
            )
            return None
        try:
            if cursor and not _CURSOR.fullmatch(cursor):
                raise ValueError("no ID of an entry")
            known = tuple(decode_items(stream)) if stream else ()
            place = Place(cursor or b"0", int(n or 0), bool(state), _state(state), known)
        except (ValueError, msgspec.DecodeError) as error:
            raise EntryError(f"the checkpoint of its call: {error}") from None
        return Lease(id, announced, token, place, is_takeover, asked_at)


def _time_of(id: bytes) -> float:
    """Return when an entry was put in, in seconds since 1970 by Redis's clock."""
    return int(id.partition(b"-")[0]) / 1000


def _had_ended(
    announced: Announced, id: bytes, entries: Sequence[tuple[bytes, Fields]], created_at: float
) -> bool:
    """Return whether a call had ended before the group was made; `entries` has its last one, if any."""
    alive_at, items = _time_of(id), list[Item]()
    for last, fields in entries:
        alive_at = _time_of(last)
        with contextlib.suppress(EntryError):
            items = decode_entry(fields).items
    if alive_at < created_at - announced.idle_timeout:  # its server is lost
        return True
    return alive_at < created_at and any(isinstance(item, EndItem) for item in items)


def _state(state: bytes | None) -> Any:
    return msgspec.msgpack.decode(state) if state else None
