"""The engine process, run as the server runs it: with Watson's module."""

import asyncio
import gc
import json
import subprocess
import sys

import pytest
from support.server import ROOT, SECONDS, environment

from mediastreams.transcription import process_main
from mediastreams.transcription.process_protocol import AUDIO, END, HEADER

WATSON = {"SPEECH_TO_TEXT_APIKEY": "the-api-key", "SPEECH_TO_TEXT_URL": "https://127.0.0.1:1"}


def run(sent, **environ):
    """Run Watson's process with an input; return its exit status, its events and its errors."""
    result = subprocess.run(
        [sys.executable, "-m", "mediastreams.transcription.process_main", "watson"],
        cwd=ROOT,
        env={**environment(), **environ},
        input=sent,
        capture_output=True,
        timeout=SECONDS,
    )
    return (
        result.returncode,
        [json.loads(line) for line in result.stdout.splitlines()],
        result.stderr.decode(),
    )


@pytest.mark.parametrize(
    "sent",
    [b"", HEADER.pack(1, AUDIO, 8000, 800) + bytes(800), HEADER.pack(1, AUDIO, 8000, 800) + b"cut off"],
)
def test_it_ends_with_its_input(sent):
    status, _, errors = run(sent, **WATSON)
    assert (status, errors) == (0, "")


def test_a_track_without_audio_ends_at_once():
    process = subprocess.Popen(
        [sys.executable, "-m", "mediastreams.transcription.process_main", "watson"],
        cwd=ROOT,
        env={**environment(), **WATSON},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdin.write(HEADER.pack(7, END, 8000, 0))
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == {"id": 7, "ended": True, "dropped": 0.0}
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def test_what_breaks_inside_ends_its_track_alone(monkeypatch, caplog):
    class Recogniser:
        async def recognise(self, backlog, warn):
            while await backlog.wait_for_audio():
                if backlog.take() == b"break":
                    raise RuntimeError("broken")

    async def serve():
        frames = asyncio.Queue()

        def note(**event):
            written.append(event)
            if event == {"id": 2, "ended": True, "dropped": 0.0}:
                frames.put_nowait(None)

        monkeypatch.setattr(process_main.process_protocol, "write", note)
        frames.put_nowait((1, AUDIO, 8000, b"break"))
        frames.put_nowait((2, AUDIO, 8000, b"audio"))
        frames.put_nowait((1, END, 8000, b""))
        frames.put_nowait((2, END, 8000, b""))
        await process_main.serve(frames, Recogniser())

    written = []
    asyncio.run(serve())
    assert written[:2] == [
        {"id": 1, "warning": "no transcript from here, RuntimeError: broken"},
        {"id": 1, "ended": True, "dropped": 0.0},
    ]
    gc.collect()
    (record,) = caplog.records
    assert record.exc_info[0] is RuntimeError


def test_a_provider_that_cannot_be_used():
    status, events, errors = run(b"", SPEECH_TO_TEXT_URL="https://[")
    assert (status, events, errors) == (3, [{"failed": "'SPEECH_TO_TEXT_APIKEY'"}], "")
