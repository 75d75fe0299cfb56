"""What the entries of a call are made of: its messages, its texts, and how its stream goes.

A message is encoded when it comes, in the server's thread, which has it at hand: that costs 0.5 us. Another
thread would need three times as much, since it gets a batch whose memory has left the processor's cache.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from gevent.monkey import get_original

from mediastreams.cluster.entries import encode_item
from mediastreams.cluster.outbox import Outbox
from mediastreams.protocol.messages import Dtmf, Mark, MediaMetadata
from mediastreams.streams.stream import Chunk, Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.text import printable

logger = logging.getLogger(__name__)

MAX_ITEMS = 100  # of an entry; more come in 0.2 s only where messages come faster than in a call
_STATE_EVERY = 1.0  # seconds
_DETAILS_EVERY = 5.0
_STOP = encode_item(("stop",))
_UNENCODABLE = (UnicodeEncodeError, OverflowError)


class Publication:
    """Makes the entries of one stream's call, and puts them into its outbox.

    `put` and `end` are for the server's thread, all else for any.
    """

    def __init__(self, stream: Stream, outbox: Outbox, hurry: Callable[[], None]) -> None:
        """Make it of an outbox; `hurry` is called when that should be sent soon."""
        self.stream = stream
        self._outbox = outbox
        self._hurry = hurry
        self._items: list[bytes] = []  # those of the next entry
        self._told_details: Any = None
        self._was_paused = False
        self._told_tracks = 0  # how many the last state has
        self._state_at = self._details_at = 0.0  # when they are published next, on the monotonic clock
        self._quiet_until = time.monotonic() + _STATE_EVERY
        # The system's, also where gevent has patched the module: native threads take it.
        self._lock = get_original("_thread", "allocate_lock")()
        outbox.fill = self.fill

    def put(self, item: Chunk | Dtmf | Mark) -> None:
        """Take a message."""
        if isinstance(item, Dtmf):
            key = item.dtmf
            self._note(("dtmf", item.sequence_number, key.track, key.digit, key.is_secret))
        elif isinstance(item, Mark):
            self._note(("mark", item.sequence_number, item.mark.name))
        else:
            message, position, filled = item
            media = message.media
            self._note(
                (
                    "media",
                    message.sequence_number,
                    media.track,
                    media.chunk,
                    media.timestamp,
                    media.payload,
                    position if filled is None else self._parts(media, position, filled),
                )
            )

    def transcript(self, transcript: Transcript) -> None:
        """Take a text."""
        t = transcript
        self._note(("transcript", t.track, t.text, t.final, t.start, t.end, t.lag))

    def stop_audio(self) -> None:
        """Tell workers, behind the last chunk, that no audio follows."""
        self._outbox.has_stopped = True
        self._items.append(_STOP)
        self._hurry()

    def fill(self) -> None:
        """Put an entry of what has come into the outbox.

        Where nothing comes, one each second has the state: a server without entries is lost for workers.
        """
        if not self._is_due:
            return
        with self._lock:
            try:
                self._put_rest()
            except _UNENCODABLE as error:
                self._give_up(error)

    def end(self) -> None:
        """Put the rest into the outbox, and how the stream ended."""
        stream = self.stream
        assert stream.ended_at is not None
        end = "end", stream.ending, stream.ended_at.timestamp()
        with self._lock:
            try:
                self._put_rest()
                self._outbox.put_last(
                    [*self._pauses(), self._state(), self._item(self._details()), encode_item(end)]
                )
            except _UNENCODABLE as error:
                self._give_up(error)
        self._hurry()

    def _note(self, item: tuple[Any, ...]) -> None:
        try:
            self._items.append(encode_item(item))
        except _UNENCODABLE as error:
            with self._lock:
                self._give_up(error)
        if len(self._items) >= MAX_ITEMS:
            self.fill()

    @property
    def _is_due(self) -> bool:
        return bool(self._items) or time.monotonic() >= self._quiet_until

    # The lock is held for what follows: an entry that is made before the last one is also put in before it.

    def _give_up(self, error: Exception) -> None:
        """End the call for workers: it has what cannot be encoded."""
        if self._outbox.has_ended:
            return
        logger.warning("Stream %s: not published any more: %s", self.stream.name, printable(str(error)))
        self._outbox.put_last([encode_item(("end", "failed", time.time()))])
        self._hurry()

    def _put_rest(self) -> None:
        if self._is_due:
            self._outbox.put(self._take())

    def _take(self) -> list[bytes]:
        """Return the items of an entry."""
        items = self._items[:]  # another thread may append meanwhile
        del self._items[: len(items)]
        items[:0] = self._pauses()  # not before the items are taken: it holds for all of them
        now = time.monotonic()
        self._quiet_until = now + _STATE_EVERY
        tracks = len(self.stream.tracks)  # a new one: the times of its texts count from where it begins
        if now >= self._state_at or tracks > self._told_tracks:
            self._state_at, self._told_tracks = now + _STATE_EVERY, tracks
            items.append(self._state())
        if now >= self._details_at:
            self._details_at = now + _DETAILS_EVERY
            details = self._details()
            if details != self._told_details:
                self._told_details = details
                items.append(self._item(details))
        return items

    def _pauses(self) -> list[bytes]:
        pauses = self.stream.pauses.all
        self._was_paused = self._was_paused or bool(pauses)
        return [encode_item(("pauses", pauses))] if self._was_paused else []

    def _state(self) -> bytes:
        stream = self.stream
        tracks = {
            name: (track.first, track.end, track.chunks, track.bytes, track.missing)
            for name, track in list(stream.tracks.items())
        }
        return encode_item(("state", stream.received, stream.lost, stream.late, stream.bad, tracks))

    def _details(self) -> tuple[dict[str, int], Any, Any]:
        """Return what changes rarely; so how many media messages came is not among the events."""
        stream = self.stream
        events = stream.events
        del events["media"]
        gaps = {
            name: [(gap.start, gap.stop) for gap in track.gaps]
            for name, track in list(stream.tracks.items())
            if track.gaps
        }
        losses = [(numbers.start, numbers.stop, position) for numbers, position in stream.losses]
        return events, gaps, losses

    def _item(self, details: tuple[dict[str, int], Any, Any]) -> bytes:
        events, gaps, losses = details
        media = self.stream.received - sum(events.values())
        return encode_item(("details", {"media": media, **events}, gaps, losses))

    def _parts(self, media: MediaMetadata, position: int, filled: list[range]) -> list[Any] | None:
        """Return of a chunk that overlaps the parts that are new; None where it has no positions."""
        if not self.stream.media_format.is_decodable:
            return None
        return [(part.start, media.payload[part.start - position : part.stop - position]) for part in filled]
