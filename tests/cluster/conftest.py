"""Fixtures of the tests with Redis."""

import contextlib
import sys

import pytest
from support.cluster import Worker, ended_at_exit
from support.redis import redis_cluster, redis_server, start_redis
from support.server import ROOT, environment

from mediastreams.cluster.connection import Shards
from mediastreams.cluster.publisher import Publisher

__all__ = ["redis_cluster", "redis_server", "start_redis"]  # fixtures


@pytest.fixture
def start_worker(redis_server, tmp_path):
    """Return a function that starts a worker of these consumers; it is ended with the test."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, wait=True, program=("-m", "mediastreams"), **environ):
            environ = {
                **environment(),
                "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
                "REDIS_URL": redis_server.url,
                "NOTES": str(tmp_path / "notes"),
                **environ,
            }
            (tmp_path / "notes").mkdir(exist_ok=True)
            worker = Worker([sys.executable, *program, "work", *arguments], tmp_path, environ)
            stack.enter_context(ended_at_exit(worker))
            if wait:
                worker.wait_for("takes calls for")
            return worker

        yield start


@pytest.fixture
def redis_client(redis_server):
    with redis_server.client() as client:
        yield client


@pytest.fixture
def figures():
    """What a publisher has told of its shards."""
    return []


@pytest.fixture
def start_publisher(redis_server, figures):
    """Return a function that makes a publisher in this process; each ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(urls=redis_server.url, window=60.0):
            publisher = Publisher(Shards(urls), window, 30.0, figures.append)
            stack.callback(publisher.finish, 0.0)
            return publisher

        yield start


@pytest.fixture
def notes(tmp_path):
    """Return what the consumers of `support.noting` have noted of a call, a list of lines."""

    def read(call):
        path = tmp_path / "notes" / call.sid
        return path.read_text().splitlines() if path.exists() else []

    return read


@pytest.fixture
def publisher(start_publisher):
    return start_publisher()
