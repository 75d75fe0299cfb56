"""Frames of a client, right and wrong ones."""

import struct

from websockets.frames import Frame

MASK = b"\x12\x34\x56\x78"
LARGEST = 1000


def masked(opcode, payload, fin=True):
    return Frame(opcode, payload, fin).serialize(mask=True)


def header(first, second, extended=b""):
    """Return a frame's first bytes, as they are not to be."""
    return bytes((first, second)) + extended + MASK


# What a client may not send, the close code and the reason of the answer: a name for each.
INVALID = {
    "reserved bit 1": (header(0xC1, 0x80), 1002, "reserved bits are set"),
    "reserved bit 2": (header(0xA1, 0x80), 1002, "reserved bits are set"),
    "reserved bit 3": (header(0x91, 0x80), 1002, "reserved bits are set"),
    "reserved opcode 3": (header(0x83, 0x80), 1002, "reserved opcode 0x3"),
    "reserved opcode 7": (header(0x87, 0x80), 1002, "reserved opcode 0x7"),
    "reserved opcode 11": (header(0x8B, 0x80), 1002, "reserved opcode 0xb"),
    "reserved opcode 15": (header(0x8F, 0x80), 1002, "reserved opcode 0xf"),
    "unmasked text": (b"\x81\x05hello", 1002, "an unmasked frame"),
    "unmasked ping": (b"\x89\x00", 1002, "an unmasked frame"),
    "unmasked close": (b"\x88\x02\x03\xe8", 1002, "an unmasked frame"),
    "fragmented ping": (header(0x09, 0x80), 1002, "a fragmented control frame"),
    "fragmented close": (header(0x08, 0x80), 1002, "a fragmented control frame"),
    "overlong ping": (header(0x89, 0xFE, b"\x00\x7e"), 1002, "a control frame of more than 125 bytes"),
    "overlong close": (
        header(0x88, 0xFF, struct.pack("!Q", 200)),
        1002,
        "a control frame of more than 125 bytes",
    ),
    "continuation of nothing": (masked(0, b"a"), 1002, "a continuation of nothing"),
    "continuation after the end": (
        masked(1, b"a", False) + masked(0, b"b") + masked(0, b"c"),
        1002,
        "a continuation of nothing",
    ),
    "message inside a message": (
        masked(1, b"a", False) + masked(1, b"b"),
        1002,
        "a new message inside a message",
    ),
    "long message inside a message": (
        masked(1, b"a", False) + masked(1, bytes(200)),
        1002,
        "a new message inside a message",
    ),
    "binary inside a text": (
        masked(1, b"a", False) + masked(2, b"b"),
        1002,
        "a new message inside a message",
    ),
    "length in too many bytes": (
        header(0x81, 0xFE, b"\x00\x05"),
        1002,
        "a length that is not written as section 5.2 says",
    ),
    "length in far too many bytes": (
        header(0x81, 0xFF, struct.pack("!Q", 300)),
        1002,
        "a length that is not written as section 5.2 says",
    ),
    "length of 64 bits": (
        header(0x82, 0xFF, struct.pack("!Q", 1 << 63)),
        1002,
        "a length that is not written as section 5.2 says",
    ),
    "close with half a code": (masked(8, b"\x03"), 1002, "a Close with half a code"),
    **{
        f"close code {code}": (
            masked(8, struct.pack("!H", code)),
            1002,
            f"close code {code}, which may not be sent",
        )
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "close reason that is not UTF-8": (masked(8, b"\x03\xe8\xff"), 1007, "a reason that is not UTF-8"),
    "text that is not UTF-8": (masked(1, b"a\xffb"), 1007, "text that is not UTF-8"),
    "long text that is not UTF-8": (masked(1, b"a" * 200 + b"\xff"), 1007, "text that is not UTF-8"),
    "surrogate": (masked(1, b"\xed\xa0\x80"), 1007, "text that is not UTF-8"),
    "overlong form": (masked(1, b"\xc0\xaf"), 1007, "text that is not UTF-8"),
    "beyond Unicode": (masked(1, b"\xf4\x90\x80\x80"), 1007, "text that is not UTF-8"),
    "half a character at the end": (masked(1, b"\xc3"), 1007, "text that is not UTF-8"),
    "half a character at the last fragment's end": (
        masked(1, b"a", False) + masked(0, b"\xc3"),
        1007,
        "text that is not UTF-8",
    ),
    "too large": (masked(2, bytes(LARGEST + 1)), 1009, "a message of more than 1000 bytes"),
    "too large by its header": (
        header(0x82, 0xFF, struct.pack("!Q", (1 << 63) - 1)),
        1009,
        "a message of more than 1000 bytes",
    ),
    "too large by fragments": (
        masked(2, bytes(600), False) + masked(0, bytes(600)),
        1009,
        "a message of more than 1000 bytes",
    ),
}
