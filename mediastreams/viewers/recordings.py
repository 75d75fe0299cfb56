"""The recordings in RECORDINGS_DIR, for the live page: their list, their files, and the peaks of a waveform.

All of it reads files, so all of it is for another thread than the server's. A name that a browser sends is
looked up in the folder's listing, and never becomes part of a path.
"""

import contextlib
import heapq
import os
import time
from collections.abc import Collection
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from mediastreams.audio import mulaw, wav
from mediastreams.consumers.recording_files import FILE

MAX_LISTED = 100  # recordings in an answer
MAX_PEAKS = 2000  # of a track
_BLOCK = 4 * 2**20  # bytes of audio that are read at once
# A thread that only computes gives the server's thread a turn every 5 ms; this one gives it sooner.
_YIELD_EVERY = 500  # names of files
_YIELD_SECONDS = 0.0001


class _Metadata(msgspec.Struct, rename="camel"):
    """What the list shows of a recording's JSON file."""

    call_sid: str
    tracks: list[str]
    custom_parameters: dict[str, str]
    duration: float
    ended: str | None


_decoder = msgspec.json.Decoder(_Metadata)


class Recordings:
    """The recordings in one folder, which need not be there yet. Any thread may use it."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def newest(self, before: str = "", sids: Collection[str] = ()) -> dict[str, Any]:
        """Return the newest recordings, at most `MAX_LISTED`, as the page gets them.

        `before` is the name of a recording: only older ones are returned. "": all. `sids` are those of
        streams: only theirs are returned. Empty: those of all.
        """
        suffixes: dict[str, list[str]] = {}  # of each recording's files
        for number, file_name in enumerate(self._listing()):
            if number % _YIELD_EVERY == 0:
                time.sleep(_YIELD_SECONDS)
            match = FILE.fullmatch(file_name)
            if match is None or (before and match["name"] >= before):
                continue
            if not sids or match["sid"] in sids:
                suffixes.setdefault(match["name"], []).append(match["suffix"])
        names = heapq.nlargest(MAX_LISTED + 1, suffixes)
        rows = [self._row(name, sorted(suffixes[name])) for name in names[:MAX_LISTED]]
        return {"recordings": rows, "more": len(names) > MAX_LISTED}

    def open(self, file_name: str) -> "RecordedFile | None":
        """Open a file of a recording for reading; None where there is no such file."""
        if not FILE.fullmatch(file_name) or file_name not in self._listing():
            return None
        return self._open(file_name)

    def peaks(self, name: str) -> dict[str, Any] | None:
        """Return the peaks of a recording's waveform; None where it has no WAV file.

        Those of each track are in percent of full scale, as even in time as `MAX_PEAKS` allow.
        """
        file = self.open(f"{name}.wav")
        if file is None:
            return None
        with file:
            if file.header is None:
                return None
            return {
                "seconds": file.seconds,
                "tracks": ["inbound", "outbound"] if file.header.channels == 2 else self._tracks(name),
                "peaks": _peaks(file, file.header),
            }

    def _tracks(self, name: str) -> list[str]:
        """Return the track of a recording that has one."""
        file = self.open(f"{name}.json")
        if file is None:
            return ["inbound"]
        with file:
            metadata = _decode(file.read(file.size))
        return metadata.tracks[:1] if metadata and metadata.tracks else ["inbound"]

    def _open(self, file_name: str) -> "RecordedFile | None":
        try:
            return RecordedFile(self._folder / file_name)
        except OSError:  # it has just been removed, or is somebody else's
            return None

    def _row(self, name: str, suffixes: list[str]) -> dict[str, Any]:
        """Return what the list shows of a recording."""
        time.sleep(_YIELD_SECONDS)
        sizes, metadata, duration = {}, None, None
        for suffix in suffixes:
            file = self._open(name + suffix)
            if file is None:
                continue
            with file:
                sizes[suffix.removeprefix(".")] = file.size
                if suffix == ".json":
                    metadata = _decode(file.read(file.size))
                elif suffix == ".wav":
                    duration = file.seconds
        match = FILE.fullmatch(f"{name}.wav")
        assert match is not None
        at = match["time"]
        return {
            "name": name,
            "startedAt": f"{at[:4]}-{at[4:6]}-{at[6:11]}:{at[11:13]}:{at[13:]}",
            # Of what is not decoded only the JSON file knows it.
            "duration": duration if duration is not None else metadata and metadata.duration,
            "streamSid": match["sid"],
            "callSid": metadata and metadata.call_sid,
            "customParameters": metadata.custom_parameters if metadata else {},
            "tracks": metadata.tracks if metadata else [],
            "ended": metadata and metadata.ended,
            "files": sizes,
        }

    def _listing(self) -> list[str]:
        try:
            return os.listdir(self._folder)
        except OSError:  # there is no recording yet
            return []


class RecordedFile:
    """A file of a recording as it is when it is opened, though more may be written to it. For one thread.

    A WAV file ends where its header says. The header is kept, since it changes when audio is added.
    """

    size: int
    """Bytes."""
    mtime: float
    """When it was last written, in seconds since 1970."""
    etag: str
    """Changes with each change of the file."""
    header: wav.Header | None
    """What the header of a WAV file says; None where it is none."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises `OSError` where that fails or it is no ordinary file."""
        self._file: FileIO = open(path, "rb", buffering=0, opener=_open_ordinary)  # noqa: SIM115
        self._at = 0
        self._head = self._file.read(wav.HEADER_SIZE) if path.suffix == ".wav" else b""
        status = os.fstat(self._file.fileno())
        self.size, self.mtime = status.st_size, status.st_mtime
        self.header = None
        with contextlib.suppress(ValueError):
            self.header = wav.read_header(self._head)
            # The audio is written before the header: it is there. What has come since is left out.
            audio = self.header.samples * self.header.channels
            self.size = min(self.size, wav.HEADER_SIZE + audio + audio % 2)
        self.etag = f"{status.st_mtime_ns:x}-{self.size:x}"

    @property
    def seconds(self) -> float | None:
        """How long a WAV file is, to the millisecond; None where it is none."""
        return self.header and round(self.header.samples / self.header.rate, 3)

    def read(self, size: int) -> bytes:
        """Return at most so many of the next bytes; b"" at the end."""
        size = max(min(size, self.size - self._at), 0)
        data = self._head[self._at : self._at + size]
        if not data:
            self._file.seek(self._at)
            data = self._file.read(size) or b""
        self._at += len(data)
        return data

    def seek(self, position: int) -> None:
        """Read from this byte on."""
        self._at = position

    def tell(self) -> int:
        """Return which byte is the next."""
        return self._at

    def seekable(self) -> bool:
        """Return True: it can read from any byte on."""
        return True

    def close(self) -> None:
        """Close it. Closing twice does nothing."""
        self._file.close()

    def __enter__(self) -> "RecordedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_ordinary(path: str, flags: int) -> int:
    """Open a file for `open`, unless it is a link or a pipe: whatever this server did not write itself."""
    if not os.path.isfile(path) or os.path.islink(path):
        raise OSError("not an ordinary file")
    return os.open(path, flags)


def _decode(data: bytes) -> _Metadata | None:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a person has changed it
        return None


def _peaks(file: RecordedFile, header: wav.Header) -> list[list[int]]:
    """Return the peaks of each channel."""
    import numpy as np  # it takes 100 ms of CPU

    # The complement of a code, without its sign, is the greater the greater the sample is.
    codes = np.arange(128, dtype=np.uint8) ^ 0xFF
    samples = np.frombuffer(mulaw.decode(codes.tobytes()), "<i2").astype(int)
    percent = np.round(np.abs(samples) * 100 / 32768).astype(int)
    each = max(-(-header.samples // MAX_PEAKS), 1)  # samples of a channel
    at_once = max(_BLOCK // (each * header.channels), 1)
    greatest: list[list[int]] = [[] for _ in range(header.channels)]
    file.seek(wav.HEADER_SIZE)
    left = header.samples
    while left > 0:
        data = file.read(min(at_once * each, left) * header.channels)
        if not data:
            break
        left -= at_once * each
        codes = (~np.frombuffer(data, np.uint8)) & 0x7F
        for channel, found in enumerate(greatest):
            one = codes[channel :: header.channels]
            padded = np.zeros(-(-len(one) // each) * each, np.uint8)
            padded[: len(one)] = one
            found += percent[padded.reshape(-1, each).max(axis=1)].tolist()
    return greatest
