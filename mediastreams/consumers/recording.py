"""Records a stream's audio as a WAV file, with a JSON file beside it that describes the call.

    <RECORDINGS_DIR>/20261122T180000.123Z-MZ0123456789abcdef0123456789abcdef.wav

The time is that of `start`, in UTC. A transcribed stream also has a `.vtt` file. One track is mono; of two,
inbound is left and outbound right. Each chunk is at its position (`timeline`): a second in the file is a
second of the call, and missing audio is silence.

Where the payloads are not mu-law of one channel, nothing is decoded: they are kept as they came, in the order
of their arrival, in a `.raw` file; of two tracks, in `-inbound.raw` and `-outbound.raw`. The JSON file names
their format.
"""

import contextlib
import errno
import json
import logging
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from mediastreams.audio.raw import RawFile
from mediastreams.audio.timeline import TrackTimeline
from mediastreams.audio.wav import WavFile, open_private
from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Dtmf, Mark, Media, Start, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript, webvtt
from mediastreams.text import printable

logger = logging.getLogger(__name__)

_STREAM_SID = re.compile("MZ[0-9a-fA-F]{32}")
_MAX_NOTED = 1000  # keys, and marks
_MAX_LENGTH = 200  # characters of each
_FIRST = 0.1  # seconds of audio: tracks begin a few ms apart, and the file begins with the first to begin
_MAX_OF_A_NAME = 100  # streams of one SID that started in the same millisecond


def unusable(folder: str) -> str | None:
    """Return why no recording can be made in `folder`; None where nothing speaks against it now."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    if not path.is_dir():
        return f"{path} is not a folder"
    return None if os.access(path, os.W_OK | os.X_OK) else f"{path} cannot be written to"


class Recording(Consumer):
    """Records its stream into `folder`, which is made where it is missing.

    Where that fails, one line in the log says why, and the recording ends: the file has what was written
    before. The JSON file is there from the start, and complete at the end of the stream; where the server is
    killed, it has no `end`. A stream whose SID is not one of Twilio's is not recorded, since it names the
    file.
    """

    def __init__(self, stream: Stream, folder: str) -> None:
        super().__init__(stream)
        self._folder = Path(folder)
        self._path = self._folder  # of the WAV file, or where it would be
        self._wav: WavFile | None = None
        self._raw: dict[Track, RawFile] = {}
        self._came = 0  # bytes of audio
        self._error: str | None = None  # why it has ended before its time
        self._channels: dict[Track, int] = {}
        self._end = 0  # the position behind the last sample
        self._transcripts: list[Transcript] = []
        self._saved_transcripts = 0  # how many of them are in the file
        self._dtmf: list[tuple[str, int]] = []  # each key with its position
        self._marks: list[tuple[str, int]] = []
        self._logged: set[str] = set()

    def start(self, message: Start) -> None:
        """Create the files."""
        if not _STREAM_SID.fullmatch(message.stream_sid):
            logger.warning("Stream %s: not recorded, its SID is not MZ and 32 digits", self.stream.name)
            return
        tracks = [name for name in ("inbound", "outbound") if name in message.start.tracks] or ["inbound"]
        self._channels = {name: channel for channel, name in enumerate(tracks)}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._create(message.stream_sid)
        except OSError as error:
            why = f"RECORDINGS_DIR={str(self._folder)!r} cannot be used: {error.strerror}"
            logger.error("Stream %s: not recorded, %s", self.stream.name, why)
            return
        self._save_metadata()

    def media(self, message: Media) -> None:
        """Keep a payload that is not decoded."""
        media = message.media
        if not self._raw or self._error is not None or not self._is_announced(media.track):
            return
        self._end = max(self._end, media.timestamp)
        try:
            self._raw[media.track].put(media.payload)
        except OSError as error:
            self._give_up(error)

    def audio(self, track: Track, position: int, payload: bytes) -> None:
        """Put the audio at its position."""
        wav = self._wav
        if wav is None or self._error is not None or not self._is_announced(track):
            return
        if wav.origin is not None and position < wav.origin:
            self._log_once(f"audio of {track} from before the recording began is left out")
        self._end = max(self._end, position + len(payload))
        self._came += len(payload)
        try:
            wav.put(self._channels[track], position, payload)
        except OSError as error:
            self._give_up(error)

    def dtmf(self, message: Dtmf) -> None:
        """Note the key and when it was pressed."""
        if len(self._dtmf) < _MAX_NOTED:
            self._dtmf.append((message.dtmf.shown[:_MAX_LENGTH], self._end))

    def mark(self, message: Mark) -> None:
        """Note the mark and when it came back."""
        if len(self._marks) < _MAX_NOTED:
            self._marks.append((message.mark.name[:_MAX_LENGTH], self._end))

    def transcript(self, transcript: Transcript) -> None:
        """Keep a final text."""
        if transcript.final and transcript.text:
            self._transcripts.append(transcript)

    def flush(self) -> None:
        """Write the audio and the transcripts that have come."""
        if not self._files() or self._error is not None:
            return
        wav = self._wav
        if wav and wav.origin is None and self._came < _FIRST * self.stream.rate * len(self._channels):
            return
        try:
            for file in self._files():
                file.flush()
        except OSError as error:
            self._give_up(error)
        self._save_transcripts()

    def stop(self) -> None:
        """Write the rest, and the JSON file as it is at the end."""
        if not self._files():
            return
        if self._error is None:
            try:
                for file in self._files():
                    file.close()
            except OSError as error:
                self._give_up(error)
        self._save_transcripts()
        self._save_metadata()
        if self._error is not None:
            return
        stream = self.stream
        if self._wav:
            seconds = self._wav.samples / stream.rate
            logger.info("Stream %s: %.2f s recorded in %s", stream.name, seconds, self._path)
        for raw in self._raw.values():
            encoding = printable(stream.media_format.encoding)
            logger.info("Stream %s: %d bytes of %s kept in %s", stream.name, raw.size, encoding, raw.path)

    def _files(self) -> list[WavFile | RawFile]:
        return [self._wav] if self._wav else list(self._raw.values())

    def _is_announced(self, track: Track) -> bool:
        if track in self._channels:
            return True
        self._log_once(f"{track} is not among its tracks, not recorded")
        return False

    def _create(self, stream_sid: str) -> None:
        started_at = self.stream.started_at
        assert started_at is not None
        name = f"{started_at:%Y%m%dT%H%M%S}.{started_at.microsecond // 1000:03}Z-{stream_sid}"
        for n in range(1, _MAX_OF_A_NAME + 1):
            path = self._folder / f"{name if n == 1 else f'{name}-{n}'}.wav"
            with contextlib.suppress(FileExistsError):
                if self.stream.media_format.is_decodable:
                    self._wav = WavFile(path, len(self._channels), self.stream.rate)
                else:
                    self._raw = self._create_raw(path.stem)
                self._path = path
                return
        raise FileExistsError(errno.EEXIST, f"{_MAX_OF_A_NAME} files of this name are there already")

    def _create_raw(self, name: str) -> dict[Track, RawFile]:
        raw: dict[Track, RawFile] = {}
        for track in self._channels:
            suffix = f"-{track}" if len(self._channels) > 1 else ""
            try:
                raw[track] = RawFile(self._folder / f"{name}{suffix}.raw")
            except OSError:
                for file in raw.values():
                    file.close()
                    file.path.unlink()
                raise
        return raw

    def _give_up(self, error: OSError) -> None:
        self._error = error.strerror or str(error)
        path = self._path if self._wav else next(iter(self._raw.values())).path
        logger.error("Stream %s: the recording %s ends: %s", self.stream.name, path, self._error)
        for file in self._files():
            with contextlib.suppress(OSError):
                file.close()

    def _log_once(self, text: str, level: int = logging.WARNING) -> None:
        if text not in self._logged:
            self._logged.add(text)
            logger.log(level, "Stream %s: %s", self.stream.name, text)

    def _seconds(self, position: int) -> float:
        """Return where in the file a position is, in seconds to the millisecond; 0.0 before its beginning."""
        if self._wav:
            origin = self._wav.origin or 0
        else:
            origin = min((track.first for track in list(self.stream.tracks.values())), default=0)
        return self._rounded(max(position - origin, 0))

    def _save_transcripts(self) -> None:
        if len(self._transcripts) > self._saved_transcripts:
            self._save(".vtt", webvtt(self._transcripts))
            self._saved_transcripts = len(self._transcripts)

    def _save_metadata(self) -> None:
        self._save(".json", json.dumps(self._metadata(), indent=2, ensure_ascii=False) + "\n")

    def _save(self, suffix: str, text: str) -> None:
        """Replace the file of this suffix, completely or not at all."""
        path = self._path.with_suffix(suffix)
        draft = self._path.with_suffix(f"{suffix}.part")
        try:
            draft.unlink(missing_ok=True)  # what a crash has left, or somebody has put there
            with open(draft, "xb", opener=open_private) as file:
                # A peer's words may hold half of a surrogate pair, which has no UTF-8.
                file.write(text.encode(errors="backslashreplace"))
            draft.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            if self._error is None:  # else it has been logged that there is no room
                self._log_once(f"{path} cannot be written: {error.strerror}", logging.ERROR)

    def _metadata(self) -> dict[str, Any]:
        stream, wav = self.stream, self._wav
        assert stream.start is not None
        start = stream.start.start
        tracks = list(stream.tracks.items())
        return {
            "streamSid": start.stream_sid,
            "callSid": start.call_sid,
            "accountSid": start.account_sid,
            "tracks": start.tracks,
            "mediaFormat": msgspec.to_builtins(start.media_format),
            "customParameters": start.custom_parameters,
            "start": _utc(stream.started_at),
            "end": _utc(stream.ended_at),
            "ended": stream.ending or None,
            "recording": self._path.name if wav else None,
            "raw": {track: file.path.name for track, file in self._raw.items()},
            "duration": self._rounded(wav.samples) if wav else round(stream.seconds, 3),
            "error": self._error,
            "messages": {name: getattr(stream, name) for name in ("received", "lost", "late", "bad")},
            "media": {name: self._media(track) for name, track in tracks if name in self._channels},
            "lost": [
                {"sequenceNumber": numbers.start, "messages": len(numbers), "at": self._seconds(position)}
                for numbers, position in stream.losses
            ],
            "dtmf": [{"digit": digit, "at": self._seconds(position)} for digit, position in self._dtmf],
            "marks": [{"name": name, "at": self._seconds(position)} for name, position in self._marks],
            "transcripts": [
                {"track": t.track, "text": t.text, "start": round(t.start, 3), "end": round(t.end, 3)}
                for t in self._transcripts
            ],
        }

    def _media(self, track: TrackTimeline) -> dict[str, Any]:
        counts: dict[str, Any] = {"chunks": track.chunks, "bytes": track.bytes}
        if not self.stream.media_format.is_decodable:
            return counts
        gaps = [{"at": self._seconds(gap.start), "duration": self._rounded(len(gap))} for gap in track.gaps]
        return {**counts, "missing": self._rounded(track.missing), "gaps": gaps}

    def _rounded(self, samples: int) -> float:
        """Return so many samples in seconds, to the millisecond."""
        return round(samples / self.stream.rate, 3)


def _utc(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
