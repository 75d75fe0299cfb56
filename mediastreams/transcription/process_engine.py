"""The server's side of an engine process, which is one for all calls: audio goes in, words come out.

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
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gevent.monkey import get_original

from mediastreams.audio.timeline import RATE, PositionMap
from mediastreams.text import printable
from mediastreams.transcription.base import Engine, OnText, Recognition
from mediastreams.transcription.process_protocol import AUDIO, END, HEADER

logger = logging.getLogger(__name__)

_MAX_CRASHES = 3  # one after the other, each within _SOON seconds of its start
_SOON = 10.0
_MAX_FRAME = 3200  # bytes of audio


def _system(module: str, name: str) -> Any:
    """Return the system's function, also where gevent has patched the module (gunicorn's worker does)."""
    return get_original(module, name)


class EngineProcess(Engine):
    """The process of `module`, and the tracks that it recognises. It is started again where it ends.

    `name` is what the log calls it, `environ` its environment, `arguments` those of its command line.

    Any thread may call `listen`, `write` and `forget`. Nothing in this class runs on gevent's hub: hence the
    system's threads and locks, and `os.posix_spawn`.
    """

    def __init__(self, name: str, module: str, environ: Mapping[str, str], *arguments: str) -> None:
        self._name = name
        self._command = [sys.executable, "-m", module, *arguments]
        self._environ = environ
        self._lock = _system("_thread", "allocate_lock")()
        self._tracks: dict[int, _ProcessRecognition] = {}
        self._last_number = 0
        self._input = -1  # the process's; -1 where there is none
        self._unwritten = b""
        self._crashes = 0
        self._is_restarting = False
        self._is_off = False

    def listen(self, name: str, hear: OnText) -> "_ProcessRecognition":
        """Begin to recognise one track, and start the process where it is not running."""
        with self._lock:
            self._last_number += 1
            track = _ProcessRecognition(self, self._last_number, name, hear)
            if self._is_off:
                track.has_finished()
                return track
            self._tracks[track.number] = track
            if self._input < 0 and not self._is_restarting:
                try:
                    self._start()
                except OSError as error:
                    logger.error("%s cannot be started: %s", self._name, error.strerror)
        return track

    def write(self, frame: bytes) -> bool | None:
        """Write a frame to the process; return whether it went, None where there is no process.

        Never waits: a full pipe takes none.
        """
        with self._lock:
            if self._input < 0:
                return None
            if not self._write_all(self._unwritten):
                return False
            self._unwritten = b""
            if not self._write_all(frame):
                # The part that went must be followed by its rest.
                return bool(self._unwritten)
            return True

    def _write_all(self, data: bytes) -> bool:
        sent = 0
        if data:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # of the latter the reader hears
                sent = os.write(self._input, data)
        if 0 < sent < len(data):
            self._unwritten = data[sent:]
        return sent == len(data)

    def forget(self, track: "_ProcessRecognition") -> None:
        """Drop a track that has ended."""
        with self._lock:
            self._tracks.pop(track.number, None)

    def _start(self) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        os.set_blocking(ours_out, False)
        actions = [(os.POSIX_SPAWN_DUP2, theirs_in, 0), (os.POSIX_SPAWN_DUP2, theirs_out, 1)]
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), *sys.path)))
        try:
            pid: int = _system("os", "posix_spawn")(
                sys.executable,
                self._command,
                {**self._environ, "PYTHONPATH": path},
                file_actions=actions,
                setpgroup=0,  # Ctrl-C is for the server, which may still want to hear the last words
            )
        except OSError:
            os.close(ours_out)
            os.close(ours_in)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        with contextlib.suppress(ImportError, AttributeError, OSError):  # it is Linux that has this
            import fcntl

            # Room for what many calls say until the process is up; 64 kB is a second of eight.
            fcntl.fcntl(ours_out, fcntl.F_SETPIPE_SZ, 1 << 20)
        self._input, self._unwritten = ours_out, b""
        for track in self._tracks.values():
            track.restart()
        _system("_thread", "start_new_thread")(self._read, (pid, ours_in))

    def _read(self, pid: int, output: int) -> None:
        """Give the tracks the events of the process until it ends, then start it again (a thread)."""
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
                    track.take_event(event)
        status = _status(pid)
        lived = time.monotonic() - started
        with self._lock:
            os.close(self._input)
            self._input = -1
            self._crashes = self._crashes + 1 if lived < _SOON else 1
            self._is_off = bool(failed) or self._crashes >= _MAX_CRASHES
            self._is_restarting = True
            tracks = list(self._tracks.values())
        if failed:
            logger.warning("%s cannot be loaded, no transcripts: %s", self._name, failed)
        elif self._is_off:
            logger.error("%s has ended again and again (%s), no transcripts", self._name, status)
        else:
            logger.error("%s has ended (%s), and is started again", self._name, status)
            time.sleep(self._crashes - 1)
        for track in tracks:
            if self._is_off or track.is_finishing:
                track.has_finished()
                self.forget(track)
        with self._lock:
            self._is_restarting = False
            if self._tracks and not self._is_off:
                try:
                    self._start()
                except OSError as error:
                    logger.error("%s cannot be started again: %s", self._name, error.strerror)


class _ProcessRecognition(Recognition):
    """One track of an engine process.

    One thread calls `feed` and `finish`; the rest is called by the thread that reads the process's events, or
    with the engine's lock.
    """

    def __init__(self, engine: EngineProcess, number: int, name: str, hear: OnText) -> None:
        super().__init__()
        self.number = number
        self.is_finishing = False
        self._engine = engine
        self._name = name
        self._hear = hear
        self._taken = 0  # samples
        self._sent = 0  # those that the process has, since it has the track
        self._places = PositionMap(0)
        self._dropped = 0

    def feed(self, mulaw: bytes) -> None:
        """Write audio to the process."""
        for start in range(0, len(mulaw), _MAX_FRAME):
            part = mulaw[start : start + _MAX_FRAME]
            went = self._engine.write(HEADER.pack(self.number, AUDIO, len(part)) + part)
            self._taken += len(part)
            if went:
                self._sent += len(part)
                continue
            if went is False:
                if not self._dropped:
                    logger.warning("%s: the recogniser does not keep up, audio is dropped", self._name)
                self._dropped += len(part)
            self._places.break_at(self._sent, self._taken)

    def finish(self) -> None:
        """Tell the process that the track has ended."""
        self.is_finishing = True
        if not self._engine.write(HEADER.pack(self.number, END, 0)):
            self._end(0.0)

    def restart(self) -> None:
        """Reset the count of samples sent: a new process starts empty."""
        self._sent = 0
        self._places = PositionMap(self._taken)

    def take_event(self, event: dict[str, Any]) -> None:
        """Take an event of this track."""
        if warning := event.get("warning"):
            logger.warning("%s: %s", self._name, printable(warning))
            return
        if event.get("ended"):
            self._end(event["dropped"])
            return
        try:
            self._hear(event["text"], event["final"], self._place(event["start"]), self._place(event["end"]))
        except Exception:
            logger.exception("%s: what was heard could not be shown", self._name)

    def _place(self, seconds: float) -> float:
        return self._places.position(int(seconds * RATE)) / RATE

    def _end(self, dropped: float) -> None:
        dropped += self._dropped / RATE
        self.dropped = dropped
        if dropped:
            logger.warning("%s: %.1f s were not heard, the recogniser was too slow", self._name, dropped)
        self._engine.forget(self)
        self.has_finished()


def _status(pid: int) -> str:
    try:
        _, status = _system("os", "waitpid")(pid, 0)
    except ChildProcessError:  # libev was faster, which watches all children where gevent has patched
        return "status unknown"
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"status {code}"
