"""One call, as the page shows it."""

import time
from collections.abc import Callable
from typing import Any

from mediastreams.protocol.messages import Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript as StreamTranscript
from mediastreams.text import legible
from mediastreams.viewers.lines import StreamLog
from mediastreams.viewers.messages import (
    Audio,
    Detail,
    Dtmf,
    Line,
    Logged,
    Mark,
    Pressed,
    Returned,
    Row,
    Said,
    Transcript,
    Wave,
    Words,
)

MAX_TRANSCRIPTS = 500
MAX_EVENTS = 1000  # keys, and marks
LEVEL_SECONDS = 0.45  # for which a level holds: two turns of the meter

_MAX_PARAMETERS = 20
_MAX_CHARACTERS = 200  # of what a peer chose
_MAX_TEXT = 2000  # characters of what was said at once

# What one stream's consumers tell.
Told = Transcript | Line | Dtmf | Mark | Wave | Audio


class Call:
    """One call: its row, what was said, its keys, marks and lines, and the levels of the moment.

    `tell` hands on what happens to those who watch, from any thread. The stream's consumers note in their
    threads; all else is for the server's thread.
    """

    id: str
    is_selected: bool = False
    """Whether somebody wants its lines, keys and marks."""
    levels: dict[Track, tuple[float, float]]
    """The latest level of each track, in dBFS, and the monotonic time until which it holds."""

    def __init__(self, id: str, stream: Stream, log: StreamLog, tell: Callable[[Told], None]) -> None:
        self.id = id
        self.stream: Stream | None = stream
        self.log = log
        self.levels = {}
        self._tell = tell
        # Lists, because an empty deque has 600 bytes.
        self._transcripts: list[Said] = []
        self._partial: dict[Track, Said] = {}
        self._digits: list[Pressed] = []
        self._marks: list[Returned] = []
        self._words: Words | None = None
        self._row = _row(id, stream)
        self._told: dict[str, Any] = self._counts(stream)

    def note_transcript(self, transcript: StreamTranscript) -> None:
        """Note a text, and tell it."""
        text, track = _cut(transcript.text, _MAX_TEXT), transcript.track
        start, end = round(transcript.start, 3), round(transcript.end, 3)
        said = Said(track, transcript.speaker, text, transcript.final, start, end)
        if text and transcript.final:
            self._transcripts.append(said)
            del self._transcripts[:-MAX_TRANSCRIPTS]
        if text and not transcript.final:
            self._partial[track] = said
        else:
            self._partial.pop(track, None)
        if text:
            self._words = Words(said.speaker, text)
        self._tell(Transcript(track, said.speaker, text, said.final, start, end, self.id))

    def note_digit(self, digit: str, at: float) -> None:
        """Note a key, and tell it where the call is selected."""
        pressed = Pressed(_cut(digit), round(at, 3))
        self._digits.append(pressed)
        del self._digits[:-MAX_EVENTS]
        if self.is_selected:
            self._tell(Dtmf(pressed.digit, pressed.at, self.id))

    def note_mark(self, name: str, at: float) -> None:
        """Note a mark, and tell it where the call is selected."""
        returned = Returned(_cut(name), round(at, 3))
        self._marks.append(returned)
        del self._marks[:-MAX_EVENTS]
        if self.is_selected:
            self._tell(Mark(returned.name, returned.at, self.id))

    def tell_line(self, line: Logged) -> None:
        """Tell a line of the log. Any thread may call it."""
        self._tell(Line(line.at, line.level, line.text, self.id))

    def tell_wave(self, track: Track, start: int, peaks: list[int]) -> None:
        """Tell the peaks of a stretch of a track."""
        self._tell(Wave(self.id, track, start, peaks))

    def tell_audio(self, track: Track, position: int, payload: bytes) -> None:
        """Tell the audio of a stretch of a track."""
        self._tell(Audio(self.id, track, position, payload))

    def row(self) -> Row:
        """Return the row as it is now."""
        if self.stream is not None:
            for name, value in self._counts(self.stream).items():
                setattr(self._row, name, value)
        return self._row

    def changes(self) -> dict[str, Any] | None:
        """Return what has changed since the last time, with the `id`; None where nothing has."""
        if self.stream is None:
            return None
        told, self._told = self._told, self._counts(self.stream)
        changed = {name: value for name, value in self._told.items() if value != told[name]}
        return {"id": self.id, **changed} if changed else None

    def levels_now(self) -> dict[Track, float | None]:
        """Return the level of each track; None where it is silent, or nothing has come."""
        now = time.monotonic()
        levels: dict[Track, float | None] = {}
        for track in self._row.tracks:
            level, until = self.levels.get(track, (0.0, 0.0))
            levels[track] = round(level, 1) if now < until and level > -200 else None
        return levels

    def detail(self) -> Detail:
        """Return what there is of it so far."""
        said = [*self._transcripts, *self._partial.copy().values()]
        return Detail(self.id, said, list(self.log.lines), list(self._digits), list(self._marks))

    def end(self) -> Row:
        """Let go of the stream, which has ended, and return the last row."""
        stream = self.stream
        assert stream is not None
        row = self.row()
        row.ending = stream.ending
        row.ended_at = stream.ended_at.timestamp() if stream.ended_at else time.time()
        self.stream = None
        return row

    def _counts(self, stream: Stream) -> dict[str, Any]:
        missing = sum(track.missing for track in list(stream.tracks.values())) / stream.rate
        return {
            "seconds": round(stream.seconds, 1),
            "lost": stream.lost,
            "late": stream.late,
            "bad": stream.bad,
            "missing": round(missing, 2),
            "words": self._words,
        }


def _row(id: str, stream: Stream) -> Row:
    assert stream.start is not None
    assert stream.started_at is not None
    start, media_format = stream.start.start, stream.media_format
    parameters = list(start.custom_parameters.items())[:_MAX_PARAMETERS]
    return Row(
        id=id,
        stream_sid=_cut(stream.start.stream_sid),
        call_sid=_cut(start.call_sid),
        parameters={_cut(name): _cut(value) for name, value in parameters},
        tracks=list(dict.fromkeys(start.tracks)),
        started_at=stream.started_at.timestamp(),
        format=f"{_cut(media_format.encoding)} {media_format.sample_rate} Hz",
        decodable=media_format.is_decodable,
        two_way=stream.is_bidirectional,
        rate=stream.rate,
    )


def _cut(text: str, characters: int = _MAX_CHARACTERS) -> str:
    return legible(text if len(text) <= characters else f"{text[:characters]}...")
