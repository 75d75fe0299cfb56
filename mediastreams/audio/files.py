"""Files that are written while they grow: for their owner only, and taken over from a process that has died.

That one may have been suspended only, and go on to write. So the file is not opened but copied, and the copy
takes its name: what the other one writes then has no name any more.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from mediastreams.exceptions import MediaStreamsError

_AT_ONCE = 2**20  # bytes that are read
_COPIED_AT_ONCE = 2**30  # by the system
_SUFFIX = ".part"


class TakenOverError(MediaStreamsError):
    """Another process has begun to take the same file over, later than this one."""


@contextlib.contextmanager
def copy_over(path: Path) -> Iterator[FileIO]:
    """Give a copy of a file, to be read and written; as the block ends, it replaces the file.

    Where the block raises there is no copy any more, and the file stays as it is. One that another process
    is making is removed, which so cannot replace the file any more.

    Raises `OSError` where the file cannot be copied, `FileNotFoundError` where there is none, and
    `TakenOverError` where another process came later.
    """
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for name in os.listdir(path.parent):
        if name.startswith(f"{path.name}.") and name.endswith(_SUFFIX):
            path.with_name(name).unlink(missing_ok=True)
    draft = path.with_name(f"{path.name}.{os.urandom(8).hex()}{_SUFFIX}")
    file = open(draft, "x+b", buffering=0, opener=open_private)  # noqa: SIM115
    try:
        _copy(path, file)
        file.seek(0)
        yield file
        try:
            draft.replace(path)
        except FileNotFoundError:
            raise TakenOverError from None
    except BaseException:
        file.close()
        draft.unlink(missing_ok=True)
        raise


def identity(file: FileIO) -> tuple[int, int]:
    """Return what distinguishes an open file from every other one, whatever its name is."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def is_replaced(path: Path, known: tuple[int, int]) -> bool:
    """Return whether another file is at `path` than the one of this identity; False where there is none."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) != known


def write_all(file: FileIO, data: bytes | bytearray) -> None:
    """Write `data` to a file that is not buffered. Raises `OSError`; a part may have been written."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def open_private(path: str, flags: int) -> int:
    """Open a file for `open`; a new one is for its owner only."""
    return os.open(path, flags, 0o600)


def replace_text(path: Path, text: str, is_wanted: Callable[[], bool] = lambda: True) -> None:
    """Replace a file, completely or not at all. Raises `OSError`.

    `is_wanted` is asked when the new one is written: where it is not, the file stays as it is.
    """
    draft = path.with_name(f"{path.name}{_SUFFIX}")
    try:
        draft.unlink(missing_ok=True)  # what a crash has left, or somebody has put there
        with open(draft, "xb", opener=open_private) as file:
            # A peer's words may hold half of a surrogate pair, which has no UTF-8.
            file.write(text.encode(errors="backslashreplace"))
        if is_wanted():
            draft.replace(path)
        else:
            draft.unlink()
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def unusable(folder: str) -> str | None:
    """Return why no file can be made in `folder`; None where nothing speaks against it now."""
    try:
        path = nearest(folder)
    except OSError as error:
        return error.strerror or str(error)
    if not path.is_dir():
        return f"{path} is not a folder"
    return None if os.access(path, os.W_OK | os.X_OK) else f"{path} cannot be written to"


def nearest(folder: str) -> Path:
    """Return `folder`, or what there is of the folders above it, or a link that leads nowhere.

    Raises `OSError` where that cannot be found out.
    """
    path = Path(folder).absolute()
    while True:
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            path = path.parent
        else:
            return path


def _copy(path: Path, copy: FileIO) -> None:
    with open(path, "rb", buffering=0) as file:
        with contextlib.suppress(AttributeError, OSError):  # not every system and file system can do it
            # Where blocks can be shared it copies none, and on NFS the server does.
            while os.copy_file_range(file.fileno(), copy.fileno(), _COPIED_AT_ONCE):
                pass
            return
        file.seek(0)
        copy.seek(0)
        while data := file.read(_AT_ONCE):
            write_all(copy, data)
