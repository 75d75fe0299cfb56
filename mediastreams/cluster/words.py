"""The words that workers hear, on their way back.

Each server has a key for them. A stream's other consumers get them as they get those of a local recogniser.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original
from redis import Redis
from redis.exceptions import ResponseError

from mediastreams.cluster.connection import AwayError, Shard
from mediastreams.cluster.entries import Done, EntryError, Heard, Words, decode_words, words_key
from mediastreams.cluster.publisher import Publisher
from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Start, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.text import printable
from mediastreams.transcription.transcriber import FINAL_SECONDS

logger = logging.getLogger(__name__)

_KEPT_SECONDS = 3600  # of a server that was killed
_EXPIRE_EVERY = 600.0  # seconds
_BLOCK_MS = 500
_PAUSE = 0.1  # seconds, while Redis is away
_AT_ONCE = 1000  # words
_POLL_SECONDS = 0.02


class WordReader:
    """Reads what workers have heard in this server's calls, and passes it on to the `RemoteWords` of each.

    It has a thread for each shard, from the first stream on. Any thread may call its methods but `finish`.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        # The system's, also where gevent has patched the module: native threads take it.
        self._lock = get_original("_thread", "allocate_lock")()
        self._listeners: dict[Stream, RemoteWords] = {}
        self._reading: set[Shard] = set()
        self._has_started = False
        self._is_ending = False

    def add(self, listener: "RemoteWords") -> None:
        """Hand over what comes for a stream from now on."""
        self._listeners[listener.stream] = listener
        with self._lock:
            if self._has_started:
                return
            self._has_started = True
        for shard in self.publisher.shards.all:
            self._reading.add(shard)
            get_original("_thread", "start_new_thread")(self._read, (shard,))

    def remove(self, listener: "RemoteWords") -> None:
        """Undo `add`."""
        self._listeners.pop(listener.stream, None)

    def finish(self, seconds: float) -> None:
        """Delete the words, as the server ends; wait at most so long. For the server's thread."""
        self._is_ending = True
        until = time.monotonic() + seconds
        while self._reading and time.monotonic() < until:
            gevent.sleep(_POLL_SECONDS)

    def _read(self, shard: Shard) -> None:
        """Read the words that are on a shard until the server ends (a thread)."""
        sleep = get_original("time", "sleep")
        reading = _Reading(words_key(self.publisher.server), self._pass_on)
        has_failed = False
        while not self._is_ending:
            try:
                shard.run(reading.read)
            except AwayError:
                sleep(_PAUSE)
            except Exception as error:
                if not has_failed:
                    has_failed = True
                    is_answer = isinstance(error, ResponseError)
                    logger.error(
                        "Redis %s: what workers hear cannot be read: %s",
                        shard.name,
                        printable(str(error)),
                        exc_info=not is_answer,
                    )
                sleep(_PAUSE)
        with contextlib.suppress(AwayError, ResponseError):  # it expires
            shard.run(reading.delete)
        self._reading.remove(shard)

    def _pass_on(self, words: Words) -> None:
        stream = self.publisher.stream_of(words.call)
        listener = self._listeners.get(stream) if stream is not None else None
        if listener is not None:
            listener.hear(words)


class _Reading:
    """Where a thread is in the words of a shard."""

    def __init__(self, key: str, pass_on: Callable[[Words], None]) -> None:
        self._key = key
        self._pass_on = pass_on
        self._last: bytes = b"0"
        self._expire_at = 0.0

    def read(self, client: Redis) -> None:
        """Wait for words, not long, and pass them on."""
        answer: Any = client.xread({self._key: self._last}, count=_AT_ONCE, block=_BLOCK_MS)
        for _, entries in answer or []:
            for id, fields in entries:
                self._last = id
                try:
                    words = decode_words(fields)
                except EntryError as error:
                    logger.warning(
                        "%s: words that cannot be read: %s",
                        self._key,
                        printable(str(error)),
                        extra={"limit": "words that cannot be read"},
                    )
                    continue
                self._pass_on(words)
        now = time.monotonic()
        if answer and now >= self._expire_at:
            self._expire_at = now + _EXPIRE_EVERY
            client.xtrim(self._key, minid=self._last, approximate=True)
            client.expire(self._key, _KEPT_SECONDS)

    def delete(self, client: Redis) -> None:
        """Delete the words."""
        client.delete(self._key)


class RemoteWords(Consumer):
    """Publishes what a worker hears in its stream.

    `publish` gets each transcript, `on_unheard` how many seconds were not recognised, as a `Transcriber`'s
    do, each in a thread of the reader's or of this consumer.
    """

    def __init__(
        self,
        stream: Stream,
        reader: WordReader,
        publish: Callable[[Transcript], None],
        on_unheard: Callable[[float], None],
    ) -> None:
        super().__init__(stream)
        self._reader = reader
        self._publish = publish
        self._on_unheard = on_unheard
        self._has_begun = self._is_done = self._is_over = False
        self._unheard = 0.0
        self._heard_until: dict[Track, float] = {}  # the end of the last final text, in seconds
        self._unfinished: set[Track] = set()  # of which the last text was not final
        self._until = 0.0

    def start(self, message: Start) -> None:
        """Wait for words from now on."""
        self._reader.add(self)

    def hear(self, words: Words) -> None:
        """Take what a worker says of this stream. The reader's threads call it."""
        self._has_begun = True
        self._is_done = isinstance(words, Done)
        if isinstance(words, Done):
            self._unheard = words.unheard
        elif isinstance(words, Heard) and not self._is_over:
            self._publish_new(words)

    def stop(self) -> None:
        """Tell workers that no audio follows."""
        self._reader.publisher.stop_audio(self.stream)
        self._until = time.monotonic() + FINAL_SECONDS

    def is_finished(self) -> bool:
        """Return whether no worker has begun, the last words have come, or 2.5 s have passed."""
        if self._has_begun and not self._is_done:
            if time.monotonic() <= self._until:
                return False
            logger.warning("Stream %s: the last words are missing", self.stream.name)
        self._is_over = True
        self._reader.remove(self)
        for track in self._unfinished:
            self._publish(Transcript(track, "", True, 0, 0))  # takes it back
        self._on_unheard(self._unheard)
        return True

    def _publish_new(self, heard: Heard) -> None:
        """Publish a text, unless it was heard before: who takes a call over hears the last seconds again."""
        until = self._heard_until.setdefault(heard.track, 0.0)
        if until and until >= (heard.start + heard.end) / 2:
            return
        if heard.final and heard.text:
            self._heard_until[heard.track] = heard.end
        (self._unfinished.discard if heard.final else self._unfinished.add)(heard.track)
        self._publish(Transcript(heard.track, heard.text, heard.final, heard.start, heard.end, heard.lag))
