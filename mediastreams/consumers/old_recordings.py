"""Removes recordings that are older than RECORDINGS_DAYS, with the files beside them.

The age is that of the file of a stream to which was written last: so nothing goes that is being written, by
this process or by another one. Only files that a recording has written are removed, no others.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from gevent.monkey import get_original

from mediastreams.consumers.recording_files import FILE

logger = logging.getLogger(__name__)

_EVERY = 3600.0  # seconds
_DAY = 86400.0
# What a process that was killed has left of a file that it was writing, or copying.
_DRAFT = re.compile(r"(?P<file>.+?)(\.[0-9a-f]{16})?\.part")
# A thread that only computes gives the server's thread a turn every 5 ms; this one gives it sooner.
_YIELD_EVERY = 500  # files
_YIELD_SECONDS = 0.0001

# Those of the system, also where gevent has patched the modules: the thread is none of the hub's.
_sleep = get_original("time", "sleep")
_start_new_thread = get_original("_thread", "start_new_thread")


class OldRecordings:
    """What is older than `days` in `folder`: removed now, and once an hour, by a thread of its own."""

    def __init__(self, folder: str, days: int) -> None:
        self._folder = Path(folder)
        self._days = days
        self._has_started = False
        self._looked_at = time.time(), time.monotonic()

    def start(self) -> None:
        """Begin; a second time does nothing. Not before gunicorn forks."""
        if not self._has_started:
            self._has_started = True
            _start_new_thread(self._keep_removing, ())

    def remove(self) -> None:
        """Remove what is old, and log how much that was, or why it cannot be removed."""
        oldest = self._now() - self._days * _DAY
        removed = _Removed()
        try:
            for stream in self._streams(oldest):
                removed.add(stream, oldest)
        except FileNotFoundError:  # nothing has been recorded yet
            pass
        except OSError as error:
            logger.warning("RECORDINGS_DAYS: %s cannot be read: %s", self._folder, error.strerror)
        if removed.streams:
            text = "Recordings older than %d days removed from %s: %d, with %d files of %.1f MB"
            counts = removed.streams, removed.files, removed.bytes / 1e6
            logger.info(text, self._days, self._folder, *counts)
        if removed.error:
            text = "RECORDINGS_DAYS: old recordings in %s cannot be removed: %s"
            logger.warning(text, self._folder, removed.error.strerror)

    def _now(self) -> float:
        """Return the time; where the clock was set forward since the last look, that of before.

        What is being written has that time too, until it is written to again.
        """
        wall, clock = self._looked_at
        self._looked_at = time.time(), time.monotonic()
        return min(time.time(), wall + time.monotonic() - clock)

    def _keep_removing(self) -> None:
        while True:
            try:
                self.remove()
            except Exception:  # it must not be the last time
                logger.exception("Old recordings cannot be removed")
            _sleep(_EVERY)

    def _streams(self, oldest: float) -> Iterator[list[Path]]:
        """Yield the files of each stream that began before `oldest`."""
        began_before = f"{datetime.fromtimestamp(oldest, UTC):%Y%m%dT%H%M%S}"
        streams: dict[str, list[Path]] = {}
        linked = set()  # streams of which somebody keeps a file elsewhere
        for number, name in enumerate(os.listdir(self._folder)):
            if number % _YIELD_EVERY == 0:
                _sleep(_YIELD_SECONDS)
            draft = _DRAFT.fullmatch(name)
            file = FILE.fullmatch(draft["file"] if draft else name)
            path = self._folder / name
            if not file or file["time"] >= began_before:
                continue
            stream = f"{file['time']}-{file['sid']}"
            if path.is_symlink():
                linked.add(stream)
            elif path.is_file():
                streams.setdefault(stream, []).append(path)
        yield from (paths for stream, paths in streams.items() if stream not in linked)


class _Removed:
    """What was removed."""

    streams = 0
    files = 0
    bytes = 0
    error: OSError | None = None
    """Why a file could not be removed."""

    def add(self, stream: list[Path], oldest: float) -> None:
        """Remove the files of a stream, unless one of them was written after `oldest`."""
        found = []
        for path in stream:
            with contextlib.suppress(FileNotFoundError):  # another process removes the same
                found.append((path, path.lstat()))
        if any(status.st_mtime >= oldest for _, status in found):
            return
        before = self.files
        for path, status in found:
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                self.error = error
                continue
            self.files += 1
            self.bytes += status.st_size
        self.streams += self.files > before
