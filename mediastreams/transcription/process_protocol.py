"""Frames of audio from the server to an engine process, and events back.

A frame is `HEADER` and mu-law; an event is a JSON object on a line:

    {"id": 1, "text": "hello", "final": false, "start": 0.5, "end": 1.1}    a text, in seconds of the track
    {"id": 1, "warning": "..."}                                            for the log
    {"id": 1, "ended": true, "dropped": 0.0}    the track's end, and how many seconds were not recognised
    {"failed": "..."}                                                      the engine cannot be used at all
"""

import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

HEADER = struct.Struct("<IBII")  # the track's number, AUDIO or END, its sample rate, how many bytes follow
AUDIO, END = 0, 1


def take_over() -> BinaryIO:
    """Make this process an engine: return the source of its frames; `write` then reaches the server."""
    # Ctrl-C, and who ends all processes of a service, mean the server, which may still be draining.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(5)  # the server comes first
    sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no event
    return os.fdopen(os.dup(0), "rb")


def read(source: BinaryIO) -> Iterator[tuple[int, int, int, bytes]]:
    """Iterate over the frames (track, kind, rate, audio) until the server has ended. Waits for each."""
    while len(header := source.read(HEADER.size)) == HEADER.size:
        number, kind, rate, size = HEADER.unpack(header)
        yield number, kind, rate, source.read(size)


def write(**event: object) -> None:
    """Write an event. One thread may call this; without a server the process ends."""
    try:
        print(json.dumps(event), flush=True)
    except BrokenPipeError:
        os._exit(0)
