"""A server on a terminal: pyte's, behind a pty."""

import os
import re
import subprocess
import sys
import threading
import time

import pyte

from support.server import ROOT, SECONDS, environment

try:
    import fcntl
    import pty
    import struct
    import termios
except ImportError:
    fcntl = pty = struct = termios = None  # this system has no pseudo-terminals


class OnTerminal:
    """`python app.py` on a terminal of 400 columns and 60 lines.

    `hold` stops the terminal, as Ctrl-S does, and `go_on` lets it go on.
    """

    def __init__(self, **environ):
        self.screen = pyte.Screen(400, 60)
        self.stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 400, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={**environment(), "HTTP_SERVER_PORT": "0", "TERM": "xterm", **environ},
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.seen = []
        self.bytes = b""
        self._goes_on = threading.Event()
        self._goes_on.set()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()
        port = self.wait_for(r"localhost:(\d+)")[1]
        self.url = f"ws://127.0.0.1:{port}/media"

    def _read(self):
        while self._goes_on.wait():
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                return
            self.bytes += data
            self.stream.feed(data)
            self.seen.append(self.shows())

    def hold(self):
        self._goes_on.clear()

    def go_on(self):
        self._goes_on.set()

    def shows(self):
        return "\n".join(text.rstrip() for text in self.screen.display).rstrip()

    def wait_for(self, pattern):
        deadline = time.monotonic() + SECONDS
        while not (match := re.search(pattern, self.shows())):
            assert time.monotonic() < deadline, self.shows()
            time.sleep(0.01)
        return match

    def stop(self):
        """End the server, let the terminal go on, and return what it shows."""
        self.process.terminate()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.go_on()
        self.thread.join(SECONDS)
        os.close(self.master)
        return self.shows()
