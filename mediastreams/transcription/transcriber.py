"""The consumer that lets a recogniser hear a stream, and the one that shows what is said."""

import logging
import shutil
import time
from collections.abc import Callable

from mediastreams.audio.mulaw import SILENCE
from mediastreams.audio.timeline import RATE, PositionMap
from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.terminal import Console
from mediastreams.text import printable
from mediastreams.transcription.base import Engine

logger = logging.getLogger(__name__)

FINAL_SECONDS = 2.5  # for the last words, at the end of a stream; less than consumers are waited for
_MAX_SILENCE = RATE  # samples that are fed where audio is missing: a recogniser then ends its sentence


class TranscriptDisplay(Consumer):
    """Shows what is said: final texts as log lines, partial ones in place on the terminal's `console`."""

    def __init__(self, stream: Stream, console: Callable[[], Console | None]) -> None:
        super().__init__(stream)
        self._console = console()

    def transcript(self, transcript: Transcript) -> None:
        """Show one, in the place of the same speaker's last."""
        key = (self, transcript.track)
        minutes, seconds = divmod(int(transcript.start), 60)
        begin = f"{self.stream.name[:8]} {minutes}:{seconds:02} {transcript.speaker}: "
        text = printable(transcript.text)
        if transcript.final:
            if self._console:
                self._console.remove(key)
            if text:
                logger.info("%s%s", begin, text, extra={"stream": self.stream})
        elif self._console:
            room = max(shutil.get_terminal_size().columns - len(begin) - 1, 10)
            self._console.show(key, begin + (text if len(text) <= room else f"...{text[3 - room :]}"))


class Transcriber(Consumer):
    """Lets an engine hear each track of its stream, and publishes what it hears.

    `publish` gets each transcript, in a thread of the engine's. `on_unheard` gets how many seconds of a track
    no recogniser has heard, in this consumer's thread.
    """

    def __init__(
        self,
        stream: Stream,
        engine: Engine,
        publish: Callable[[Transcript], None],
        on_unheard: Callable[[float], None],
    ) -> None:
        super().__init__(stream)
        self._engine = engine
        self._publish = publish
        self._on_unheard = on_unheard
        self._tracks: dict[Track, _TrackFeed] = {}
        self._until = 0.0

    def audio(self, track: Track, position: int, payload: bytes) -> None:
        """Gather the audio."""
        feed = self._tracks.get(track)
        if feed is None:
            feed = _TrackFeed(self.stream, track, position, self._engine, self._publish)
            self._tracks[track] = feed
        feed.gather(position, payload)

    def flush(self) -> None:
        """Feed what was gathered."""
        for feed in self._tracks.values():
            feed.feed()

    def stop(self) -> None:
        """Ask for the last words."""
        self.flush()
        for feed in self._tracks.values():
            feed.recognition.finish()
        self._until = time.monotonic() + FINAL_SECONDS

    def is_finished(self) -> bool:
        """Return whether the last words have come, or 2.5 s have passed."""
        late = time.monotonic() > self._until
        for track, feed in list(self._tracks.items()):
            if not feed.recognition.is_finished():
                if not late:
                    continue
                logger.warning("Stream %s: the last words of %s are missing", self.stream.name, track)
            feed.close()
            self._on_unheard(feed.recognition.dropped)
            del self._tracks[track]
        return not self._tracks


class _TrackFeed:
    """One track: what of its audio was fed, and which positions that has.

    `_on_text` is called in a thread of the engine's, all else in the consumer's.
    """

    def __init__(
        self,
        stream: Stream,
        track: Track,
        position: int,
        engine: Engine,
        publish: Callable[[Transcript], None],
    ) -> None:
        self._stream = stream
        self._track = track
        self._publish = publish
        self._end = position
        self._gathered = bytearray()
        self._fed = 0  # samples, with those that are gathered
        self._positions = PositionMap(position)
        self._is_closed = False
        self._began = self._fed_at = time.monotonic()
        self.recognition = engine.listen(f"Stream {stream.name}, {track}", self._on_text)

    def gather(self, position: int, payload: bytes) -> None:
        """Gather a chunk. One that comes late is left out; a gap is a short silence."""
        if position < self._end:
            return
        if position > self._end:
            silence = min(position - self._end, _MAX_SILENCE)
            self._gathered += SILENCE * silence
            self._fed += silence
            self._positions.break_at(self._fed, position)
        self._gathered += payload
        self._fed += len(payload)
        self._end = position + len(payload)

    def feed(self) -> None:
        """Feed what was gathered."""
        if self._gathered:
            self._fed_at = time.monotonic()
            self.recognition.feed(bytes(self._gathered))
            self._gathered.clear()

    def close(self) -> None:
        """Publish no more, and take back what was not final."""
        self._is_closed = True
        self._publish(Transcript(self._track, "", True, 0, 0))

    def _on_text(self, text: str, final: bool, start: float, end: float) -> None:
        if not self._is_closed:
            begin, stop = self._seconds(start), self._seconds(end)
            self._publish(Transcript(self._track, text, final, begin, stop, self._lag(end)))

    def _lag(self, end: float) -> float:
        """Return how many seconds ago what was heard at `end` came, if audio comes in its time."""
        now = time.monotonic()
        after = self._fed / RATE - end  # seconds of audio
        return max(now - self._fed_at + min(after, self._fed_at - self._began), 0.0)

    def _seconds(self, fed_seconds: float) -> float:
        position = self._positions.position(int(fed_seconds * RATE))
        first = min(track.first for track in list(self._stream.tracks.values()))
        return max(position - first, 0) / RATE
