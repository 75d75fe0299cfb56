"""Which workers of a gunicorn accept connections, so that one that ends can hand over to another.

gunicorn's master makes a place for each worker before it forks it; the places are in memory that all share.
The steps of a hand-over are those of `gunicorn_worker`.
"""

import contextlib
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows, where there is no gunicorn
    fcntl = None  # type: ignore[assignment]

_FREE, _STARTING, _ACCEPTING = range(3)
_PLACE = struct.Struct("=Ii")  # a worker's number, its state
_PLACES = mmap.PAGESIZE // _PLACE.size


class Workers:
    """The workers of one master, each by the number that gunicorn gives it (`age`).

    The master makes the object, calls `add` before it forks a worker, and `remove` when that has ended. The
    worker inherits the object and calls the other methods.
    """

    def __init__(self) -> None:
        self._file, path = tempfile.mkstemp()
        os.unlink(path)
        os.truncate(self._file, mmap.PAGESIZE)
        self._memory = mmap.mmap(self._file, mmap.PAGESIZE)

    def add(self, number: int) -> None:
        """Make a place for a worker that is about to start."""
        with self._locked():
            for i, (_, state) in enumerate(self._places()):
                if state == _FREE:
                    self._write(i, number, _STARTING)
                    return

    def remove(self, number: int) -> None:
        """Free the place of a worker, if it has one."""
        with self._locked():
            self._set(number, _FREE)

    def accepts(self, number: int) -> None:
        """Note that this worker accepts connections."""
        with self._locked():
            self._set(number, _ACCEPTING)

    def hand_over(self, number: int) -> bool:
        """Give this worker's place up if another worker accepts connections; return whether one does."""
        with self._locked():
            if not self._is_another(number, _ACCEPTING):
                return False
            self._set(number, _FREE)
            return True

    def is_another_starting(self, number: int) -> bool:
        """Return whether a worker other than this one will accept connections soon."""
        with self._locked():
            return self._is_another(number, _STARTING)

    def _is_another(self, number: int, state: int) -> bool:
        return any(place_state == state and other != number for other, place_state in self._places())

    def _set(self, number: int, state: int) -> None:
        for i, (other, old_state) in enumerate(self._places()):
            if other == number and old_state != _FREE:
                self._write(i, number, state)

    def _write(self, i: int, number: int, state: int) -> None:
        self._memory[i * _PLACE.size : (i + 1) * _PLACE.size] = _PLACE.pack(number, state)

    def _places(self) -> list[tuple[int, int]]:
        return list(_PLACE.iter_unpack(self._memory[: _PLACES * _PLACE.size]))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
