"""Frames as an engine reads them, and events as the server does."""

import io
import json
import subprocess
import sys

import pytest
from support.server import ROOT, SECONDS, environment

from mediastreams.transcription import process_protocol
from mediastreams.transcription.process_protocol import AUDIO, END, HEADER

FRAMES = [(1, AUDIO, 8000, b"abc"), (2**32 - 1, AUDIO, 48000, b""), (7, END, 8000, b"")]
SENT = b"".join(HEADER.pack(number, kind, rate, len(audio)) + audio for number, kind, rate, audio in FRAMES)


def read(data):
    return list(process_protocol.read(io.BytesIO(data)))


class TestRead:
    def test_frames_come_as_they_were_sent(self):
        assert read(SENT) == FRAMES

    @pytest.mark.parametrize("cut", [1, HEADER.size - 1])
    def test_a_header_that_is_cut_off_is_the_end(self, cut):
        assert read(SENT[:-cut]) == FRAMES[:-1]


ENGINE = """
import os, signal
from mediastreams.transcription import process_protocol

source = process_protocol.take_over()
os.system("echo by a library")
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(os.getpid(), number)
for number, kind, rate, audio in process_protocol.read(source):
    process_protocol.write(id=number, text=audio.decode())
"""


def start():
    return subprocess.Popen(
        [sys.executable, "-c", ENGINE],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_an_engine_writes_events_alone_and_survives_signals():
    with start() as process:
        output, errors = process.communicate(HEADER.pack(3, AUDIO, 8000, 2) + "é".encode(), timeout=SECONDS)
    assert process.returncode == 0
    assert b"by a library" in errors
    assert [json.loads(line) for line in output.splitlines()] == [{"id": 3, "text": "é"}]


def test_an_engine_ends_when_nobody_reads_it():
    with start() as process:
        process.stdout.close()
        process.stdin.write(HEADER.pack(3, AUDIO, 8000, 2) + b"ab")
        process.stdin.flush()
        assert process.wait(SECONDS) == 0
