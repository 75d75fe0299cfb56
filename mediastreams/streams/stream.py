"""The life of one stream: what came, in what order, what is missing, and the line that sums it up.

    connected -> start -> media | dtmf | mark ... -> stop

A message out of this order is bad: it is named in a warning, counted, and otherwise passed over.
Loss is read from `sequenceNumber`, which counts messages of every kind from 1, at `start`. Placement is
read from `timestamp`, because a call may also lose audio with no message missing (Twilio's 31930 and
31953). `chunk` is not read: whether it counts per track is not documented.
"""

import logging
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from mediastreams.audio.timeline import RATE, TrackAccount
from mediastreams.config import Settings
from mediastreams.protocol.messages import (
    Connected,
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
from mediastreams.text import printable

if TYPE_CHECKING:
    from mediastreams.consumers.feeds import Consumers, Feed
    from mediastreams.streams.transcript import Transcript

logger = logging.getLogger(__name__)

# Beyond so many separate losses in one call, a late message counts as a repeat.
_MOST_LOSSES = 1000
_MOST_WARNINGS = 50
_MOST_SAMPLES = 64  # that wait until the metrics have them; nobody may ask
_LATENESS_EVERY = 64 - 1  # messages, and a power of 2 before the 1 is taken away
_LATENESS_SECONDS = 60.0


class Connection(Protocol):
    """What a stream needs of its WebSocket (`websocket.WebSocket` has it)."""

    ending: str
    stream: "Stream | None"

    def send(self, message: str) -> None:
        """Send a text message."""

    def close(self, code: int, message: str) -> None:
        """Close now."""

    def close_after(self, seconds: float, code: int, reason: str) -> None:
        """Close after this time, unless `keep` is called before."""

    def keep(self) -> None:
        """Undo `close_after`."""


class Loss(NamedTuple):
    """Messages that never came: their `sequenceNumber`s, and at which place in the audio (see `track`)."""

    numbers: range
    place: int


# The stream in whose route, or in whose consumer, this code runs; for the log.
current: ContextVar["Stream | None"] = ContextVar("current", default=None)


class Stream:
    """One stream's account, from the first message to the last; a context manager.

    `receive` takes each message as it came. Leaving the `with` block ends the stream, however the
    connection ended; an exception that leaves it carries the stream's SID as a note.

    Without `start` within START_TIMEOUT the WebSocket is closed with 1008; and at once where `start` names
    another account than TWILIO_ACCOUNT_SID.

    `start` is the `Start` message, None until it came. `received` counts every message, `bad` those
    that could not be used, `lost` those whose `sequenceNumber` never came, `late` those that came
    after a later one or for a second time. `losses` has the places of the latest 1,000 losses. `tracks`
    has a `TrackAccount` for each track heard. `transcripts` has the final ones, where one is made.

    `started_at` and `ended_at` are times in UTC, of `start` and of leaving the `with` block; None before.
    `ending` is how it ended, "" before: `stop`; else `failed` where an exception left the block;
    else as the WebSocket did: `peer closed` with its code, `dropped`, `timed out`, `drained`, or
    `server closed` with its code.

    `consumers` gets what belongs to the call, from `start` on, and the block's end waits for them.

    `playback` is what talks back, on a stream that has asked for it.

    For `metrics`: `missed` has how many messages each consumer did not get, by its name, and `unheard` how
    many seconds of audio no recogniser has heard. `lateness` and `lags` have samples, in seconds, that are
    not counted yet: how late a message was handled, and how long after its last word a final text was there.
    """

    __slots__ = (
        "__weakref__",
        "_account_sid",
        "_consumers",
        "_feeds",
        "_lateness",
        "_next",
        "_others",
        "_playback",
        "_sid",
        "_start_timeout",
        "_unnumbered",
        "_warned",
        "_websocket",
        "bad",
        "ended_at",
        "ending",
        "lags",
        "late",
        "lateness",
        "losses",
        "lost",
        "missed",
        "received",
        "start",
        "started_at",
        "stopped",
        "tracks",
        "transcripts",
        "unheard",
    )

    def __init__(
        self, websocket: Connection, settings: Settings, consumers: "Consumers | None" = None
    ) -> None:
        self._websocket = websocket
        self._consumers = consumers
        self._feeds: Sequence[Feed] = ()
        self._account_sid = settings.twilio_account_sid
        self._start_timeout = settings.start_timeout
        self._playback: Playback | None = None
        self.start: Start | None = None
        self.stopped = False
        self.received = 0
        self.bad = 0
        self.lost = 0
        self.late = 0
        self.losses: list[Loss] = []
        self.tracks: dict[Track, TrackAccount] = {}
        self.transcripts: list[Transcript] = []
        self.missed: dict[str, int] = {}
        self.unheard = 0.0
        self.lateness: list[float] = []
        self.lags: list[float] = []
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.ending = ""
        self._sid = ""
        self._next = -1  # the sequenceNumber that is due; none is before start
        self._unnumbered = 0
        self._warned: set[str] = set()
        self._others: dict[str, int] = {}  # messages by event, but for media
        self._lateness = _Lateness()

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
        if self._consumers is not None and self._feeds:
            self._consumers.end(self._feeds)

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
            self._unnumbered += 1
            self._count("invalid")
            self._bad(error.path, str(error))
            return None
        if type(message) is Media:
            return self._media(message)
        self._count("unknown" if isinstance(message, Unknown) else type(message).__name__.lower())
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
            feed.take(message)
        return message

    def summary(self) -> str:
        """Return the closing line: tracks, seconds, bytes, and the messages lost, late and bad."""
        parts = [f"{self.seconds:.2f} s"]
        for track, account in self.tracks.items():
            missing = f", {account.missing / RATE:.2f} s missing" if account.missing else ""
            parts.append(f"{track} {account.chunks} chunks, {account.bytes} bytes{missing}")
        parts.append(f"{self.lost} messages lost, {self.late} late, {self.bad} bad")
        if self.start is not None and not self.stopped:
            parts.append(f"no stop message: {self.ending}" if self.ending else "no stop message")
        return f"Stream {self.name}: {'; '.join(parts)}"

    def _without_number(self, message: Connected | Unknown) -> Connected | Unknown | None:
        if self.stopped:
            self._bad("after stop", f"{message} after stop")
            return None
        if isinstance(message, Unknown):
            self._unnumbered += 1
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
        self._next = message.sequence_number + 1
        self._unnumbered = 0
        self.started_at = datetime.now(UTC)
        if message.start.custom_parameters.get(PARAMETER) == VALUE:
            self._playback = Playback(self._sid, self._websocket.send)
        if self._consumers is not None:
            self._feeds = self._consumers.begin(self, message)
        return message

    def _media(self, message: Media) -> Media | None:
        number, sid = message.sequence_number, message.stream_sid
        if number == self._next and sid == self._sid and not self.stopped:  # as nearly all of them are
            self._next = number + 1
            self._unnumbered = 0
        elif not self._in_order(sid, number, "media"):
            return None
        media = message.media
        track = self.tracks.get(media.track)
        if track is None:
            track = self._first_of(media.track, media.timestamp)
        track.place(media.timestamp, len(media.payload))
        if track.jump:
            self._name_jump(media.track, track, media.timestamp)
        if not number & _LATENESS_EVERY and len(self.lateness) < _MOST_SAMPLES:
            self.lateness.append(self._lateness.of(media.timestamp))
        for feed in self._feeds:
            feed.take(message)
        return message

    def _first_of(self, name: Track, timestamp: int) -> TrackAccount:
        other = next(iter(self.tracks.values()), None)
        track = self.tracks[name] = TrackAccount(timestamp, other)
        if track.is_wild:
            self._warn(
                "wild", f"timestamp {timestamp} ms of the {name} track is not believed: it counts as the next"
            )
        return track

    def _name_jump(self, name: Track, track: TrackAccount, timestamp: int) -> None:
        place = f"timestamp {timestamp} ms of the {name} track"
        if track.is_wild:
            self._warn("wild", f"{place} is {track.jump} ms off, and not believed: it counts as the next")
        elif track.jump > 0:
            self._warn("gap", f"{track.jump} ms of the {name} track missing before {timestamp} ms")
        else:
            self._warn("overlap", f"{place} goes back")

    def _in_order(self, sid: str, number: int, event: str) -> bool:
        """Judge a message's place by its stream, the events before it and its `sequenceNumber`."""
        if self.start is None:
            self._bad("before start", f"{event} before start")
        elif self.stopped:
            self._bad("after stop", f"{event} after stop")
        elif sid != self._sid:
            self._bad("$.streamSid", f"$.streamSid: {event} of another stream, {sid}")
        elif number == self._next:
            self._next += 1
            self._unnumbered = 0
            return True
        elif number > self._next:
            self._skip_to(number)
            return True
        else:
            return self._fills_gap(number)
        return False

    def _end(self) -> int:
        """Return the place behind all audio, 0 without any."""
        return max((track.end for track in list(self.tracks.values())), default=0)

    def _skip_to(self, number: int) -> None:
        # What came in between without a number that could be used (a bad message, an unknown event)
        # stands for as many of those that seem lost.
        gap = range(self._next, number)[self._unnumbered :]
        if gap:
            self.lost += len(gap)
            self.losses = [*self.losses[1 - _MOST_LOSSES :], Loss(gap, self._end())]
            self._warn("lost", f"sequenceNumber {number} where {gap.start} was due: {len(gap)} lost")
        self._next = number + 1
        self._unnumbered = 0

    def _fills_gap(self, number: int) -> bool:
        """Count a message that came late; say whether it is new (not a repeat)."""
        self.late += 1
        i = bisect_right(self.losses, number, key=_stop_of)
        if i < len(self.losses) and number in self.losses[i].numbers:
            gap, place = self.losses[i]
            self.lost -= 1
            parts = range(gap.start, number), range(number + 1, gap.stop)
            self.losses[i : i + 1] = [Loss(part, place) for part in parts if part]
            del self.losses[:-_MOST_LOSSES]
            self._warn("late", f"sequenceNumber {number} came after {self._next - 1}")
            return True
        self._warn("repeat", f"sequenceNumber {number} came again")
        return False

    def _count(self, event: str) -> None:
        self._others[event] = self._others.get(event, 0) + 1

    def _bad(self, kind: str, text: str) -> None:
        self.bad += 1
        self._warn(kind, f"bad message: {text}")

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(kind)
            logger.warning("Stream %s: %s (more of this kind are only counted)", self.name, printable(text))


class _Lateness:
    """How late messages are handled: later than the earliest of the last one or two minutes.

    What the fastest way to the server takes, nobody can tell from here; and clocks drift.
    """

    __slots__ = ("_before", "_earliest", "_until")

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


def _stop_of(loss: Loss) -> int:
    return loss.numbers.stop
