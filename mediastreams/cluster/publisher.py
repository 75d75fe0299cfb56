"""Publishes the calls of a server to Redis, for workers on other machines.

The consumer of each stream encodes an entry every 200 ms and puts it into the call's outbox, from which a
sender takes it. So a call never waits for Redis.
"""

import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original

from mediastreams.cluster.connection import Shards
from mediastreams.cluster.entries import Announced, encode
from mediastreams.cluster.figures import Figures
from mediastreams.cluster.outbox import Outbox
from mediastreams.cluster.sender import Sender
from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Dtmf, Mark, Media, Start, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.text import printable

logger = logging.getLogger(__name__)

_STREAM_SID = re.compile("MZ[0-9a-fA-F]{32}")
_DETAILS_EVERY = 5.0  # seconds
_POLL_SECONDS = 0.02
_AWAY_SECONDS = 5.0  # that the end of the server waits for a Redis to come back


def server_name() -> str:
    """Return a new name for this server, fit for a key: its machine, its process, and what no other has."""
    machine = re.sub("[^A-Za-z0-9.-]", "", socket.gethostname())[:64]
    return f"{machine}-{os.getpid()}-{secrets.token_hex(3)}"


class Publisher:
    """Publishes calls through `shards`, and keeps those of the latest `window` seconds while Redis is away.

    One for each process. `idle_timeout`: after so many seconds without an entry, a call is lost for workers.
    `on_figures` is called every 5 seconds with what the metrics show of a shard, in a thread of its own.
    """

    def __init__(
        self,
        shards: Shards,
        window: float,
        idle_timeout: float,
        on_figures: Callable[[Figures], None],
    ) -> None:
        self.shards = shards
        self._window = window
        self._idle_timeout = idle_timeout
        self._server: str | None = None
        self._senders = {
            shard: Sender(shard, window, on_done=self._forget, on_figures=on_figures) for shard in shards.all
        }
        # The system's, also where gevent has patched the module: native threads take it.
        self._lock = get_original("_thread", "allocate_lock")()
        self._outboxes: dict[str, Outbox] = {}  # by streamSid
        self._streams: dict[str, Stream] = {}  # by what identifies a call

    @property
    def server(self) -> str:
        """The name of this server. Any thread may ask, but not before gunicorn forks."""
        with self._lock:
            if self._server is None:
                self._server = server_name()
            return self._server

    def start(self) -> None:
        """Connect to Redis. Any thread may call it, again and again; not before gunicorn forks."""
        with self._lock:
            for sender in self._senders.values():
                sender.start()

    def begin(self, stream: Stream, message: Start) -> Outbox | None:
        """Announce a stream's call and return what its entries go into; None where it is not published.

        Any thread may call it.
        """
        sid = message.stream_sid
        if not _STREAM_SID.fullmatch(sid):
            logger.warning("Stream %s: not published, its SID is not MZ and 32 digits", stream.name)
            return None
        assert stream.started_at is not None
        outbox = Outbox(stream, sid, secrets.token_hex(8), self._window)
        announced = Announced(
            outbox.call, self.server, stream.started_at.timestamp(), self._idle_timeout, message
        )
        try:
            outbox.announcement = encode(announced)
        except (UnicodeEncodeError, OverflowError) as error:
            logger.warning("Stream %s: not published: %s", stream.name, printable(str(error)))
            return None
        with self._lock:
            is_second = sid in self._outboxes
            if not is_second:
                self._outboxes[sid] = outbox
                self._streams[outbox.call] = stream
        if is_second:
            logger.warning("Stream %s: not published, another live stream has its SID", stream.name)
            return None
        self.start()
        self._senders[self.shards.of(sid)].add(outbox)
        return outbox

    def stop_audio(self, stream: Stream) -> None:
        """Tell workers, behind the last chunk of a stream, that no audio follows. Any thread may call it."""
        assert stream.start is not None
        outbox = self._outboxes.get(stream.start.stream_sid)
        if outbox is not None and outbox.stream is stream:
            outbox.stop(sum(track.chunks for track in list(stream.tracks.values())))

    def stream_of(self, call: str) -> Stream | None:
        """Return the live stream that is published as this call; None: there is none. For any thread."""
        return self._streams.get(call)

    def finish(self, seconds: float) -> None:
        """Send the rest and nothing more: wait at most so long, and log what is not sent.

        Where Redis is away, it waits 5 s at most. For the server's thread.
        """
        senders = self._senders.values()
        now = time.monotonic()
        until, away_until = now + seconds, now + _AWAY_SECONDS
        if any(shard.is_away for shard in self.shards.all) and (unsent := sum(s.unsent() for s in senders)):
            wait = min(seconds, _AWAY_SECONDS)
            logger.info("Waiting up to %g s for Redis: %.1f s of audio are not published", wait, unsent)
        while now < until and any(
            not sender.is_idle and (now < away_until or not sender.is_away) for sender in senders
        ):
            gevent.sleep(_POLL_SECONDS)
            now = time.monotonic()
        for sender in senders:
            sender.end()
        if unsent := sum(sender.unsent() for sender in senders):
            logger.warning("The server ends, and %.1f s of audio were not published", unsent)

    def _forget(self, outbox: Outbox) -> None:
        start = outbox.stream.start
        assert start is not None
        with self._lock:
            self._outboxes.pop(start.stream_sid, None)
            self._streams.pop(outbox.call, None)


class Publishing(Consumer):
    """Publishes its stream, if its SID is one of Twilio's, since it names the key."""

    def __init__(self, stream: Stream, publisher: Publisher) -> None:
        super().__init__(stream)
        self._publisher = publisher
        self._outbox: Outbox | None = None
        self._items: list[Any] = []
        self._others = 0  # of these, that are no chunks
        self._unplaced: tuple[()] | None = None  # the position of a chunk without new audio
        self._told_details: Any = None
        self._details_at = 0.0  # when they are looked at next, on the monotonic clock

    def start(self, message: Start) -> None:
        """Announce the call."""
        if self.stream.media_format.is_decodable:
            self._unplaced = ()
        self._outbox = self._publisher.begin(self.stream, message)

    def media(self, message: Media) -> None:
        """Note a chunk."""
        media = message.media
        self._items.append(
            [
                "media",
                message.sequence_number,
                media.track,
                media.chunk,
                media.timestamp,
                media.payload,
                self._unplaced,
            ]
        )

    def audio(self, _track: Track, position: int, payload: bytes) -> None:
        """Note where the chunk is, or a part of it."""
        item = self._items[-1]
        if len(payload) == len(item[5]):
            item[6] = position
        else:
            item[6] = (*item[6], (position, payload))

    def dtmf(self, message: Dtmf) -> None:
        """Note a key."""
        key = message.dtmf
        self._note(("dtmf", message.sequence_number, key.track, key.digit, key.is_secret))

    def mark(self, message: Mark) -> None:
        """Note a mark."""
        self._note(("mark", message.sequence_number, message.mark.name))

    def transcript(self, transcript: Transcript) -> None:
        """Note a text."""
        t = transcript
        self._note(("transcript", t.track, t.text, t.final, t.start, t.end, t.lag))

    def flush(self) -> None:
        """Put what has come into the outbox."""
        items, self._items = self._items, []
        others, self._others = self._others, 0
        outbox = self._outbox
        if outbox is None or not items:
            return
        chunks = len(items) - others
        items.append(self._state())
        if time.monotonic() >= self._details_at:
            self._details_at = time.monotonic() + _DETAILS_EVERY
            details = self._details()
            if details != self._told_details:
                self._told_details = details
                items.append(self._item(details))
        try:
            outbox.put(items, chunks)
        except (UnicodeEncodeError, OverflowError) as error:
            self._give_up(outbox, error)

    def stop(self) -> None:
        """Put the rest into the outbox, and how the stream ended."""
        self.flush()
        outbox, stream = self._outbox, self.stream
        if outbox is None:
            return
        assert stream.ended_at is not None
        details = self._item(self._details())
        end = "end", stream.ending, stream.ended_at.timestamp()
        try:
            outbox.put_last([self._state(), details, end])
        except (UnicodeEncodeError, OverflowError) as error:
            self._give_up(outbox, error)

    def _note(self, item: tuple[Any, ...]) -> None:
        self._items.append(item)
        self._others += 1

    def _state(self) -> tuple[Any, ...]:
        stream = self.stream
        tracks = {
            name: (track.first, track.end, track.chunks, track.bytes, track.missing)
            for name, track in list(stream.tracks.items())
        }
        return "state", stream.received, stream.lost, stream.late, stream.bad, tracks

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

    def _item(self, details: tuple[dict[str, int], Any, Any]) -> tuple[Any, ...]:
        events, gaps, losses = details
        media = self.stream.received - sum(events.values())
        return "details", {"media": media, **events}, gaps, losses

    def _give_up(self, outbox: Outbox, error: Exception) -> None:
        """End the call for workers: it has what cannot be encoded."""
        logger.warning("Stream %s: not published any more: %s", self.stream.name, printable(str(error)))
        self._outbox = None
        outbox.put_last([("end", "failed", time.time())])
