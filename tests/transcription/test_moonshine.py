"""The local engine hears known sentences through the whole road: caller, server, process, console, files."""

import asyncio
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy
import pytest
from support.provider import shown
from support.server import SECONDS, run_caller, sounds_like, wait_until

from mediastreams.transcription import moonshine, process_main
from mediastreams.transcription.process_protocol import AUDIO, END

# What the caller's sample says.
CALLER, CALLEE = "Hello, this is a simulated call.", "I can hear you loud and clear."
COMMAND = "mediastreams.transcription.process_main moonshine"

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None,
    reason="moonshine-voice is not installed (requirements-transcription.txt)",
)


def processes_of(server):
    """Return the process ids of the engines that a server has started."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    family, found = {server.process.pid}, []
    for pid, parent, command in rows:
        if int(parent) in family:
            family.add(int(pid))
            if COMMAND in command:
                found.append(int(pid))
    return found


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


class Model:
    """Notes what is decoded, and hears nothing; a 0 holds up the decoding until `go_on` is set."""

    def __init__(self):
        self.heard = []
        self.go_on = threading.Event()

    def samples(self, audio):
        return numpy.frombuffer(audio, "u1")

    def new_stream(self):
        nothing = SimpleNamespace(lines=[])

        def add_audio(samples, _rate):
            if 0 in samples:
                assert self.go_on.wait(SECONDS)
            else:
                self.heard.extend(samples)

        return SimpleNamespace(
            add_audio=add_audio,
            update_transcription=lambda: nothing,
            stop=lambda: nothing,
            close=lambda: None,
        )


@pytest.mark.parametrize(
    ("before", "max_late", "heard", "dropped"),
    [([], 4, 800, 0), ([(6, AUDIO, 8000, bytes(1600))], 0.01, 0, 0.1)],
)
def test_a_track_for_which_nobody_waits_is_given_up(monkeypatch, before, max_late, heard, dropped):
    written = []
    monkeypatch.setattr(process_main, "MAX_LATE", max_late)
    unchanged = SimpleNamespace(resample_chunk=lambda samples, last: samples)
    monkeypatch.setattr(moonshine.soxr, "ResampleStream", lambda *_, **__: unchanged)
    model = Model()
    frames = [*before, (7, AUDIO, 8000, b"\x01" * 800), (7, END, 8000, b"")]

    async def serve():
        queue = asyncio.Queue()

        def note(**event):
            written.append(event)
            model.go_on.set()
            queue.put_nowait(None)  # the end of the input

        monkeypatch.setattr(process_main.process_protocol, "write", note)
        for frame in frames:
            queue.put_nowait(frame)
        await process_main.serve(queue, moonshine.Moonshine(model))

    asyncio.run(serve())
    assert written[0] == {"id": 7, "ended": True, "dropped": dropped}
    assert len(model.heard) == heard


@needs_engine
@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_what_was_said_is_shown_and_kept(start_server, tmp_path, command):
    server = start_server(*command, TRANSCRIBER="local", RECORDINGS_DIR=str(tmp_path))
    assert processes_of(server) == []  # nobody has called yet
    assert run_caller(server.url, "--track", "both_tracks").returncode == 0
    server.wait_for("Stream MZ")
    ((began, caller),) = shown("\n".join(server.lines))
    ((answered, callee),) = shown("\n".join(server.lines), "callee")
    assert sounds_like(caller, CALLER)
    assert sounds_like(callee, CALLEE)
    assert (began, answered) == ("0:00", "0:02")
    (engine,) = processes_of(server)
    printed = server.stop()
    assert "Traceback" not in printed
    wait_until(lambda: not is_running(engine))

    (path,) = tmp_path.glob("*.json")
    first, second = json.loads(path.read_text())["transcripts"]
    assert (first["track"], first["text"]) == ("inbound", caller)
    assert (second["track"], second["text"]) == ("outbound", callee)
    assert 0 <= first["start"] < 1 < first["end"] < 3.5
    assert 2 < second["start"] < 3.5 < second["end"] <= 5.21
    vtt = path.with_suffix(".vtt").read_text()
    assert re.fullmatch(
        r"WEBVTT\n\n00:00:0\S+ --> 00:00:0\S+\n<v caller>.*\n\n00:00:0\S+ --> 00:00:0\S+\n<v callee>.*\n", vtt
    )


@needs_engine
def test_it_hears_other_rates(start_server, tmp_path):
    server = start_server(TRANSCRIBER="local", RECORDINGS_DIR=str(tmp_path))
    for rate in ("11025", "16000"):
        result = run_caller(server.url, "--track", "both_tracks", "--sample-rate", rate)
        assert result.returncode == 0
    server.wait_for("Stream MZ.*lost", times=2)
    server.stop()
    for path in tmp_path.glob("*.json"):
        first, second = json.loads(path.read_text())["transcripts"]
        assert sounds_like(first["text"], CALLER)
        assert sounds_like(second["text"], CALLEE)
        assert 0 <= first["start"] < 1 < first["end"] < 3.5
        assert 2 < second["start"] < 3.5 < second["end"] <= 5.21
    assert len(list(tmp_path.glob("*.json"))) == 2


@needs_engine
def test_it_is_started_again_after_a_crash(start_server):
    server = start_server(TRANSCRIBER="local")
    assert run_caller(server.url, "--seconds", "2.6").returncode == 0
    server.wait_for("Stream MZ")
    (engine,) = processes_of(server)
    os.kill(engine, signal.SIGKILL)
    server.wait_for(r"ERROR in process_engine: The local engine has ended \((signal 9|status unknown)\)")
    assert run_caller(server.url, "--seconds", "2.6").returncode == 0
    server.wait_for("Stream MZ")
    first, second = [text for _, text in shown("\n".join(server.lines))]
    assert sounds_like(first, CALLER)
    assert sounds_like(second, CALLER)
    assert server.stop().count("has ended") == 1


@needs_engine
def test_a_crash_in_mid_call(start_server):
    server = start_server(TRANSCRIBER="local")
    caller = subprocess.Popen(
        [sys.executable, "-m", "mediastreams.caller", server.url, "--seconds", "7.8"],
        stdout=subprocess.DEVNULL,
    )
    server.wait_for("caller: ")  # the first of two times that it is said
    (engine,) = processes_of(server)
    os.kill(engine, signal.SIGKILL)
    assert caller.wait(2 * SECONDS) == 0
    server.wait_for("Stream MZ")
    printed = server.stop()
    assert len(re.findall("has ended .*, and is started again", printed)) == 1
    # How right the texts are depends on where the audio begins: here it is that there are some again.
    assert re.search("hello|simulated|call", shown(printed)[-1][1].lower())
    assert shown(printed)[-1][0] in ("0:05", "0:06")


@needs_engine
def test_it_ends_with_a_server_that_is_killed(start_server):
    server = start_server(TRANSCRIBER="local")
    assert run_caller(server.url, "--seconds", "1").returncode == 0
    server.wait_for("Stream MZ")
    (engine,) = processes_of(server)
    server.process.kill()
    wait_until(lambda: not is_running(engine))


@needs_engine
def test_log_level_silences_it(start_server):
    server = start_server(TRANSCRIBER="local", LOG_LEVEL="WARNING")
    assert run_caller(server.url, "--fast").returncode == 0
    assert len(processes_of(server)) == 1  # the page shows it
    assert "hello" not in server.stop().lower()


def test_the_hint_where_it_is_not_installed(start_server, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['moonshine_voice'] = None\n")
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    hint = "No transcripts: moonshine-voice is not installed (pip install -r requirements-transcription.txt)"
    server = start_server(PYTHONPATH=path, TRANSCRIBER="")
    assert run_caller(server.url, "--seconds", "0.5").returncode == 0
    assert server.stop().count(f"INFO in select: {hint}") == 1
    server = start_server(PYTHONPATH=path, TRANSCRIBER="local")
    assert server.stop().count(f"WARNING in select: {hint}") == 1


def test_where_it_cannot_be_loaded(start_server, tmp_path):
    package = tmp_path / "moonshine_voice"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('version `GLIBC_2.34` not found')\n")
    server = start_server(PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd()]), TRANSCRIBER="local")
    for _ in range(2):
        assert run_caller(server.url, "--seconds", "0.5").returncode == 0
    server.wait_for("Stream MZ", times=2)
    printed = server.stop()
    reason = "The local engine cannot be loaded, no transcripts: OSError: version `GLIBC_2.34` not found"
    assert printed.count(reason) == 1
    assert "Traceback" not in printed
