"""The units of `deploy/`: checked by systemd's own programs, and its commands run as systemd runs them."""

import collections
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from support.callers import Callers
from support.handshake import exchange, handshake
from support.programs import executable
from support.redis import free_port
from support.server import ROOT, SECONDS, Server, environment, run, wait_until
from websockets.sync.client import connect

UNIT = ROOT / "deploy" / "mediastreams@.service"
WORKER = ROOT / "deploy" / "mediastreams-work@.service"
PROGRAMS = "/srv/mediastreams/.venv/bin"
GUNICORN = f"{PROGRAMS}/gunicorn"


def values():
    """Return the values of each key of the unit."""
    found = collections.defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def environ(port):
    """Return the environment of the instance that a port names, without its folder of state."""
    pairs = [line.replace("%i", str(port)).split("=", 1) for line in values()["Environment"]]
    return {**environment(), **dict(pairs), "PYTHONPATH": str(ROOT)}


def command(*arguments):
    """Return the words of ExecStart, run by this Python."""
    program, *rest = shlex.split(values()["ExecStart"][0])
    assert program == GUNICORN
    return [sys.executable, "-m", "gunicorn", *arguments, *rest]


class TestTheUnit:
    @pytest.fixture(params=[UNIT, WORKER], ids=lambda unit: unit.stem)
    def instance(self, request, tmp_path):
        """The instance of a unit for port 5000, or of that number, with a program that is there."""
        text, replaced = re.subn(f"{PROGRAMS}/(gunicorn|python)", sys.executable, request.param.read_text())
        assert replaced == (2 if request.param == UNIT else 1)
        path = tmp_path / request.param.name.replace("@", "@5000")
        path.write_text(text)
        return path

    def analyze(self, *arguments):
        path = executable("systemd-analyze", "apt-get install systemd")
        return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=SECONDS)

    def test_systemd_understands_it(self, instance):
        result = self.analyze("verify", "--man=no", str(instance))
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    def test_what_is_exposed(self, instance):
        """At most 2.0 of 10."""
        result = self.analyze("security", "--offline=true", "--no-pager", "--threshold=20", str(instance))
        assert result.returncode == 0, result.stdout + result.stderr

    def test_the_worker_is_a_command(self, tmp_path):
        """It starts, and says that it needs a Redis."""
        (line,) = re.findall(r"ExecStart=(.*)", WORKER.read_text())
        program, *arguments = shlex.split(line)
        assert program == f"{PROGRAMS}/python"
        result = run(*arguments, cwd=tmp_path)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "REDIS_URL" in result.stderr

    def test_systemd_waits_longer_than_gunicorn(self):
        printed = subprocess.run(
            command("--print-config"), cwd=ROOT, env=environ(0), capture_output=True, text=True, check=True
        ).stdout
        config = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
        graceful_timeout = int(
            next(value for key, value in config.items() if key.strip() == "graceful_timeout")
        )
        assert int(values()["TimeoutStopSec"][0]) > 2 * graceful_timeout > 600


def reload(folder, server, environ):
    """Run the commands of ExecReload, one after the other; return whether all have succeeded."""
    for line in values()["ExecReload"]:
        words = shlex.split(line.replace("$MAINPID", str(server.process.pid)))
        if words[0] == GUNICORN:
            words[:1] = [sys.executable, "-m", "gunicorn"]
        if subprocess.run(words, cwd=folder, env=environ, stderr=subprocess.PIPE, timeout=SECONDS).returncode:
            return False
    return True


@pytest.fixture
def folder(tmp_path):
    """A folder such as /srv/mediastreams."""
    for name in ("app.py", "gunicorn.conf.py"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def test_a_start_a_reload_and_a_stop(folder):
    """The reload takes a new `.env`, and refuses no call. The home cannot be written to."""
    port = free_port()
    (folder / ".env").write_text("PUBLIC_URL=https://one.example.com\n")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(SECONDS)
        notify = {"NOTIFY_SOCKET": str(folder / "notify"), "HOME": "/proc/none"}
        server = Server(command(), folder, {**environ(port), **notify})
        callers = Callers(f"ws://127.0.0.1:{port}/media")
        try:
            assert systemd.recv(4096).startswith(b"READY=1")

            def public():
                address = f"http://127.0.0.1:{port}/twiml/start-stream"
                with urllib.request.urlopen(address, timeout=SECONDS) as answer:
                    return answer.read().decode().partition('url="')[2].partition('"')[0]

            assert public() == "wss://one.example.com/media"
            (folder / ".env").write_text("PUBLIC_URL=https://two.example.com\n")
            callers.call(10, seconds=2)
            with callers.calling(seconds=0.5, every=0.1):
                assert reload(folder, server, {**environ(port), **notify})
                wait_until(lambda: public() == "wss://two.example.com/media", every=0.1)
                server.wait_for("Worker exiting")
            callers.finish()
            assert {outcome for _, _, outcome in callers.outcomes} == {"stop"}
            os.kill(server.process.pid, signal.SIGTERM)  # KillMode=mixed
            printed = server.stop(told=False)
        finally:
            callers.close()
            server.stop()
    assert server.process.returncode == 0
    assert "ERROR" not in printed
    assert "refused" not in printed


def test_a_program_that_cannot_be_loaded_is_not_reloaded(folder):
    port = free_port()
    server = Server(command(), folder, environ(port))
    try:
        server.wait_for("Booting worker")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=SECONDS):
            pass  # now app.py is loaded
        (folder / "app.py").write_text("import nothing_that_there_is\n")
        assert not reload(folder, server, environ(port))
    finally:
        printed = server.stop()
    assert server.process.returncode == 0
    assert "Handling signal: hup" not in printed


def test_a_socket_of_systemd_does_not_help(folder):
    """A server that drains refuses new calls, whoever holds its socket."""
    port = free_port()
    program = executable("systemd-socket-activate", "apt-get install systemd")
    passed = [word for name in environ(port) for word in ("-E", name)]
    server = Server([program, "-l", f"127.0.0.1:{port}", *passed, *command()], folder, environ(port))
    try:
        server.wait_for("Listening on")
        server.port = port
        with connect(f"ws://127.0.0.1:{port}/media", compression=None, open_timeout=SECONDS) as ws:
            os.kill(server.process.pid, signal.SIGTERM)
            server.wait_for("Handling signal: term")
            wait_until(lambda: " 503 " in exchange(server, handshake()), every=0.1)
            ws.ping().wait(SECONDS)
    finally:
        server.stop()
