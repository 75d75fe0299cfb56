"""A consumer group on `ms:calls`: which worker has which call, and from where another can go on.

The group's pending entry of a call is the lease: its owner renews it each second, and what nobody has renewed
for 5 s is another worker's to take. Each taking counts the call's fencing token up, and a checkpoint is kept
only with the token of the last one: a worker that was suspended meanwhile cannot set it back.

Source: https://redis.io/docs/latest/develop/data-types/streams/#consumer-groups
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ResponseError

from mediastreams.cluster.connection import Shard
from mediastreams.cluster.entries import (
    CALLS,
    GROUPS,
    TAKEOVERS,
    Announced,
    EndItem,
    EntryError,
    Fields,
    Item,
    audio_key,
    decode_announced,
    decode_entry,
    done_key,
    group_key,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_SECONDS = 5.0  # since it was renewed; then another worker may take the call
MAX_ATTEMPTS = 5  # at a call, without a checkpoint: it may be what ends the workers
_KEPT_SECONDS = 7200  # longer than the entries of a call that has ended
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
redis.call('HSET', KEYS[1], 'cursor', ARGV[2], 'n', ARGV[3], 'state', ARGV[4], 'attempts', 0)
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
"""


@dataclass(frozen=True)
class Place:
    """A place in the entries of a call, and what the consumer knew there."""

    cursor: bytes = b"0"
    """The ID of the last entry that was handed over."""
    n: int = 0
    """Its number."""
    has_state: bool = False
    """Whether the consumer has left something for `resume`."""
    state: Any = None


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


class Group:
    """One worker's part in a consumer group of one shard. For one thread, but `checkpoint` and `finish`."""

    def __init__(self, shard: Shard, name: str, worker: str) -> None:
        """Make the part of `worker`, a name that no other process has, in the group `name`."""
        self.shard = shard
        self.name = name
        self._worker = worker
        self._created_at: float | None = None  # seconds since 1970; None: not known yet
        self._cursor: bytes | str = "0-0"  # where to look next for calls to take over
        self._renew, self._release, self._finish, self._checkpoint = map(
            shard.client.register_script, (_RENEW, _RELEASE, _FINISH, _CHECKPOINT)
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
        return set(self._ask(lambda client: self._renew([CALLS], arguments, client), []))

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
            self._ask(lambda client: client.hdel(key, "cursor", "n", "state", "token", "attempts"), 0)
            self._ask(lambda client: self._make_room(client, lease.announced), None)
        return is_finished

    def checkpoint(self, lease: Lease, place: Place) -> bool:
        """Keep from where to go on; return whether this worker still had the call. Raises `AwayError`."""
        state = msgspec.msgpack.encode(place.state) if place.has_state else b""
        arguments = [lease.token, place.cursor, place.n, state, _KEPT_SECONDS]
        keys = [group_key(lease.announced, self.name)]
        return bool(self._ask(lambda client: self._checkpoint(keys, arguments, client), 0))

    def _ask(self, command: Callable[[Any], T], default: T) -> T:
        """Return what `command` returns; `default` where Redis has lost the group, which is made again."""
        try:
            if self._created_at is None:
                self._created_at = self.shard.run(self._create)
            return self.shard.run(command)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
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
        client.hsetnx(GROUPS, self.name, str(time.time()))
        return float(client.hget(GROUPS, self.name) or 0)

    def _take(self, client: Any, most: int) -> list[Lease]:
        streams = client.xreadgroup(self.name, self._worker, {CALLS: ">"}, count=most) or []
        entries = [entry for _, entries in streams for entry in entries]
        return self._leases(client, entries, is_takeover=False)

    def _take_over(self, client: Any, most: int) -> list[Lease]:
        self._cursor, entries, *_ = client.xautoclaim(
            CALLS, self.name, self._worker, _IDLE, self._cursor, count=most
        )
        return self._leases(client, entries, is_takeover=True)

    def _leases(
        self, client: Any, entries: Sequence[tuple[bytes | None, Fields | None]], is_takeover: bool
    ) -> list[Lease]:
        leases = []
        for id, fields in entries:
            if id is None:  # Redis 6.2: its entry was deleted
                continue
            try:
                lease = self._lease(client, id, fields, is_takeover)
            except EntryError as error:
                logger.error("Entry %s of %s cannot be used: %s", id.decode(), CALLS, error)
                lease = None
            if lease is None:
                client.xack(CALLS, self.name, id)
            else:
                leases.append(lease)
        return leases

    def _lease(self, client: Any, id: bytes, fields: Fields | None, is_takeover: bool) -> Lease | None:
        """Return the lease of a call that was taken; None where there is nothing to do for it."""
        if fields is None:  # its entry was deleted, an hour after its end
            return None
        announced = decode_announced(fields)
        if announced.started_at < (self._created_at or 0) and self._has_ended(client, announced):
            return None
        key = group_key(announced, self.name)
        client.hsetnx(key, "entry", id)
        if client.hget(key, "entry") != id:  # a server that lost its connection has announced it twice
            return None
        with client.pipeline(transaction=False) as pipeline:
            pipeline.hincrby(key, "token", 1)
            pipeline.hincrby(key, "attempts", 1)
            pipeline.expire(key, _KEPT_SECONDS)
            pipeline.hmget(key, ["cursor", "n", "state"])
            if is_takeover:
                pipeline.hincrby(TAKEOVERS, self.name, 1)
            token, attempts, _, (cursor, n, state), *_ = pipeline.execute()
        if attempts > MAX_ATTEMPTS:
            logger.error(
                "Stream %s: %s has ended %d workers, and is given up",
                *(announced.start.stream_sid, self.name, MAX_ATTEMPTS),
            )
            return None
        place = Place(cursor or b"0", int(n or 0), bool(state), _state(state))
        return Lease(id, announced, token, place, is_takeover)

    def _has_ended(self, client: Any, announced: Announced) -> bool:
        """Return whether a call had ended before the group was made."""
        assert self._created_at is not None
        alive_at, items = announced.started_at, list[Item]()
        for id, fields in client.xrevrange(audio_key(announced.start.stream_sid), count=1):
            alive_at, items = int(id.partition(b"-")[0]) / 1000, decode_entry(fields).items
        if alive_at < self._created_at - announced.idle_timeout:  # its server is lost
            return True
        return any(isinstance(item, EndItem) and item.ended_at < self._created_at for item in items)


def _state(state: bytes | None) -> Any:
    return msgspec.msgpack.decode(state) if state else None
