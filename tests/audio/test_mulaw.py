"""Every code and every sample, against the C of CPython's audioop."""

import importlib
import math
import random
import warnings
from array import array

import pytest

from mediastreams.audio import mulaw

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # audioop left the standard library in 3.13
    audioop = importlib.import_module("audioop")

CODES = bytes(range(256))
SAMPLES = array("h", range(-32768, 32768)).tobytes()


def test_decode_every_code():
    assert mulaw.decode(CODES) == audioop.ulaw2lin(CODES, 2)


def test_encode_every_sample():
    assert mulaw.encode(SAMPLES) == audioop.lin2ulaw(SAMPLES, 2)


def test_encode_undoes_decode():
    again = mulaw.encode(mulaw.decode(CODES))
    assert again == CODES.replace(b"\x7f", b"\xff")  # 0x7F is a negative zero


def test_silence():
    assert mulaw.decode(mulaw.SILENCE) == b"\0\0"


def test_half_a_sample():
    with pytest.raises(ValueError, match="multiple of item size"):
        mulaw.encode(b"\0\0\0")


class TestLevel:
    @pytest.mark.parametrize("code", range(256))
    def test_every_code(self, code):
        audio = bytes([code]) * 160
        rms = audioop.rms(audioop.ulaw2lin(audio, 2), 2)
        expected = 20 * math.log10(rms / 32768) if rms else -math.inf
        assert mulaw.level(audio) == pytest.approx(expected, abs=1e-9)

    def test_a_mixture(self):
        audio = random.Random(1).randbytes(8000)
        rms = audioop.rms(audioop.ulaw2lin(audio, 2), 2)
        assert mulaw.level(audio) == pytest.approx(20 * math.log10(rms / 32768), abs=0.001)  # rms is whole

    def test_what_is_full_scale(self):
        sine = array("h", (round(32767 * math.sin(n / 8 * math.tau)) for n in range(8000)))
        assert mulaw.level(mulaw.encode(sine.tobytes())) == pytest.approx(-3.01, abs=0.2)  # clipped
        assert mulaw.level(b"\x00") == pytest.approx(-0.17, abs=0.01)

    def test_nothing(self):
        assert mulaw.level(b"") == mulaw.level(mulaw.SILENCE * 160) == -math.inf
