"""Publishes the calls of a server to Redis, for workers on other machines.

The server's thread encodes what comes of a stream, and a sender takes it from there every 200 ms, in a thread
of its own. So a call never waits for Redis.
"""

import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from functools import partial

import gevent
from gevent.monkey import get_original

from mediastreams.client import prepare_threads
from mediastreams.cluster.connection import Shards
from mediastreams.cluster.entries import Announced, encode
from mediastreams.cluster.figures import Figures
from mediastreams.cluster.outbox import Outbox
from mediastreams.cluster.publication import Publication
from mediastreams.cluster.sender import Sender
from mediastreams.protocol.messages import STREAM_SID, Start
from mediastreams.streams.stream import Stream
from mediastreams.text import printable

logger = logging.getLogger(__name__)

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
        self._has_started = False
        self._senders = {
            shard: Sender(shard, window, on_done=self._forget, on_figures=on_figures) for shard in shards.all
        }
        # The system's, also where gevent has patched the module: native threads take it.
        self._lock = get_original("_thread", "allocate_lock")()
        self._publications: dict[str, Publication] = {}  # by streamSid
        self._streams: dict[str, Stream] = {}  # by what identifies a call

    @property
    def server(self) -> str:
        """The name of this server. Any thread may ask, but not before gunicorn forks."""
        with self._lock:
            if self._server is None:
                self._server = server_name()
            return self._server

    def start(self) -> None:
        """Connect to Redis; does nothing where it has. For the server's thread, not before gunicorn forks."""
        if self._has_started:
            return
        self._has_started = True
        prepare_threads()
        for sender in self._senders.values():
            sender.start()

    def begin(self, stream: Stream, message: Start) -> Publication | None:
        """Announce a stream's call and return what publishes it; None where it is not published."""
        sid = message.stream_sid
        if not STREAM_SID.fullmatch(sid):
            logger.warning("Stream %s: not published, its SID is not MZ and 32 digits", stream.name)
            return None
        if sid in self._publications:
            logger.warning("Stream %s: not published, another live stream has its SID", stream.name)
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
        sender = self._senders[self.shards.of(sid)]
        publication = Publication(stream, outbox, hurry=partial(sender.hurry, outbox))
        self._publications[sid] = publication
        self._streams[outbox.call] = stream
        self.start()
        sender.add(outbox)
        return publication

    def stop_audio(self, stream: Stream) -> None:
        """Tell workers, behind the last chunk of a stream, that no audio follows. Any thread may call it."""
        assert stream.start is not None
        publication = self._publications.get(stream.start.stream_sid)
        if publication is not None and publication.stream is stream:
            publication.stop_audio()

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
        self._streams.pop(outbox.call, None)
        self._publications.pop(start.stream_sid, None)
