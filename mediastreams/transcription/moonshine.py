"""The local engine, Moonshine, without an account, a key or a download: one process for all calls.

One thread reads, so that the server never waits; the main thread decodes, always the track with most audio
pending: under load texts change less often but not later. The recogniser wants 16 kHz: fed with 8, its word
error rate is half as high again.

Started by the server, as `python -m mediastreams.transcription.moonshine` (`process_engine`).
"""

import os
import threading
import time
from queue import SimpleQueue
from typing import Any, BinaryIO

from mediastreams.audio import mulaw
from mediastreams.transcription import process_protocol

RATE = 16000  # samples a second, of what the recogniser is fed
MIN_DECODED = 0.2  # seconds: less is not worth a decode, unless it is the last
MAX_DECODED = 2  # seconds at once
MAX_PENDING = 30  # seconds
MAX_LATE = 4.0  # seconds after the end of a track in which its last texts may come
MAX_LINES = 20  # then, at a pause, the recogniser gets a new stream: it returns all lines each time


class Decoder:
    """One track: its pending audio, and the recogniser's stream. Only the main thread uses it.

    `rate` is that of the audio, in samples a second.
    """

    def __init__(self, number: int, recogniser: "Recogniser", rate: int) -> None:
        self.number = number
        self.rate = rate
        # How long its texts are waited for, on the monotonic clock; known when its audio has ended.
        self.until = float("inf")
        self.dropped = 0
        self._pending = bytearray()
        self._recogniser = recogniser
        self._resampler = recogniser.soxr.ResampleStream(rate, RATE, 1, dtype="float32")
        self._stream: Any = None
        self._began = 0  # samples of the track before those of the stream
        self._decoded = 0  # samples, with those that were dropped
        self._completed: set[int] = set()

    @property
    def ended(self) -> bool:
        """Whether its audio has ended."""
        return self.until < float("inf")

    @property
    def urgency(self) -> int:
        """Bytes of pending audio; 0 when it can wait for more."""
        pending, least = len(self._pending), int(MIN_DECODED * self.rate)
        return pending + least if self.ended else pending if pending >= least else 0

    def feed(self, audio: bytes) -> None:
        """Keep audio to be decoded; beyond 30 s the oldest is dropped."""
        self._pending += audio
        excess = len(self._pending) - MAX_PENDING * self.rate
        if excess > 0:
            self._end_stream()
            del self._pending[:excess]
            self.dropped += excess
            self._decoded += excess

    def decode(self) -> bool:
        """Decode up to 2 s of audio and write the changed texts; return whether that was the last audio."""
        if self._stream is None:
            self._began = self._decoded
            self._stream = self._recogniser.new_stream()
        audio = bytes(self._pending[: MAX_DECODED * self.rate])
        del self._pending[: len(audio)]
        self._decoded += len(audio)
        last = self.ended and not self._pending
        samples = self._resampler.resample_chunk(self._recogniser.samples(audio), last=last)
        if len(samples):
            self._stream.add_audio(samples.tolist(), RATE)
        lines = self._stream.update_transcription().lines
        self._write(lines)
        if last or (len(lines) >= MAX_LINES and lines[-1].is_complete):
            self._end_stream()
        return last

    def give_up(self) -> None:
        """Drop what is pending, and the stream."""
        self.dropped += len(self._pending)
        if self._stream is not None:
            self._stream.close()

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._write(self._stream.stop().lines, final=True)
            self._stream.close()
            self._stream = None
            self._completed.clear()

    def _write(self, lines: list[Any], final: bool = False) -> None:
        for line in lines:
            is_final = final or line.is_complete
            if line.line_id in self._completed or not (is_final or line.has_text_changed):
                continue
            if is_final:
                self._completed.add(line.line_id)
            start = self._began / self.rate + line.start_time
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
        """Return a stream, which decodes when `update_transcription` is called."""
        stream = self._transcriber.create_stream(update_interval=float("inf"))
        stream.start()
        return stream


Frames = SimpleQueue[tuple[int, int, int, bytes] | None]  # None is the end of the input


def _read(source: BinaryIO, frames: Frames) -> None:
    for frame in process_protocol.read(source):
        frames.put(frame)
    frames.put(None)


def serve(frames: Frames, recogniser: Recogniser) -> None:
    """Decode the tracks, the busiest first, until the input ends.

    A track that has ended `MAX_LATE` seconds ago is given up: the server no longer waits for it, and where
    more audio comes than can be decoded, such tracks would gather without end.
    """
    tracks: dict[int, Decoder] = {}
    while True:
        is_idle = not any(track.urgency for track in tracks.values())
        while is_idle or not frames.empty():
            frame = frames.get()
            if frame is None:
                return
            is_idle = False
            number, kind, rate, audio = frame
            if number not in tracks:
                tracks[number] = Decoder(number, recogniser, rate)
            track = tracks[number]
            if kind == process_protocol.END:
                track.until = time.monotonic() + MAX_LATE
            else:
                track.feed(audio)
        now = time.monotonic()
        late = [track for track in tracks.values() if track.until < now]
        for track in late:
            track.give_up()
            _end(track, tracks)
        busiest = max(tracks.values(), key=lambda track: track.urgency, default=None)
        if busiest is not None and busiest.urgency and busiest.decode():
            _end(busiest, tracks)


def _end(track: Decoder, tracks: dict[int, Decoder]) -> None:
    process_protocol.write(id=track.number, ended=True, dropped=track.dropped / track.rate)
    del tracks[track.number]


def main() -> int:
    """Serve; return the exit status: 3 when the recogniser cannot be loaded, and an event says why."""
    source = process_protocol.take_over()
    frames: Frames = SimpleQueue()
    threading.Thread(target=_read, args=(source, frames), daemon=True).start()
    try:
        recogniser = Recogniser()
    except Exception as error:  # such as an old C library, of which only the loader knows
        process_protocol.write(failed=f"{type(error).__name__}: {error}")
        return 3
    serve(frames, recogniser)
    return 0


if __name__ == "__main__":
    os._exit(main())  # without waiting for the thread that reads
