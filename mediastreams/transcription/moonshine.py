"""The local recogniser, Moonshine, without an account, a key or a download.

One track is decoded at a time, and each in its turn with all its pending audio: under load texts change less
often but not later. The recogniser wants 16 kHz: fed with 8, its word error rate is half as high again.
"""

import asyncio
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy
import soxr

from mediastreams.audio import mulaw
from mediastreams.exceptions import MediaStreamsError
from mediastreams.transcription.session import Backlog

RATE = 16000  # samples a second, of what the recogniser is fed
MIN_DECODED = 0.2  # seconds: less is not worth a decode, unless it is the last
MAX_DECODED = 2  # seconds at once
MAX_LINES = 20  # then, at a pause, the recogniser gets a new stream: it returns all lines each time

Text = tuple[str, bool, float, float]


class Moonshine:
    """Recognises tracks, all with one `model`. Only the event loop's thread uses it; another one decodes."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._turn = asyncio.Lock()
        self._decoding = ThreadPoolExecutor(1)

    async def recognise(self, backlog: Backlog, warn: Callable[[str], None]) -> None:
        """Recognise a track, with one stream of the model after another, until it ends or is cancelled."""
        try:
            while await backlog.wait_for_audio():
                await self._hold_stream(backlog)
        except asyncio.CancelledError:  # nobody waits for it any more
            backlog.dropped += len(backlog.take())
            raise

    async def _hold_stream(self, backlog: Backlog) -> None:
        """Hold one stream, until the track ends, audio is dropped, or the stream has many lines."""
        run = partial(asyncio.get_running_loop().run_in_executor, self._decoding)
        stream = await run(Stream, self._model, backlog.rate)
        backlog.begin(math.inf)
        dropped = backlog.dropped
        try:
            while not stream.is_long and await backlog.wait_for_audio(MIN_DECODED):
                async with self._turn:
                    if backlog.dropped > dropped:
                        break
                    texts = await run(stream.decode, backlog.take(MAX_DECODED))
                for text in texts:
                    backlog.add_text(*text)
            for text in await run(stream.finish):
                backlog.add_text(*text)
        finally:
            self._decoding.submit(stream.close)  # behind what is being decoded


class Stream:
    """A stream of the model, for audio with `rate` samples a second. One thread at a time uses it.

    A text has with it whether it is final, and where it begins and ends, in seconds of the stream.
    """

    is_long: bool = False
    """Whether it has many lines, and none that goes on."""

    def __init__(self, model: "Model", rate: int) -> None:
        self._model = model
        self._resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32")
        self._stream = model.new_stream()
        self._completed: set[int] = set()

    def decode(self, audio: bytes) -> list[Text]:
        """Decode mu-law; return the changed texts."""
        self._add(audio)
        lines = self._stream.update_transcription().lines
        self.is_long = len(lines) >= MAX_LINES and lines[-1].is_complete
        return self._texts(lines)

    def finish(self) -> list[Text]:
        """Decode what the resampler holds back; return the last texts."""
        self._add(b"", last=True)
        return self._texts(self._stream.stop().lines, final=True)

    def close(self) -> None:
        """Free what it holds."""
        self._stream.close()

    def _add(self, audio: bytes, last: bool = False) -> None:
        samples = self._resampler.resample_chunk(self._model.samples(audio), last=last)
        if len(samples):
            self._stream.add_audio(samples.tolist(), RATE)

    def _texts(self, lines: list[Any], final: bool = False) -> list[Text]:
        texts = []
        for line in lines:
            is_final = final or line.is_complete
            if line.line_id in self._completed or not (is_final or line.has_text_changed):
                continue
            if is_final:
                self._completed.add(line.line_id)
            texts.append((line.text, is_final, line.start_time, line.start_time + line.duration))
        return texts


class Model:
    """Moonshine, tiny, English, from the files of its package."""

    def __init__(self) -> None:
        # One thread: those that the runtime starts by itself cost four times what they give.
        os.environ["MOONSHINE_ORT_SINGLE_THREAD"] = "1"
        import moonshine_voice
        from moonshine_voice.transcriber import ModelArch, Transcriber

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
        return numpy.frombuffer(mulaw.decode(audio), "<i2").astype("float32") / 32768

    def new_stream(self) -> Any:
        """Return a stream, which decodes when `update_transcription` is called."""
        stream = self._transcriber.create_stream(update_interval=float("inf"))
        stream.start()
        return stream


def connect(_environ: Mapping[str, str], _language: str) -> Moonshine:
    """Return the recogniser, which needs no key and knows one language.

    Raises `MediaStreamsError` when it cannot be loaded.
    """
    try:
        return Moonshine(Model())
    except Exception as error:  # such as an old C library, of which only the loader knows
        raise MediaStreamsError(f"{type(error).__name__}: {error}") from None
