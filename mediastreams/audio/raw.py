"""A file of payloads as they came, one behind the other, of an encoding that is not decoded."""

from pathlib import Path

from mediastreams.audio.wav import open_private, write_all

_MAX_GATHERED = 65536  # bytes


class RawFile:
    """A new file without a header, readable and writable by its owner only.

    `put` takes bytes, which are written by `flush`, or when 64 kB of them have gathered. Raises
    `FileExistsError` where the file exists, and `OSError` where it cannot be written. For one thread.
    """

    path: Path
    """Where it is."""
    size: int = 0
    """How many bytes were put."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gathered = bytearray()
        # Not buffered, as a WAV file is not: a full disk is met by the write, and not again by each close.
        self._file = open(path, "xb", buffering=0, opener=open_private)  # noqa: SIM115

    def put(self, payload: bytes) -> None:
        """Put a payload behind the last one."""
        self.size += len(payload)
        self._gathered += payload
        if len(self._gathered) >= _MAX_GATHERED:
            self.flush()

    def flush(self) -> None:
        """Write what was put."""
        gathered, self._gathered = self._gathered, bytearray()
        write_all(self._file, gathered)

    def close(self) -> None:
        """Write what was put, and close the file. Closing twice does nothing."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            self._file.close()
