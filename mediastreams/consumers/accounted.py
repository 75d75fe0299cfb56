"""The consumer that keeps the account of a stream, recorded or not, and hands it over at the end."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mediastreams.consumers.account import Account, Notes
from mediastreams.consumers.base import Checkpoint, Consumer
from mediastreams.consumers.recording_files import RecordingFiles
from mediastreams.protocol.messages import STREAM_SID, Dtmf, Mark, Start
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.text import printable

logger = logging.getLogger(__name__)

T = TypeVar("T")

OnAccount = Callable[[str, str], None]
"""Takes the id of an account, the name that the stream's recording has or would have, and its JSON."""


class Accounted(Consumer):
    """Notes what the account of its stream tells; at the end `on_account` gets it, in the consumer's thread.

    None: nobody does. That of a stream whose SID is not one of Twilio's is not handed over, since it is in
    the id.
    """

    def __init__(self, stream: Stream, on_account: OnAccount | None = None, folder: str = "") -> None:
        super().__init__(stream)
        self._on_account = on_account
        self._files = RecordingFiles(Path(folder), stream, [])
        self._account = Account(stream, self._files)

    def start(self, message: Start) -> None:
        """Note which tracks there are."""
        tracks = message.start.tracks
        self._files.tracks = [name for name in ("inbound", "outbound") if name in tracks] or ["inbound"]

    def resume(self, message: Start, state: Any) -> None:
        """Go on with what the worker that has written `state` has noted."""
        self.start(message)
        if notes := self._converted(state, Notes):
            self._account.notes = notes

    def checkpoint(self) -> Checkpoint | None:
        """Return what is noted."""
        return Checkpoint(msgspec.to_builtins(self._account.notes))

    def dtmf(self, message: Dtmf) -> None:
        """Note the key and when it was pressed."""
        self._account.dtmf(message, self._end)

    def mark(self, message: Mark) -> None:
        """Note the mark and when it came back."""
        self._account.mark(message, self._end)

    def transcript(self, transcript: Transcript) -> None:
        """Keep a final text."""
        if transcript.final and transcript.text:
            self._account.transcript(transcript)

    def stop(self) -> None:
        """Hand the account over."""
        if self._on_account is None:
            return
        start = self.stream.start
        assert start is not None
        if STREAM_SID.fullmatch(start.stream_sid):
            self._on_account(self._files.path("").name, self._account.to_json())
        else:
            text = "Stream %s: its account is not posted, its SID is not MZ and 32 digits"
            logger.warning(text, self.stream.name)

    def _converted(self, state: Any, kind: type[T]) -> T | None:
        """Return a checkpoint; None where there is none, or where it cannot be read, which is logged."""
        if state is None:
            return None
        try:
            return msgspec.convert(state, kind)
        except msgspec.ValidationError as error:
            why = printable(str(error))
            logger.warning("Stream %s: its checkpoint cannot be read: %s", self.stream.name, why)
            return None

    @property
    def _end(self) -> int:
        """The position behind all audio that has come."""
        return max((track.end for track in list(self.stream.tracks.values())), default=0)
