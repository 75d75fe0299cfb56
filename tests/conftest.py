"""Fixtures of all tests: a server in a process of its own."""

import contextlib
import sys

import pytest
from hypothesis import HealthCheck, settings
from support.server import ROOT, Server, environment

# How fast the machine is says nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


@contextlib.contextmanager
def starting_servers():
    """Give a function that starts a server; all of them end with the block."""
    with contextlib.ExitStack() as stack:

        def start(*command, cwd=ROOT, **environ):
            command = list(command or ["app.py"])
            # Not where the imports are others: gunicorn's, or those of a folder of the test.
            is_forked = command[0] != "-m" and "PYTHONPATH" not in environ
            environ = {**environment(), "PYTHONPATH": str(ROOT), "HTTP_SERVER_PORT": "0", **environ}
            server = Server(command if is_forked else [sys.executable, *command], cwd, environ, is_forked)
            stack.callback(server.stop)
            server.wait_until_it_listens()
            return server

        yield start


@pytest.fixture
def start_server():
    """Return a function that starts a server; it ends with the test."""
    with starting_servers() as start:
        yield start


# app.py with all that is refused in its log: for many tests it is the same minute.
UNBOUNDED = """
import runpy
from mediastreams.log import limit
limit.FIRST = limit.MAX_UNSTARTED = 10**9
runpy.run_path("app.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def start_shared_server():
    """Return a function that starts a server for all tests of a module. It never shows a traceback."""
    servers = []
    with starting_servers() as start:
        yield (
            lambda program=UNBOUNDED, **environ: (
                servers.append(start("-c", program, **environ)) or servers[-1]
            )
        )
    assert not [server for server in servers if "Traceback" in server.stop()]


@pytest.fixture
def server(start_server):
    """`python app.py`."""
    return start_server()


@pytest.fixture(scope="module")
def _shared_server(start_shared_server):
    return start_shared_server()


@pytest.fixture
def shared_server(_shared_server):
    """`python app.py` for tests that only ask it; `logged` is what it has logged since the test began."""
    _shared_server.logged()
    return _shared_server
