"""The connections to Redis: one for each shard, which fails fast and is tried again after a while.

redis-py's own retries are off: they block for seconds, and what waits is known better by those who send it.
"""

import logging
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gevent.monkey import get_original
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from mediastreams.exceptions import MediaStreamsError
from mediastreams.text import printable

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 3.0  # more than a blocking command waits
_ANSWERED_SECONDS = 0.01  # what Redis needs for 250 entries, and the network
_FIRST_PAUSE = 0.1  # seconds until Redis is tried again; each further pause is twice as long
_MAX_PAUSE = 2.0

# As answers to a command: Redis is there, but does not take anything now.
_REFUSALS = (ClusterDownError, NoPermissionError, OutOfMemoryError, ReadOnlyError)
_REFUSED = ("BUSY Redis", "DB index is out of range", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS")

# No connection, or no Redis there. A UnicodeError: no host can have this name.
_UNREACHABLE = (ConnectionError, TimeoutError, InvalidResponse, OSError, UnicodeError)


_sleep = get_original("time", "sleep")  # of the system, also where gevent has patched it


class AwayError(MediaStreamsError):
    """Redis cannot be reached, or takes nothing; it has been logged."""


class Shard:
    """One Redis. Any thread may use it."""

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
        self._away_since: float | None = None
        self._retry_at = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def client(self) -> Any:
        """This thread's client. Any: by redis-py's own types each answer may be of any type."""
        client: Redis | None = getattr(self._clients, "client", None)
        if client is None:
            client = self._clients.client = Redis.from_url(
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
        if time.monotonic() < self._retry_at:
            raise AwayError(self.name)
        try:
            value = command(self.client)
        except _UNREACHABLE as error:
            self._note_away(error)
            raise AwayError(self.name) from None
        except ResponseError as error:
            if not is_refusal(error):
                raise
            self._note_away(error)
            raise AwayError(self.name) from None
        if self._away_since is not None:
            self._note_back()
        return value

    def _note_away(self, error: Exception) -> None:
        with self._lock:
            now = time.monotonic()
            self._retry_at = now + self._pause
            self._pause = min(2 * self._pause, _MAX_PAUSE)
            if self._away_since is not None:
                return
            self._away_since = now
        logger.warning("Redis %s is away: %s", self.name, _why(error))

    def _note_back(self) -> None:
        with self._lock:
            away_since, self._away_since = self._away_since, None
            self._pause = _FIRST_PAUSE
        if away_since is not None:
            logger.warning("Redis %s is back after %.1f s", self.name, time.monotonic() - away_since)


class Shards:
    """All that REDIS_URL names: a call is on one of them, by its `streamSid`."""

    def __init__(self, urls: str) -> None:
        """Connect to none of them yet. `urls`: several are separated by commas."""
        self.all = [Shard(url) for url in urls.split(",")]

    def of(self, stream_sid: str) -> Shard:
        """Return the shard that has a call."""
        return self.all[zlib.crc32(stream_sid.encode()) % len(self.all)]


def packed(*arguments: bytes) -> bytes:
    """Return a command as it goes over the wire: an array of bulk strings.

    Source: https://redis.io/docs/latest/develop/reference/protocol-spec/#sending-commands-to-a-redis-server
    """
    return b"*%d\r\n%b" % (len(arguments), bulk(*arguments))


def bulk(*arguments: bytes) -> bytes:
    """Return arguments of a command as they go over the wire."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments])


def pipeline(client: Redis, commands: Sequence[bytes]) -> list[Any]:
    """Send packed commands at once; return the answer to each, a `ResponseError` where one failed.

    With redis-py's `Pipeline`, and its packing, a command costs three times as much. The answers are read
    when all of them should be there: else they come in many pieces, and this thread wakes up for each.
    """
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_packed_command([b"".join(commands)])
        _sleep(_ANSWERED_SECONDS)
        return [_answer(connection) for _ in commands]
    except BaseException:
        connection.disconnect()  # answers that are not read yet must not be taken for those to other commands
        raise
    finally:
        client.connection_pool.release(connection)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def is_refusal(error: Exception) -> bool:
    """Return whether Redis refuses commands such as this for now, or for this user."""
    return isinstance(error, _REFUSALS) or str(error).startswith(_REFUSED)


def _why(error: Exception) -> str:
    if isinstance(error, AuthenticationError | AuthorizationError):
        return f"the user or the password in REDIS_URL is wrong ({printable(str(error))})"
    return printable(str(error)) or type(error).__name__
