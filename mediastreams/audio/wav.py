"""A WAV file of mu-law that is written while it grows, and is valid whenever the writer dies.

Source: Multimedia Programming Interface and Data Specifications 1.0, "Waveform Audio File Format", and
its revision (1994) for formats other than PCM: `fmt ` with the size of its extension, and `fact`.

The standard library's `wave` cannot write format 7; libsndfile's header says 0 samples until it is closed.
"""

import contextlib
import errno
import os
import struct
from pathlib import Path
from typing import NamedTuple

from mediastreams.audio.files import copy_over, identity, is_replaced, open_private, write_all
from mediastreams.audio.mulaw import SILENCE
from mediastreams.audio.timeline import RATE

_WAVE_FORMAT_MULAW = 7
_HEADER = struct.Struct("<4sI4s 4sIHHIIHHH 4sII 4sI")
HEADER_SIZE = _HEADER.size  # bytes in front of the audio
_MAX_BYTES = 2**32 - 1 - HEADER_SIZE  # sizes have 32 bits
_MAX_APART = 3  # seconds from the first sample to the last that are written at once
_BLOCK = SILENCE * 65536


class Written(NamedTuple):
    """What a process has written to a `WavFile` before it died."""

    origin: int | None
    """The file's `origin`. None: nothing was written."""
    samples: int
    """How many samples each channel had at least."""


class WavFile:
    """A new mu-law WAV file, readable and writable by its owner only.

    It has `rate` samples a second. `put` takes audio at positions, in samples on any scale; where none was
    put there is silence. Audio is written by `flush`, or when a second of it has gathered, and then the sizes
    in the header: the file is valid at all times.

    With `after` it is no new file, but a copy of the one that another process has written, in its place
    (`files`). To put what that one has written again changes nothing.

    Raises `FileExistsError` where the file exists, and `OSError` where it cannot be written. With `after`,
    raises `OSError` where it cannot be copied, `TakenOverError` where another process came later, and
    `ValueError` where it is not the file that `after` tells of: it then stays as it is. For one thread.
    """

    path: Path
    """Where it is."""
    origin: int | None = None
    """The position of the file's first sample: the least of the first `flush`, where it was not set before.
    None before."""
    samples: int = 0
    """How many samples each channel has in the file."""

    def __init__(self, path: Path, channels: int, rate: int = RATE, after: Written | None = None) -> None:
        self.path = path
        self._channels = channels
        self._rate = rate
        self._starts = [0] * channels  # the position of each channel's audio that is not written yet
        self._gathered = [bytearray() for _ in range(channels)]
        self._apart: list[tuple[int, int, bytes]] = []  # pieces from before there was an origin
        if after is None:
            self._create()
        else:
            self._take_over(after)
        self._identity = identity(self._file)

    @property
    def is_replaced(self) -> bool:
        """Whether another process has taken the file over."""
        return is_replaced(self.path, self._identity)

    def put(self, channel: int, position: int, mulaw: bytes) -> None:
        """Put audio of one channel (0 is the left one) at a position."""
        gathered = self._gathered[channel]
        if position != self._starts[channel] + len(gathered) or len(gathered) >= self._rate:
            if gathered and self.origin is None and len(gathered) < self._rate:
                # What comes next may lie before it, and the file begins with the first of all.
                self._apart.append((channel, self._starts[channel], bytes(gathered)))
                gathered.clear()
            elif gathered:
                self.flush()
            self._starts[channel] = position
        gathered += mulaw

    def unwritten(self) -> list[tuple[int, int, bytes]]:
        """Return what was put and is not written yet, each channel's with its position."""
        return self._apart + [
            (channel, start, bytes(gathered))
            for channel, (start, gathered) in enumerate(zip(self._starts, self._gathered, strict=True))
            if gathered
        ]

    def flush(self) -> None:
        """Write what was put. What is before the first sample of the file is left out."""
        pieces = self.unwritten()
        self._apart = []
        for channel, start, mulaw in pieces:
            self._starts[channel] = start + len(mulaw)
            self._gathered[channel].clear()
        if pieces and self.origin is None:
            self.origin = min(position for _, position, _ in pieces)
        self._write_pieces(pieces)

    def close(self) -> None:
        """Write what was put, and close the file behind its last sample. Closing twice does nothing."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            with contextlib.suppress(OSError):
                self._end()
            self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _create(self) -> None:
        # Not buffered: a full disk is then met by the write, and not again by each close.
        self._file = open(self.path, "x+b", buffering=0, opener=open_private)  # noqa: SIM115
        try:
            self._write_header()
        except OSError:
            self._file.close()
            self.path.unlink()
            raise

    def _take_over(self, after: Written) -> None:
        with copy_over(self.path) as self._file:
            channels, rate, samples = read_header(self._file.read(HEADER_SIZE) or b"")
            if (channels, rate) != (self._channels, self._rate):
                raise ValueError("its channels or its rate are others")
            audio = os.fstat(self._file.fileno()).st_size - HEADER_SIZE
            samples = min(samples, audio // channels)  # the machine may have died as well
            if samples < after.samples:
                raise ValueError("a part of its audio is missing")
            self.origin = after.origin
            self.samples = 0 if after.origin is None else samples
            self._end()

    def _end(self) -> None:
        """Let the file end behind its last sample: a write may have come there in part."""
        size = self.samples * self._channels
        self._file.truncate(HEADER_SIZE + size + size % 2)
        self._write_header()

    def _write_pieces(self, pieces: list[tuple[int, int, bytes]]) -> None:
        """Write audio, each piece with its channel and its position, in one go where it is close together."""
        if not pieces:
            return
        channels, origin = self._channels, self.origin or 0
        start = max(min(position for _, position, _ in pieces) - origin, 0)
        stop = max(position + len(mulaw) for _, position, mulaw in pieces) - origin
        if len(pieces) > 1 and stop - start > _MAX_APART * self._rate:
            for piece in pieces:
                self._write_pieces([piece])
            return
        if stop <= start:
            return
        if stop * channels > _MAX_BYTES:
            raise OSError(errno.EFBIG, "a WAV file holds at most 4 GiB")
        window = self._window(start, stop)
        for channel, position, mulaw in pieces:
            at = position - origin - start
            if at < 0:
                mulaw, at = mulaw[-at:], 0
            window[at * channels + channel : (at + len(mulaw)) * channels : channels] = mulaw
        self._write(start * channels, window)
        if stop > self.samples:
            self.samples = stop
            if self.samples * channels % 2:
                self._write(self.samples * channels, b"\0")  # chunks are padded to an even size
            self._write_header()

    def _window(self, start: int, stop: int) -> bytearray:
        """Return what the file has from `start` to `stop`, with silence where it has nothing yet."""
        channels = self._channels
        while self.samples < start:
            size = min(len(_BLOCK) // channels, start - self.samples)
            self._write(self.samples * channels, _BLOCK[: size * channels])
            self.samples += size
        window = bytearray(SILENCE * ((stop - start) * channels))
        if start < self.samples:
            self._file.seek(_HEADER.size + start * channels)
            there = self._file.read((min(stop, self.samples) - start) * channels) or b""
            window[: len(there)] = there
        return window

    def _write(self, offset: int, data: bytes | bytearray) -> None:
        self._file.seek(_HEADER.size + offset)
        write_all(self._file, data)

    def _write_header(self) -> None:
        channels, rate, size = self._channels, self._rate, self.samples * self._channels
        header = _HEADER.pack(
            *(b"RIFF", _HEADER.size - 8 + size + size % 2, b"WAVE"),
            *(b"fmt ", 18, _WAVE_FORMAT_MULAW, channels, rate, rate * channels, channels, 8, 0),
            *(b"fact", 4, self.samples),
            *(b"data", size),
        )
        self._write(-_HEADER.size, header)


class Header(NamedTuple):
    """What the header of a file says that `WavFile` has written."""

    channels: int
    rate: int
    """Samples a second, of each channel."""
    samples: int
    """How many samples each channel has."""


def read_header(data: bytes) -> Header:
    """Return the header of a `WavFile` from the first bytes of it. Raises `ValueError` for other bytes."""
    if len(data) < HEADER_SIZE:
        raise ValueError("the header is cut off")
    riff, _, wave, fmt, _, code, channels, rate, *_, fact, _, samples, _, size = _HEADER.unpack_from(data)
    if (riff, wave, fmt, fact) != (b"RIFF", b"WAVE", b"fmt ", b"fact") or code != _WAVE_FORMAT_MULAW:
        raise ValueError("this is not a WAV file of mu-law as this module writes it")
    if not channels or not rate or size != samples * channels:
        raise ValueError("the header contradicts itself")
    return Header(channels, rate, samples)
