"""Converts G.711 mu-law, 8 bits a sample, to 16-bit linear PCM and back, and measures its level.

Source: ITU-T G.711, table 2. A code is the complement of sign (1 bit), segment (3 bits) and step
(4 bits); G.711 has 14-bit samples, here in the upper bits of 16.

Tables and `bytes.translate` from the standard library, because `audioop` is gone from Python 3.13.
"""

import math
import sys
from array import array

SILENCE = b"\xff"


def _sample(code: int) -> int:
    code ^= 0xFF
    magnitude = ((((code & 0x0F) << 1) + 33) << (code >> 4 & 7)) - 33
    return (-magnitude if code & 0x80 else magnitude) << 2


_SAMPLES = array("h", map(_sample, range(256)))
_LOW = bytes(sample & 0xFF for sample in _SAMPLES)
_HIGH = bytes(sample >> 8 & 0xFF for sample in _SAMPLES)


def _code(sample: int) -> int:
    """Return the code of a 14-bit sample. Above the last decision value it is clipped."""
    magnitude = min(abs(sample), 8158) + 33
    segment = magnitude.bit_length() - 6
    step = magnitude >> (segment + 1) & 0x0F
    sign = 0x80 if sample < 0 else 0
    return (sign | segment << 4 | step) ^ 0xFF


# In the order of a 16-bit sample's unsigned value: four of them, shifted right, are one 14-bit sample.
_CODES = b"".join(4 * bytes([_code(sample)]) for sample in (*range(8192), *range(-8192, 0)))
_POWERS = [sample * sample for sample in _SAMPLES]
_FULL_SCALE = 32768


def decode(mulaw: bytes) -> bytes:
    """Return the samples of `mulaw` as 16-bit little-endian PCM, two bytes each."""
    pcm = bytearray(2 * len(mulaw))
    pcm[0::2] = mulaw.translate(_LOW)
    pcm[1::2] = mulaw.translate(_HIGH)
    return bytes(pcm)


def encode(pcm: bytes) -> bytes:
    """Return the mu-law codes of 16-bit little-endian PCM.

    Raises `ValueError` where the length of `pcm` is odd.
    """
    samples = array("H")
    samples.frombytes(pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return bytes(map(_CODES.__getitem__, samples))


def level(mulaw: bytes | bytearray) -> float:
    """Return the level of `mulaw`, the root mean square of its samples, in dBFS.

    0 dBFS is a square wave of full scale, 32768; a sine can have -3.01, and mu-law's loudest code has
    -0.17. Of silence, and of no audio at all, the level is minus infinity. 4 us a chunk of 160 bytes.
    """
    power = sum(map(_POWERS.__getitem__, mulaw))
    if not power:
        return -math.inf
    return 10 * math.log10(power / len(mulaw) / _FULL_SCALE**2)
