"""A file of payloads as they came, one behind the other, of an encoding that is not decoded."""

import os
from pathlib import Path

from mediastreams.audio.files import copy_over, identity, is_replaced, open_private, write_all

_MAX_GATHERED = 65536  # bytes


class RawFile:
    """A new file without a header, readable and writable by its owner only.

    `put` takes bytes, which are written by `flush`, or when 64 kB of them have gathered.

    With `after` it is no new file, but a copy of the one that another process has written, in its place
    (`files`), which goes on behind so many bytes.

    Raises `FileExistsError` where the file exists, and `OSError` where it cannot be written. With `after`,
    raises `OSError` where it cannot be copied, `TakenOverError` where another process came later, and
    `ValueError` where it has fewer bytes: it then stays as it is. For one thread.
    """

    path: Path
    """Where it is."""
    size: int = 0
    """How many bytes were put."""

    def __init__(self, path: Path, after: int | None = None) -> None:
        self.path = path
        self._gathered = bytearray()
        if after is None:
            # Not buffered, as a WAV file is not: a full disk is met by the write, not again by each close.
            self._file = open(path, "xb", buffering=0, opener=open_private)  # noqa: SIM115
        else:
            self._take_over(after)
        self._identity = identity(self._file)

    @property
    def is_replaced(self) -> bool:
        """Whether another process has taken the file over."""
        return is_replaced(self.path, self._identity)

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

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _take_over(self, after: int) -> None:
        with copy_over(self.path) as self._file:
            if os.fstat(self._file.fileno()).st_size < after:
                raise ValueError("a part of its audio is missing")
            self.size = after
            self._file.truncate(after)
            self._file.seek(after)
