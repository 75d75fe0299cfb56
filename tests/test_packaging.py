"""The wheel, and what a person who has only installed it can do.

There are two tests only: under xdist each worker that runs one builds the wheel anew.
"""

import email
import json
import os
import socket
import subprocess
import sys
import time
import zipfile
from configparser import ConfigParser

import pytest
from packaging.requirements import Requirement
from support.checkout import copy_checkout, tracked
from support.server import ROOT, SECONDS, Server, environment

INSTALL_SECONDS = 300
EXTRAS = {name: f"requirements-{name}.txt" for name in ("transcription", "google", "redis", "deploy")}


def finish(*command, seconds=SECONDS, **options):
    """Run a command to its end; return its stdout. Fails with all that it printed unless it exits 0."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution, which is built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("packaging")
    copy_checkout(folder / "checkout")
    finish(sys.executable, "-m", "build", "--outdir", folder, folder / "checkout", seconds=INSTALL_SECONDS)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture
def elsewhere(tmp_path):
    """The folder and the environment of a person who has no checkout, and an empty HOME."""
    names = {k: v for k, v in environment().items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    environ = {**names, "HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1"}
    return {"cwd": tmp_path / "work", "env": environ}


def read_metadata(wheel, name):
    with zipfile.ZipFile(wheel) as file:
        (path,) = (path for path in file.namelist() if path.endswith(f".dist-info/{name}"))
        return file.read(path).decode()


def requirements(name):
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().split("\n")]
    return {Requirement(line) for line in lines if line}


def test_the_wheel(wheel):
    """It holds the package and nothing else; its dependencies are those of the requirements files."""
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    assert held == {*tracked("mediastreams"), *(f"mediastreams/{name}" for name in tracked("twiml"))}
    for name in ("py.typed", "caller/sample.wav", "twiml/start-stream.xml"):
        assert f"mediastreams/{name}" in held

    entry_points = ConfigParser()
    entry_points.read_string(read_metadata(wheel, "entry_points.txt"))
    assert dict(entry_points["console_scripts"]) == {"mediastreams": "mediastreams.__main__:main"}
    assert read_metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()

    metadata = email.message_from_string(read_metadata(wheel, "METADATA"))
    assert (metadata["Name"], metadata["Requires-Python"]) == ("mediastreams", ">=3.11")
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    wanted = requirements("requirements.txt")
    for extra, name in EXTRAS.items():
        for requirement in requirements(name):
            assert requirement.marker is None  # else it would have to be joined with the extra's
            wanted.add(Requirement(f'{requirement}; extra == "{extra}"'))
    assert set(map(Requirement, metadata.get_all("Requires-Dist"))) == wanted
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)


def test_the_installed_package(wheel, elsewhere, tmp_path):
    """It works without the checkout, in a virtual environment that holds its dependencies only."""
    finish(sys.executable, "-m", "venv", tmp_path / "venv", seconds=INSTALL_SECONDS)
    commands = tmp_path / "venv" / "bin"
    finish(commands / "pip", "install", "-q", wheel, **elsewhere, seconds=INSTALL_SECONDS)
    check_twiml(commands, elsewhere)
    # At the end of the WebSocket it receives None. The message at which its loop ends is not counted.
    assert "No message received..." in run_tutorial(commands, elsewhere, last="closed", counted=53)
    assert "Closed Message received" in run_tutorial(commands, elsewhere, last="stop", counted=52)


def check_twiml(commands, elsewhere):
    documents = [path.stem for path in (ROOT / "twiml").glob("*.xml")]
    show = (
        "import json, mediastreams; from flask import Flask\n"
        "from mediastreams.web.webhooks import Webhooks\n"
        "app = Flask(__name__); app.register_blueprint(Webhooks(mediastreams.Settings()))\n"
        f"answers = {{name: app.test_client().get(f'/twiml/{{name}}').status_code for name in {documents}}}\n"
        "print(json.dumps([mediastreams.__file__, answers]))"
    )
    where, answers = json.loads(finish(commands / "python", "-c", show, **elsewhere))
    assert where.startswith(str(commands.parent))
    assert answers == dict.fromkeys(documents, 200)


def run_tutorial(commands, elsewhere, last, counted):
    """Call the tutorial's program, with its import and its port changed; return what it printed.

    Its loop ends at the event `last`, and it says how many messages it counted.
    """
    port = free_port()
    program = (ROOT / "tests" / "support" / "tutorial.py").read_text()
    for old, new in (
        ("from flask_sockets import Sockets", "from mediastreams import Sockets"),
        ("HTTP_SERVER_PORT = 5000", f"HTTP_SERVER_PORT = {port}"),
        ('data["event"] == "closed"', f'data["event"] == "{last}"'),
    ):
        assert program.count(old) == 1
        program = program.replace(old, new)
    (elsewhere["cwd"] / "server.py").write_text(program)
    server = Server([str(commands / "python"), "server.py"], elsewhere["cwd"], elsewhere["env"])
    try:
        server.wait_for(f"Server listening on: http://localhost:{port}$")
        wait_until_it_accepts(port)  # the program says that it listens before it does
        url = f"ws://127.0.0.1:{port}/media"
        said = finish(commands / "mediastreams", "call", url, "--fast", "--seconds", "1", **elsewhere)
        assert said.split("\n")[1] == "Connected: 101 Switching Protocols"
        assert said.endswith("\nStopped: 53 messages sent\n")
        for line in (
            "Connection accepted$",
            'Connected Message received: {"event":"connected"',
            'Start Message received: {"event":"start"',
            "That's 160 bytes$",
            f"Connection closed. Received a total of {counted} messages$",
        ):
            server.wait_for(rf" INFO in server: {line}")
    finally:
        output = server.stop()
    assert "Traceback" not in output
    return output


def free_port():
    with socket.create_server(("", 0)) as listener:
        return listener.getsockname()[1]


def wait_until_it_accepts(port):
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), SECONDS).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nothing accepts on port {port}"
            os.sched_yield()
