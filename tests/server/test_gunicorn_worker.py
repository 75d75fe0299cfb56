"""`gunicorn app:app`: what holds for the server holds for its workers. The wire is in test_websocket."""

import json
import re
import sys
import time
import urllib.request

import pytest
from support.server import ROOT, Server, environment, run_caller

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def gunicorn():
    """Two workers that take Twilio's own handshakes only."""
    environ = {**environment(), "HTTP_SERVER_PORT": "0", "TWILIO_AUTH_TOKEN": TOKEN}
    server = Server([sys.executable, "-m", "gunicorn", "-w", "2", "app:app"], ROOT, environ)
    try:
        server.wait_until_it_listens()
        server.wait_for("Booting worker", times=2)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz") as answer:
            assert json.load(answer) == {"status": "ok", "streams": 0}
        yield server
    finally:
        server.stop()


def test_calls_are_taken_by_all_workers(gunicorn):
    url = f"ws://127.0.0.1:{gunicorn.port}/media"
    result = run_caller(url, "--fast", "--calls", "20", "--auth-token", TOKEN)
    assert (result.returncode, result.stderr) == (0, "")
    gunicorn.wait_for("Connection closed. Received a total of 263 messages", times=20)


def test_the_gate(gunicorn):
    result = run_caller(f"ws://127.0.0.1:{gunicorn.port}/media")
    assert result.returncode == 1
    assert "403 FORBIDDEN" in result.stderr
    gunicorn.wait_for(r"refused with 403, no X-Twilio-Signature; tried wss://127\.0\.0\.1")


def test_a_bad_setting_is_one_line():
    environ = {**environment(), "MAX_STREAMS": "none"}
    server = Server([sys.executable, "-m", "gunicorn", "app:app"], ROOT, environ)
    printed = server.stop(told=False)
    assert server.process.returncode == 1
    assert re.search(r"^MAX_STREAMS='none' cannot be used: it must be a number from 1", printed, re.MULTILINE)
    assert "Traceback" not in printed


@pytest.mark.parametrize("seconds", [0, 0.05, 0.2])
def test_it_ends_while_its_workers_begin(seconds):
    """At any time: a worker has no handler for the signal before it is ready."""
    environ = {**environment(), "HTTP_SERVER_PORT": "0"}
    server = Server([sys.executable, "-m", "gunicorn", "-w", "2", "app:app"], ROOT, environ)
    try:
        server.wait_for("Booting worker", times=2)
        time.sleep(seconds)  # not to wait for something: each moment is another case
    finally:
        printed = server.stop()
    assert "Traceback" not in printed
    assert server.process.returncode == 0
