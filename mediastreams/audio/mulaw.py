"""G.711 mu-law, 8 bits a sample, to 16-bit linear PCM and back, and how loud it is.

Source: ITU-T G.711, table 2. A code is the complement of sign (1 bit), segment (3 bits) and step
(4 bits); G.711 has 14-bit samples, which stand in the upper bits of the 16.

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


def _codes() -> bytes:
    """Return the code of each 16-bit sample, in the order of its unsigned value."""
    positive = bytearray()
    for segment in range(8):
        for step in range(16):
            # Decision values are those of the segment's steps, less the bias; the first begins at 0.
            start = max((((step << 1) + 32) << segment) - 33, 0)
            end = (((step << 1) + 34) << segment) - 33
            positive += bytes([(segment << 4 | step) ^ 0xFF]) * ((end - start) << 2)
    positive += positive[-1:] * (32768 - len(positive))  # above the last decision value: clipped
    # 14-bit samples are the 16-bit ones shifted right, which rounds towards minus infinity.
    negative = bytes(positive[min((-(sample >> 2)) << 2, 32767)] & 0x7F for sample in range(-32768, 0))
    return bytes(positive) + negative


_CODES = _codes()
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
