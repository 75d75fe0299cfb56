"""Fixtures of all tests: a server in a process of its own."""

import sys

import pytest
from support.server import ROOT, Server, environment


@pytest.fixture(scope="session")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def start_server():
    """Return a function that starts a server; it ends with the test."""
    servers = []

    def start(*command, cwd=ROOT, **environ):
        environ = {**environment(), "PYTHONPATH": str(ROOT), "HTTP_SERVER_PORT": "0", **environ}
        servers.append(Server([sys.executable, *(command or ["app.py"])], cwd, environ))
        servers[-1].wait_until_it_listens()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def server(start_server):
    """`python app.py`."""
    return start_server()
