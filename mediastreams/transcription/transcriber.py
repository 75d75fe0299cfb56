"""The consumer that lets an engine hear a stream, and where the words go."""

import logging
import shutil
import time

from mediastreams.audio.mulaw import SILENCE
from mediastreams.audio.timeline import RATE, Places, TrackAccount
from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Media, Track
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.terminal import Console
from mediastreams.text import printable
from mediastreams.transcription.base import Engine

logger = logging.getLogger(__name__)

FINAL_SECONDS = 2.5  # for the last words, at the end of a stream; less than consumers are waited for
_LONGEST_SILENCE = RATE  # samples that are fed where audio is missing: a recogniser then ends its sentence


class Captions:
    """Shows what is said: final texts as log lines, others in place on `console`, if there is one."""

    def __init__(self) -> None:
        self.console: Console | None = None

    def show(self, transcript: Transcript) -> None:
        """Show one, in the place of the same speaker's last."""
        key = (transcript.stream, transcript.track, "caption")
        minutes, seconds = divmod(int(transcript.start), 60)
        begin = f"{transcript.stream.name[:8]} {minutes}:{seconds:02} {transcript.speaker}: "
        text = printable(transcript.text)
        if transcript.final:
            if self.console:
                self.console.remove(key)
            if text:
                logger.info("%s%s", begin, text, extra={"stream": transcript.stream})
        elif self.console:
            room = max(shutil.get_terminal_size().columns - len(begin) - 1, 10)
            self.console.show(key, begin + (text if len(text) <= room else f"...{text[3 - room :]}"))


class Transcriber(Consumer):
    """Lets `engine` hear each track of its stream; the words go to `captions` and the stream's account."""

    def __init__(self, stream: Stream, engine: Engine, captions: Captions) -> None:
        super().__init__(stream)
        self._engine = engine
        self._captions = captions
        self._ears: dict[Track, _Ear] = {}
        self._until = 0.0

    def media(self, message: Media) -> None:
        """Gather the audio."""
        media = message.media
        ear = self._ears.get(media.track)
        if ear is None:
            ear = _Ear(self.stream, media.track, media.timestamp, self._engine, self._captions)
            self._ears[media.track] = ear
        ear.take(media.timestamp, media.payload)

    def flush(self) -> None:
        """Feed what was gathered."""
        for ear in self._ears.values():
            ear.feed()

    def stop(self) -> None:
        """Ask for the last words."""
        self.flush()
        for ear in self._ears.values():
            ear.recognition.finish()
        self._until = time.monotonic() + FINAL_SECONDS

    def is_finished(self) -> bool:
        """Say whether the last words have come, or 2.5 s have passed."""
        late = time.monotonic() > self._until
        for track, ear in list(self._ears.items()):
            if ear.recognition.is_finished():
                ear.close()
                del self._ears[track]
            elif late:
                logger.warning("Stream %s: the last words of %s are missing", self.stream.name, track)
                ear.close()
                del self._ears[track]
        return not self._ears


class _Ear:
    """One track: what of its audio was fed, and what time of the call that is."""

    def __init__(
        self, stream: Stream, track: Track, timestamp: int, engine: Engine, captions: Captions
    ) -> None:
        self._stream = stream
        self._track = track
        self._captions = captions
        self._account = TrackAccount(timestamp)
        self._gathered = bytearray()
        self._fed = 0  # samples, with those that are gathered
        self._places = Places(self._account.first)
        self._is_closed = False
        self._began = self._fed_at = time.monotonic()
        self.recognition = engine.listen(f"Stream {stream.name}, {track}", self._hear)

    def take(self, timestamp: int, payload: bytes) -> None:
        """Gather a chunk. What comes late is of no use to who listens; a gap is a short silence."""
        account = self._account
        end = account.end
        place = account.place(timestamp, len(payload))
        if place < end:
            return
        if place > end:
            silence = min(place - end, _LONGEST_SILENCE)
            self._gathered += SILENCE * silence
            self._fed += silence
            self._places.go_on(self._fed, place)
        self._gathered += payload
        self._fed += len(payload)

    def feed(self) -> None:
        """Feed what was gathered."""
        if self._gathered:
            self._fed_at = time.monotonic()
            self.recognition.feed(bytes(self._gathered))
            self._gathered.clear()

    def close(self) -> None:
        """Hear no more."""
        self._is_closed = True
        self._stream.unheard += self.recognition.dropped
        self._captions.show(Transcript(self._stream, self._track, "", True, 0, 0))

    def _hear(self, text: str, final: bool, start: float, end: float) -> None:
        if self._is_closed:
            return
        begin, stop = self._seconds(start), self._seconds(end)
        transcript = Transcript(self._stream, self._track, text, final, begin, stop)
        if final and text:
            self._stream.transcripts.append(transcript)
            self._stream.lags.append(self._lag(end))
        self._captions.show(transcript)

    def _lag(self, end: float) -> float:
        """Return how many seconds ago what was heard at `end` came, if audio comes in its time."""
        now = time.monotonic()
        after = self._fed / RATE - end  # seconds of audio
        return max(now - self._fed_at + min(after, self._fed_at - self._began), 0.0)

    def _seconds(self, fed_seconds: float) -> float:
        place = self._places.of(int(fed_seconds * RATE))
        first = min(track.first for track in list(self._stream.tracks.values()))
        return max(place - first, 0) / RATE
