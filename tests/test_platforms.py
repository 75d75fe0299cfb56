"""Windows and macOS, as far as they can be imitated: without what they lack, the package works."""

import ast
import os
import platform
import re
import sys

import pytest
from support.server import ROOT, run, run_caller

from mediastreams import config
from mediastreams.config import Settings
from mediastreams.doctor import SkippedError, machine
from mediastreams.transcription import select

COMMANDS = ["call", "dial", "doctor", "number", "work"]
POSIX = ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")

# Imports everything that others have written, so that only this package meets another system.
FIRST = """
import contextlib, importlib, os, pkgutil, select, signal, socket, sys
import mediastreams
import prometheus_client

def import_all():
    for each in pkgutil.walk_packages(mediastreams.__path__, "mediastreams."):
        if each.name.endswith(("__main__", "gunicorn_worker")):
            continue
        try:
            importlib.import_module(each.name)
        except ModuleNotFoundError as error:  # an extra that is not installed
            assert error.name.partition(".")[0] in ("grpc", "google", "redis"), each.name
        yield each.name

def remove(module, *names):
    for name in names:
        vars(module).pop(name, None)

before = list(import_all())
for collector in list(prometheus_client.REGISTRY._collector_to_names):
    prometheus_client.REGISTRY.unregister(collector)
for name in [name for name in sys.modules if name.partition(".")[0] == "mediastreams"]:
    del sys.modules[name]
"""
WINDOWS = f"""{FIRST}
sys.platform = "win32"
for name in {POSIX}:
    sys.modules[name] = None
remove(
    os, "fork", "forkpty", "getuid", "geteuid", "getgid", "killpg", "setsid", "getpgid", "uname", "confstr",
    "posix_spawn", "posix_spawnp", "POSIX_SPAWN_DUP2", "posix_fadvise", "posix_fallocate", "pread", "pwrite",
    "pipe2", "sendfile", "sched_getaffinity", "sched_yield", "fchmod", "fchown", "fdatasync", "mkfifo",
    "WNOHANG", "WNOWAIT", "waitid", "register_at_fork", "O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW",
    "O_DIRECTORY",
)
remove(
    signal, "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGALRM", "SIGPIPE", "SIGWINCH"
)
remove(socket, "AF_UNIX", "SO_REUSEPORT", "socketpair", "TCP_USER_TIMEOUT", "TCP_QUICKACK")
remove(select, "epoll", "poll")
import mediastreams
"""
MACOS = f"""{FIRST}
sys.platform = "darwin"
import fcntl
remove(fcntl, "F_SETPIPE_SZ", "F_GETPIPE_SZ")
remove(os, "posix_fadvise", "posix_fallocate", "pipe2", "sched_getaffinity", "O_DIRECT", "O_TMPFILE")
remove(socket, "TCP_USER_TIMEOUT", "TCP_QUICKACK", "AF_PACKET")
remove(select, "epoll")
import mediastreams
"""
SYSTEMS = pytest.mark.parametrize("system", [WINDOWS, MACOS], ids=["Windows", "macOS"])


@SYSTEMS
def test_it_is_imported_and_set(system, tmp_path):
    """Every module, but that of gunicorn's worker: on Windows gunicorn itself cannot be imported."""
    (tmp_path / ".env").write_text("MAX_STREAMS=3\nRECORDINGS_DIR=~/calls\n")
    program = f"""{system}
assert list(import_all()) == before
from mediastreams import config
print(len(before) > 100, config.load().max_streams)
os.environ["MAX_STREAMS"] = "many"
config.load()
"""
    result = run("-c", program, cwd=tmp_path)
    assert result.stdout == "True 3\n"
    assert result.stderr.startswith("MAX_STREAMS='many' cannot be used: ")


@SYSTEMS
def test_a_call_is_recorded(system, start_server, tmp_path):
    program = f"{system}\nimport runpy; sys.argv = ['app.py']; runpy.run_path('app.py', run_name='__main__')"
    server = start_server("-c", program, RECORDINGS_DIR=str(tmp_path / "calls"))
    assert run_caller(server.url, "--fast").returncode == 0
    server.wait_for("5.20 s recorded in ")
    assert sorted(path.suffix for path in (tmp_path / "calls").iterdir()) == [".json", ".wav"]
    assert "Traceback" not in server.stop()


@SYSTEMS
def test_the_commands_can_be_asked_for_their_help(system):
    program = f"""{system}
from mediastreams.__main__ import main
for command in {COMMANDS}:
    main([command, "--help"], standalone_mode=False)
"""
    result = run("-c", program)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.findall(r"^Usage: .* (\w+) \[OPTIONS\]", result.stdout, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("path", sorted((ROOT / "mediastreams").rglob("*.py")), ids=lambda path: path.name)
def test_what_only_posix_has_is_imported_where_its_absence_is_expected(path):
    """In a function, or in a `try` of the module."""
    imported = {
        name.partition(".")[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        )
    }
    assert imported & set(POSIX) == set()


class TestTheLocalRecogniser:
    """Where there is no wheel, nobody is told to install it."""

    @pytest.fixture
    def obstacle(self, monkeypatch):
        def obstacle(system, machine, *, mac="", libc=""):
            monkeypatch.setattr(sys, "platform", system)
            monkeypatch.setattr(platform, "machine", lambda: machine)
            monkeypatch.setattr(platform, "mac_ver", lambda: (mac, ("", "", ""), machine))
            monkeypatch.setattr(os, "confstr", lambda _: libc or None)
            monkeypatch.setattr(select, "_is_installed", lambda _: False)
            return select.obstacle(Settings())

        return obstacle

    @pytest.mark.parametrize(
        "system",
        [
            ("darwin", "arm64", {"mac": "15.1"}),
            ("linux", "x86_64", {"libc": "glibc 2.34"}),
            ("linux", "aarch64", {"libc": "glibc 2.41"}),
        ],
    )
    def test_it_can_be_installed(self, obstacle, system):
        *where, versions = system
        assert "pip install -r requirements-transcription.txt" in obstacle(*where, **versions)

    @pytest.mark.parametrize(
        "system",
        [
            ("darwin", "arm64", {"mac": "14.7"}),
            ("darwin", "x86_64", {"mac": "15.1"}),
            ("linux", "x86_64", {"libc": "glibc 2.31"}),
            ("linux", "x86_64", {"libc": ""}),
            ("linux", "riscv64", {"libc": "glibc 2.41"}),
        ],
    )
    def test_it_cannot(self, obstacle, system):
        *where, versions = system
        assert obstacle(*where, **versions).startswith("moonshine-voice is not there for this system, ")

    def test_on_windows_there_are_no_transcripts(self, obstacle, monkeypatch):
        monkeypatch.delattr(os, "posix_spawn")
        assert obstacle("win32", "AMD64") == "they need Linux or macOS"


def test_the_doctor_checks_no_descriptors_on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SkippedError):
        machine.check_descriptors(Settings())


@pytest.mark.parametrize(
    ("environ", "is_dumb"),
    [({}, True), ({"WT_SESSION": "1"}, False), ({"TERM": "xterm"}, False), ({"TERM": "dumb"}, True)],
)
def test_the_older_terminal_of_windows_only_prints(environ, is_dumb, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    for name in ("WT_SESSION", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert config.has_dumb_terminal() is is_dumb
