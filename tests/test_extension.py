"""`MediaStreams(app)`: where settings, consumers and server meet."""

import contextlib
import json
import os
import subprocess
import sys

import pytest
from flask import Flask
from support.caller import call
from support.own_app import TUTORIALS_END, app_with, app_with_settings
from support.receiver import receiving, settings
from support.server import ROOT, SECONDS, environment, run
from support.streams import FakeConnection, start, warnings
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mediastreams import MediaStreams, Settings
from mediastreams.protocol.messages import Start, StartMetadata
from mediastreams.protocol.signature import sign


def test_the_application_finds_it():
    app = Flask(__name__)
    streams = MediaStreams(app, Settings(transcriber="off"))
    assert app.extensions["mediastreams"] is streams


def test_its_routes_are_ordinary_ones():
    app = Flask(__name__)
    streams = MediaStreams(app, Settings(transcriber="off"))
    client = app.test_client()
    assert client.get("/healthz").json == {"status": "ok", "streams": 0}
    assert b"mediastreams_streams_live" in client.get("/metrics").data
    streams.state.live.draining = True
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (503, {"status": "draining", "streams": 0})
    assert client.post("/healthz").status_code == 405


@pytest.mark.parametrize(("transcriber", "has_recogniser"), [(None, True), ("off", False), ("local", None)])
def test_with_redis_workers_transcribe_unless_a_recogniser_is_set(transcriber, has_recogniser):
    app = Flask(__name__)
    streams = MediaStreams(app, Settings(transcriber=transcriber, redis_url="redis://127.0.0.1:1/0"))
    kinds = [kind.name for kind in streams._consumers._kinds]
    assert len(streams._consumers._taps) == 1
    assert ("RemoteWords" in kinds) is (transcriber is None)
    if has_recogniser is not None:  # the local one is not installed everywhere
        assert streams._hello().recogniser is has_recogniser
        assert ("TranscriptDisplay" in kinds) is has_recogniser


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_settings_that_the_application_changes_are_obeyed(start_server, tmp_path, command):
    (tmp_path / "app.py").write_text(app_with_settings(max_streams=2))
    (tmp_path / "gunicorn.conf.py").write_text((ROOT / "gunicorn.conf.py").read_text())
    server = start_server(*command, cwd=tmp_path)
    with contextlib.ExitStack() as live:
        for _ in range(2):
            live.enter_context(connect(server.url, compression=None, open_timeout=SECONDS))
        with pytest.raises(InvalidStatus) as refused:
            connect(server.url, compression=None, open_timeout=SECONDS)
    assert refused.value.response.status_code == 503
    server.wait_for(r"refused with 503, 2 streams are live \(MAX_STREAMS\)")


def test_a_stream_on_gevent_websockets_own_server_says_what_it_needs(start_server, tmp_path):
    """As where the tutorial's last lines are kept."""
    (tmp_path / "own.py").write_text(app_with("    streams.serve()\n", TUTORIALS_END))
    server = start_server("own.py", cwd=tmp_path)
    with connect(server.url, compression=None, open_timeout=SECONDS):
        server.wait_for("`streams.open` needs the server of this project: start it with `streams.serve")


def test_a_program_may_have_options_of_its_own(start_server, tmp_path):
    (tmp_path / "own.py").write_text(app_with("streams.serve()", "streams.serve([])"))
    start_server("own.py", "--verbose", cwd=tmp_path)


TWO = """
from dataclasses import replace
from flask import Flask
from mediastreams import MediaStreams, Sockets, load
from werkzeug.middleware.dispatcher import DispatcherMiddleware

apps = {}
for name, token in (("open", None), ("signed", "0123456789abcdef")):
    apps[name] = Flask(name)
    Sockets(apps[name]).add_url_rule("/media", None, lambda ws: ws.send("welcome"))
    MediaStreams(apps[name], replace(load(), twilio_auth_token=token))
apps["open"].wsgi_app = DispatcherMiddleware(apps["open"].wsgi_app, {"/signed": apps["signed"]})

if __name__ == "__main__":
    apps["open"].extensions["mediastreams"].serve()
"""


def test_the_handshakes_of_each_application_are_judged_by_its_own_settings(start_server):
    server = start_server("-c", TWO)
    with connect(server.url, compression=None) as ws:
        assert ws.recv(SECONDS) == "welcome"
    url = server.url.replace("/media", "/signed/media")
    with pytest.raises(InvalidStatus) as refused:
        connect(url, compression=None, open_timeout=SECONDS)
    assert refused.value.response.status_code == 403
    signature = sign("0123456789abcdef", f"wss{url.removeprefix('ws')}")
    with connect(url, compression=None, additional_headers={"X-Twilio-Signature": signature}) as ws:
        assert ws.recv(SECONDS) == "welcome"


MOUNTED = """
from dataclasses import replace
from flask import Flask
from mediastreams import MediaStreams, Sockets, load
from mediastreams.echo import echo
from werkzeug.middleware.dispatcher import DispatcherMiddleware

inner = Flask("inner")
Sockets(inner).register_blueprint(echo)
MediaStreams(inner)
outer = Flask("outer")
streams = MediaStreams(outer, replace(load(), call_webhook=None))
outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/inner": inner})

if __name__ == "__main__":
    streams.serve()
"""


def test_what_goes_on_beside_the_streams_of_a_mounted_application(start_server, tmp_path):
    with receiving() as receiver:
        server = start_server("-c", MOUNTED, **settings(receiver, tmp_path))
        call(
            f"ws://127.0.0.1:{server.port}/inner/echo",
            "--seconds",
            "0.2",
            "--parameter",
            "bidirectional=true",
        )
        (account,) = receiver.accounts(1)
    assert account["ended"] == "stop"


class TestTwoStreamsOfACall:
    """The warning of a second live stream that has the same `callSid` and track."""

    ONE, OTHER = "MZ" + "1" * 32, "MZ" + "2" * 32

    @pytest.fixture
    def open_stream(self):
        """Return a function that opens a stream, which lives until the test or its own `close` ends it."""
        streams = MediaStreams(Flask(__name__), Settings(transcriber="off"))
        with contextlib.ExitStack() as live:

            def open_stream(sid, call_sid="CA1", tracks=("inbound",)):
                stack = live.enter_context(contextlib.ExitStack())
                stream = stack.enter_context(streams.open(FakeConnection()))
                stream.receive(Start(1, StartMetadata("AC1", sid, call_sid, tracks), sid).to_json())
                return stack

            yield open_stream

    def warning(self, track="inbound"):
        return (
            f"Stream {self.OTHER}: call CA1 has a second live stream of its {track} track, "
            f"beside {self.ONE}; check that the TwiML has one <Stream> and that Twilio asked for it once "
            "(two webhooks for one call)"
        )

    def test_one_line(self, open_stream, caplog):
        open_stream(self.ONE)
        assert warnings(caplog) == []
        open_stream(self.OTHER)
        assert warnings(caplog) == [self.warning()]
        assert caplog.records[0].levelname == "WARNING"

    @pytest.mark.parametrize(
        ("tracks", "others", "shared"),
        [
            (("inbound", "outbound"), ("outbound",), "outbound"),
            (("outbound",), ("inbound", "outbound"), "outbound"),
            (("outbound", "inbound"), ("inbound", "outbound"), "inbound and outbound"),
        ],
    )
    def test_a_track_that_both_have(self, open_stream, caplog, tracks, others, shared):
        open_stream(self.ONE, tracks=tracks)
        open_stream(self.OTHER, tracks=others)
        assert warnings(caplog) == [self.warning(shared)]

    def test_another_call_or_another_track(self, open_stream, caplog):
        open_stream(self.ONE)
        open_stream(self.OTHER, call_sid="CA2")
        open_stream(self.OTHER, tracks=("outbound",))
        assert warnings(caplog) == []

    def test_one_that_has_ended(self, open_stream, caplog):
        open_stream(self.ONE).close()
        open_stream(self.OTHER)
        assert warnings(caplog) == []

    def test_those_that_are_left(self, open_stream, caplog):
        first = open_stream(self.ONE, call_sid="CA2")
        open_stream(self.ONE)
        first.close()
        open_stream(self.OTHER)
        assert warnings(caplog) == [self.warning()]

    def test_a_call_sid_that_breaks_the_line(self, open_stream, caplog):
        open_stream(self.ONE, call_sid="CA\n1")
        open_stream(self.OTHER, call_sid="CA\n1")
        (line,) = warnings(caplog)
        assert "call CA\\u000a1 has" in line

    def test_a_stream_that_never_started(self, caplog):
        streams = MediaStreams(Flask(__name__), Settings(transcriber="off"))
        with streams.open(FakeConnection()):
            pass
        assert warnings(caplog) == []

    def test_two_real_calls(self, server):
        one, other = start(sid=self.ONE).to_json(), start(sid=self.OTHER).to_json()
        with connect(server.url, compression=None) as first, connect(server.url, compression=None) as second:
            first.send(one)
            server.wait_for(f"Start Message received: .*{self.ONE}")
            second.send(other)
            server.wait_for(f"WARNING in extension: Stream {self.OTHER}: call CA1 has a second live stream")


def test_the_name_of_the_server_is_that_of_the_process_that_serves():
    """With `gunicorn --preload` the application is made before the workers are."""
    streams = MediaStreams(Flask(__name__), Settings(redis_url="redis://127.0.0.1:1/0"))
    assert streams._publisher._server is None


def test_lines_come_once_where_the_logger_was_used_before():
    """As in the tutorial, which sets its level."""
    program = (
        "from flask import Flask; from mediastreams import MediaStreams, Settings\n"
        "app = Flask(__name__); app.logger.setLevel('DEBUG')\n"
        "MediaStreams(app, Settings(log_format='json')); app.logger.info('hello')"
    )
    (line,) = run("-c", program).stderr.splitlines()
    assert json.loads(line)["message"] == "hello"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_nobody_reads_where_it_listens():
    with open("/dev/full", "w") as full:
        environ = {**environment(), "HTTP_SERVER_PORT": "0"}
        server = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=full, stderr=subprocess.PIPE, text=True
        )
        try:
            assert "TWILIO_AUTH_TOKEN is not set" in server.stderr.readline()
        finally:
            server.terminate()
            server.communicate(timeout=SECONDS)
