"""The consumer that lets an engine recognise a stream, and the one that shows the texts."""

import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from mediastreams.consumers.base import Checkpoint, Consumer
from mediastreams.protocol.messages import Start, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.terminal import Console
from mediastreams.text import printable
from mediastreams.transcription.process_engine import EngineProcess, Recognition

logger = logging.getLogger(__name__)

FINAL_SECONDS = 2.5  # for the last texts, at the end of a stream; less than consumers are waited for
_MAX_AGAIN = 30  # seconds of audio that a worker recognises again


class TranscriptDisplay(Consumer):
    """Shows the texts: final ones as log lines, partial ones in place on the terminal's `console`.

    Those of a time in which the recording is paused are left out.
    """

    def __init__(self, stream: Stream, console: Callable[[], Console | None]) -> None:
        super().__init__(stream)
        self._console = console()

    def transcript(self, transcript: Transcript) -> None:
        """Show a text in place of the speaker's last one."""
        key = (self, transcript.track)
        minutes, seconds = divmod(int(transcript.start), 60)
        begin = f"{self.stream.name[:8]} {minutes}:{seconds:02} {transcript.speaker}: "
        text = "" if self.stream.is_left_out(transcript) else printable(transcript.text)
        if transcript.final or not text:
            if self._console:
                self._console.remove(key)
            if text:
                logger.info("%s%s", begin, text, extra={"stream": self.stream})
        elif self._console:
            room = max(shutil.get_terminal_size().columns - len(begin) - 1, 10)
            self._console.show(key, begin + (text if len(text) <= room else f"...{text[3 - room :]}"))


class Transcriber(Consumer):
    """Lets an engine recognise each track of its stream, and publishes the texts.

    `publish` gets each transcript, in a thread of the engine's. `on_unheard` gets how many seconds of a track
    were not recognised, in this consumer's thread.

    A worker that takes over recognises again what had no final text at the checkpoint.
    """

    def __init__(
        self,
        stream: Stream,
        engine: EngineProcess,
        publish: Callable[[Transcript], None],
        on_unheard: Callable[[float], None],
    ) -> None:
        super().__init__(stream)
        self._engine = engine
        self._publish = publish
        self._on_unheard = on_unheard
        self._tracks: dict[Track, Recognition] = {}
        self._unfinished: set[Track] = set()  # of which the last text was not final
        self._until = 0.0
        self._heard: dict[Track, int] = {}  # the position before which each track's words are known
        self._end = 0  # the position behind the last sample

    def resume(self, message: Start, state: Any) -> None:
        """Begin each track behind its last final text."""
        try:
            self._heard = msgspec.convert(state or {}, dict[Track, int])
        except msgspec.ValidationError as error:
            why = printable(str(error))
            logger.warning("Stream %s: its checkpoint cannot be read: %s", self.stream.name, why)

    def checkpoint(self) -> Checkpoint:
        """Return for each track where its audio has no final text yet, at most the latest 30 s."""
        earliest = self._end - _MAX_AGAIN * self.stream.rate
        state = {track: max(position, earliest) for track, position in self._heard.copy().items()}
        return Checkpoint(state, min(state.values(), default=None))

    def audio(self, track: Track, position: int, payload: bytes) -> None:
        """Add the audio to its track's."""
        left_out = max(self._heard.setdefault(track, position) - position, 0)
        position, payload = position + left_out, payload[left_out:]
        if not payload:
            return
        self._end = max(self._end, position + len(payload))
        recognition = self._tracks.get(track)
        if recognition is None:
            name = f"Stream {self.stream.name}, {track}"
            recognition = self._engine.recognise(
                name, position, partial(self._on_text, track), self.stream.rate
            )
            self._tracks[track] = recognition
        recognition.add(position, payload)

    def flush(self) -> None:
        """Hand the audio to the engine."""
        for recognition in self._tracks.values():
            recognition.flush()

    def stop(self) -> None:
        """Ask for the last texts."""
        for recognition in self._tracks.values():
            recognition.finish()
        self._until = time.monotonic() + FINAL_SECONDS

    def is_finished(self) -> bool:
        """Return whether the last texts have come, or 2.5 s have passed."""
        is_late = time.monotonic() > self._until
        for track, recognition in list(self._tracks.items()):
            if not recognition.is_finished:
                if not is_late:
                    continue
                logger.warning("Stream %s: the last words of %s are missing", self.stream.name, track)
            del self._tracks[track]
            if track in self._unfinished:
                self._publish(Transcript(track, "", True, 0, 0))  # takes it back
            self._on_unheard(recognition.dropped)
        return not self._tracks

    def abandon(self) -> None:
        """End the recognition; what is still to come is left out."""
        tracks, self._tracks = self._tracks, {}
        for recognition in tracks.values():
            recognition.finish()

    def _on_text(self, track: Track, text: str, final: bool, start: int, end: int, lag: float) -> None:
        if track in self._tracks:
            first = min(timeline.first for timeline in list(self.stream.tracks.values()))
            (self._unfinished.discard if final else self._unfinished.add)(track)
            begin, stop = (max(position - first, 0) / self.stream.rate for position in (start, end))
            self._publish(Transcript(track, text, final, begin, stop, lag))
            if final:  # after that: a checkpoint must not have what could still be lost
                self._heard[track] = max(self._heard[track], end)
