"""`deploy/Procfile`: its line, run by a shell as a platform does, with `$PORT`."""

import os
import re
import signal
import sysconfig
import time

import pytest
from support.redis import free_port
from support.server import ROOT, Server, environment, run_caller
from support.streams import CONNECTED, start
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

KILLED_AFTER = 30  # seconds from SIGTERM to SIGKILL, at Heroku
LINE = re.compile(r"^([\w-]+): +(.+)$", re.MULTILINE)


@pytest.fixture
def server():
    """The process `web`, on the port that the platform chose."""
    ((name, command),) = LINE.findall((ROOT / "deploy" / "Procfile").read_text())
    assert name == "web"
    port = free_port()
    # As a platform has it: `python` is that of the requirements, and PORT the only setting.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    server = Server(["bash", "-c", command], ROOT, {**environment(), "PATH": path, "PORT": str(port)})
    try:
        server.wait_until_it_listens()
        assert server.port == port
        yield server
    finally:
        server.stop()


def test_a_call_and_a_stop(server):
    """SIGTERM comes to all processes. A call that does not end is closed, before the platform kills it."""
    result = run_caller(server.url.replace("127.0.0.1", "127.0.0.2"), "--fast")  # not this address alone
    assert (result.returncode, result.stderr) == (0, "")
    with connect(server.url, compression=None) as ws:
        for message in (CONNECTED, start()):
            ws.send(message.to_json())
        began = time.monotonic()
        os.killpg(server.process.pid, signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=KILLED_AFTER)
        assert closed.value.rcvd.code == 1001
    server.process.wait(KILLED_AFTER - (time.monotonic() - began))
    # Most of the time is for the call; what comes after it has some seconds, such as a recording's end.
    assert 0.5 * KILLED_AFTER < time.monotonic() - began < KILLED_AFTER - 5
    assert server.process.returncode == 0
