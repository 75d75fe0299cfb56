"""The files of a recording: their names, and how a worker takes them over from one that has died."""

import contextlib
import errno
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mediastreams.audio.files import replace_text
from mediastreams.audio.raw import RawFile
from mediastreams.audio.wav import WavFile, Written
from mediastreams.protocol.messages import Track
from mediastreams.streams.stream import Stream

logger = logging.getLogger(__name__)

FILE = re.compile(
    r"(?P<name>(?P<time>\d{8}T\d{6}\.\d{3}Z)-(?P<sid>MZ[0-9a-fA-F]{32})(?:-\d+)?(?:-part\d+)?)"
    r"(?P<suffix>\.wav|\.vtt|\.json|(?:-inbound|-outbound)?\.raw)"
)
"""The name of a file that belongs to a recording."""

_MAX_OF_A_NAME = 100  # streams of one SID that started in the same millisecond; and parts of one


class Number(NamedTuple):
    """Which recording of its stream it is."""

    take: int = 1
    """Counts those that were begun, as a rule one."""
    part: int = 1
    """Counts the parts of one, as a rule one: where a worker cannot complete its files, another begins."""


class RecordingFiles:
    """The audio of one recording in `folder`, and the texts beside it. For one thread.

    Mu-law is in one WAV file, with a channel for each of `tracks`; what is not decoded in a raw file a track.
    """

    tracks: list[Track]
    """The tracks that are recorded."""
    number: Number
    """Which recording it is; its files are named after it."""
    wav: WavFile | None
    """The WAV file; None where the audio is not decoded."""
    raw: dict[Track, RawFile]
    """The file of each track that is not decoded."""

    def __init__(self, folder: Path, stream: Stream, tracks: Iterable[Track]) -> None:
        self._folder = folder
        self._stream = stream
        self.tracks = list(tracks)
        self.number = Number()
        self.wav = None
        self.raw = {}

    @property
    def audio(self) -> list[WavFile | RawFile]:
        """The files of audio."""
        return [self.wav] if self.wav else list(self.raw.values())

    @property
    def name(self) -> str:
        """The name of the WAV file; where the audio is not decoded, of the JSON file."""
        return self.path(".wav" if self._stream.media_format.is_decodable else ".json").name

    @property
    def is_replaced(self) -> bool:
        """Whether another worker has taken the files over."""
        return any(file.is_replaced for file in self.audio)

    def path(self, suffix: str) -> Path:
        """Return where the file with this suffix is."""
        stream, (take, part) = self._stream, self.number
        assert stream.started_at is not None
        assert stream.start is not None
        milliseconds = stream.started_at.microsecond // 1000
        name = f"{stream.started_at:%Y%m%dT%H%M%S}.{milliseconds:03}Z-{stream.start.stream_sid}"
        name += f"-{take}" if take > 1 else ""
        name += f"-part{part}" if part > 1 else ""
        return self._folder / f"{name}{suffix}"

    def create(self, after: Number | None = None) -> None:
        """Create the files of a recording, or of the part after this one. Raises `OSError`."""
        for n in range(1, _MAX_OF_A_NAME + 1):
            self.number = Number(n) if after is None else after._replace(part=after.part + n)
            with contextlib.suppress(FileExistsError):
                self._open()
                return
        raise FileExistsError(errno.EEXIST, f"{_MAX_OF_A_NAME} files of this name are there already")

    def take_over(self, number: Number, written: Written, raw: Mapping[Track, int]) -> bool:
        """Go on with the files of this number, in which so much was written; raw: so many bytes of each.

        Return False where they are not in this folder, or cannot be completed; a line in the log says why.
        Raises `TakenOverError` where another worker came later.
        """
        self.number = number
        try:
            self._open(written, raw)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            logger.warning(
                "Stream %s: %s cannot be completed: %s", self._stream.name, self.path(".wav").stem, why
            )
            return False
        return True

    def flush(self) -> None:
        """Write what was put. Raises `OSError`."""
        for file in self.audio:
            file.flush()

    def close(self) -> None:
        """Write what was put, and close the files. Raises `OSError`, also where one was removed meanwhile."""
        for file in self.audio:
            file.close()
            file.path.stat()

    def abandon(self) -> None:
        """Close the files, and write nothing more."""
        for file in self.audio:
            file.abandon()

    def save(self, suffix: str, text: str) -> None:
        """Replace the file of this suffix, completely or not at all. Raises `OSError`."""
        # Another worker may have taken the files over meanwhile: this process may have been suspended.
        replace_text(self.path(suffix), text, lambda: not self.is_replaced)

    def _open(self, written: Written | None = None, raw: Mapping[Track, int] | None = None) -> None:
        """Create the files of audio, or take them over."""
        if self._stream.media_format.is_decodable:
            self.wav = WavFile(self.path(".wav"), len(self.tracks), self._stream.rate, written)
            return
        files: dict[Track, RawFile] = {}
        try:
            for track in self.tracks:
                suffix = f"-{track}.raw" if len(self.tracks) > 1 else ".raw"
                files[track] = RawFile(self.path(suffix), None if raw is None else raw.get(track, 0))
        except BaseException:
            for file in files.values():
                file.close()
                if raw is None:
                    file.path.unlink()
            raise
        self.raw = files
