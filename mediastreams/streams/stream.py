"""The life of one stream: what came, in what order, what is missing, and the line that sums it up.

    connected -> start -> media | dtmf | mark ... -> stop

A message out of this order is bad: it is named in a warning, counted, and otherwise passed over.
Loss is read from `sequenceNumber`, which counts messages of every kind from 1, at `start`. Placement is
read from `timestamp`, because a call may also lose audio with no message missing (Twilio's 31930 and
31953). `chunk` is not read: whether it counts per track is not documented.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from mediastreams.audio.timeline import RATE, TrackTimeline
from mediastreams.config import Settings
from mediastreams.protocol.messages import (
    Connected,
    Dtmf,
    Mark,
    Media,
    MediaFormat,
    MessageError,
    Received,
    Start,
    Stop,
    Track,
    Unknown,
    parse,
)
from mediastreams.streams.playback import PARAMETER, VALUE, Playback, SendError
from mediastreams.streams.sequence import Loss, SequenceTracker
from mediastreams.text import printable

logger = logging.getLogger(__name__)

MAX_SHOWN = 100  # lines of the log for each of `dtmf` and `mark`; beyond, the summary has their number
_MAX_WARNINGS = 50
_LATENESS_EVERY = 64 - 1  # messages, and a power of 2 before the 1 is taken away
_LATENESS_SECONDS = 60.0


class Connection(Protocol):
    """What a stream needs of its WebSocket (`websocket.WebSocket` has it)."""

    ending: str
    stream: object

    def send(self, message: str) -> None:
        """Send a text message."""

    def close(self, code: int, message: str) -> None:
        """Close now."""

    def close_after(self, seconds: float, code: int, reason: str) -> None:
        """Close after this time, unless `keep` is called before."""

    def keep(self) -> None:
        """Undo `close_after`."""


# A message, the position of its first sample, and of its samples those positions for which no audio has come
# before; None: all of them.
Chunk = tuple[Media, int, list[range] | None]


class Feed(Protocol):
    """One consumer of the stream, and what waits for it."""

    def media(self, chunk: Chunk) -> None:
        """Keep a chunk of audio."""

    def event(self, message: Dtmf | Mark) -> None:
        """Keep a key or a mark."""


class Consumers(Protocol):
    """What a stream needs of its consumers (`feeds.Consumers` has it)."""

    def begin(self, stream: "Stream", message: Start) -> Sequence[Feed]:
        """Return a feed for each consumer of a stream that has started."""

    def end(self, stream: "Stream") -> None:
        """Let the stream's consumers finish, and wait for them."""


# The stream in whose route, or in whose consumer, this code runs; for the log.
current: ContextVar["Stream | None"] = ContextVar("current", default=None)


class Stream:
    """One stream, from its first message to the last; a context manager, which its route makes.

    `receive` takes each message as it came. Leaving the `with` block ends the stream, however the connection
    ended, and waits for its consumers; an exception that leaves it carries the stream's SID as a note.

    Without `start` within START_TIMEOUT the WebSocket is closed with 1008; and at once where `start` names
    another account than TWILIO_ACCOUNT_SID.

    Only the route's greenlet calls its methods. Consumers read its attributes, in threads of their own.
    """

    start: Start | None
    """The `start` message, None until it came."""
    stopped: bool
    """Whether the `stop` message came."""
    received: int
    """How many messages came, of every kind."""
    bad: int
    """How many could not be used."""
    tracks: dict[Track, TrackTimeline]
    """The timeline of each track of which audio came."""
    started_at: datetime | None
    """When `start` came, in UTC; None before."""
    ended_at: datetime | None
    """When the `with` block was left, in UTC; None before."""
    ending: str
    """How it ended, "" before: `stop`; else `failed` where an exception left the block; else as the WebSocket
    did:
    `peer closed` with its code, `dropped`, `timed out`, `drained`, or `server closed` with its code."""

    def __init__(
        self,
        websocket: Connection,
        settings: Settings,
        consumers: Consumers | None = None,
        on_lateness: Callable[[float], None] | None = None,
    ) -> None:
        """Make the stream of a WebSocket that was opened.

        `consumers` get what belongs to the call, from `start` on. `on_lateness` is called for one message in
        64 with how many seconds late it is handled. None: there are none.
        """
        self._websocket = websocket
        self._consumers = consumers
        self._feeds: Sequence[Feed] = ()
        self._account_sid = settings.twilio_account_sid
        self._start_timeout = settings.start_timeout
        self._playback: Playback | None = None
        self._on_lateness = on_lateness
        self._lateness = _Lateness()
        self._sequence = SequenceTracker()
        self._sid = ""
        self._warned: set[str] = set()
        self._others: dict[str, int] = {}  # messages by event, but for media
        self.start = None
        self.stopped = False
        self.received = 0
        self.bad = 0
        self.tracks = {}
        self.started_at = None
        self.ended_at = None
        self.ending = ""

    def __enter__(self) -> Self:
        self._websocket.stream = self
        current.set(self)  # until the connection's greenlet ends: it logs more when the block is left
        self._websocket.close_after(
            self._start_timeout, 1008, f"no start message within {self._start_timeout:g} s"
        )
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.ended_at = datetime.now(UTC)
        if self.stopped:
            self.ending = "stop"
        elif error is not None:
            self.ending = "failed"
        else:
            self.ending = self._websocket.ending or "server closed 1000"  # as it will, with the route's end
        if error is not None:
            error.add_note(f"in stream {self.name}")
        if self._consumers is not None:
            self._consumers.end(self)

    @property
    def lost(self) -> int:
        """How many messages never came, by their `sequenceNumber`."""
        return self._sequence.lost

    @property
    def late(self) -> int:
        """How many messages came after a later one, or for a second time."""
        return self._sequence.late

    @property
    def losses(self) -> list[Loss]:
        """The latest 1,000 losses of messages, and their positions."""
        return self._sequence.losses

    @property
    def name(self) -> str:
        """The stream's SID as a log may show it."""
        return printable(self._sid) or "(not started)"

    @property
    def seconds(self) -> float:
        """The time from the first audio of any track to the end of the last; 0.0 without audio."""
        if not self.tracks:
            return 0.0
        # A consumer may ask, in its thread, while a track is added: hence the list.
        return (self._end() - min(track.first for track in list(self.tracks.values()))) / RATE

    @property
    def is_bidirectional(self) -> bool:
        """Whether `start` has said so, by a `<Parameter>` of the TwiML: then `playback` is there."""
        return self._playback is not None

    @property
    def playback(self) -> Playback:
        """What sends to this stream. Raises `SendError` before `start`, and where nothing may be sent."""
        if self._playback is not None:
            return self._playback
        if self.start is None:
            raise SendError("nothing can be sent before start: only that says which stream this is")
        raise SendError(
            "nothing may be sent to this stream, its TwiML does not ask for it: that takes <Connect><Stream> "
            f'with <Parameter name="{PARAMETER}" value="{VALUE}"/>, as in twiml/connect-stream.xml'
        )

    @property
    def events(self) -> dict[str, int]:
        """How many messages of each event came, good or bad, by Twilio's word.

        `unknown` has those of other events, `invalid` those that could not be parsed.
        """
        return {"media": self.received - sum(self._others.values()), **self._others}

    def receive(self, data: str | bytes) -> Received | None:
        """Parse a message, account for it and return it; None where it is of no use to the call.

        Of no use is what cannot be parsed, is out of order, belongs to another stream or came before.
        The first of each kind is named in a warning, all are counted.
        """
        self.received += 1
        try:
            message = parse(data)
        except MessageError as error:
            self._sequence.unnumbered()
            self._count("invalid")
            self._bad(error.path, str(error))
            return None
        if isinstance(message, Media):
            return self._media(message)
        self._count(message.event)
        if isinstance(message, Connected | Unknown):
            return self._without_number(message)
        if isinstance(message, Start):
            return self._start(message)
        if not self._in_order(message.stream_sid, message.sequence_number, type(message).__name__):
            return None
        if isinstance(message, Stop):
            self.stopped = True
            return message
        if isinstance(message, Mark) and self._playback and not self._playback.returned(message.mark.name):
            self._warn("mark", f"a mark came back that was not sent: {message.mark.name}")
        for feed in self._feeds:
            feed.event(message)
        return message

    def summary(self) -> str:
        """Return the closing line: tracks, seconds, bytes, and the messages lost, late and bad."""
        parts = [f"{self.seconds:.2f} s"]
        for name, track in self.tracks.items():
            missing = f", {track.missing / RATE:.2f} s missing" if track.missing else ""
            parts.append(f"{name} {track.chunks} chunks, {track.bytes} bytes{missing}")
        parts.append(f"{self.lost} messages lost, {self.late} late, {self.bad} bad")
        least = {"unknown": 1, "dtmf": MAX_SHOWN + 1, "mark": MAX_SHOWN + 1}  # that the log has not shown
        counts = [f"{self.events[name]} {name}" for name in least if self.events.get(name, 0) >= least[name]]
        if counts:
            parts.append(", ".join(counts))
        if self.start is not None and not self.stopped:
            parts.append(f"no stop message: {self.ending}" if self.ending else "no stop message")
        return f"Stream {self.name}: {'; '.join(parts)}"

    def _without_number(self, message: Connected | Unknown) -> Connected | Unknown | None:
        if self.stopped:
            self._bad("after stop", f"{message} after stop")
            return None
        if isinstance(message, Unknown):
            self._sequence.unnumbered()
        elif self.start is not None:
            self._bad("after start", f"{message} after start")
            return None
        return message

    def _start(self, message: Start) -> Start | None:
        if self.stopped:
            self._bad("after stop", "start after stop")
            return None
        if self.start is not None:
            self._bad("second start", "a second start")
            return None
        if message.stream_sid != message.start.stream_sid:
            self._bad("$.streamSid", "$.streamSid: differs from $.start.streamSid")
            return None
        if self._account_sid not in (None, message.start.account_sid):
            self._bad("account", f"$.start.accountSid: {message.start.account_sid} is not TWILIO_ACCOUNT_SID")
            self._websocket.close(1008, "this server takes the streams of another account")
            return None
        self._websocket.keep()
        if message.start.media_format != MediaFormat():
            self._warn("mediaFormat", f"announces {message.start.media_format}, read as mu-law at 8 kHz")
        self.start = message
        self._sid = message.stream_sid
        self._sequence.start(message.sequence_number)
        self.started_at = datetime.now(UTC)
        if message.start.custom_parameters.get(PARAMETER) == VALUE:
            self._playback = Playback(self._sid, self._websocket.send)
        if self._consumers is not None:
            self._feeds = self._consumers.begin(self, message)
        return message

    def _media(self, message: Media) -> Media | None:
        number, sequence = message.sequence_number, self._sequence
        if (
            number == sequence.next and message.stream_sid == self._sid and not self.stopped
        ):  # as nearly all are
            sequence.advance()
        elif not self._in_order(message.stream_sid, number, "media"):
            return None
        media = message.media
        track = self.tracks.get(media.track)
        if track is None:
            track = self._first_of(media.track, media.timestamp)
        position = track.add(media.timestamp, len(media.payload))
        filled = None
        if track.gap_ms:
            self._name_gap(media.track, track, media.timestamp)
            filled = track.filled if track.gap_ms < 0 and not track.is_implausible else None
        if not number & _LATENESS_EVERY and self._on_lateness is not None:
            self._on_lateness(self._lateness.of(media.timestamp))
        chunk = message, position, filled
        for feed in self._feeds:
            feed.media(chunk)
        return message

    def _first_of(self, name: Track, timestamp: int) -> TrackTimeline:
        other = next(iter(self.tracks.values()), None)
        track = self.tracks[name] = TrackTimeline(timestamp, other)
        if track.is_implausible:
            self._warn(
                "wild", f"timestamp {timestamp} ms of the {name} track is not believed: it counts as the next"
            )
        return track

    def _name_gap(self, name: Track, track: TrackTimeline, timestamp: int) -> None:
        place = f"timestamp {timestamp} ms of the {name} track"
        if track.is_implausible:
            self._warn("wild", f"{place} is {track.gap_ms} ms off, and not believed: it counts as the next")
        elif track.gap_ms > 0:
            self._warn("gap", f"{track.gap_ms} ms of the {name} track missing before {timestamp} ms")
        else:
            self._warn("overlap", f"{place} goes back")

    def _in_order(self, sid: str, number: int, event: str) -> bool:
        """Return whether a message may be used: by its stream, what came before, its `sequenceNumber`."""
        sequence = self._sequence
        if self.start is None:
            self._bad("before start", f"{event} before start")
        elif self.stopped:
            self._bad("after stop", f"{event} after stop")
        elif sid != self._sid:
            self._bad("$.streamSid", f"$.streamSid: {event} of another stream, {sid}")
        elif number == sequence.next:
            sequence.advance()
            return True
        elif number > sequence.next:
            if gap := sequence.skip_to(number, self._end()):
                self._warn("lost", f"sequenceNumber {number} where {gap.start} was due: {len(gap)} lost")
            return True
        elif sequence.fill(number):
            self._warn("late", f"sequenceNumber {number} came after {sequence.next - 1}")
            return True
        else:
            self._warn("repeat", f"sequenceNumber {number} came again")
        return False

    def _end(self) -> int:
        """Return the position behind all audio, 0 without any."""
        return max((track.end for track in list(self.tracks.values())), default=0)

    def _count(self, event: str) -> None:
        self._others[event] = self._others.get(event, 0) + 1

    def _bad(self, kind: str, text: str) -> None:
        self.bad += 1
        self._warn(kind, f"bad message: {text}")

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(kind)
            logger.warning("Stream %s: %s (more of this kind are only counted)", self.name, printable(text))


class _Lateness:
    """How late messages are handled: later than the earliest of the last one or two minutes.

    What the fastest way to the server takes, nobody can tell from here; and clocks drift.
    """

    def __init__(self) -> None:
        self._before = self._earliest = float("inf")
        self._until = 0.0

    def of(self, timestamp: int) -> float:
        """Return by how many seconds the message with this `timestamp`, in milliseconds, is late now."""
        now = time.monotonic()
        if now > self._until:
            self._before, self._earliest = self._earliest, float("inf")
            self._until = now + _LATENESS_SECONDS
        age = now - timestamp / 1000
        self._earliest = min(self._earliest, age)
        return age - min(self._before, self._earliest)
