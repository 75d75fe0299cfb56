"""The README's commands are run as they stand there, and what it shows is what they print."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from functools import partial

import pytest
from support.calls import CAPTURED
from support.markdown import Document
from support.ngrok import Agent
from support.server import ROOT, SECONDS, TOKEN, Server, environment, run_caller, sounds_like
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mediastreams.consumers.level_meter import line

README = Document(ROOT / "README.md")
TROUBLES = Document(ROOT / "docs" / "troubleshooting.md")

MAX_LINES = 240

(START,) = README.blocks("Start it", "sh")
(LISTENING,) = README.blocks("Start it", "")
(IMPORT,) = README.blocks("You have the tutorial's app.py already? Change one import", "diff")
CALL, HELP = README.blocks("Call it without a phone", "sh")
CALLER, CONSOLE = README.blocks("Call it without a phone", "")
SETTINGS, _, _ = README.blocks("Call it with your phone", "")
TRANSCRIBE, BOTH = README.blocks("Live transcripts", "sh")
(SAID,) = README.blocks("Live transcripts", "")
(RECORD,) = README.blocks("Recording", "sh")
(RECORDED,) = README.blocks("Recording", "")
(CONSUMER,) = README.blocks("Write a consumer", "python")
(CONSUMED,) = README.blocks("Write a consumer", "")
(ECHO,) = README.blocks("Two-way streams", "sh")
(HEARD,) = README.blocks("Two-way streams", "")
TWO_WAY = Document(ROOT / "docs" / "two-way-streams.md")
(TWIML,) = TWO_WAY.blocks("The TwiML", "sh")
(SERVED,) = TWO_WAY.blocks("The TwiML", "xml")
(ECHOED,) = TWO_WAY.blocks("What the echo logs", "")
(DEPLOY,) = README.blocks("Deploy", "sh")
(WORKERS,) = Document(ROOT / "docs" / "deploy.md").blocks("gunicorn", "sh")
(TEST,) = README.blocks("Run the tests", "sh")
(BREAK,) = TROUBLES.blocks("Find the cause with the simulated caller", "sh")
BROKEN, TOLD = TROUBLES.blocks("Find the cause with the simulated caller", "")
(LOGGED,) = Document(ROOT / "docs" / "deploy.md").blocks("Logs as JSON", "json")
(METER,) = Document(ROOT / "docs" / "consumers.md").blocks("The level meter", "")

INSTALL_SECONDS = 300


def alike(text):
    """Return printed text with what differs from call to call made the same: times, SIDs, tokens, port."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "TIME", text)
    text = re.sub(r"\d{8}T\d{6}\.\d{3}Z", "TIME", text)
    text = re.sub(r"\b(AC|CA|MZ)[0-9a-f]{32}\b|\b(MZ)[0-9a-f]{6}\b", r"\1\2", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]{12}Z", "TIME", text)
    text = re.sub(r"/#[\w-]{22}$", "/#TOKEN", text, flags=re.MULTILINE)
    text = re.sub(r"Heard: \d\.\d\d s", "Heard: N s", text)
    return re.sub(r"(localhost:|127\.0\.0\.1:|ngrok http )\d+", r"\1PORT", text)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the files that git tracks, with nothing installed, and a HOME of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    for name in filter(None, tracked.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def shell_environment(tmp_path, **environ):
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir(exist_ok=True)
    if not python.exists():  # the README's python3 is the one that runs these tests
        python.symlink_to(sys.executable)
    names = {k: v for k, v in environment().items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**names, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", **environ}


@contextlib.contextmanager
def serving(command, folder, environ):
    server = Server(["sh", "-c", command], folder, environ)
    try:
        server.wait_until_it_listens(INSTALL_SECONDS)
        yield server
    finally:
        server.stop()


def call(command, server, folder, environ):
    return subprocess.run(
        ["sh", "-c", command.replace(":5000/", f":{server.port}/")],
        cwd=folder,
        env={**environ, "HTTP_SERVER_PORT": str(server.port)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def test_the_commands_from_first_to_last(checkout, tmp_path):
    """Each begins with what the ones before it have left, as for who follows the README."""
    environ = shell_environment(tmp_path, HOME=str(tmp_path), HTTP_SERVER_PORT="0", TRANSCRIBER="")
    with serving(START, checkout, environ) as server:
        server.wait_for("TWILIO_AUTH_TOKEN is not set")
        assert alike("\n".join(server.lines[-5:])) == alike(LISTENING)
        called = call(CALL, server, checkout, environ)
        assert (called.returncode, called.stderr) == (0, "")
        assert alike(called.stdout) == alike(CALLER) + "\n"
        server.wait_for("messages lost")
        printed = iter(map(alike, server.lines))
        for shown in CONSOLE.split("\n"):  # an excerpt, in order
            assert alike(shown) in printed, shown

        if shutil.which("curl"):  # it is the reader's, as the shell is
            assert alike(call(TWIML, server, checkout, environ).stdout) == f"{alike(SERVED)}\n"
        heard = call(ECHO, server, checkout, environ)
        assert (heard.returncode, heard.stderr) == (0, "")
        assert alike(heard.stdout) == f"{alike(HEARD)}\n"
        assert (checkout / "heard.wav").exists()
        broken = call(BREAK, server, checkout, environ)
        assert (broken.returncode, broken.stderr) == (1, f"{BROKEN}\n")
        server.wait_for("stream-error")
        printed = list(map(alike, server.lines))
        assert printed[-1] == alike(TOLD)
        for told in map(alike, ECHOED.split("\n")):
            assert told in printed

    place = '@sockets.route("/media")'
    source = (checkout / "app.py").read_text()
    assert source.count(place) == 1
    (checkout / "app.py").write_text(source.replace(place, f"{CONSUMER}\n\n\n{place}"))
    with serving(RECORD, checkout, environ) as server:
        assert run_caller(server.url, "--fast").returncode == 0
        server.wait_for("messages lost")
        for shown in (RECORDED, CONSUMED):
            assert alike(shown) in map(alike, server.lines)
    assert sorted(path.suffix for path in (checkout / "recordings").iterdir()) == [".json", ".wav"]

    if importlib.util.find_spec("moonshine_voice"):  # else it cannot be installed here: tests/transcription
        with serving(TRANSCRIBE, checkout, environ) as server:
            assert call(BOTH, server, checkout, environ).returncode == 0
            server.wait_for("messages lost")
            heard = [text for text in server.lines if " INFO in transcriber: " in text]
            for text, shown in zip(heard, SAID.split("\n"), strict=True):
                assert sounds_like(alike(text), alike(shown))

    with serving(DEPLOY, checkout, environ) as server:
        server.wait_for("TWILIO_AUTH_TOKEN")  # a worker is there
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz") as answer:
            assert json.load(answer) == {"status": "ok", "streams": 0}
    with serving(WORKERS, checkout, environ) as server:
        server.wait_for("Booting worker", times=4)


def test_the_settings_to_begin_with_are_used(checkout, tmp_path):
    with open(tmp_path / ".env", "w") as file:
        print(SETTINGS, file=file)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Agent(("https://example.ngrok.app", f"http://localhost:{port}")) as agent:
        environ = {"PYTHONPATH": str(ROOT), "HTTP_SERVER_PORT": str(port), "NGROK_API": agent.url}
        command = f"{sys.executable} {ROOT / 'app.py'}"
        with serving(command, tmp_path, {**environment(), **environ}) as server:
            server.wait_for(r"as the number's webhook: https://example\.ngrok\.app/twiml/start-stream$")
            assert "TWILIO_AUTH_TOKEN is not set" not in server.stop()


def test_a_json_line_is_as_shown(start_server):
    server = start_server(LOG_FORMAT="json")
    assert run_caller(server.url, "--fast").returncode == 0
    server.wait_for("messages lost")
    assert alike(LOGGED) in map(alike, server.lines)


def test_the_meter_is_as_shown():
    for shown, (seconds, track, level) in zip(
        METER.split("\n"), [(2.1, "inbound", -24.0), (2.1, "outbound", -78.0)], strict=True
    ):
        assert line("MZ6b1d5cc8e0b2f0a64bbd2ce0bd5e4b50", seconds, track, level) == shown


def test_the_callers_help():
    result = subprocess.run(
        ["sh", "-c", HELP.replace(".venv/bin/python", sys.executable)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert result.returncode == 0
    for option in (
        "URL",
        "twiml",
        "audio",
        "seconds",
        "track",
        "parameter",
        "digits",
        "calls",
        "fast",
        "drop",
        "save-heard",
    ):
        assert option in result.stdout


def test_the_test_command_is_what_the_checks_run():
    assert "requirements-dev.txt" in TEST
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_length():
    assert len(README.text.splitlines()) <= MAX_LINES


def tutorial(*changes):
    """Return the tutorial's program with each (old, new) changed."""
    program = (ROOT / "tests" / "support" / "tutorial.py").read_text()
    for old, new in changes:
        assert program.count(old) == 1
        program = program.replace(old, new)
    return program


def test_the_tutorials_own_app(tmp_path):
    """With the one import changed, and for the test on a port that the system chooses."""
    old, new = (line[1:] for line in IMPORT.split("\n"))
    started = "server.start(); HTTP_SERVER_PORT = server.server_port"
    program = tutorial(
        (old, new),
        ('("", HTTP_SERVER_PORT)', '("127.0.0.1", 0)'),
        ('    print("Server listening', f'    {started}\n    print("Server listening'),
    )
    (tmp_path / "app.py").write_text(program)
    environ = {**environment(), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with serving(f"{sys.executable} app.py", tmp_path, environ) as server:
        assert run_caller(server.url, "--fast").returncode == 0
        server.wait_for("No message received")
        server.wait_for("Received a total of 263 messages")


class TestTheTutorialsAppServed:
    """With `MediaStreams(app)` and `streams.serve()` as well, as the README says."""

    @pytest.fixture
    def start(self, start_server, tmp_path):
        program = tutorial(
            ("from flask_sockets import Sockets", "from mediastreams import MediaStreams, Sockets"),
            ("sockets = Sockets(app)", "sockets = Sockets(app)\nstreams = MediaStreams(app)"),
        ).partition("    app.logger.setLevel")[0]
        (tmp_path / "app.py").write_text(f"{program}    streams.serve()\n")
        return partial(start_server, cwd=tmp_path)

    def test_it_checks_signatures(self, start):
        server = start(TWILIO_AUTH_TOKEN=TOKEN)
        assert "403 FORBIDDEN" in run_caller(server.url, "--fast").stderr
        assert run_caller(server.url, "--fast", "--auth-token", TOKEN).returncode == 0
        server.wait_for("Received a total of 263 messages")

    def test_it_has_limits_and_lets_calls_finish(self, start):
        server = start(MAX_STREAMS="1")
        with connect(server.url, compression=None) as ws:
            with pytest.raises(InvalidStatus, match="503"):
                connect(server.url, compression=None)
            server.process.terminate()
            server.wait_for("Draining: waiting up to 30 s for 1 live streams")
            for message in CAPTURED:
                ws.send(message, text=True)
        server.wait_for(f"Received a total of {len(CAPTURED)} messages")
        assert server.process.wait(SECONDS) == 0
