"""The accounts that are still to be posted: a file each, so that they outlive a restart.

All processes of a machine may share the folder; one of them at a time, which holds the lock, posts what is in
there. The lock goes with its process.
"""

import contextlib
import os
import re
import time
from io import FileIO
from pathlib import Path

from mediastreams.audio.files import open_private, write_all

_NAME = re.compile(r"(?P<id>\d{8}T\d{6}\.\d{3}Z-MZ[0-9a-fA-F]{32}(?:-\d+)?(?:-part\d+)?)\.json")
_SUFFIX = ".json"
_LOCK = "lock"


class Spool:
    """A folder of accounts, each under its id. Any thread may use it. Each method may raise `OSError`."""

    def __init__(self, folder: str) -> None:
        """Take a folder that need not be there yet."""
        self.folder = Path(folder)
        self._lock: FileIO | None = None

    def put(self, id: str, body: bytes) -> None:
        """Keep an account, also where the machine loses its power; one of the same id is replaced."""
        self._make()
        draft = self.folder / f"{id}.{os.urandom(8).hex()}.part"
        try:
            with open(draft, "xb", buffering=0, opener=open_private) as file:
                write_all(file, body)
                os.fsync(file.fileno())
            draft.replace(self._path(id))
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise

    def ids(self) -> list[str]:
        """Return what waits, the oldest call first."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(match["id"] for name in names if (match := _NAME.fullmatch(name)))

    def read(self, id: str) -> bytes:
        """Return an account. Raises `FileNotFoundError` where it has been posted."""
        return self._path(id).read_bytes()

    def age(self, id: str) -> float:
        """Return how many seconds ago an account was put in; 0.0 where it has gone."""
        try:
            return time.time() - self._path(id).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def remove(self, id: str) -> None:
        """Remove an account that has been posted, or that nobody takes."""
        self._path(id).unlink(missing_ok=True)

    def acquire(self) -> bool:
        """Return whether this process is the one that posts; it is until it ends, once it was."""
        if self._lock is not None:
            return True
        self._make()
        file = open(self.folder / _LOCK, "ab", buffering=0, opener=open_private)  # noqa: SIM115
        if not _is_locked(file):
            file.close()
            return False
        self._lock = file
        return True

    def release(self) -> None:
        """Let another process post."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _make(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, id: str) -> Path:
        return self.folder / f"{id}{_SUFFIX}"


def _is_locked(file: FileIO) -> bool:
    """Lock a file for this process; return False where another one has it."""
    try:
        import fcntl
    except ImportError:  # on Windows, where a server is one process
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: an account may be posted twice
        return True
    return True
