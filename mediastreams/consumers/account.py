"""The account of a recording: what its JSON file tells of the call, and what is noted for it meanwhile."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from mediastreams.audio.files import replace_text
from mediastreams.audio.timeline import TrackTimeline
from mediastreams.consumers.recording_files import RecordingFiles
from mediastreams.protocol.messages import STREAM_SID, Dtmf, Mark, Track
from mediastreams.protocol.twiml import RESUMES
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript

_MAX_NOTED = 1000  # keys, and marks
_MAX_LENGTH = 200  # characters of each


class Continued(Struct):
    """What a part continues."""

    recording: str
    """The name of the part before."""
    at: float
    """Where there this part begins, in seconds."""


class _Key(Struct):
    digit: str
    at: float


class _Mark(Struct):
    name: str
    at: float


class _Text(Struct):
    track: Track
    text: str
    start: float
    end: float


class _Noted(Struct):
    dtmf: list[_Key]
    marks: list[_Mark]
    transcripts: list[_Text]


class Notes(Struct):
    """What is noted of a stream."""

    keys: list[tuple[str, int]]
    """Each key with its position."""
    marks: list[tuple[str, int]]
    texts: list[_Text]


class Account:
    """What is known of the recording of one stream. For one thread.

    A part tells what lies in it: its times count from its beginning, and what was noted before is in the
    account of the part before. Numbers of messages, chunks and bytes are those of the whole stream.
    """

    transcripts: list[Transcript]
    """The final texts, in the order of their arrival, their times rounded to milliseconds."""
    error: str | None = None
    """Why the recording has ended before its time."""
    continues: Continued | None = None
    """What this part continues; None: it is not the second part, or a later one."""
    before: int = 0
    """How many samples of the stream are in the parts before."""
    known_begin: int | None = None
    """Where a worker before has found that it begins; of a stream its first entries tell it."""

    def __init__(self, stream: Stream, files: RecordingFiles) -> None:
        self._stream = stream
        self._files = files
        self._dtmf: list[tuple[str, int]] = []  # each key with its position
        self._marks: list[tuple[str, int]] = []
        self.transcripts = []

    @property
    def begin(self) -> int:
        """The position at which the recording begins; 0 where that is not known yet."""
        if self._files.wav:
            return self._files.wav.origin or 0
        found = [track.first + self.before for track in self._timelines().values()]
        return min(found if self.known_begin is None else [*found, self.known_begin], default=0)

    @property
    def noted(self) -> tuple[int, int, int]:
        """How many keys, marks and texts are noted."""
        return len(self._dtmf), len(self._marks), len(self.transcripts)

    @property
    def notes(self) -> Notes:
        """What is noted, for another worker that goes on."""
        texts = [_Text(each.track, each.text, each.start, each.end) for each in self.transcripts]
        return Notes(self._dtmf, self._marks, texts)

    @notes.setter
    def notes(self, notes: Notes) -> None:
        self._dtmf, self._marks = notes.keys, notes.marks
        self.transcripts = [
            Transcript(each.track, each.text, True, each.start, each.end) for each in notes.texts
        ]

    def dtmf(self, message: Dtmf, position: int) -> None:
        """Note a key that was pressed at a position."""
        if len(self._dtmf) < _MAX_NOTED:
            self._dtmf.append((message.dtmf.shown[:_MAX_LENGTH], position))

    def mark(self, message: Mark, position: int) -> None:
        """Note a mark that came back at a position."""
        if len(self._marks) < _MAX_NOTED:
            self._marks.append((message.mark.name[:_MAX_LENGTH], position))

    def transcript(self, transcript: Transcript) -> None:
        """Note a final text; one that began in the part before stands at the beginning of this one.

        What was spoken while the recording was paused is left out.
        """
        if self._stream.is_left_out(transcript):
            return
        before = self._samples_before() / self._stream.rate
        start, end = (round(max(at - before, 0.0), 3) for at in (transcript.start, transcript.end))
        self.transcripts.append(replace(transcript, start=start, end=end))

    def read(self, noted: tuple[int, int, int]) -> bool:
        """Take so many keys, marks and texts from the JSON file; return whether it has as many."""
        try:
            there = msgspec.convert(json.loads(self._files.path(".json").read_bytes()), _Noted)
        except (OSError, ValueError, msgspec.ValidationError):
            return not any(noted)
        keys, marks, texts = noted
        self.notes = Notes(
            [(key.digit, self._position(key.at)) for key in there.dtmf[:keys]],
            [(mark.name, self._position(mark.at)) for mark in there.marks[:marks]],
            there.transcripts[:texts],
        )
        return self.noted == noted

    def to_json(self) -> str:
        """Return the account as it is now."""
        return _json(self._fields())

    def _fields(self) -> dict[str, Any]:
        stream, wav = self._stream, self._files.wav
        assert stream.start is not None
        start = stream.start.start
        before = self.before / stream.rate
        tracks = {name: track for name, track in self._timelines().items() if name in self._files.tracks}
        return {
            "streamSid": start.stream_sid,
            "callSid": start.call_sid,
            "accountSid": start.account_sid,
            "tracks": start.tracks,
            "mediaFormat": msgspec.to_builtins(start.media_format),
            "customParameters": start.custom_parameters,
            "resumes": resumed_sid(stream),
            "resumedBy": None,
            "start": _utc(stream.started_at),
            "end": _utc(stream.ended_at),
            "ended": stream.ending or None,
            "recording": self._files.name if wav else None,
            "raw": {track: file.path.name for track, file in self._files.raw.items()},
            "continues": msgspec.to_builtins(self.continues),
            "duration": self._rounded(wav.samples) if wav else round(max(stream.seconds - before, 0.0), 3),
            "error": self.error,
            "paused": [
                {"from": self._seconds(begin), "to": None if end is None else self._seconds(end)}
                for begin, end in stream.pauses.all
                if end is None or end > self.begin
            ],
            "messages": {name: getattr(stream, name) for name in ("received", "lost", "late", "bad")},
            "media": {name: self._media(track) for name, track in tracks.items()},
            "lost": [
                {"sequenceNumber": numbers.start, "messages": len(numbers), "at": self._seconds(position)}
                for numbers, position in stream.losses
                if position >= self.begin or not (position or self.continues)  # 0: before any audio
            ],
            "dtmf": [{"digit": digit, "at": self._seconds(position)} for digit, position in self._dtmf],
            "marks": [{"name": name, "at": self._seconds(position)} for name, position in self._marks],
            "transcripts": [
                {"track": each.track, "text": each.text, "start": each.start, "end": each.end}
                for each in self.transcripts
            ],
        }

    def _samples_before(self) -> int:
        """Return how many samples of the stream come before this recording, as far as is known.

        Those of parts before, what came too late for the file, and what a worker that came late did not get.
        """
        first = min((track.first for track in self._timelines().values()), default=None)
        begin, wav = self.begin, self._files.wav
        if wav and wav.origin is None:
            begin = min((position for _, position, _ in wav.unwritten()), default=0)
        return self.before if first is None else max(begin - first, 0)

    def _media(self, track: TrackTimeline) -> dict[str, Any]:
        counts: dict[str, Any] = {"chunks": track.chunks, "bytes": track.bytes}
        if not self._stream.media_format.is_decodable:
            return counts
        gaps = (range(max(gap.start, self.begin), gap.stop) for gap in list(track.gaps))
        shown = [{"at": self._seconds(gap.start), "duration": self._rounded(len(gap))} for gap in gaps if gap]
        return {**counts, "missing": self._rounded(track.missing), "gaps": shown}

    def _timelines(self) -> dict[Track, TrackTimeline]:
        return dict(self._stream.tracks)

    def _seconds(self, position: int) -> float:
        """Return where in the recording a position is, in seconds; 0.0 before its beginning."""
        return self._rounded(max(position - self.begin, 0))

    def _rounded(self, samples: int) -> float:
        """Return so many samples in seconds, to the millisecond."""
        return round(samples / self._stream.rate, 3)

    def _position(self, at: float) -> int:
        """Return the position of what is at so many seconds of the recording."""
        return self.begin + round(at * self._stream.rate)


def resumed_sid(stream: Stream) -> str | None:
    """Return the SID of the stream that broke, and that this one resumes; None: it resumes none."""
    assert stream.start is not None
    sid = stream.start.start.custom_parameters.get(RESUMES, "")
    return sid if STREAM_SID.fullmatch(sid) else None


def name_successor(stream: Stream, folder: Path) -> None:
    """Let the account of the stream that this one resumes name it, where that is in `folder`.

    Raises `OSError`. Accounts of other calls stay as they are, whatever a peer says.
    """
    before = resumed_sid(stream)
    if before is None:
        return
    assert stream.start is not None
    start = stream.start.start
    for path in folder.glob(f"*-{before}*.json"):
        try:
            told = json.loads(path.read_bytes())
        except ValueError:
            continue
        if not isinstance(told, dict) or told.get("callSid") != start.call_sid:
            continue
        if told.get("end") is None:  # it is still written by its own recording
            continue
        told["resumedBy"] = start.stream_sid
        replace_text(path, _json(told))


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def _utc(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
