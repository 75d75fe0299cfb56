"""Runs the simulated caller in a process of its own, without the time that its imports take.

Each of pytest's workers starts one process that imports the caller; that forks for each call.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

FORKS = """
import json, os, sys
from mediastreams.caller.__main__ import call
for line in sys.stdin:
    arguments, folder, environ, *outputs = json.loads(line)
    process = os.fork()
    if not process:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environ)
        for number, path in enumerate([os.devnull, *outputs]):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        call(arguments, "python -m mediastreams.caller")
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


_turn = threading.Lock()  # for tests of several threads
_forks = None


def run(arguments, folder, environ, seconds):
    """Run the caller with these arguments; return its status, stdout and stderr."""
    with _turn, tempfile.TemporaryDirectory() as outputs:
        forks = _started()
        paths = [os.path.join(outputs, name) for name in ("stdout", "stderr")]
        command = [list(map(os.fsdecode, arguments)), str(folder), environ, *paths]
        forks.stdin.write(json.dumps(command) + "\n")
        forks.stdin.flush()
        if not select.select([forks.stdout], [], [], seconds)[0]:
            _stop()
            raise subprocess.TimeoutExpired(arguments, seconds)
        status = int(forks.stdout.readline())
        printed = [Path(path).read_text(encoding="utf-8") for path in paths]
        return subprocess.CompletedProcess(arguments, status, *printed)


def _started():
    global _forks
    if _forks is None:
        _forks = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        atexit.register(_stop)
    return _forks


def _stop():
    global _forks
    if _forks is not None:
        os.killpg(_forks.pid, signal.SIGKILL)
        _forks.communicate()
        _forks = None
