"""How the latest stream of each call goes: whether it broke, when Twilio asks how the call goes on.

Only of streams of `<Connect>`: after one of `<Start>` Twilio asks nothing. Twilio's own report does not tell,
since it has stream-error also for a stream that the server has ended (31921).
"""

import contextlib
import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mediastreams.audio.files import replace_text
from mediastreams.streams.stream import Stream

_KEPT_SECONDS = 3600.0
_PURGE_EVERY = 100  # calls
_CALL_SID = re.compile("CA[0-9a-fA-F]{32}")
# Closes with which the server says that it cannot go on, not that the stream is over.
_BREAKS = ("server closed 1001", "server closed 1011", "server closed 1012", "server closed 1013")


@dataclass
class CallStream:
    """The latest stream of a call."""

    stream_sid: str
    seconds: float | None = None
    """How long it lasted; None: it has not ended, as far as this server knows."""
    is_over: bool = False
    """Whether it has ended as it should: with `stop`, or because the server has closed it."""


class CallStreams:
    """The latest stream of each call, for an hour after its end. For the server's thread.

    Processes with the same `folder` know of each other's; None: there are no others.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._streams: dict[str, tuple[float, CallStream]] = {}  # by callSid, each with when it was noted
        self._noted = 0

    def begin(self, stream: Stream) -> None:
        """Note a stream that has started."""
        if stream.is_bidirectional and stream.start is not None:
            self._note(stream.start.start.call_sid, CallStream(stream.start.start.stream_sid))

    def end(self, stream: Stream) -> None:
        """Note how a stream has ended."""
        if not stream.is_bidirectional or stream.start is None or stream.started_at is None:
            return
        start, ended_at = stream.start.start, stream.ended_at
        latest = self.latest(start.call_sid)
        if latest is not None and latest.stream_sid != start.stream_sid:  # one that resumes it was faster
            return
        seconds = (ended_at - stream.started_at).total_seconds() if ended_at else 0.0
        is_closed = stream.ending.startswith("server closed") and not stream.ending.startswith(_BREAKS)
        is_over = stream.ending == "stop" or is_closed
        self._note(start.call_sid, CallStream(start.stream_sid, seconds, is_over))

    def latest(self, call_sid: str) -> CallStream | None:
        """Return the latest stream of a call; None where none is known, as after a restart."""
        if self._folder is None:
            return self._streams.get(call_sid, (0.0, None))[1]
        if not _CALL_SID.fullmatch(call_sid):
            return None
        try:
            return CallStream(**json.loads((self._folder / call_sid).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def _note(self, call_sid: str, stream: CallStream) -> None:
        if not _CALL_SID.fullmatch(call_sid):
            return
        self._noted += 1
        if self._noted % _PURGE_EVERY == 0:
            self._purge()
        if self._folder is None:
            self._streams[call_sid] = time.time(), stream
            return
        with contextlib.suppress(OSError):  # without room a call is resumed once too often
            self._folder.mkdir(mode=0o700, exist_ok=True)
            replace_text(self._folder / call_sid, json.dumps(asdict(stream)))

    def _purge(self) -> None:
        oldest = time.time() - _KEPT_SECONDS
        self._streams = {
            sid: noted
            for sid, noted in self._streams.items()
            if noted[0] > oldest or noted[1].seconds is None
        }
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir() if self._folder else ():
                if path.stat().st_mtime < oldest and b'"seconds": null' not in path.read_bytes():
                    path.unlink(missing_ok=True)
