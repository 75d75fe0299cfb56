"""Redis's channels (pub/sub) for greenlets: Redis itself is only asked in threads.

Redis keeps no message for who does not listen, and drops who listens too slowly.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.threadpool import ThreadPool
from redis import Redis
from redis.exceptions import RedisError

from mediastreams.cluster.connection import ANSWER_SECONDS, AwayError, Shard
from mediastreams.text import printable

logger = logging.getLogger(__name__)

PING_SECONDS = 5.0  # without a message, until Redis is asked whether the connection is still there
_MAX_SILENCE = PING_SECONDS + ANSWER_SECONDS
_READ_SECONDS = 1.0  # that a thread waits for messages
_AGAIN_SECONDS = 0.2  # from a connection that was lost to the next one
_MAX_MESSAGES = 100  # that are read at once


class Channels:
    """The channels of one Redis. For the server's thread, of the process that serves."""

    def __init__(self, shard: Shard) -> None:
        """Connect to nothing yet."""
        self._shard = shard
        # Apart: what listens holds its thread, also for a second after its end.
        self._publishing = ThreadPool(2)
        self._listening = ThreadPool(4)

    def publish(self, channel: str, data: bytes) -> int | None:
        """Send a message, and wait for that; return how many listen, None where Redis is away."""
        receivers: int | None = self._publishing.apply(self._publish, (channel, data))
        return receivers

    def listen(
        self,
        channel: str,
        take: Callable[[bytes], None],
        changed: Callable[[bool], None] = lambda is_up: None,
    ) -> "Listening":
        """Hand each message of a channel to `take`, until the `Listening` is closed.

        `changed` is called with True when Redis sends them from now on, and with False when it is away. In
        between some may have been lost.
        """
        return Listening(self._shard, self._listening, channel, take, changed)

    def _publish(self, channel: str, data: bytes) -> int | None:
        try:
            return self._shard.run(lambda client: int(client.publish(channel, data)))
        except AwayError:
            return None
        except RedisError as error:
            _complain(self._shard, error)
            return None


class Listening:
    """A connection that listens to a channel, and is made again when it is lost."""

    is_up: bool | None = None
    """Whether Redis sends the channel's messages; None: it has not been asked yet."""

    def __init__(
        self,
        shard: Shard,
        threads: ThreadPool,
        channel: str,
        take: Callable[[bytes], None],
        changed: Callable[[bool], None],
    ) -> None:
        self._shard = shard
        self._threads = threads
        self._channel = channel
        self._take = take
        self._changed = changed
        self._is_closed = False
        gevent.spawn(self._run)

    def close(self) -> None:
        """Take no more messages."""
        self._is_closed = True

    def _run(self) -> None:
        while not self._is_closed:
            connection: _Connection | None = self._threads.apply(self._connect)
            self._note(connection is not None)
            if connection is not None:
                self._receive(connection)
                self._threads.apply(connection.close)
            gevent.sleep(_AGAIN_SECONDS)

    def _receive(self, connection: "_Connection") -> None:
        while not self._is_closed:
            messages: list[bytes] | None = self._threads.apply(connection.receive)
            if messages is None:
                return
            for data in messages:
                if self._is_closed:
                    return
                try:
                    self._take(data)
                except Exception:  # what comes next may be right
                    logger.exception("A message of %s was not handled", self._channel)

    def _note(self, is_up: bool) -> None:
        if self._is_closed or (self.is_up is False and not is_up):
            return
        self.is_up = is_up
        self._changed(is_up)

    def _connect(self) -> "_Connection | None":
        """Connect (a thread); return None where Redis is away."""
        try:
            return self._shard.run(lambda client: _Connection(client, self._channel))
        except AwayError:
            return None
        except RedisError as error:
            _complain(self._shard, error)
            return None


class _Connection:
    """A connection that has subscribed to a channel. For a thread."""

    def __init__(self, client: Redis, channel: str) -> None:
        """Connect. Raises what redis-py raises."""
        self._pubsub: Any = client.pubsub()  # type: ignore[no-untyped-call]
        try:
            self._pubsub.subscribe(channel)
            answer = self._pubsub.get_message(timeout=ANSWER_SECONDS)
            if answer is None:
                raise TimeoutError("no answer to SUBSCRIBE")
        except BaseException:
            self.close()
            raise
        self._heard_at = time.monotonic()
        self._is_asked = False

    def receive(self) -> list[bytes] | None:
        """Wait for messages, a second at most, and return them; None where the connection is lost."""
        try:
            return self._receive()
        except (RedisError, OSError):  # whether Redis is away, the next connection finds out
            return None

    def close(self) -> None:
        """Disconnect."""
        self._pubsub.close()

    def _receive(self) -> list[bytes] | None:
        messages: list[bytes] = []
        while message := self._pubsub.get_message(timeout=_READ_SECONDS):
            self._heard_at, self._is_asked = time.monotonic(), False
            if message["type"] == "message":
                messages.append(message["data"])
            # Not a `get_message` that does not wait: it loses a message of which a part has come.
            if len(messages) >= _MAX_MESSAGES or not self._pubsub.connection.can_read():
                break
        silence = time.monotonic() - self._heard_at
        if silence > _MAX_SILENCE:
            return None
        if silence > PING_SECONDS and not self._is_asked:
            self._is_asked = True
            self._pubsub.ping()
        return messages


def _complain(shard: Shard, error: RedisError) -> None:
    text = "Redis %s does not take what the page asks: %s"
    logger.warning(text, shard.name, printable(str(error)), extra={"limit": "the page's channels"})
