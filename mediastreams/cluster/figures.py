"""What Redis tells of itself and of the groups of workers; a user who may not ask gets no answer."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from mediastreams.cluster.connection import is_refusal
from mediastreams.cluster.entries import CALLS, TAKEOVERS
from mediastreams.text import printable

logger = logging.getLogger(__name__)

_MAX_COUNTED = 1000  # calls that wait
_MAX_GROUPS = 100


class Group(NamedTuple):
    """The workers of one group, on one Redis."""

    waiting: int
    """Calls that no worker has taken."""
    pending: int
    """Calls that workers have."""
    takeovers: int
    """Calls that were taken over from a worker that had died or stopped."""


class Figures(NamedTuple):
    """What the metrics show of one Redis."""

    shard: str
    is_up: bool
    sent: int
    """Entries, since the last figures."""
    dropped: float
    """Seconds of audio, since the last figures."""
    groups: Mapping[str, Group]
    """By name; empty where Redis does not tell."""


def groups(client: Redis) -> dict[str, Group]:
    """Return the groups, by name."""
    try:
        takeovers = client.hgetall(TAKEOVERS)
        return {
            printable(group["name"].decode(errors="replace")): Group(
                _waiting(client, group), group["pending"], int(takeovers.get(group["name"], 0))
            )
            for group in client.xinfo_groups(CALLS)[:_MAX_GROUPS]
        }
    except ValueError:  # somebody else has written there
        return {}
    except ResponseError as error:  # nobody has made a group yet, or the user may not ask
        _raise_if_away(error)
        return {}


def _waiting(client: Redis, group: Mapping[str, int | bytes | None]) -> int:
    # Not its `lag`: after a restart with an append-only file that was rewritten, it counts calls again.
    after = group["last-delivered-id"]
    assert isinstance(after, bytes)
    entries: Any = client.xrange(CALLS, b"(" + after, count=_MAX_COUNTED)
    return len(entries)


def warn_of_policy(client: Any, name: str) -> None:
    """Log where Redis, or a node of a Redis Cluster, may delete calls."""
    options = {"target_nodes": RedisCluster.ALL_NODES} if isinstance(client, RedisCluster) else {}
    try:
        told = client.info("memory", **options)
    except ResponseError as error:  # the user may not ask
        _raise_if_away(error)
        return
    for node, memory in told.items() if options else [(name, told)]:
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            logger.warning(
                "Redis %s may delete calls when its memory is full: its maxmemory-policy is %s, not "
                "noeviction",
                node,
                printable(str(policy)),
            )


def _raise_if_away(error: ResponseError) -> None:
    if is_refusal(error) and not isinstance(error, NoPermissionError):
        raise error
