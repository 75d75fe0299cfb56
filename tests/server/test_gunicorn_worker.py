"""`gunicorn app:app`: what holds for the server holds for its workers. The wire is in test_websocket."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from support.callers import Callers
from support.own_app import app_with_settings
from support.server import ROOT, SECONDS, Server, environment, run, run_caller, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

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


def test_what_wraps_the_application_does_not_hide_it(tmp_path):
    """Its calls are counted where /healthz looks."""
    (tmp_path / "wrapped.py").write_text(
        "from werkzeug.middleware.proxy_fix import ProxyFix\n"
        "import app as program\n"
        "app = ProxyFix(program.app)\n"
    )
    environ = {**environment(), "HTTP_SERVER_PORT": "0", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    server = Server([sys.executable, "-m", "gunicorn", "wrapped:app"], ROOT, environ)
    try:
        server.wait_until_it_listens()
        address = f"127.0.0.1:{server.port}"
        with (
            connect(f"ws://{address}/media", compression=None),
            urllib.request.urlopen(f"http://{address}/healthz") as answer,
        ):
            assert json.load(answer) == {"status": "ok", "streams": 1}
    finally:
        server.stop()


WRAPPED = {
    "a function": "def app(environ, start_response):\n    return program.app(environ, start_response)\n",
    "another application": (
        "from flask import Flask\n"
        "from werkzeug.middleware.dispatcher import DispatcherMiddleware\n"
        "app = Flask('outer')\n"
        "app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {'/calls': program.app})\n"
    ),
}


@pytest.mark.parametrize("what", WRAPPED)
def test_what_hides_the_application(tmp_path, what):
    """Its settings are obeyed, and what it begins at the start is begun."""
    source = app_with_settings(max_streams=1, recordings_dir="/dev/null/none")
    (tmp_path / "program.py").write_text(source)
    (tmp_path / "wrapped.py").write_text(f"import program\n{WRAPPED[what]}")
    (tmp_path / "gunicorn.conf.py").write_text((ROOT / "gunicorn.conf.py").read_text())
    environ = {**environment(), "HTTP_SERVER_PORT": "0", "PYTHONPATH": str(ROOT)}
    server = Server([sys.executable, "-m", "gunicorn", "wrapped:app"], tmp_path, environ)
    try:
        server.wait_until_it_listens()
        server.wait_for("RECORDINGS_DIR='/dev/null/none' cannot be used")
        url = f"ws://127.0.0.1:{server.port}{'/calls' if what != 'a function' else ''}/media"
        with connect(url, compression=None), pytest.raises(InvalidStatus) as refused:
            connect(url, compression=None)
        assert refused.value.response.status_code == 503
    finally:
        server.stop()


def test_silent_connections_do_not_keep_a_stop_from_closing_the_calls(tmp_path):
    environ = {**environment(), "HTTP_SERVER_PORT": "0", "START_TIMEOUT": "20", "DRAIN_TIMEOUT": "3"}
    server = Server([sys.executable, "-m", "gunicorn", "-w", "2", "app:app"], ROOT, environ)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        server.wait_until_it_listens()
        server.wait_for("Booting worker", times=2)
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        url = f"ws://127.0.0.1:{server.port}/media"
        calls = [stack.enter_context(connect(url, compression=None)) for _ in range(20)]
        server.process.send_signal(signal.SIGTERM)
        for call in calls:
            with pytest.raises(ConnectionClosed):
                call.recv(timeout=SECONDS)
        assert [call.close_code for call in calls] == [1001] * 20
    assert "SIGKILL" not in "\n".join(server.lines)


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


ENDING = r"""
import atexit
import os
from flask import Flask
from mediastreams import MediaStreams

class Freed:
    def __del__(self, write=os.write):
        write(2, b"freed\n")

app = Flask(__name__)
MediaStreams(app)
atexit.register(os.write, 2, b"at exit\n")
freed = Freed()
freed.itself = freed
"""


def test_a_worker_ends_before_python_frees_what_threads_use(tmp_path):
    """With Redis, gevent's loop of such a thread has crashed the process in 8 of 97 stops."""
    (tmp_path / "ending.py").write_text(ENDING)
    environ = {**environment(), "HTTP_SERVER_PORT": "0", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    server = Server([sys.executable, "-m", "gunicorn", "ending:app"], ROOT, environ)
    try:
        server.wait_for("TWILIO_AUTH_TOKEN is not set")
    finally:
        printed = server.stop()
    assert server.process.returncode == 0
    assert printed.count("at exit") == 1
    assert "freed" not in printed


class TestTheFolderOfTheMetrics:
    @staticmethod
    def folders(path):
        return {each.name.split("-")[2] for each in path.glob("mediastreams-metrics-*")}

    def test_a_check_leaves_none(self, tmp_path):
        result = run("-m", "gunicorn", "--check-config", "app:app", TMPDIR=str(tmp_path))
        assert (result.returncode, result.stdout) == (0, "")
        assert self.folders(tmp_path) == set()

    def test_each_master_has_its_own(self, tmp_path):
        """SIGUSR2 starts a second one, which goes on when the first one ends."""
        environ = {**environment(), "HTTP_SERVER_PORT": "0", "TMPDIR": str(tmp_path)}
        # Not `python -m gunicorn`: SIGUSR2 would run its file, and find gunicorn's modules for Python's.
        server = Server([str(Path(sys.executable).with_name("gunicorn")), "app:app"], ROOT, environ)
        first, second = server.process.pid, None
        try:
            server.wait_until_it_listens()
            server.wait_for("TWILIO_AUTH_TOKEN is not set")
            os.kill(first, signal.SIGUSR2)
            second = int(server.wait_for(r"\[(\d+)\] \[INFO\] Starting gunicorn")[1])
            server.wait_for("TWILIO_AUTH_TOKEN is not set")
            assert self.folders(tmp_path) == {str(first), str(second)}
            os.kill(first, signal.SIGTERM)
            server.process.wait(SECONDS)
            assert self.folders(tmp_path) == {str(second)}
            assert run_caller(server.url, "--fast").returncode == 0
            server.wait_for("messages lost")
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
                assert b'mediastreams_messages_total{event="media"} 260.0' in answer.read()
        finally:
            if second is not None:
                os.kill(second, signal.SIGTERM)
            server.stop()
        assert self.folders(tmp_path) == set()


@pytest.fixture
def start_gunicorn():
    """Return a function that starts gunicorn with these arguments, and callers; both end with the test."""
    started = []

    def start(*arguments, workers=2):
        environ = {**environment(), "HTTP_SERVER_PORT": "0", "LOG_LEVEL": "WARNING"}
        command = [sys.executable, "-m", "gunicorn", "-w", str(workers), *arguments, "app:app"]
        server = Server(command, ROOT, environ)
        server.wait_until_it_listens()
        server.wait_for("TWILIO_AUTH_TOKEN is not set", times=workers)  # all are ready
        started.append((server, Callers(server.url)))
        return started[-1]

    yield start
    for server, callers in started:
        callers.close()
        server.stop()


def workers_of(server):
    """Return the processes of gunicorn's workers."""
    return [int(n) for n in re.findall(r"Booting worker with pid: (\d+)", "\n".join(server.lines))]


def within_a_second(run):
    """Return whether in one of three runs each call got its 101 within 1 s: the machine is shared.

    `run` returns how many seconds each has waited for it.
    """
    return any(max(run()) < 1 for _ in range(3))


class TestReplaced:
    """A worker that ends while others go on leaves new calls to these."""

    def went_through(self, callers, number):
        callers.finish()
        assert [outcome for _, _, outcome in callers.outcomes] == ["stop"] * number
        return [answered for _, answered, _ in callers.outcomes]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_reload_refuses_and_cuts_no_call(self, start_gunicorn, workers):
        def reload():
            server, callers = start_gunicorn(workers=workers)
            callers.call(50, seconds=5)
            callers.call(10, seconds=1, every=0.1)
            server.process.send_signal(signal.SIGHUP)
            callers.call(30, seconds=1, every=0.1)
            waits = self.went_through(callers, 90)
            server.wait_for("Booting worker", times=workers)
            server.wait_for("Worker exiting", times=workers)
            assert "refused" not in server.stop()
            return waits

        assert within_a_second(reload)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_worker_that_has_served_its_requests(self, start_gunicorn, workers):
        def serve():
            server, callers = start_gunicorn("--max-requests", "20", workers=workers)
            callers.call(60, seconds=0.5, every=0.05)
            waits = self.went_through(callers, 60)
            server.wait_for("Worker exiting")
            server.wait_for("Booting worker")
            assert "refused" not in server.stop()
            return waits

        assert within_a_second(serve)

    def test_a_kept_connection(self, start_gunicorn):
        """A proxy has some. The worker that ends says `Connection: close` on each, and waits for none."""
        server, _ = start_gunicorn(workers=1)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)

        def ask():
            connection.request("GET", "/livez")
            with connection.getresponse() as answer:
                assert (answer.status, answer.read()) == (200, b'{"status": "ok"}\n')
                return answer.headers["Connection"]

        with contextlib.closing(connection):
            assert ask() is None
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: ask() == "close", every=0.1)
            server.wait_for("Worker exiting")

    def test_fewer_workers(self, start_gunicorn):
        def take_one_away():
            server, callers = start_gunicorn()
            callers.call(20, seconds=2)
            server.process.send_signal(signal.SIGTTOU)
            callers.call(20, seconds=1, every=0.05)
            waits = self.went_through(callers, 40)
            server.wait_for("Worker exiting")
            assert "refused" not in server.stop()
            return waits

        assert within_a_second(take_one_away)

    def test_one_that_is_killed_loses_its_own_calls_only(self, start_gunicorn):
        def kill():
            server, callers = start_gunicorn()
            killed, other = workers_of(server)
            for worker, name in ((other, "killed"), (killed, "other")):
                os.kill(worker, signal.SIGSTOP)  # the calls that come now are the other one's
                callers.call(20, seconds=3, name=name)
                os.kill(worker, signal.SIGCONT)
            os.kill(killed, signal.SIGKILL)
            callers.call(20, seconds=1, every=0.05, name="later")
            callers.finish()
            outcomes = {
                name: [outcome for called, _, outcome in callers.outcomes if called == name]
                for name in ("killed", "other", "later")
            }
            assert outcomes["later"] == outcomes["other"] == ["stop"] * 20
            assert len(outcomes["killed"]) == 20
            assert all("ConnectionClosedError" in outcome for outcome in outcomes["killed"])
            server.wait_for("Booting worker")  # the killed one is replaced
            server.stop()
            return [answered for name, answered, _ in callers.outcomes if name == "later"]

        assert within_a_second(kill)
