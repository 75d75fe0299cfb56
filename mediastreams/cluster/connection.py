"""The connections to Redis: one for each shard, which fails fast and is tried again after a while.

redis-py's own retries are off: they block for seconds, and what waits is known better by those who send it.
"""

import logging
import time
import zlib
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gevent.monkey import get_original
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

from mediastreams.exceptions import MediaStreamsError
from mediastreams.text import printable

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 3.0  # more than a blocking command waits
_FIRST_PAUSE = 0.1  # seconds until Redis is tried again; each further pause is twice as long
_MAX_PAUSE = 2.0
# Without a failure: while a node of a Redis Cluster is away the others answer, and so are commands that read
# by a Redis that refuses those that write.
_BACK_SECONDS = 3.0

# As answers to a command: Redis is there, but does not take anything now.
_REFUSALS = (
    AskError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_REFUSED = (
    "BUSY Redis",
    "DB index is out of range",
    "DENIED",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "WRONGPASS",
)
_REFUSED_IN_SCRIPTS = ("MISCONF", "NOPERM", "NOREPLICAS", "OOM", "READONLY")

# No connection, or no Redis there. A UnicodeError: no host can have this name.
_UNREACHABLE = (
    ConnectionError,
    TimeoutError,
    InvalidResponse,
    RedisClusterException,
    OSError,
    UnicodeError,
)


class AwayError(MediaStreamsError):
    """Redis cannot be reached, or takes nothing; it has been logged."""


class Shard:
    """One Redis, or a Redis Cluster. Any thread may use it."""

    name: str
    """Its host and port, for the log: never its password."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
        self._url = url
        # Those of the system, also where gevent has patched the modules: several native threads use them. And
        # each has a client of its own: a client's locks are gevent's there, which wait in a hub.
        self._clients = get_original("_thread", "_local")()
        self._lock = get_original("_thread", "allocate_lock")()
        self._is_cluster: bool | None = None  # not known yet
        self._is_refusing = False  # as it was the last time
        self._away_since: float | None = None
        self._retry_at = self._failed_at = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def client(self) -> Any:
        """This thread's client. Any: by redis-py's own types each answer may be of any type."""
        kind = RedisCluster if self._is_cluster else Redis
        client: Any = getattr(self._clients, "client", None)
        if type(client) is not kind:
            client = self._clients.client = kind.from_url(
                self._url,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        return client

    @property
    def is_away(self) -> bool:
        """Whether Redis could not be asked the last time."""
        return self._away_since is not None

    def run(self, command: Callable[[Any], T]) -> T:
        """Return what `command` returns, to which the client is handed.

        Raises `AwayError` where Redis cannot be reached, or refuses what it is asked for, and until it is
        time to try again; `ResponseError` where the command cannot be carried out.
        """
        began_at = time.monotonic()
        if began_at < self._retry_at:
            raise AwayError(self.name)
        try:
            value = self._run(command)
        except _UNREACHABLE as error:
            # While Redis loads its file it publishes on channels, and takes nothing else.
            self._is_refusing = self._is_refusing or isinstance(error, BusyLoadingError)
            self._note_away(error)
            raise AwayError(self.name) from None
        except ResponseError as error:
            if not is_refusal(error):
                raise
            self._is_refusing = True
            self._note_away(error)
            raise AwayError(self.name) from None
        if self._away_since is not None:
            self._note_success(began_at)
        return value

    def _run(self, command: Callable[[Any], T]) -> T:
        if self._is_cluster is None:
            self._is_cluster = _is_cluster(self.client)
        return command(self.client)

    def _note_away(self, error: Exception) -> None:
        with self._lock:
            now = self._failed_at = time.monotonic()
            self._retry_at = now + self._pause
            self._pause = min(2 * self._pause, _MAX_PAUSE)
            if self._away_since is not None:
                return
            self._away_since = now
        logger.warning("Redis %s is away: %s", self.name, _why(error))

    def _note_success(self, began_at: float) -> None:
        with self._lock:
            if began_at < self._failed_at:  # it was answered before another thread's failed
                return
            self._pause = _FIRST_PAUSE
            back_at = time.monotonic()
            if self._is_cluster or self._is_refusing:
                if back_at < self._failed_at + _BACK_SECONDS:
                    return
                back_at = self._failed_at
            self._is_refusing = False
            away_since, self._away_since = self._away_since, None
        if away_since is not None:
            logger.warning("Redis %s is back after %.1f s", self.name, back_at - away_since)


class Shards:
    """All that REDIS_URL names: a call is on one of them, by its `streamSid`."""

    def __init__(self, urls: str) -> None:
        """Connect to none of them yet. `urls`: several are separated by commas."""
        self.all = [Shard(url) for url in urls.split(",")]

    def of(self, stream_sid: str) -> Shard:
        """Return the shard that has a call."""
        return self.all[zlib.crc32(stream_sid.encode()) % len(self.all)]


def is_refusal(error: Exception) -> bool:
    """Return whether Redis refuses commands such as this for now, or for this user."""
    text = str(error)
    # What a command of a script answers, Redis 6.2 tells in the middle of a sentence.
    is_of_a_script = "@user_script" in text and any(code in text for code in _REFUSED_IN_SCRIPTS)
    return is_of_a_script or isinstance(error, _REFUSALS) or text.startswith(_REFUSED)


def _is_cluster(client: Any) -> bool:
    try:
        return bool(client.info("cluster").get("cluster_enabled"))
    except ResponseError:  # this user may not ask, or it is a proxy
        return False


def _why(error: Exception) -> str:
    if isinstance(error, AuthenticationError | AuthorizationError):
        return f"the user or the password in REDIS_URL is wrong ({printable(str(error))})"
    return printable(str(error)) or type(error).__name__
