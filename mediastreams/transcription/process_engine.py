"""The server's side of an engine process, which is one for all calls: audio goes in, texts come out.

Every recogniser runs in such a process: in the server's, decoding would hold up every call for a quarter of
a second at a time, gRPC would block the hub, a provider's answers would take the hub's time, and a library
would add 100 MB to each of gunicorn's workers. It is started with the first stream that is transcribed, so
that a server without transcripts holds no more than before; audio waits meanwhile.

`process_protocol` has what goes over its standard input and output. It ends with its input, and so with the
server.
"""

import contextlib
import json
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gevent.monkey import get_original

from mediastreams.audio.mulaw import SILENCE
from mediastreams.audio.timeline import RATE, PositionMap
from mediastreams.text import printable
from mediastreams.transcription.process_protocol import AUDIO, END, HEADER

logger = logging.getLogger(__name__)

_MAX_CRASHES = 3  # one after the other, each within _SOON seconds of its start
_SOON = 10.0
# Bytes of audio. A frame of at most PIPE_BUF bytes never goes into a full pipe in part.
_MAX_FRAME = min(3200, getattr(select, "PIPE_BUF", 512) - HEADER.size)
_MAX_SILENCE = 1  # second that stands for missing audio: a recogniser then ends its sentence
_PIPE_BYTES = 1 << 20  # for the audio of many calls until the process is up; 64 kB is a second of eight

# Receives a text, whether it is final, the positions of its begin and end (samples on the call's timeline),
# and its lag in seconds. A final text replaces the texts since the last final one.
OnText = Callable[[str, bool, int, int, float], None]


class EngineProcess:
    """The process of `module`, and the tracks that it recognises. It is started again when it ends.

    `name` is what the log calls it, `environ` its environment, `arguments` those of its command line.

    Any thread may call its methods. Nothing in this class runs on gevent's hub: hence the system's threads,
    locks and processes, also where gevent has patched the modules (gunicorn's worker does).
    """

    def __init__(self, name: str, module: str, environ: Mapping[str, str], *arguments: str) -> None:
        self._name = name
        self._command = [sys.executable, "-m", module, *arguments]
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), *sys.path)))
        self._environ = {**environ, "PYTHONPATH": path}
        self._lock = get_original("_thread", "allocate_lock")()
        self._tracks: dict[int, Recognition] = {}
        self._last_number = 0
        self._input = -1  # the pipe to the process; -1 when there is no process
        self._unwritten: list[bytes] = []  # frames that must not be lost
        self._crashes = 0
        self._is_off = False

    def recognise(self, name: str, position: int, on_text: OnText, rate: int = RATE) -> "Recognition":
        """Begin to recognise one track from `position` on, and start the process when it is not running.

        `name` identifies the track in the log; `rate` is in samples a second.
        """
        with self._lock:
            self._last_number += 1
            track = Recognition(self, self._last_number, name, position, on_text, rate)
            if self._is_off:
                track.is_finished = True
                return track
            self._tracks[self._last_number] = track
            if self._input < 0:
                self._start()
        return track

    def write(self, frame: bytes, is_kept: bool = False) -> bool | None:
        """Write a frame to the process; return whether it was written, None when there is no process.

        Never waits: a full pipe gets none. One that `is_kept` is then written before the next one.
        """
        with self._lock:
            if self._input < 0:
                return None
            try:
                while self._unwritten:
                    os.write(self._input, self._unwritten[0])
                    del self._unwritten[0]
                os.write(self._input, frame)
            except (BlockingIOError, BrokenPipeError):  # `_read` notices the latter
                if is_kept:
                    self._unwritten.append(frame)
                return False
            return True

    def forget(self, number: int) -> None:
        """Drop a track that has ended."""
        with self._lock:
            self._tracks.pop(number, None)

    def _start(self) -> None:
        """Start the process. The caller holds the lock."""
        ends: list[int] = []
        try:
            for _ in range(2):
                ends += os.pipe()
            theirs_in, ours_out, ours_in, theirs_out = ends
            # Not subprocess: gevent's patch disables it outside the hub.
            pid: int = get_original("os", "posix_spawn")(
                sys.executable,
                self._command,
                self._environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs_in, 0), (os.POSIX_SPAWN_DUP2, theirs_out, 1)],
                setpgroup=0,  # Ctrl-C is for the server, which still waits for the last texts
            )
        except OSError as error:
            for end in ends:
                os.close(end)
            logger.error("%s cannot be started: %s", self._name, error.strerror)
            return
        os.close(theirs_in)
        os.close(theirs_out)
        os.set_blocking(ours_out, False)
        with contextlib.suppress(ImportError, AttributeError, OSError):  # it is Linux that has this
            import fcntl

            fcntl.fcntl(ours_out, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._input = ours_out
        self._unwritten.clear()
        for track in self._tracks.values():
            track.restart()
        get_original("_thread", "start_new_thread")(self._read, (pid, ours_in))

    def _read(self, pid: int, output: int) -> None:
        """Hand the events of the process to its tracks until it ends, then start it again (a thread)."""
        started = time.monotonic()
        failed = None
        with open(output, encoding="utf-8") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:  # cut off, by the end of the process
                    continue
                failed = failed or event.get("failed")
                track = self._tracks.get(event.get("id"))
                if track is not None:
                    track.on_event(event)
        status = _status(pid)
        self._crashes = self._crashes + 1 if time.monotonic() - started < _SOON else 0
        self._is_off = bool(failed) or self._crashes >= _MAX_CRASHES
        if failed:
            logger.warning("%s cannot be loaded, no transcripts: %s", self._name, failed)
        elif self._is_off:
            logger.error("%s has ended again and again (%s), no transcripts", self._name, status)
        else:
            logger.error("%s has ended (%s), and is started again", self._name, status)
        with self._lock:
            os.close(self._input)
            self._input = -1
            for number, track in list(self._tracks.items()):
                if self._is_off or track.is_finishing:
                    track.is_finished = True
                    del self._tracks[number]
            if self._tracks:
                self._start()


class Recognition:
    """One track of an engine process, with positions on the call's timeline, in samples at `rate`.

    The consumer's thread calls `add`, `flush` and `finish`, the engine's thread the rest, and `on_text`.
    """

    dropped: float
    """How many seconds were not recognised; known after `finish`, when `is_finished`."""
    is_finishing: bool
    """Whether the audio has ended."""
    is_finished: bool
    """Whether the last text has come."""

    def __init__(
        self,
        engine: "EngineProcess",
        number: int,
        name: str,
        position: int,
        on_text: OnText,
        rate: int = RATE,
    ) -> None:
        self.dropped = 0.0
        self.is_finishing = self.is_finished = False
        self._engine = engine
        self._number = number
        self._name = name
        self._on_text = on_text
        self._rate = rate
        self._end = position
        self._waiting: list[tuple[int, bytearray]] = []  # audio without a break, with its position
        self._began = self._flushed = time.monotonic()
        self.restart()

    def add(self, position: int, payload: bytes) -> None:
        """Add a chunk. A late one is left out; a gap becomes a short silence."""
        if position < self._end:
            return
        if position > self._end:
            silence = min(position - self._end, _MAX_SILENCE * self._rate)
            self._waiting += [(self._end, bytearray(SILENCE * silence)), (position, bytearray())]
        elif not self._waiting:
            self._waiting.append((position, bytearray()))
        self._waiting[-1][1].extend(payload)
        self._end = position + len(payload)

    def flush(self) -> None:
        """Write the added audio to the process. Never waits: for a full pipe it is dropped and counted."""
        if self._waiting:
            self._flushed = time.monotonic()
        for position, audio in self._waiting:
            for n in range(0, len(audio), _MAX_FRAME):
                self._write(position + n, bytes(audio[n : n + _MAX_FRAME]))
        self._waiting.clear()

    def finish(self) -> None:
        """End the audio, and ask for the texts that are still to come."""
        self.flush()
        self.is_finishing = True
        # Kept: without it the process would hold the track for ever.
        is_written = self._engine.write(HEADER.pack(self._number, END, self._rate, 0), is_kept=True)
        if not (is_written or self.is_finished):
            self._finish(0.0)

    def restart(self) -> None:
        """Reset the count of samples written: a new process starts empty."""
        self._written = 0
        self._written_to = -1  # the position behind the last sample written
        self._positions = PositionMap(0)

    def on_event(self, event: dict[str, Any]) -> None:
        """Act on an event of the process."""
        if warning := event.get("warning"):
            logger.warning("%s: %s", self._name, printable(warning))
        elif event.get("ended"):
            self._finish(event["dropped"])
        else:
            start, end = (self._positions.position(int(event[key] * self._rate)) for key in ("start", "end"))
            try:
                self._on_text(event["text"], event["final"], start, end, self._lag(end))
            except Exception:
                logger.exception("%s: a text could not be shown", self._name)

    def _write(self, position: int, audio: bytes) -> None:
        frame = HEADER.pack(self._number, AUDIO, self._rate, len(audio)) + audio
        is_written = None if self.is_finished else self._engine.write(frame)
        if is_written:
            if position != self._written_to:  # not before: meanwhile `restart` may have been called
                self._positions.break_at(self._written, position)
            self._written += len(audio)
            self._written_to = position + len(audio)
            return
        if is_written is False and not self.dropped:
            logger.warning("%s: the recogniser does not keep up, audio is dropped", self._name)
        self.dropped += len(audio) / self._rate

    def _lag(self, end: int) -> float:
        """Return how many seconds ago the audio at `end` came, when audio comes at the pace of a call."""
        after = (self._end - end) / self._rate  # seconds of audio
        return max(time.monotonic() - self._flushed + min(after, self._flushed - self._began), 0.0)

    def _finish(self, dropped: float) -> None:
        self.dropped += dropped
        if self.dropped:
            logger.warning(
                "%s: %.1f s were not heard, the recogniser was too slow or away", self._name, self.dropped
            )
        self._engine.forget(self._number)
        self.is_finished = True


def _status(pid: int) -> str:
    """Wait for a process; return how it has ended."""
    try:
        _, status = get_original("os", "waitpid")(pid, 0)
    except ChildProcessError:  # libev was faster, which waits for all children where gevent has patched
        return "status unknown"
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"status {code}"
