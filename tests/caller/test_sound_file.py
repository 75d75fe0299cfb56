import math
from array import array

import numpy
import pytest
import soundfile

from mediastreams.audio import mulaw
from mediastreams.audio.timeline import RATE
from mediastreams.caller import sound_file

SUBTYPES = ["PCM_16", "ULAW", "PCM_24", "FLOAT"]


def tone(hertz, rate, seconds=0.5):
    return 0.5 * numpy.sin(2 * math.pi * hertz * numpy.arange(int(rate * seconds)) / rate)


def power(mulaw_bytes, hertz):
    """Return the share of the sound that is this tone."""
    samples = numpy.array(array("h", mulaw.decode(mulaw_bytes)), dtype=float)
    spectrum = numpy.abs(numpy.fft.rfft(samples * numpy.hanning(len(samples)))) ** 2
    place = round(hertz * len(samples) / RATE)
    return spectrum[place - 3 : place + 4].sum() / spectrum.sum()


@pytest.fixture
def write(tmp_path):
    def write(samples, rate, subtype="PCM_16"):
        path = str(tmp_path / "audio.wav")
        soundfile.write(path, samples, rate, subtype=subtype)
        return path

    return write


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_any_wav_becomes_8_khz_mulaw(write, rate, subtype):
    (mono,) = sound_file.read(write(tone(1000, rate), rate, subtype))
    assert abs(len(mono) - 4000) <= 1
    assert power(mono, 1000) > 0.99


def test_left_and_right_stay_apart(write):
    both = numpy.stack([tone(500, 48000), tone(2000, 48000)], axis=1)
    left, right = sound_file.read(write(both, 48000))
    assert power(left, 500) > 0.99
    assert power(right, 2000) > 0.99


def test_what_a_phone_cannot_carry_is_not_folded_into_it(write):
    (mono,) = sound_file.read(write(tone(5000, 48000) + 0.01 * tone(1000, 48000), 48000))
    assert power(mono, 3000) < 0.01  # where 5 kHz would alias to


def test_mulaw_at_8_khz_comes_through_unchanged(write):
    codes = bytes(code for code in range(256) if code != 0x7F)
    samples = numpy.array(array("h", mulaw.decode(codes)))
    assert sound_file.read(write(samples, 8000, "ULAW")) == [codes]


@pytest.mark.parametrize(
    ("samples", "words"),
    [(numpy.zeros((0, 1)), "holds no sound"), (numpy.zeros((10, 3)), "has 3 channels")],
)
def test_what_cannot_be_played(write, samples, words):
    with pytest.raises(sound_file.AudioError, match=words):
        sound_file.read(write(samples, 8000))


def test_what_is_no_sound_file(tmp_path):
    (tmp_path / "text.wav").write_text("RIFF, as if")
    for name, why in (("text.wav", "not a sound file"), ("none.wav", "No such file"), (".", "directory")):
        with pytest.raises(sound_file.AudioError, match=f"cannot be read: .*{why}"):
            sound_file.read(str(tmp_path / name))


def test_floats_that_are_no_sound(tmp_path):
    """Infinity is as loud as can be, what is no number is silence; nothing warns."""
    samples = numpy.array([numpy.inf, -numpy.inf, numpy.nan], dtype="float32")
    soundfile.write(tmp_path / "sound.wav", samples, 8000, subtype="FLOAT")
    assert sound_file.read(str(tmp_path / "sound.wav")) == [b"\x80\x00\xff"]
