"""One stream: parses its messages, checks their order, and hands them to its consumers.

A message out of order is bad: it is logged, counted and ignored. `sequenceNumber` tells which messages are
lost, `timestamp` where audio belongs: a call may also lose audio without losing a message (Twilio's 31930 and
31953). `chunk` is not read: whether it counts per track is not documented.

A chunk's position is computed here, once, and handed on. Data goes one way: connection, stream, consumers.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, Self

from mediastreams.audio.timeline import RATE, Discontinuity, TrackTimeline, UndecodedTrack
from mediastreams.config import Settings
from mediastreams.protocol.messages import (
    Connected,
    Dtmf,
    Mark,
    Media,
    MediaFormat,
    MediaMetadata,
    MessageError,
    Received,
    Start,
    Stop,
    Track,
    Unknown,
    parse,
)
from mediastreams.streams import order
from mediastreams.streams.pauses import MAX_PAUSES, Pauses
from mediastreams.streams.playback import PARAMETER, VALUE, Playback, SendError
from mediastreams.streams.sequence import Loss, SequenceTracker
from mediastreams.streams.transcript import Transcript
from mediastreams.text import printable

logger = logging.getLogger(__name__)

MAX_SHOWN = 100  # lines of the log for each of `dtmf` and `mark`; beyond, the summary has their number
_MAX_WARNINGS = 50
_SAMPLED = 64 - 1  # a mask: one message in 64


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


# A message, the position of its first sample, and the positions for which no audio came before (None: all).
Chunk = tuple[Media, int, list[range] | None]
# Puts a chunk of audio, a key or a mark into the queue of one consumer.
Put = Callable[[Chunk | Dtmf | Mark], None]


class Puts(NamedTuple):
    """What takes a stream's messages. The lists may change while the stream is live."""

    chunks: list[Put]
    """For the audio."""
    events: list[Put]
    """For keys and marks."""


class Consumers(Protocol):
    """What a stream needs of its consumers (`registry.Consumers` has it)."""

    def begin(self, stream: "Stream", message: Start) -> Puts:
        """Begin with a stream that has started; return what takes its messages."""

    def end(self, stream: "Stream") -> None:
        """Let the stream's consumers finish, and wait for them."""


# The stream in whose route, or in whose consumer, this code runs; for the log.
current: ContextVar["Stream | None"] = ContextVar("current", default=None)


class Stream:
    """One stream, from its first message to the last: a context manager that the route opens.

    Without `start` within START_TIMEOUT the WebSocket is closed with 1008, and so it is where `start` names
    another account than TWILIO_ACCOUNT_SID. Leaving the `with` block ends the stream, however the connection
    ended, and waits for its consumers; an exception that leaves it gets the stream's SID as a note.

    Only the route's greenlet calls `receive`. Consumers read the attributes, in threads of their own, and may
    pause the recording.
    """

    start: Start | None = None
    """The `start` message, None until it came."""
    name: str = "(not started)"
    """The stream's SID, fit for a log; `(not started)` before `start`."""
    media_format: MediaFormat = MediaFormat()
    """The format of every payload, as `start` announces it; mu-law at 8 kHz before. Where it is not
    `is_decodable`, nothing here takes payloads apart, and consumers get `media`, but no `audio`."""
    rate: int = RATE
    """How many positions of the timeline are a second: the sample rate; 1,000 where the format is not
    decodable, since a position is then a `timestamp`."""
    is_bidirectional: bool = False
    """Whether `playback` can be used: a `<Parameter>` of the TwiML says so, in `start`."""
    stopped: bool
    """Whether the `stop` message came."""
    received: int = 0
    """How many messages came, of every kind."""
    bad: int = 0
    """How many of them were malformed, out of order, or of another stream, and so ignored."""
    tracks: dict[Track, TrackTimeline]
    """The timeline of each track of which audio came."""
    pauses: Pauses
    """When the recording is paused."""
    started_at: datetime | None = None
    """When `start` came, in UTC; None before."""
    ended_at: datetime | None = None
    """When the `with` block was left, in UTC; None before."""
    ending: str = ""
    """How it ended, "" before: `stop`; else `failed` where an exception left the block; else as the WebSocket
    did: `peer closed` or `server closed` with the code, `dropped`, `timed out` or `drained`."""

    def __init__(
        self,
        websocket: Connection,
        settings: Settings,
        consumers: Consumers | None = None,
        on_sample: Callable[[int], None] | None = None,
    ) -> None:
        """Make the stream of an open WebSocket.

        `consumers` get its messages from `start` on; None: there are none. `on_sample` is called with the
        `timestamp`, in milliseconds, of one media message in 64.
        """
        self._websocket = websocket
        self._consumers = consumers
        self._chunk_puts: Sequence[Put] = ()
        self._event_puts: Sequence[Put] = ()
        self._settings = settings
        self._playback: Playback | None = None
        self._on_sample = on_sample
        self._sequence = SequenceTracker()
        self._sid = ""
        self._warned: set[str] = set()
        self._filled: list[range] | None = None  # of a chunk that continues its track
        self._others: Counter[str] = Counter()  # messages by event, without media
        self.stopped = False
        self.tracks = {}
        self.pauses = Pauses()

    def __enter__(self) -> Self:
        self._websocket.stream = self
        current.set(self)  # until the connection's greenlet ends: it logs more when the block is left
        seconds = self._settings.start_timeout
        self._websocket.close_after(seconds, 1008, f"no start message within {seconds:g} s")
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self.ended_at = datetime.now(UTC)
        self.pauses.end(self._due())
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
        """How many messages did not come, by `sequenceNumber`."""
        return self._sequence.lost

    @property
    def late(self) -> int:
        """How many messages came after a later one, or again."""
        return self._sequence.late

    @property
    def losses(self) -> list[Loss]:
        """The latest 1,000 losses of messages, and their positions."""
        return self._sequence.losses

    @property
    def seconds(self) -> float:
        """The time from the first audio of any track to the end of the last; 0.0 without audio."""
        return (self._end() - min((track.first for track in self._timelines()), default=0)) / self.rate

    @property
    def playback(self) -> Playback:
        """Sends to this stream. Raises `SendError` before `start`, and where nothing may be sent."""
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
        """How many messages of each event came, bad ones too; `invalid` could not be parsed."""
        return {"media": self.received - sum(self._others.values()), **self._others}

    def receive(self, data: str | bytes) -> Received | None:
        """Parse a message, count it, hand it to the consumers and return it.

        Returns None for one that is ignored: malformed, out of order, of another stream, or a repeat. The
        first of each kind is logged.
        """
        self.received += 1
        try:
            message = parse(data)
        except MessageError as error:
            self._sequence.add_unnumbered()
            self._others["invalid"] += 1
            self._bad(error.path, str(error))
            return None
        if isinstance(message, Media):
            return self._media(message)
        self._others[message.event] += 1
        if not self._is_usable(message):
            return None
        if isinstance(message, Start):
            return self._begin(message)
        if isinstance(message, Stop):
            self.stopped = True
            return message
        if isinstance(message, Mark) and self._playback and not self._playback.returned(message.mark.name):
            self._warn("mark", f"Twilio returned a mark that was not sent: {message.mark.name}")
        if isinstance(message, Dtmf) and (self._settings.log_digits == "off" or self.pauses.is_open):
            message.dtmf = message.dtmf.as_secret()
        if isinstance(message, Dtmf | Mark):
            for put in self._event_puts:
                put(message)
        return message

    def pause_recording(self) -> None:
        """Keep nothing of what comes from now on, until `resume_recording`: the recording has silence there.

        Its texts are left out as well, and which keys are pressed, also in the log. All else goes on. The
        account says from when to when. Does nothing where the recording is paused. Any thread may call it, on
        the server that has the call.
        """
        if self.pauses.begin(self._due()):
            logger.info("Stream %s: the recording is paused at %.2f s", self.name, self.seconds)

    def resume_recording(self) -> None:
        """Undo `pause_recording`, for what comes from now on. Does nothing where the recording is not paused.

        After 100 pauses the recording stays paused, with one line in the log.
        """
        if self.pauses.is_open and len(self.pauses.all) >= MAX_PAUSES:
            self._warn("pauses", f"the recording stays paused, it has been {MAX_PAUSES} times")
        elif self.pauses.end(self._due()):
            logger.info("Stream %s: the recording goes on at %.2f s", self.name, self.seconds)

    def is_left_out(self, transcript: Transcript) -> bool:
        """Return whether a text was spoken while the recording was paused, and if only in part."""
        if not self.pauses.all:
            return False
        timelines = self._timelines()
        if not timelines:  # a worker that has taken the call over gets them a moment later
            return True
        first = min(track.first for track in timelines)
        start, end = (first + round(seconds * self.rate) for seconds in (transcript.start, transcript.end))
        return self.pauses.overlaps(start, end)

    def summary(self) -> str:
        """Return the closing line: tracks, seconds, bytes, and the messages lost, late and bad."""
        parts = [f"{self.seconds:.2f} s"]
        for name, track in self.tracks.items():
            missing = f", {track.missing / self.rate:.2f} s missing" if track.missing else ""
            parts.append(f"{name} {track.chunks} chunks, {track.bytes} bytes{missing}")
        parts.append(f"{self.lost} messages lost, {self.late} late, {self.bad} bad")
        least = {"unknown": 1, "dtmf": MAX_SHOWN + 1, "mark": MAX_SHOWN + 1}  # that the log has not shown
        counts = [f"{self.events[name]} {name}" for name in least if self.events.get(name, 0) >= least[name]]
        if counts:
            parts.append(", ".join(counts))
        if self.start is not None and not self.stopped:
            parts.append(f"no stop message: {self.ending}" if self.ending else "no stop message")
        return f"Stream {self.name}: {'; '.join(parts)}"

    def _begin(self, message: Start) -> Start | None:
        account = message.start.account_sid
        if self._settings.twilio_account_sid not in (None, account):
            self._bad("account", f"$.start.accountSid: {account} is not TWILIO_ACCOUNT_SID")
            self._websocket.close(1008, "this server takes the streams of another account")
            return None
        self._websocket.keep()
        self.start = message
        self._sid = message.stream_sid
        self.name = printable(self._sid) or self.name
        self.media_format = message.start.media_format
        if self.media_format.is_decodable:
            self.rate = self.media_format.sample_rate
        else:
            self.rate = 1000
            self._filled = []
            self._warn("mediaFormat", f"its audio is {self.media_format}, which is not decoded")
        self._sequence.add_due(message.sequence_number)
        self.started_at = datetime.now(UTC)
        if message.start.custom_parameters.get(PARAMETER) == VALUE:
            self.is_bidirectional = True
            self._playback = Playback(self._sid, self._websocket.send, self.media_format)
        if self._consumers is not None:
            self._chunk_puts, self._event_puts = self._consumers.begin(self, message)
        return message

    def _media(self, message: Media) -> Media | None:
        number, sequence = message.sequence_number, self._sequence
        # The case of nearly all messages, without a call.
        if number == sequence.due and message.stream_sid == self._sid and not self.stopped:
            sequence.add_due(number)
        elif not self._is_usable(message):
            return None
        media = message.media
        track = self.tracks.get(media.track)
        if track is None:
            track = self.tracks[media.track] = self._track(media.timestamp)
        position = track.add(media.timestamp, len(media.payload))
        filled = self._filled
        if track.discontinuity is not None:
            filled = track.discontinuity.filled
            self._warn_of(track.discontinuity, media)
        if not number & _SAMPLED and self._on_sample is not None:
            self._on_sample(media.timestamp)
        chunk = message, position, filled
        for put in self._chunk_puts:
            put(chunk)
        return message

    def _track(self, timestamp: int) -> TrackTimeline:
        if not self.media_format.is_decodable:
            return UndecodedTrack(timestamp)
        return TrackTimeline(timestamp, self.rate, next(iter(self.tracks.values()), None))

    def _warn_of(self, discontinuity: Discontinuity, media: MediaMetadata) -> None:
        ms, track, timestamp = discontinuity.ms, media.track, media.timestamp
        if discontinuity.is_implausible:
            self._warn(
                "implausible", f"timestamp {timestamp} ms of the {track} track is {ms} ms off, chunk appended"
            )
        elif ms > 0:
            self._warn("gap", f"{ms} ms of the {track} track missing before {timestamp} ms")
        else:
            self._warn("overlap", f"timestamp {timestamp} ms of the {track} track goes back")

    def _is_usable(self, message: Received) -> bool:
        """Check a message's order, its stream and its `sequenceNumber`; log and count what is wrong."""
        if fault := order.fault(message, self.start, stopped=self.stopped):
            self._bad(*fault)
            return False
        if isinstance(message, Unknown):
            self._sequence.add_unnumbered()
        if isinstance(message, Connected | Start | Unknown):
            return True
        number, due = message.sequence_number, self._sequence.due
        what = self._sequence.add(number, self._end())
        if what:
            self._warn(what, f"{what}: sequenceNumber {number} came where {due} was due")
        return what != "repeat"

    def _end(self) -> int:
        """Return the position behind all audio, 0 without any."""
        return max((track.end for track in self._timelines()), default=0)

    def _due(self) -> int:
        """Return the first position of which nothing has come."""
        # Where the format is not decodable, `end` is that of the last chunk itself.
        return self._end() + (0 if self.media_format.is_decodable else 1)

    def _timelines(self) -> list[TrackTimeline]:
        return list(self.tracks.values())  # a consumer may ask, in its thread, while a track is added

    def _bad(self, kind: str, text: str) -> None:
        self.bad += 1
        self._warn(kind, f"bad message: {text}")

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(kind)
            logger.warning("Stream %s: %s (more of this kind are only counted)", self.name, printable(text))
