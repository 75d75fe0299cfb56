"""WAV files as a second reader opens them."""

import soundfile

from mediastreams.audio import mulaw


def channels_of(path, at=8000):
    """Return the mu-law of each channel, as libsndfile has it, of a file at this rate."""
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    info = soundfile.info(path)
    assert (rate, info.format, info.subtype) == (at, "WAV", "ULAW")
    return [mulaw.encode(samples[:, n].astype("<i2").tobytes()) for n in range(samples.shape[1])]


def plain(audio):
    """Return mu-law as it comes back from 16-bit PCM: without the negative zero."""
    return audio.replace(b"\x7f", b"\xff")
