"""Every code and every sample, against the C of CPython's audioop."""

import importlib
import warnings
from array import array

import pytest

from mediastreams import mulaw

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
