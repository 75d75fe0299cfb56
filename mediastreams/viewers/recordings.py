"""The recordings in RECORDINGS_DIR, for the live page: their list, their files, and the peaks of a waveform.

All of it reads files, so all of it is for another thread than the server's. A name that a browser sends is
looked up in the folder's listing, and never becomes part of a path.
"""

import heapq
import os
import re
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from mediastreams.audio import mulaw, wav

MAX_LISTED = 100  # recordings in an answer
MAX_PEAKS = 2000  # of a track
_BLOCK = 4 * 2**20  # bytes of audio that are read at once
_FILE = re.compile(
    r"(?P<name>(\d{8}T\d{6}\.\d{3}Z)-(MZ[0-9a-fA-F]{32})(?:-\d+)?)"
    r"(?P<suffix>\.wav|\.vtt|\.json|(?:-inbound|-outbound)?\.raw)"
)


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

    def newest(self, before: str = "") -> dict[str, Any]:
        """Return the newest recordings, at most `MAX_LISTED`, as the page gets them.

        `before` is the name of a recording: only older ones are returned. "": all.
        """
        files: dict[str, dict[str, Path]] = {}  # of each recording, by suffix
        for match, path in self._files():
            if not before or match["name"] < before:
                files.setdefault(match["name"], {})[match["suffix"]] = path
        names = heapq.nlargest(MAX_LISTED + 1, files)
        rows = [_row(name, files[name]) for name in names[:MAX_LISTED]]
        return {"recordings": rows, "more": len(names) > MAX_LISTED}

    def open(self, file_name: str) -> "RecordedFile | None":
        """Open a file of a recording for reading; None where there is no such file."""
        path = next((path for match, path in self._files() if match[0] == file_name), None)
        if path is None:
            return None
        try:
            return RecordedFile(path)
        except OSError:  # it has just been removed, or is somebody else's
            return None

    def peaks(self, name: str) -> dict[str, Any] | None:
        """Return the peaks of a recording's waveform; None where it has no WAV file.

        Those of each track are in percent of full scale, as even in time as `MAX_PEAKS` allow.
        """
        file = self.open(f"{name}.wav")
        if file is None:
            return None
        with file:
            try:
                header = wav.read_header(file.read(wav.HEADER_SIZE))
            except ValueError:
                return None
            tracks = ["inbound", "outbound"] if header.channels == 2 else self._tracks(name)
            return {
                "seconds": round(header.samples / header.rate, 3),
                "tracks": tracks,
                "peaks": _peaks(file, header),
            }

    def _tracks(self, name: str) -> list[str]:
        """Return the track of a recording that has one."""
        file = self.open(f"{name}.json")
        if file is None:
            return ["inbound"]
        with file:
            metadata = _decode(file.read(file.size))
        return metadata.tracks[:1] if metadata and metadata.tracks else ["inbound"]

    def _files(self) -> Iterator[tuple[re.Match[str], Path]]:
        """Return the files of recordings, each with the match of its name."""
        try:
            names = os.listdir(self._folder)
        except OSError:  # there is no recording yet
            return
        for name in names:
            if match := _FILE.fullmatch(name):
                yield match, self._folder / name


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

    def __init__(self, path: Path) -> None:
        """Open the file. Raises `OSError` where that fails or it is no ordinary file."""
        self._file: FileIO = open(path, "rb", buffering=0, opener=_open_ordinary)  # noqa: SIM115
        self._at = 0
        self._head = self._file.read(wav.HEADER_SIZE) if path.suffix == ".wav" else b""
        status = os.fstat(self._file.fileno())
        self.size, self.mtime = status.st_size, status.st_mtime
        try:
            channels, _, samples = wav.read_header(self._head)
            # Written before the header: it is there. What came since is left out.
            self.size = min(self.size, wav.HEADER_SIZE + samples * channels + samples * channels % 2)
        except ValueError:
            self._head = b""
        self.etag = f"{status.st_mtime_ns:x}-{self.size:x}"

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


def _row(name: str, files: dict[str, Path]) -> dict[str, Any]:
    match = _FILE.fullmatch(f"{name}.wav")
    assert match is not None
    time = match[2]
    metadata = None
    sizes = {}
    for suffix, path in sorted(files.items()):
        try:
            with RecordedFile(path) as file:
                sizes[suffix.removeprefix(".")] = file.size
                if suffix == ".json":
                    metadata = _decode(file.read(file.size))
        except OSError:
            continue
    duration = metadata.duration if metadata else None
    if ".wav" in files and (metadata is None or metadata.ended is None):
        duration = _seconds(files[".wav"])
    return {
        "name": name,
        "startedAt": f"{time[:4]}-{time[4:6]}-{time[6:11]}:{time[11:13]}:{time[13:]}",
        "duration": duration,
        "streamSid": match[3],
        "callSid": metadata and metadata.call_sid,
        "customParameters": metadata.custom_parameters if metadata else {},
        "tracks": metadata.tracks if metadata else [],
        "ended": metadata and metadata.ended,
        "files": sizes,
    }


def _decode(data: bytes) -> _Metadata | None:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a person has changed it
        return None


def _seconds(path: Path) -> float | None:
    """Return how long a WAV file is so far; None where it is none."""
    try:
        with RecordedFile(path) as file:
            header = wav.read_header(file.read(wav.HEADER_SIZE))
    except (OSError, ValueError):
        return None
    return round(header.samples / header.rate, 3)


def _peaks(file: RecordedFile, header: wav.Header) -> list[list[int]]:
    """Return the peaks of each channel, from the file's first sample on."""
    import numpy as np  # it takes 100 ms of CPU

    # The complement of a code, without its sign, is the greater the greater the sample is.
    codes = np.arange(128, dtype=np.uint8) ^ 0xFF
    samples = np.frombuffer(mulaw.decode(codes.tobytes()), "<i2").astype(int)
    percent = np.round(np.abs(samples) * 100 / 32768).astype(int)
    each = max(-(-header.samples // MAX_PEAKS), 1)  # samples of a channel
    at_once = max(_BLOCK // (each * header.channels), 1)
    greatest: list[list[int]] = [[] for _ in range(header.channels)]
    left = header.samples
    while left > 0:
        data = _read_all(file, min(at_once * each, left) * header.channels)
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


def _read_all(file: RecordedFile, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
