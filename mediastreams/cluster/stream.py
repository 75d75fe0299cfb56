"""A stream that another process has, as its entries tell it, and what feeds them to a consumer."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from mediastreams.audio.timeline import TrackTimeline
from mediastreams.cluster.entries import (
    Announced,
    DetailsItem,
    DtmfItem,
    EndItem,
    Item,
    MarkItem,
    MediaItem,
    PausesItem,
    StateItem,
    TrackState,
    TranscriptItem,
)
from mediastreams.consumers.base import Consumer
from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol.messages import Dtmf, DtmfMetadata, Mark, MarkMetadata, Media, MediaMetadata
from mediastreams.streams.pauses import Pauses
from mediastreams.streams.playback import Playback, SendError
from mediastreams.streams.sequence import Loss
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.text import printable


class RemoteStream(Stream):
    """The stream of a call that a server has announced, as far as the entries tell that its consumer got.

    Its attributes are those of `Stream`. Nothing can be sent to it. For one thread at a time.
    """

    def __init__(self, announced: Announced, hides_keys: bool = False) -> None:
        """Make it of what the server has announced; `hides_keys`: all keys are secret."""
        start = announced.start
        self.start = start
        self.name = printable(start.stream_sid)
        self.media_format = start.start.media_format
        self.rate = self.media_format.sample_rate if self.media_format.is_decodable else 1000
        self.started_at = datetime.fromtimestamp(announced.started_at, UTC)
        self.stopped = False
        self.tracks = {}
        self.pauses = Pauses()
        self._sid = start.stream_sid
        self._hides_keys = hides_keys
        self._lost = self._late = 0
        self._losses: list[Loss] = []
        self._events: Mapping[str, int] = {}

    @property
    def lost(self) -> int:
        """How many messages did not come, by `sequenceNumber`."""
        return self._lost

    @property
    def late(self) -> int:
        """How many messages came after a later one, or again."""
        return self._late

    @property
    def losses(self) -> list[Loss]:
        """The latest 1,000 losses of messages, and their positions."""
        return self._losses

    @property
    def events(self) -> dict[str, int]:
        """How many messages of each event came, as of the last few seconds."""
        return dict(self._events)

    @property
    def playback(self) -> Playback:
        """Raises `SendError`: a worker has no connection to the call."""
        raise SendError("nothing can be sent from here: the call is on another server")

    def pause_recording(self) -> None:
        """Raises `MediaStreamsError`: only the server that has the call can pause its recordings."""
        raise MediaStreamsError("the recording cannot be paused from here: the call is on another server")

    def resume_recording(self) -> None:
        """Raises `MediaStreamsError`, as `pause_recording` does."""
        raise MediaStreamsError("the recording cannot be resumed from here: the call is on another server")

    def end(self, ending: str, ended_at: float) -> None:
        """Note how the stream has ended, and when, in seconds since 1970."""
        self.ending = ending
        self.stopped = ending == "stop"
        self.ended_at = datetime.fromtimestamp(ended_at, UTC)

    def known(self) -> list[Item]:
        """Return what is known of the stream, for `recall`."""
        tracks = {
            name: TrackState(track.first, track.end, track.chunks, track.bytes, track.missing)
            for name, track in self.tracks.items()
        }
        gaps = {name: [(gap.start, gap.stop) for gap in track.gaps] for name, track in self.tracks.items()}
        losses = [(numbers.start, numbers.stop, position) for numbers, position in self.losses]
        return [
            StateItem(self.received, self.lost, self.late, self.bad, tracks),
            DetailsItem(self.events, gaps, losses),
            PausesItem(list(self.pauses.all)),
        ]

    def recall(self, known: Iterable[Item]) -> None:
        """Note what another worker knew of the stream; entries that follow tell it anew."""
        for item in known:
            self._note(item)

    def feed(self, item: Item, consumer: Consumer) -> None:
        """Feed an item to a consumer of this stream, or note what it tells of the stream."""
        if isinstance(item, MediaItem):
            self._feed_media(item, consumer)
        elif isinstance(item, TranscriptItem):
            consumer.transcript(Transcript(item.track, item.text, item.final, item.start, item.end, item.lag))
        elif isinstance(item, DtmfItem):
            key = DtmfMetadata(track=item.track, digit=item.digit)
            is_secret = item.is_secret or self._hides_keys
            consumer.dtmf(Dtmf(self._sid, item.sequence_number, key.as_secret() if is_secret else key))
        elif isinstance(item, MarkItem):
            consumer.mark(Mark(item.sequence_number, self._sid, MarkMetadata(item.name)))
        else:
            self._note(item)

    def _feed_media(self, item: MediaItem, consumer: Consumer) -> None:
        track, payload, position = item.track, item.payload, item.position
        media = MediaMetadata(track=track, chunk=item.chunk, timestamp=item.timestamp, payload=payload)
        parts = [(position, payload)] if isinstance(position, int) else position
        if timeline := self.tracks.get(track):  # what comes in it has its place before the next state does
            ends = [item.timestamp] if parts is None else [start + len(part) for start, part in parts]
            timeline.end = max([timeline.end, *ends])
        consumer.media(Media(item.sequence_number, media, self._sid))
        for start, part in parts or ():
            consumer.audio(track, start, part)

    def _note(self, item: Item) -> None:
        if isinstance(item, StateItem):
            self._note_state(item)
        elif isinstance(item, DetailsItem):
            self._note_details(item)
        elif isinstance(item, PausesItem):
            self.pauses = Pauses(item.pauses)
        elif isinstance(item, EndItem):
            self.end(item.ending, item.ended_at)
        # Else a StopItem: it is for a recogniser, which the worker stops.

    def _note_state(self, state: StateItem) -> None:
        self.received, self._lost, self._late, self.bad = state.received, state.lost, state.late, state.bad
        for name, numbers in state.tracks.items():
            track = self.tracks.get(name)
            if track is None:
                track = self.tracks[name] = TrackTimeline(0, self.rate)
            track.first, track.end = numbers.first, numbers.end
            track.chunks, track.bytes, track.missing = numbers.chunks, numbers.bytes, numbers.missing

    def _note_details(self, details: DetailsItem) -> None:
        self._events = details.events
        self._losses = [Loss(range(begin, end), position) for begin, end, position in details.losses]
        for name, gaps in details.gaps.items():
            if track := self.tracks.get(name):
                track.gaps = [range(begin, end) for begin, end in gaps]
