"""The engine without an account, a key or a download: Moonshine, in one process for all calls.

One thread reads, so that the server never waits; the other decodes, always the track of which most audio is
pending: under load texts change less often and not later. The recogniser wants 16 kHz: fed with 8, it hears
half as much again wrong.

Started by the server, as `python -m mediastreams.transcription.moonshine` (`process_engine`).
"""

import importlib.util
import os
import threading
from collections.abc import Iterator
from typing import Any

from mediastreams.audio import mulaw
from mediastreams.audio.timeline import RATE
from mediastreams.transcription import process_protocol

INSTALL = "pip install -r requirements-transcription.txt"

LEAST = RATE // 5  # bytes: less is not worth a decode, unless it is the last
MOST_AT_ONCE = 2 * RATE
MOST_PENDING = 30 * RATE
MANY_LINES = 20  # after so many, at a pause, the recogniser starts afresh: it returns all of them each time


def missing() -> str | None:
    """Say why the local engine cannot be used on this machine; None where it can."""
    if importlib.util.find_spec("moonshine_voice") is None:
        return f"moonshine-voice is not installed ({INSTALL})"
    return None


class Track:
    """One track: the audio that is pending, and the recogniser's stream."""

    def __init__(self, number: int, recogniser: "Recogniser") -> None:
        self.number = number
        self.ended = False
        self.dropped = 0
        self._pending = bytearray()
        self._recogniser = recogniser
        self._resampler = recogniser.soxr.ResampleStream(RATE, 2 * RATE, 1, dtype="float32")
        self._stream: Any = None
        self._began = 0  # samples of the track before those of the stream
        self._heard = 0  # samples, with those that were dropped
        self._completed: set[int] = set()

    @property
    def urgency(self) -> int:
        """How much there is to do: 0 where it can wait for more audio."""
        pending = len(self._pending)
        return pending + LEAST if self.ended else pending if pending >= LEAST else 0

    def take(self, audio: bytes) -> None:
        """Let audio be pending; the oldest is dropped where there is too much."""
        self._pending += audio
        excess = len(self._pending) - MOST_PENDING
        if excess > 0:
            self._end_stream()
            del self._pending[:excess]
            self.dropped += excess
            self._heard += excess

    def hear(self) -> bool:
        """Decode some of what is pending, and write what has changed; say whether that was the last."""
        if self._stream is None:
            self._began = self._heard
            self._stream = self._recogniser.new_stream()
        audio = bytes(self._pending[:MOST_AT_ONCE])
        del self._pending[: len(audio)]
        self._heard += len(audio)
        last = self.ended and not self._pending
        samples = self._resampler.resample_chunk(self._recogniser.samples(audio), last=last)
        if len(samples):
            self._stream.add_audio(samples.tolist(), 2 * RATE)
        lines = self._stream.update_transcription().lines
        self._tell(lines)
        if last or (len(lines) >= MANY_LINES and lines[-1].is_complete):
            self._end_stream()
        return last

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._tell(self._stream.stop().lines, final=True)
            self._stream.close()
            self._stream = None
            self._completed.clear()

    def _tell(self, lines: list[Any], final: bool = False) -> None:
        for line in lines:
            is_final = final or line.is_complete
            if line.line_id in self._completed or not (is_final or line.has_text_changed):
                continue
            if is_final:
                self._completed.add(line.line_id)
            start = self._began / RATE + line.start_time
            process_protocol.write(
                id=self.number, text=line.text, final=is_final, start=start, end=start + line.duration
            )


class Recogniser:
    """Moonshine, tiny, English, from the files of its package."""

    def __init__(self) -> None:
        # One thread: those that the runtime starts by itself cost four times what they give.
        os.environ["MOONSHINE_ORT_SINGLE_THREAD"] = "1"
        import moonshine_voice
        import numpy
        import soxr
        from moonshine_voice.transcriber import ModelArch, Transcriber

        pcm = numpy.frombuffer(mulaw.decode(bytes(range(256))), "<i2")
        self._table = (pcm / 32768).astype("float32")
        self._frombuffer = numpy.frombuffer
        self.soxr = soxr
        model = os.path.join(os.path.dirname(moonshine_voice.__file__), "assets", "tiny-en")
        options = {
            "return_audio_data": "false",
            # Half as sure as by default that somebody speaks, and a little more of what was before: else the
            # first sound of a sentence is cut off now and then.
            "vad_threshold": "0.3",
            "vad_look_behind_sample_count": "10240",
        }
        self._transcriber = Transcriber(model, ModelArch.TINY, options=options)

    def samples(self, audio: bytes) -> Any:
        """Return mu-law as floats from -1 to 1."""
        return self._table[self._frombuffer(audio, "u1")]

    def new_stream(self) -> Any:
        """Return a stream that decodes when it is told to."""
        stream = self._transcriber.create_stream(update_interval=float("inf"))
        stream.start()
        return stream


class Inbox:
    """What is pending, of all tracks."""

    def __init__(self) -> None:
        self._frames: list[tuple[int, int, bytes]] = []
        self._ready = threading.Condition()
        self._is_closed = False

    def read(self, frames: Iterator[tuple[int, int, bytes]]) -> None:
        """Take frames until there are no more."""
        for frame in frames:
            with self._ready:
                self._frames.append(frame)
                self._ready.notify()
        with self._ready:
            self._is_closed = True
            self._ready.notify()

    def take(self, wait: bool) -> list[tuple[int, int, bytes]] | None:
        """Return the frames that have come, after waiting for one; None at the end."""
        with self._ready:
            while wait and not self._frames and not self._is_closed:
                self._ready.wait()
            if self._is_closed:
                return None
            frames, self._frames = self._frames, []
            return frames


def serve(inbox: Inbox, recogniser: Recogniser) -> None:
    """Decode what comes, until the input ends."""
    tracks: dict[int, Track] = {}
    busiest: Track | None = None
    while True:
        frames = inbox.take(wait=busiest is None)
        if frames is None:
            return
        for number, kind, audio in frames:
            track = tracks.get(number)
            if track is None:
                track = tracks[number] = Track(number, recogniser)
            if kind == process_protocol.END:
                track.ended = True
            else:
                track.take(audio)
        busiest = max(tracks.values(), key=lambda track: track.urgency, default=None)
        if busiest is None or not busiest.urgency:
            busiest = None
        elif busiest.hear():
            process_protocol.write(id=busiest.number, ended=True, dropped=busiest.dropped / RATE)
            del tracks[busiest.number]


def main() -> int:
    """Serve; return the exit status: 3 where the recogniser cannot be loaded, and an event says why."""
    inbox = Inbox()
    threading.Thread(
        target=inbox.read, args=(process_protocol.read(process_protocol.take_over()),), daemon=True
    ).start()
    try:
        recogniser = Recogniser()
    except Exception as error:  # such as an old C library, of which only the loader knows
        process_protocol.write(failed=f"{type(error).__name__}: {error}")
        return 3
    serve(inbox, recogniser)
    return 0


if __name__ == "__main__":
    os._exit(main())  # without waiting for the thread that reads
