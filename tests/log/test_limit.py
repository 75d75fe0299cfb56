"""How many lines of the log a peer can cause: the handler alone, and a server that is flooded."""

import io
import json
import logging
import re

import pytest
from support.handshake import exchange, handshake
from support.server import run_caller
from support.streams import SID, FakeConnection, dtmf, start
from websockets.sync.client import connect

from mediastreams.config import Settings
from mediastreams.log import limit
from mediastreams.log.limit import LimitedHandler, Route, route
from mediastreams.protocol.messages import Unknown
from mediastreams.streams.stream import Stream, current


@pytest.fixture(autouse=True)
def _no_stream():
    current.set(None)
    route.set(None)
    yield
    current.set(None)
    route.set(None)


@pytest.fixture
def minute(monkeypatch):
    """Return a function that lets a minute pass."""

    class Time:
        now = 1000.0

    def pass_minute():
        Time.now += 60

    monkeypatch.setattr(limit.time, "monotonic", lambda: Time.now)
    return pass_minute


@pytest.fixture
def log(minute):
    """Return a function that logs a line, and has what was written as `lines`."""
    handler = LimitedHandler()
    handler.setStream(io.StringIO())

    def log(message, *arguments, **extra):
        record = logging.LogRecord("name", logging.INFO, "file.py", 1, message, arguments, None)
        vars(record).update(extra)
        handler.handle(record)
        return handler.stream.getvalue().splitlines()

    log.handler = handler
    yield log
    handler.close()


def started(**parts):
    stream = Stream(FakeConnection(), Settings())
    stream.receive(start(**parts).to_json())
    return stream


class TestOnWritten:
    """Who is told of the lines that are written."""

    @pytest.fixture
    def told(self, log, page):
        log.handler.tell(page.add)
        return page.lines

    def test_of_those_and_no_others(self, log, told):
        for n in range(12):
            lines = log("refused %d", n, limit="refusals (path)")
        assert told == lines == [f"refused {n}" for n in range(10)]

    def test_those_that_were_held_back_come_with_their_stream(self, log, told):
        for _ in range(limit.MAX_UNSTARTED):
            route.set(Route("function"))
            current.set(Stream(FakeConnection(), Settings()))
            log("another")
        told.clear()
        route.set(Route("function"))
        stream = Stream(FakeConnection(), Settings())
        current.set(stream)
        log("held back")
        assert told == []
        stream.receive(start().to_json())
        log("started")
        assert told == ["held back", "started"]


class TestKinds:
    def test_the_first_lines_of_a_kind_are_whole(self, log, minute):
        for n in range(25):
            log("refused %d", n, limit="refusals (path)")
        assert log("another", limit="refusals (key)") == [*(f"refused {n}" for n in range(10)), "another"]
        minute()
        assert log("in the next minute")[11:] == [
            "15 more lines of refusals (path) were left out",
            "in the next minute",
        ]

    def test_each_minute_has_its_first_lines(self, log, minute):
        for _ in range(3):
            for _ in range(11):
                log("refused", limit="refusals (path)")
            minute()
        assert log("the end").count("refused") == 30

    def test_one_line_tells_of_a_lack_of_descriptors(self, log):
        for _ in range(5):
            lines = log("none is left", limit="a lack of file descriptors")
        assert lines == ["none is left"]

    def test_a_stream_that_has_started_keeps_its_lines(self, log):
        for n in range(100):
            lines = log("lost %d", n, limit="lost and closed connections", stream=started())
        assert len(lines) == 100

    def test_what_is_counted_is_written_at_the_end(self, log):
        for _ in range(11):
            log("refused", limit="refusals (path)")
        written = log.handler.stream
        log.handler.close()
        assert written.getvalue().endswith("refused\n1 more lines of refusals (path) were left out\n")

    def test_what_is_left_out_is_told_by_a_warning(self, log, minute):
        log.handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(module)s: %(message)s"))
        for _ in range(11):
            log("refused", limit="refusals (path)")
        minute()
        assert log("later")[10:] == [
            "WARNING mediastreams.log.limit limit: 1 more lines of refusals (path) were left out",
            "INFO name file: later",
        ]


def media(ws):
    """The function of a route."""


class TestConnectionsWithoutStart:
    @pytest.fixture(autouse=True)
    def _opens_streams(self, log):
        """The handler has seen that the route opens streams."""
        route.set(Route(media))
        current.set(Stream(FakeConnection(), Settings()))
        log("Connection closed")
        current.set(None)
        route.set(None)
        log.handler.stream.truncate(0)
        log.handler.stream.seek(0)
        log.handler._lines.clear()

    def test_a_route_that_opens_none_is_not_bounded(self, log):
        for _ in range(200):
            route.set(Route(print))
            lines = log("a message of mine")
        assert len(lines) == 200

    def test_they_are_bounded_together(self, log, minute):
        for _ in range(50):
            route.set(Route(media))
            log("Connection accepted")
            lines = log("Connection closed")
        assert len(lines) == 60
        route.set(None)
        minute()
        assert log("later")[60] == "40 more lines of connections without a start message were left out"

    def test_a_valid_call_among_them_keeps_its_lines_in_order(self, log, minute):
        for _ in range(100):
            route.set(Route(media))
            log("Connection accepted")
        route.set(Route(media))
        log("mine: Connection accepted")
        stream = Stream(FakeConnection(), Settings())
        current.set(stream)
        assert "mine: Connection accepted" not in log("mine: Connected")
        stream.receive(start().to_json())
        assert log("mine: Start")[60:] == ["mine: Connection accepted", "mine: Connected", "mine: Start"]
        current.set(None)
        route.set(None)
        minute()
        assert "40 more lines of connections without a start message were left out" in log("later")

    def test_where_none_is_left_out_no_line_tells_it(self, log, minute):
        for _ in range(61):
            route.set(Route(media))
            log("Connection accepted")
        current.set(started())
        assert log("Start")[60:] == ["Connection accepted", "Start"]
        minute()
        assert log("later")[62:] == ["later"]

    def test_start_in_the_minute_after(self, log, minute):
        for _ in range(60):
            route.set(Route(media))
            log("Connection accepted")
        mine = Route(media)
        route.set(mine)
        log("mine: Connection accepted")
        minute()
        route.set(None)
        log("another")
        route.set(mine)
        current.set(started())
        log("mine: Start")
        minute()
        assert log("later")[60:] == [
            "1 more lines of connections without a start message were left out",
            "another",
            "mine: Connection accepted",
            "mine: Start",
            "later",
        ]

    def test_what_is_held_back_is_bounded(self, log):
        for _ in range(60):
            route.set(Route(media))
            log("Connection accepted")
        route.set(Route(media))
        for n in range(1000):
            log("line %d", n)
        current.set(started())
        assert log("started")[60:] == [*(f"line {n}" for n in range(20)), "started"]

    def test_lines_outside_of_a_route_are_not_theirs(self, log):
        for _ in range(200):
            lines = log("hello")
        assert len(lines) == 200


class TestStream:
    @pytest.fixture(autouse=True)
    def _started(self):
        route.set(Route(media))
        current.set(started())

    def test_each_unknown_event_once_and_20_of_them(self, log):
        for _ in range(3):
            for n in range(30):
                lines = log("%s", Unknown(f"event {n}"))
        assert lines == [f"event {n}" for n in range(20)]

    def test_the_first_100_keys(self, log):
        for n in range(150):
            log("key %d, %s", n, dtmf(n))
        lines = log("key by %s", "another line", event="dtmf")
        assert [line.partition(",")[0] for line in lines] == [f"key {n}" for n in range(100)]

    def test_keys_and_marks_are_counted_apart(self, log):
        for _ in range(101):
            log("key", event="dtmf")
            lines = log("mark", event="mark")
        assert lines == ["key", "mark"] * 100

    def test_a_line_may_have_its_arguments_in_a_dict(self, log):
        for _ in range(101):
            lines = log("%(key)s", {"key": "one"}, event="other")
        assert lines == ["one"] * 101

    def test_keys_and_marks_do_not_count_as_unknown(self, log):
        for n in range(30):
            log("%s", dtmf(n))
            log("returned", event="mark")
        for n in range(20):
            lines = log("%s", Unknown(f"event {n}"))
        assert lines[-1] == "event 19"

    def test_all_else_is_the_applications(self, log):
        for n in range(1000):
            lines = log("chunk %d", n)
        assert len(lines) == 1000


def count(printed, words):
    return len(re.findall(words, printed))


def test_a_stream_of_unknown_events_keys_and_marks(start_server):
    """As the first of Twilio's messages it comes from a valid call."""
    server = start_server()
    with connect(server.url, compression=None) as ws:
        ws.send('{"event":"connected","protocol":"Call","version":"1.0.0"}')
        ws.send(start().to_json())
        for n in range(2000):
            ws.send(json.dumps({"event": f"new{n % 50}"}))
        for n in range(2, 302):
            ws.send(dtmf(n).to_json())
            ws.send(json.dumps({"event": "new0"}))
    server.wait_for("lost, .*; 2300 unknown, 300 dtmf")
    printed = server.stop()
    assert count(printed, "Unknown Message received") == 20
    assert count(printed, "Dtmf Message received") == 100
    assert count(printed, "\n") < 200


OWN_LOOP = """
import json
from flask import Flask
from mediastreams import MediaStreams, Sockets
app = Flask(__name__)
sockets = Sockets(app)
streams = MediaStreams(app)

@sockets.route("/media")
def media(ws):
    while not ws.closed:
        message = ws.receive()
        if message is not None:
            app.logger.info("Event: %s", json.loads(message)["event"])

streams.serve()
"""


def test_a_loop_of_ones_own_keeps_its_lines(start_server, tmp_path):
    """As the tutorial has it: `Stream` is not used, so nobody knows which call has started."""
    (tmp_path / "own.py").write_text(OWN_LOOP)
    server = start_server("own.py", cwd=tmp_path)
    assert run_caller(server.url, "--fast").returncode == 0
    server.wait_for("Event: stop")
    assert count(server.stop(), "Event: ") == 263


@pytest.mark.parametrize("number", [600])
def test_refused_and_broken_connections(start_server, number):
    server = start_server()
    for n in range(number):
        exchange(server, handshake("GET /nope HTTP/1.1") if n % 2 else b"hello\r\n\r\n")
        exchange(server, handshake(Sec_WebSocket_Key="short") if n % 2 else handshake() + b"\x81\x00")
    with connect(server.url, compression=None) as ws:
        ws.send('{"event":"connected","protocol":"Call","version":"1.0.0"}')
        ws.send(start().to_json())
    printed = server.stop()
    assert count(printed, "\n") < 300
    mine = printed[: printed.index("Start Message received")].splitlines()[-3:]
    assert "Connection accepted" in mine[0]
    assert "Connected Message received" in mine[1]
    assert SID in printed
    for kind in ("refusals with 404", "refusals with 400", "connections without a start message"):
        assert re.search(rf"\d+ more lines of {kind} were left out", printed)
