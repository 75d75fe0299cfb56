"""The WebSocket on the wire: bytes of the test's own, to the server itself and to gunicorn.

Each is tried three ways: `python` program, with more streams live than are read at once ("gathering"), and
under gunicorn. A live call beside it must not notice.
"""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import sysconfig
import time

import pytest
import trustme
from support.frames import INVALID, header, masked
from support.handshake import handshake
from support.server import ROOT, SECONDS, Server, environment, wait_until
from websockets.asyncio.client import connect

APP = """
import gc, logging
import gevent, greenlet
from flask import Flask
from mediastreams import MediaStreams, Sockets

logging.basicConfig(level="INFO", format="[%(levelname)s] %(name)s: %(message)s")
app = Flask(__name__)
sockets = Sockets(app)
streams = MediaStreams(app)

@sockets.route("/echo")
def echo(ws):
    while not ws.closed:
        message = ws.receive()
        if message is not None:
            ws.send(message)

@sockets.route("/listen")
def listen(ws):
    count = 0
    while not ws.closed:
        if ws.receive() is not None:
            count += 1
    app.logger.info("heard %d messages, closed with %s %r", count, ws.close_code, ws.close_reason)

@sockets.route("/close/<int:code>")
def close(ws, code):
    ws.receive()
    ws.close(code, "as asked")

@sockets.route("/return")
def return_(ws):
    ws.receive()

@sockets.route("/flood")
def flood(ws):
    while not ws.closed:
        ws.send(bytes(100_000))

@sockets.route("/chorus")
def chorus(ws):
    def sing(voice):
        for i in range(20):
            ws.send(voice * 50_000)
    singers = [gevent.spawn(sing, voice) for voice in "abc"]
    while not ws.closed:
        ws.receive()
        if all(singer.ready() for singer in singers):
            ws.close()
    gevent.joinall(singers)

@sockets.route("/together")
def together(ws):
    ws.send_frames([(b"text", 0x1), (b"", 0x9), (b"b" * 100_000, 0x2)])
    for message, opcode in ("gr\xfc\xdfe", 0x1), (bytearray(b"c"), 0x2):
        ws.send_frame(message, opcode)
    ws.receive()
    ws.close()
    try:
        ws.send_frames([(b"late", 0x1)])
    except Exception as error:
        app.logger.info("not sent: %s", error)

@sockets.route("/twice")
def twice(ws):
    second = gevent.spawn(ws.receive)
    gevent.sleep(0)
    try:
        ws.receive()
    except Exception as error:
        ws.send(str(error))
    second.kill()

@app.route("/greenlets")
def greenlets():
    gc.collect()
    # Of this thread: those of gevent's pools come and go.
    found = [each for each in gc.get_objects() if isinstance(each, greenlet.greenlet) and not each.dead]
    return str(sum(root(each) is root(greenlet.getcurrent()) for each in found))

def root(each):
    while each.parent is not None:
        each = each.parent
    return each

if __name__ == "__main__":
    streams.serve()
"""

OTHERS = 55  # more than are read as their messages come


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    (folder / "own.py").write_text(APP)
    (folder / "gunicorn.conf.py").write_text((ROOT / "gunicorn.conf.py").read_text())
    return folder


def start(folder, *, gunicorn=False, **environ):
    command = ["-m", "gunicorn", "own:app"] if gunicorn else ["own.py"]
    environ = {**environment(), "PYTHONPATH": str(ROOT), "HTTP_SERVER_PORT": "0", **environ}
    server = Server([sys.executable, *command], folder, environ)
    server.wait_until_it_listens()
    get(server, "/healthz")  # gunicorn says that it listens before there is a worker to answer
    return server


@pytest.fixture(scope="module", params=["python", "gathering", "gunicorn"])
def server(request, folder):
    server = start(folder, gunicorn=request.param == "gunicorn")
    with contextlib.ExitStack() as others:
        if request.param == "gathering":
            for _ in range(OTHERS):
                others.enter_context(dial(server, "/listen"))
        yield server
    server.stop()


@pytest.fixture
def start_own(folder):
    """Return a function that starts a server with settings of the test's own."""
    servers = []

    def start_own(**options):
        servers.append(start(folder, **options))
        return servers[-1]

    yield start_own
    for server in servers:
        server.stop()


@contextlib.contextmanager
def dial(server, path="/echo", **headers):
    """Return a socket that has shaken hands."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        connection.sendall(handshake(f"GET {path} HTTP/1.1", **headers))
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 ")
        yield connection


def receive(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, f"the connection ended after {data!r}"
        data += part
    return data


def rest(connection):
    """Return what comes until the server ends the connection."""
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def next_frame(connection):
    """Return the opcode and payload of the server's next frame."""
    first, second = receive(connection, 2)
    assert first & 0x80, "a fragment"
    assert not second & 0x80, "masked"
    length = second
    if second == 126:
        (length,) = struct.unpack("!H", receive(connection, 2))
    elif second == 127:
        (length,) = struct.unpack("!Q", receive(connection, 8))
    return first & 0x0F, receive(connection, length)


def get(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def streams(server):
    return json.loads(get(server, "/healthz")[1])["streams"]


class TestTogether:
    def test_frames_that_are_sent_together_are_whole(self, server):
        with dial(server, "/together") as connection:
            assert next_frame(connection) == (0x1, b"text")
            assert next_frame(connection) == (0x9, b"")
            assert next_frame(connection) == (0x2, b"b" * 100_000)
            assert next_frame(connection) == (0x1, "gr\xfc\xdfe".encode())  # these by themselves
            assert next_frame(connection) == (0x2, b"c")
            connection.sendall(masked(1, b"on"))
            assert next_frame(connection)[0] == 0x8
        server.wait_for("not sent: the WebSocket is closed")


class TestViolations:
    @pytest.mark.parametrize("name", [name for name in INVALID if not name.startswith("too large")])
    def test_each_gets_its_code_and_no_other_call_notices(self, server, name):
        data, code, _ = INVALID[name]
        with dial(server) as bystander, dial(server) as connection:
            connection.sendall(masked(1, b"before") + data)
            assert next_frame(connection) == (1, b"before")
            opcode, payload = next_frame(connection)
            if opcode == 1:  # what was whole before the violation
                opcode, payload = next_frame(connection)
            assert (opcode, payload[:2]) == (8, struct.pack("!H", code))
            assert payload[2:].decode()
            assert rest(connection) == b""
            bystander.sendall(masked(1, b"still here"))
            assert next_frame(bystander) == (1, b"still here")

    @pytest.mark.parametrize(
        "data",
        [
            masked(2, bytes(65537)),
            header(0x82, 0xFF, struct.pack("!Q", 1 << 40)),
            masked(2, bytes(40_000), False) + masked(0, bytes(40_000)),
        ],
        ids=["frame", "header", "fragments"],
    )
    def test_too_large(self, server, data):
        with dial(server) as connection:
            connection.sendall(data)
            opcode, payload = next_frame(connection)
            assert (opcode, payload) == (8, b"\x03\xf1a message of more than 65536 bytes")
            assert rest(connection) == b""

    def test_the_largest_that_may_come(self, server):
        with dial(server) as connection:
            connection.sendall(masked(2, bytes(65536)))
            assert next_frame(connection) == (2, bytes(65536))


class TestClose:
    @pytest.mark.parametrize(
        ("payload", "answer"),
        [
            (b"\x03\xe8", b"\x03\xe8"),
            (b"\x03\xe8bye", b"\x03\xe8"),
            (b"\x0b\xb8", b"\x0b\xb8"),
            (b"\x03\xf1too big", b"\x03\xf1"),
            (b"", b""),
        ],
    )
    def test_it_is_answered_with_its_code_and_ends_the_connection(self, server, payload, answer):
        with dial(server) as connection:
            connection.sendall(masked(8, payload))
            assert next_frame(connection) == (8, answer)
            assert rest(connection) == b""

    @pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1013, 4000])
    def test_the_servers_own_leaves_with_code_and_reason(self, server, code):
        with dial(server, f"/close/{code}") as connection:
            connection.sendall(masked(1, b"go"))
            assert next_frame(connection) == (8, struct.pack("!H", code) + b"as asked")
            connection.sendall(masked(8, struct.pack("!H", code)))
            assert rest(connection) == b""

    def test_a_function_that_returns_closes_with_1000(self, server):
        with dial(server, "/return") as connection:
            connection.sendall(masked(1, b"go"))
            assert next_frame(connection) == (8, b"\x03\xe8")
            connection.sendall(masked(8, b"\x03\xe8"))
            assert rest(connection) == b""

    def test_messages_before_a_close_are_heard(self, server):
        with dial(server) as connection:
            connection.sendall(masked(1, b"last words") + masked(8, b"\x03\xe8"))
            assert next_frame(connection) == (1, b"last words")
            assert next_frame(connection) == (8, b"\x03\xe8")

    def test_both_at_once(self, server):
        """The peer's Close is there already when the function returns."""
        began = time.monotonic()
        with dial(server, "/return") as connection:
            connection.sendall(masked(1, b"go") + masked(8, b"\x03\xe8"))
            assert next_frame(connection) == (8, b"\x03\xe8")
            assert rest(connection) == b""
        assert time.monotonic() - began < 4  # not the time that a Close is waited for

    def test_who_closed_and_why(self, start_own):
        server = start_own()
        for data, words in [
            (masked(8, b"\x0f\xa0bye"), "closed with 4000 'bye'"),
            (masked(8, b""), "closed with 1005 ''"),
            (b"\x81\x00", "closed with 1002 'an unmasked frame'"),
        ]:
            with dial(server, "/listen") as connection:
                connection.sendall(masked(1, b"1") + data)
                rest(connection)
            server.wait_for(re.escape(f"heard 1 messages, {words}"))


class TestPing:
    def test_all_are_answered_also_between_fragments(self, server):
        with dial(server) as connection:
            pings = [b"", b"a", bytes(125)]
            data = masked(1, b"one ", False)
            data += b"".join(masked(9, ping) for ping in pings)
            connection.sendall(data)
            assert [next_frame(connection) for _ in pings] == [(10, ping) for ping in pings]
            connection.sendall(masked(0, b"message"))
            assert next_frame(connection) == (1, b"one message")

    def test_a_listener_answers_too(self, server):
        with dial(server, "/listen") as connection:
            connection.sendall(masked(9, b"there?"))
            assert next_frame(connection) == (10, b"there?")


class TestSplits:
    def test_a_frame_with_the_handshake(self, server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
            connection.sendall(handshake("GET /echo HTTP/1.1") + masked(1, b"early"))
            answer = receive(connection, len(b"HTTP/1.1 101 "))
            assert answer == b"HTTP/1.1 101 "
            while not answer.endswith(b"\r\n\r\n"):
                answer += connection.recv(1)
            assert next_frame(connection) == (1, b"early")

    def test_byte_by_byte(self, server):
        with dial(server) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in masked(1, "\u4e2d".encode() * 50):
                connection.sendall(bytes((byte,)))
            assert next_frame(connection) == (1, "\u4e2d".encode() * 50)

    def test_many_in_one(self, server):
        with dial(server) as connection:
            connection.sendall(b"".join(masked(1, b"%d" % n) for n in range(3000)))
            assert [next_frame(connection)[1] for n in range(3000)] == [b"%d" % n for n in range(3000)]


class TestSend:
    def test_greenlets_and_pongs_do_not_interleave(self, server):
        with dial(server, "/chorus") as connection:
            connection.sendall(masked(9, b"ping") * 20)
            counts = dict.fromkeys(("a", "b", "c", "pong"), 0)
            while min(counts["a"], counts["b"], counts["c"]) < 20:
                opcode, payload = next_frame(connection)
                if opcode == 10:
                    assert payload == b"ping"
                    counts["pong"] += 1
                else:
                    voice = chr(payload[0])
                    assert payload == voice.encode() * 50_000
                    counts[voice] += 1
                    connection.sendall(masked(9, b"ping"))

    def test_one_greenlet_receives(self, server):
        with dial(server, "/twice") as connection:
            assert next_frame(connection) == (1, b"another greenlet receives from this WebSocket")

    def test_a_peer_that_does_not_read_is_given_up(self, start_own):
        server = start_own(IDLE_TIMEOUT="1")
        with dial(server, "/flood"):
            server.wait_for(r"connection lost, it has read nothing for 1 s")
            wait_until(lambda: streams(server) == 0)
        assert "Traceback" not in server.stop()

    def test_pongs_that_nobody_reads_are_bounded(self, start_own):
        server = start_own()
        ping = masked(9, bytes(125)) * 500
        with dial(server, "/listen") as connection:
            connection.settimeout(0.5)
            with contextlib.suppress(OSError):
                for _ in range(1000):  # 65 MB: more than all buffers hold
                    connection.sendall(ping)
            server.wait_for("connection lost, it does not read the answers to its Pings")
        assert "Traceback" not in server.stop()


class TestEnds:
    def test_a_thousand_rude_hang_ups_leave_nothing(self, start_own):
        server = start_own()

        def left():
            return len(os.listdir(f"/proc/{server.process.pid}/fd")), int(get(server, "/greenlets")[1])

        endings = [b"", masked(1, b"a"), masked(1, b"a" * 300)[:100], masked(1, b"a", False), b"\x81"]
        with dial(server) as bystander:
            before = None
            for n in range(1010):
                if n == 10:
                    wait_until(lambda: streams(server) == 1)
                    before = left()
                with dial(server, "/listen") as connection:
                    connection.sendall(endings[n % len(endings)])
                    if n % 2:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wait_until(lambda: streams(server) == 1)
            # Not more than before; a request of the test's own may still be closing at either time.
            wait_until(lambda: all(now <= then for now, then in zip(left(), before, strict=True)))
            bystander.sendall(masked(1, b"still here"))
            assert next_frame(bystander) == (1, b"still here")
        printed = server.stop()
        assert "Traceback" not in printed
        assert printed.count("connection lost") == 1011

    def test_an_end_in_a_frame_is_one_line(self, start_own):
        server = start_own()
        with dial(server, "/listen") as connection:
            connection.sendall(masked(1, b"a" * 300)[:100])
            connection.shutdown(socket.SHUT_WR)
            rest(connection)
        server.wait_for(r"127\.0\.0\.1:\d+: connection lost, it ended without a Close")
        server.wait_for("heard 0 messages, closed with 1006 'it ended without a Close'")


class TestLimits:
    def test_max_streams(self, start_own):
        server = start_own(MAX_STREAMS="2")
        with dial(server) as one, dial(server):
            with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as third:
                third.sendall(handshake("GET /echo HTTP/1.1", Connection="Upgrade, close"))
                assert receive(third, 13) == b"HTTP/1.1 503 "
            server.wait_for(r"127\.0\.0\.1:\d+: refused with 503, 2 streams are live")
            assert streams(server) == 2
            one.sendall(masked(1, b"still here"))
            assert next_frame(one) == (1, b"still here")
        wait_until(lambda: streams(server) == 0)
        with dial(server):
            pass

    def test_idle_timeout(self, start_own):
        server = start_own(IDLE_TIMEOUT="1")
        with dial(server, "/listen") as connection:
            assert next_frame(connection) == (8, b"\x03\xe9nothing received for 1 s")
            connection.sendall(masked(8, b"\x03\xe9"))
            assert rest(connection) == b""
        server.wait_for(r"127\.0\.0\.1:\d+: closed with 1001, nothing received for 1 s")

    def test_pings_keep_a_stream(self, start_own):
        server = start_own(IDLE_TIMEOUT="1")
        with dial(server, "/listen") as connection:
            until = time.monotonic() + 2
            while time.monotonic() < until:
                connection.sendall(masked(9, b""))
                assert next_frame(connection) == (10, b"")
                time.sleep(0.1)

    def test_a_handshake_that_trickles(self, start_own):
        server = start_own(START_TIMEOUT="1")
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
            with contextlib.suppress(OSError):
                for byte in handshake("GET /echo HTTP/1.1") * 9:
                    connection.sendall(bytes((byte,)))
                    time.sleep(0.05)
            server.wait_for(r"127\.0\.0\.1:\d+ sent no whole request within 1 s")

    def test_a_body_that_never_comes(self, start_own):
        server = start_own(START_TIMEOUT="1")
        request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
            connection.sendall(request)
            assert b" 405 " in rest(connection)

    def test_start_timeout(self, start_server):
        """The application's own: it awaits a start message."""
        server = start_server(START_TIMEOUT="1")
        with dial(server, "/media") as connection:
            connection.sendall(masked(1, b'{"event":"connected","protocol":"Call","version":"1.0.0"}'))
            assert next_frame(connection) == (8, b"\x03\xf0no start message within 1 s")
        server.wait_for("closed with 1008, no start message within 1 s")
        server.wait_for("Connection closed. Received a total of 1 messages")


@contextlib.contextmanager
def paused(server, seconds):
    """Stop the server's process (SIGSTOP), and let it go on after the block and so many seconds."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        until = time.monotonic() + seconds
        yield
        time.sleep(max(until - time.monotonic(), 0))  # not to wait for something: the pause is the case
    finally:
        server.process.send_signal(signal.SIGCONT)


class TestPauses:
    """The server or its machine stands still for longer than a limit: what was sent meanwhile counts."""

    START = json.dumps(
        {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": "MZ1",
            "start": {"accountSid": "AC1", "streamSid": "MZ1", "callSid": "CA1", "tracks": ["inbound"]},
        }
    ).encode()

    def test_calls_go_on(self, start_server):
        server = start_server(IDLE_TIMEOUT="3")
        command = [sys.executable, "-m", "mediastreams.caller", server.url, "--calls", "20", "--seconds", "8"]
        with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as calls:
            server.wait_for("Additional media messages", times=20)
            with paused(server, 6):
                pass
            calls.communicate(timeout=SECONDS)
        assert calls.returncode == 0
        server.wait_for("Received a total of 403 messages", times=20)
        assert "no stop message" not in server.stop()

    @pytest.mark.parametrize("others", [0, OTHERS], ids=["few", "gathering"])
    def test_silence_is_judged_after_reading(self, start_own, others):
        server = start_own(IDLE_TIMEOUT="3")
        with contextlib.ExitStack() as dialled:
            connections = [dialled.enter_context(dial(server, "/listen")) for _ in range(1 + others)]
            get(server, "/healthz")
            time.sleep(0.5)  # the server has looked at its limits, and all are silent
            with paused(server, 6):
                for connection in connections:
                    connection.sendall(masked(1, b"sent in the pause"))
            for connection in connections:
                connection.sendall(masked(8, b"\x03\xe8"))
                assert next_frame(connection) == (8, b"\x03\xe8")
        server.wait_for("heard 1 messages, closed with 1000 ''", times=1 + others)

    def test_a_start_message_is_in_time(self, start_server):
        server = start_server(START_TIMEOUT="2")
        with dial(server, "/media") as connection:
            connection.sendall(masked(1, b'{"event":"connected","protocol":"Call","version":"1.0.0"}'))
            server.wait_for("Connected Message received")
            with paused(server, 4):
                connection.sendall(masked(1, self.START))
            server.wait_for("Start Message received")
            connection.sendall(masked(8, b"\x03\xe8"))
            assert next_frame(connection) == (8, b"\x03\xe8")

    def test_a_handshake_is_in_time(self, start_own):
        server = start_own(START_TIMEOUT="2")
        request = handshake("GET /echo HTTP/1.1")
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
            connection.sendall(request[:40])
            get(server, "/healthz")  # by now the server waits for the rest
            with paused(server, 4):
                connection.sendall(request[40:])
            assert receive(connection, 13) == b"HTTP/1.1 101 "

    def test_a_drain_waits_as_long_as_without(self, start_own):
        server = start_own(DRAIN_TIMEOUT="2")
        with dial(server, "/listen") as connection:
            server.process.terminate()
            server.wait_for("Draining")
            with paused(server, 4):
                connection.sendall(masked(8, b"\x03\xe8"))
            assert next_frame(connection) == (8, b"\x03\xe8")
        assert server.process.wait(SECONDS) == 0
        assert "still live" not in server.stop()


class TestGathering:
    def test_all_messages_of_many_streams_arrive(self, start_server):
        server = start_server()
        calls = [sys.executable, "-m", "mediastreams.caller", server.url, "--calls", "60", "--seconds", "2"]
        subprocess.run(calls, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=60)
        server.wait_for("inbound 100 chunks, 16000 bytes; 0 messages lost, 0 late, 0 bad", times=60)

    def test_one_that_talks_back_does_not_wait(self, start_own):
        server = start_own(GATHER_MS="1000")
        with contextlib.ExitStack() as others:
            for _ in range(OTHERS):
                others.enter_context(dial(server, "/listen"))
            with dial(server) as connection:
                connection.sendall(masked(1, b"first"))
                next_frame(connection)
                began = time.monotonic()
                for _ in range(10):
                    connection.sendall(masked(1, b"again"))
                    next_frame(connection)
                assert time.monotonic() - began < 5  # each would wait for a second

    def test_those_that_wait_for_a_turn_are_not_forgotten_when_few_are_left(self, start_own):
        server = start_own(GATHER_MS="1000")
        with dial(server, "/return") as connection:
            with contextlib.ExitStack() as others:
                for _ in range(OTHERS):
                    others.enter_context(dial(server, "/listen"))
                wait_until(lambda: streams(server) == OTHERS + 1)
            wait_until(lambda: streams(server) == 1)
            connection.sendall(masked(1, b"go"))
            assert next_frame(connection) == (8, b"\x03\xe8")


class TestDrain:
    @pytest.fixture(params=["python", "gunicorn"])
    def start_either(self, request, start_own):
        return lambda **environ: start_own(gunicorn=request.param == "gunicorn", **environ)

    def refused(self, server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
            connection.sendall(handshake("GET /echo HTTP/1.1", Connection="Upgrade, close"))
            return receive(connection, 13) == b"HTTP/1.1 503 "

    def test_a_live_stream_may_end_by_itself(self, start_either):
        server = start_either()
        with dial(server) as connection:
            assert get(server, "/healthz") == (200, '{"status": "ok", "streams": 1}\n')
            server.process.terminate()
            server.wait_for(r"Draining: waiting up to 30 s for 1 live streams")
            assert self.refused(server)
            assert get(server, "/healthz") == (503, '{"status": "draining", "streams": 1}\n')
            with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as kept:
                kept.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert rest(kept).endswith(b'{"status": "ok"}\n')  # and is closed
            connection.sendall(masked(1, b"still here"))
            assert next_frame(connection) == (1, b"still here")
            connection.sendall(masked(8, b"\x03\xe8"))
            assert next_frame(connection) == (8, b"\x03\xe8")
        assert server.process.wait(SECONDS) == 0
        assert "refused with 503, The server is draining" in server.stop()

    def test_one_that_does_not_is_closed_with_1001(self, start_either):
        server = start_either(DRAIN_TIMEOUT="0.5")
        with dial(server, "/listen") as connection:
            server.process.terminate()
            assert next_frame(connection) == (8, b"\x03\xe9the server is going away")
            connection.sendall(masked(8, b"\x03\xe9"))
            assert rest(connection) == b""
        assert server.process.wait(SECONDS) == 0
        assert "heard 0 messages, closed with 1001" in server.stop()

    def test_a_second_signal_ends_at_once(self, start_own):
        server = start_own()
        with dial(server):
            server.process.send_signal(signal.SIGINT)
            server.wait_for("Draining")
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(SECONDS) == 0

    def test_without_streams_it_ends_at_once(self, start_either):
        server = start_either()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) == 0


async def _echo(url, context):
    # In one thread: CPython's TLS is not safe where one thread reads and another one writes (gh-124984).
    async with connect(url, ssl=context, compression=None, max_size=None) as ws:
        for message in ("hello", "\u4e2d" * 20_000, bytes(65536)):
            await ws.send(message)
            assert await asyncio.wait_for(ws.recv(), SECONDS) == message


def test_tls(folder, tmp_path):
    """gunicorn may be given a certificate; then what is read and written is TLS."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    key = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(key))
    command = ["-m", "gunicorn", "own:app", "--certfile", str(key), "--keyfile", str(key)]
    environ = {**environment(), "PYTHONPATH": str(ROOT), "HTTP_SERVER_PORT": "0"}
    server = Server([sys.executable, *command], folder, environ)
    try:
        server.wait_until_it_listens()
        context = ssl.create_default_context()
        authority.configure_trust(context)
        asyncio.run(_echo(f"wss://localhost:{server.port}/echo", context))
    finally:
        server.stop()


def test_autobahns_cases(tmp_path, start_own):
    """All of them but compression (12, 13), which Twilio does not offer."""
    server = start_own(MAX_MESSAGE_BYTES=str(2**25))
    kosoku = os.path.join(sysconfig.get_path("scripts"), "kosoku")
    wanted = [part for n in (1, 2, 3, 4, 5, 6, 7, 9, 10) for part in ("-i", f"{n}.*")]
    command = [kosoku, f"ws://127.0.0.1:{server.port}/echo", *wanted, "-o", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    ((_, cases),) = json.loads((tmp_path / "index.json").read_text()).items()
    assert len(cases) >= 290
    bad = {
        name: case
        for name, case in cases.items()
        if case["behavior"] not in ("OK", "INFORMATIONAL")
        or case["behaviorClose"] not in ("OK", "INFORMATIONAL")
    }
    assert bad == {}
