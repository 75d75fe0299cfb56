"""Reads a sound file as a phone carries it: mu-law, one bytes object a channel."""

from io import BytesIO
from pathlib import Path

import numpy
import soundfile
import soxr

from mediastreams.audio import mulaw
from mediastreams.audio.timeline import RATE
from mediastreams.exceptions import MediaStreamsError


class AudioError(MediaStreamsError):
    """A sound file that cannot be played; the sentence says which and why."""


def read(path: str, rate: int = RATE) -> list[bytes]:
    """Return the channels of a sound file, one (mono) or two (left, right), as mu-law at `rate`.

    The file may have any sample rate and any encoding that libsndfile reads, such as WAV with 16-bit PCM
    or mu-law. Mu-law at this rate stays unchanged, except that a negative zero (0x7F) becomes a
    positive one (0xFF). Raises `AudioError` when the file cannot be read, is empty or has more channels.
    """
    try:
        samples, its_rate = soundfile.read(BytesIO(_bytes(path)), dtype="float32", always_2d=True)
    except soundfile.SoundFileError:
        raise AudioError(f"{path} cannot be read: it is not a sound file that libsndfile knows") from None
    channels = samples.shape[1]
    if channels > 2:
        raise AudioError(f"{path} has {channels} channels: it must be mono, or stereo with the caller left")
    if its_rate != rate and len(samples):
        samples = soxr.resample(samples, its_rate, rate)
    if not len(samples):
        raise AudioError(f"{path} holds no sound")
    pcm = (numpy.nan_to_num(samples).clip(-1, 32767 / 32768) * 32768).round().astype("<i2")
    return [mulaw.encode(pcm[:, i].tobytes()) for i in range(channels)]


def read_raw(path: str) -> bytes:
    """Return what a file holds. Raises `AudioError` when it cannot be read, or is empty."""
    raw = _bytes(path)
    if not raw:
        raise AudioError(f"{path} is empty")
    return raw


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}") from None
