"""A server in a process of its own, on a port that the system chose, and what it logs."""

import difflib
import itertools
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

import gevent
import pytest

from mediastreams.config import Settings
from support import forks

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
SECONDS = 20  # longer than anything here takes; a wait that gets there has failed


def wait_until(condition, every=0.005):
    """Wait for what another thread or process does, where there is nothing to be told by; gevent goes on."""
    with gevent.Timeout(SECONDS):
        while not condition():
            gevent.sleep(every)


class Server:
    """A program that serves: its port, and its output as it comes."""

    def __init__(self, command, cwd, environ, is_forked=False):
        """Start the command. `is_forked`: it is arguments of `python`, and is run by `forks`."""
        if is_forked:
            self.process = forks.start(command, cwd, environ)
        else:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # a shell and what it started end together
            )
        self.lines = []
        self._logged = 0  # how many of them `logged` has returned
        self._marks = itertools.count(1)
        self._queue = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait_until_it_listens(self, seconds=SECONDS):
        self.port = int(self.wait_for(r"istening (?:on|at): https?://[^:]+:(\d+)", seconds=seconds)[1])
        self.url = f"ws://127.0.0.1:{self.port}/media"

    def _read(self):
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def wait_for(self, pattern, times=1, seconds=SECONDS):
        """Return the match of the next line, and of so many more, that holds `pattern`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no line with {pattern!r} in:\n" + "\n".join(self.lines))
            if line is None:
                pytest.fail(f"the server ended before {pattern!r}:\n" + "\n".join(self.lines))
            self.lines.append(line)
            if match := re.search(pattern, line):
                times -= 1
                if not times:
                    return match

    def stop(self, told=True):
        """End the server (or wait until it has ended untold) and return all that it printed."""
        if told and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(SECONDS)
        self._thread.join(SECONDS)
        self.process.stdout.close()
        while not self._queue.empty() and (line := self._queue.get()) is not None:
            self.lines.append(line)
        return "\n".join(self.lines)

    def messages(self):
        """Return what was logged since the server listens, without time, level and module.

        What it warns of at its start is left out.
        """
        listening = next(i for i, line in enumerate(self.lines) if "istening " in line)
        return without_time(self.lines[listening:])

    def logged(self):
        """Return what was logged since the last call, as `messages` does. A traceback fails the test.

        A request marks the place: the server logs one that it has answered before it reads the next one.
        """
        mark = f"/logged-{next(self._marks)}"
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            connection.sendall(f"GET {mark} HTTP/1.0\r\n\r\n".encode())
            while connection.recv(65536):
                pass
        self.wait_for(rf'"GET {mark}" 404$')
        begin, self._logged = self._logged, len(self.lines)
        lines = self.lines[begin : self._logged - 1]
        assert not any("Traceback" in line for line in lines), "\n".join(lines)
        return without_time(lines)


def without_time(lines):
    """Return the messages of log lines, without time, level and module."""
    messages = [line.partition(": ")[2] for line in lines if line.startswith("[")]
    return [message for message in messages if not message.startswith("TWILIO_AUTH_TOKEN is not set")]


def environment():
    """Return the environment without the settings of whoever runs the tests, and without transcripts.

    These take a second of a core to begin with; who tests them asks for them.
    """
    settings = {field.name.upper() for field in fields(Settings)} | {"PORT", "AWS_DEFAULT_REGION"}
    names = {name: value for name, value in os.environ.items() if name not in settings}
    return {**names, "TRANSCRIBER": "off"}


def sounds_like(heard, said):
    """Say whether a recogniser has heard what was said, give or take two words of six.

    How it hears the last ones depends on where the audio was cut when the machine was busy.
    """
    heard, said = (re.findall(r"[a-z0-9:']+", text.lower()) for text in (heard, said))
    return difflib.SequenceMatcher(None, heard, said, autojunk=False).ratio() > 0.7


def run(*arguments, **environ):
    """Run a Python command to its end; return its status, stdout and stderr."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=environ.pop("cwd", ROOT),
        env={**environment(), "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=3 * SECONDS,
    )


def run_caller(*arguments, **environ):
    """Run the simulated caller to its end, likewise."""
    return _run_forked(forks.CALLER, "mediastreams.caller", arguments, environ)


def run_command(*arguments, **environ):
    """Run `number`, `dial` or `doctor` to its end, likewise."""
    return _run_forked(forks.COMMANDS, "mediastreams", arguments, environ)


def _run_forked(imports, module, arguments, environ):
    folder = environ.pop("cwd", ROOT)
    environ = {**environment(), "PYTHONPATH": str(ROOT), **environ}
    return forks.run(imports, ["-m", module, *arguments], folder, environ, 3 * SECONDS)
