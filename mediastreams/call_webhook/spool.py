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

_ID = r"(?P<id>\d{8}T\d{6}\.\d{3}Z-MZ[0-9a-fA-F]{32}(?:-\d+)?(?:-part\d+)?)"
_SUFFIX = ".account"  # not .json: the folder may be RECORDINGS_DIR, where a recording has that
_NAME = re.compile(_ID + re.escape(_SUFFIX))
_DRAFT = re.compile(rf"{_ID}\.[0-9a-f]{{16}}\.part")
_DRAFT_SECONDS = 86400.0  # longer than any is written

Version = tuple[int, int]
"""Which of the accounts that had an id, one after the other."""
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
            self._sync()
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

    def read(self, id: str) -> tuple[bytes, Version]:
        """Return an account, and which one of its id it is. `FileNotFoundError`: it has been posted."""
        with open(self._path(id), "rb") as file:
            return file.read(), _version(os.fstat(file.fileno()))

    def age(self, id: str) -> float:
        """Return how many seconds ago an account was put in; 0.0 where that is not known."""
        try:
            return time.time() - self._path(id).stat().st_mtime
        except OSError:
            return 0.0

    def remove(self, id: str, version: Version) -> bool:
        """Remove an account that was posted, or that nobody takes; False: a later one has replaced it."""
        try:
            if _version(self._path(id).stat()) != version:
                return False
        except FileNotFoundError:
            return True
        self._path(id).unlink(missing_ok=True)
        return True

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
        self._clear()
        return True

    def release(self) -> None:
        """Let another process post."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _clear(self) -> None:
        """Remove what processes that were killed have left of accounts."""
        for path in self.folder.glob("*.part"):
            if not _DRAFT.fullmatch(path.name):
                continue
            with contextlib.suppress(FileNotFoundError):  # it has become an account meanwhile
                if time.time() - path.stat().st_mtime > _DRAFT_SECONDS:
                    path.unlink()

    def _sync(self) -> None:
        """Write the names in the folder to the disk."""
        if os.name == "nt":  # it opens no folders
            return
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _make(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, id: str) -> Path:
        return self.folder / f"{id}{_SUFFIX}"


def _version(status: os.stat_result) -> Version:
    return status.st_ino, status.st_mtime_ns


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
