"""What of a call has not been sent to Redis yet."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from gevent.monkey import get_original

from mediastreams.cluster.entries import Fields, MediaItem, audio_key, decode_entry, encode_entry
from mediastreams.protocol.messages import MediaFormat
from mediastreams.streams.stream import Stream

_OVERHEAD = 500  # bytes of memory that an entry takes beside its content
_BYTES_PER_SAMPLE = 4  # twice what both tracks of mu-law have, with room for what is not audio
_CHUNK_SECONDS = 0.02  # of a chunk whose format is not decodable


class Outbox:
    """The entries of one call that wait for Redis: those of the latest `window` seconds.

    The oldest are dropped beyond that, and where they are larger than audio of that time is. Their audio is
    counted in seconds of the call: of each entry, those of the track that has more.

    Any thread may put entries in, the sender takes them out, in a thread of its own.
    """

    stream: Stream
    """The stream that the call is."""
    call: str
    """The call."""
    key: str
    """The key of the call's entries."""
    announcement: Fields | None
    """What announces the call, until it is sent."""
    announced: bytes | None = None
    """The id of the entry that announces the call; None before it is sent."""
    is_doubtful: bool = False
    """Whether it may have been announced, though nothing says so."""
    expires_at: float = 0.0
    """When the key's expiry is set next, on the monotonic clock; infinity: it stays as it is."""
    dropped: float = 0.0
    """Seconds of audio that were dropped."""
    has_stopped: bool = False
    """Whether no audio follows: a worker that transcribes may finish with the call before its end."""
    has_ended: bool = False
    """Whether the last entry was put in."""
    is_closed: bool = False
    """Whether nothing more is to be sent."""
    fill: Callable[[], None]
    """Called before entries are taken: puts in what has come since."""

    def __init__(self, stream: Stream, stream_sid: str, call: str, window: float) -> None:
        self.stream = stream
        self.call = call
        self.key = audio_key(stream_sid)
        self.announcement = None
        self.fill = lambda: None
        self._window = window
        self._max_bytes = int(window * _BYTES_PER_SAMPLE * _rate(stream.media_format))
        # The system's, also where gevent has patched the module: native threads take it.
        self._lock = get_original("_thread", "allocate_lock")()
        self._waiting: deque[tuple[float, Fields]] = deque()  # each with when it was put in
        self._taken: list[tuple[float, Fields]] = []
        self._bytes = 0  # of those that wait
        self._n = 0

    def put(self, items: Sequence[bytes]) -> None:
        """Put an entry of these items in."""
        with self._lock:
            self._put(items)

    def put_last(self, items: Sequence[bytes]) -> None:
        """Put the call's last entry in."""
        with self._lock:
            self._put(items)
            self.has_ended = True

    def take(self, most: int) -> list[Fields]:
        """Return the oldest entries, so many at most; they are in here until `settle`."""
        if not self._waiting and not self._taken:
            return []
        with self._lock:
            if len(self._waiting) > most:
                self._drop_old()
            while self._waiting and len(self._taken) < most:
                entry = self._waiting[0]
                self._taken.append(entry)  # first, for `is_empty`, which takes no lock
                self._waiting.popleft()
                self._bytes -= _size(entry)
            return [fields for _, fields in self._taken]

    def settle(self, sent: list[bool]) -> None:
        """Note which of the entries that `take` returned were sent; the others are sent again.

        But for those before one that was sent: a reader that has seen a later entry takes them for repeats.
        """
        if sent and all(sent):
            self._taken = []
            return
        last = max((i for i, is_sent in enumerate(sent) if is_sent), default=-1)
        with self._lock:
            for i in range(last):
                if not sent[i]:
                    self._drop(self._taken[i])
            self._waiting.extendleft(reversed(self._taken[last + 1 :]))
            self._bytes += sum(map(_size, self._taken[last + 1 :]))
            self._taken = []

    def drop_old(self) -> None:
        """Drop what has waited for longer than the window; but not the end of a call that is announced."""
        with self._lock:
            self._drop_old()

    def close(self) -> None:
        """Drop what waits; what is put in from now on is left out."""
        with self._lock:
            self.is_closed = True
            while self._waiting:
                self._drop_first()

    @property
    def is_empty(self) -> bool:
        """Whether no entry waits."""
        return not self._waiting and not self._taken

    def unsent(self) -> float:
        """Return how many seconds of audio wait."""
        with self._lock:
            return sum(self._seconds(entry) for entry in (*self._taken, *self._waiting))

    def _put(self, items: Sequence[bytes]) -> None:
        """Put an entry in. The caller holds the lock."""
        if self.is_closed or self.has_ended:
            return
        entry = time.monotonic(), encode_entry(self.call, self._n + 1, items)
        self._n += 1
        self._waiting.append(entry)
        self._bytes += _size(entry)
        while self._bytes > self._max_bytes and len(self._waiting) > 1:
            self._drop_first()

    def _drop_old(self) -> None:
        until = time.monotonic() - self._window
        keep = self.has_ended and (self.announced is not None or self.is_doubtful)
        while len(self._waiting) > keep and self._waiting[0][0] < until:
            self._drop_first()

    def _drop_first(self) -> None:
        entry = self._waiting.popleft()
        self._bytes -= _size(entry)
        self._drop(entry)

    def _drop(self, entry: tuple[float, Fields]) -> None:
        self.dropped += self._seconds(entry)

    def _seconds(self, entry: tuple[float, Fields]) -> float:
        is_decodable = self.stream.media_format.is_decodable
        seconds = dict.fromkeys(("inbound", "outbound"), 0.0)
        for item in decode_entry(entry[1]).items:
            if isinstance(item, MediaItem):
                length = len(item.payload) / self.stream.rate if is_decodable else _CHUNK_SECONDS
                seconds[item.track] += length
        return max(seconds.values())


def _size(entry: tuple[float, Fields]) -> int:
    return len(entry[1][b"m"]) + _OVERHEAD


def _rate(media_format: MediaFormat) -> int:
    return min(max(media_format.sample_rate, 8000), 48000)
