"""Runs Python programs without the time that their imports take.

Each of pytest's workers starts a process that imports what servers import, one for the simulated caller and
one for the commands that ask Twilio; these fork for each program. The program itself is run as `python` runs
it.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

SERVER = ("mediastreams.extension", "mediastreams.echo")
CALLER = ("mediastreams.caller.call", "mediastreams.caller.plan", "mediastreams.caller.sound_file")
COMMANDS = ("mediastreams.rest.dial", "mediastreams.rest.number", "mediastreams.doctor.road")

# A first fork keeps the program's exit status until nobody asks for it any more, as a shell's child is kept.
FORKS = """
import importlib, json, os, runpy, signal, socket, sys
requests = socket.socket(fileno=int(sys.argv[1]))
for name in sys.argv[2:]:
    importlib.import_module(name)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    request, outputs, *_ = socket.recv_fds(requests, 1 << 20, 3)
    if not request:
        os._exit(0)
    if os.fork():
        for each in outputs:
            os.close(each)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = socket.socket(fileno=outputs[2])
    process = os.fork()
    if not process:
        break
    os.closerange(0, status.fileno())
    os.closerange(status.fileno() + 1, 1024)
    ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    status.send(str(code).encode())
    status.recv(1)
    os._exit(0)
requests.close()
os.setsid()
status.send(str(os.getpid()).encode())
status.close()
os.dup2(outputs[0], 1)
os.dup2(outputs[1], 2)
os.close(outputs[0])
os.close(outputs[1])
arguments, folder, environ = json.loads(request)
os.chdir(folder)
os.environ.clear()
os.environ.update(environ)
if arguments[0] == "-c":
    sys.argv = ["-c", *arguments[2:]]
    exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
elif arguments[0] == "-m":
    sys.argv = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
else:
    sys.argv = arguments
    sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
    runpy.run_path(arguments[0], run_name="__main__")
"""

_turn = threading.Lock()  # for tests of several threads
_forks = {}  # the socket of each process, by what it imports


class Process:
    """A program that was started; what it has is what `subprocess.Popen` has."""

    def __init__(self, imports, arguments, folder, environ, stdout, stderr):
        with _turn:
            if imports not in _forks:
                _forks[imports] = _start(imports)
        requests = _forks[imports]
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps([list(map(os.fsdecode, arguments)), str(folder), environ])
        with theirs:
            socket.send_fds(requests, [request.encode()], [stdout, stderr, theirs.fileno()])
        self.pid = int(self._status.recv(16))
        self.returncode = None
        self.stdout = None

    def poll(self):
        """Return the exit status, None while the program runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self._read()
        return self.returncode

    def wait(self, timeout=None):
        """Wait for the end of the program and return its exit status."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self._read()
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _read(self):
        self.returncode = int(self._status.recv(16))
        self._status.close()


def start(arguments, folder, environ):
    """Start a server's program; its output is to be read from `stdout`."""
    ours, theirs = os.pipe()
    process = Process(SERVER, arguments, folder, environ, theirs, theirs)
    os.close(theirs)
    process.stdout = os.fdopen(ours, encoding="utf-8")
    return process


def run(imports, arguments, folder, environ, seconds):
    """Run a program to its end; return its status, stdout and stderr."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = Process(imports, arguments, folder, environ, stdout.fileno(), stderr.fileno())
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        printed = []
        for file in (stdout, stderr):
            file.seek(0)
            printed.append(file.read().decode())
    return subprocess.CompletedProcess(arguments, process.returncode, *printed)


def _start(imports):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", FORKS, str(theirs.fileno()), *imports],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    atexit.register(_end, process, ours)
    return ours


def _end(process, requests):
    requests.close()
    process.wait()
