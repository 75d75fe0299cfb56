"""The page's WebSocket, over real sockets."""

import contextlib
import json
import re
import socket
import struct
import urllib.request
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event
from support.calls import say
from support.handshake import exchange, handshake
from support.page import TOKEN, Page, log_in
from support.recogniser import SPEAKING
from support.server import ROOT, SECONDS, run_caller, wait_until
from support.streams import SID, dtmf, start, stop
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mediastreams.audio import mulaw
from mediastreams.consumers.registry import Consumers
from mediastreams.protocol.messages import Mark, MarkMetadata, Media, MediaMetadata
from mediastreams.text import command
from mediastreams.viewers import viewer as viewer_module
from mediastreams.viewers.calls import LiveCalls
from mediastreams.viewers.lines import Lines
from mediastreams.viewers.messages import Audio, Hello, Select, audio_frame
from mediastreams.viewers.viewer import Viewer, Viewers

# Half a second of a loud tone, and of silence.
LOUD, SILENT = mulaw.encode(b"\x00\x40\x00\xc0" * 2000), mulaw.SILENCE * 4000

# app.py with other constants, and what else a test wants.
CHANGED = """
import runpy
from mediastreams.server import websocket
from mediastreams.viewers import viewer
{}
runpy.run_path("app.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def page_server(start_shared_server):
    return start_shared_server(PAGE_TOKEN=TOKEN)


@pytest.fixture
def start_page_server(start_server):
    def start_page_server(*command, **environ):
        return start_server(*command, **{"PAGE_TOKEN": TOKEN, **environ})

    return start_page_server


@pytest.fixture(scope="module")
def cookie(page_server):
    return log_in(page_server)


@pytest.fixture
def page(page_server, cookie):
    with Page(page_server, cookie) as page:
        page.wait_for("calls")
        yield page


@pytest.fixture
def call(page_server):
    """A call that sends what the test wants; it ends with the test."""
    with connect(page_server.url, compression=None) as call:
        yield call


def speak(call, *chunks, first=2, track="inbound"):
    """Send chunks of audio, each at the end of the one before it."""
    timestamp = 0
    for number, payload in enumerate(chunks, first):
        metadata = MediaMetadata(track=track, chunk=number, timestamp=timestamp, payload=payload)
        call.send(Media(number, metadata, SID).to_json())
        timestamp += len(payload) // 8


def status_of(server, **changes):
    answer = exchange(server, handshake("GET /page/live HTTP/1.1", **changes))
    return int(answer.split(" ")[1])


def healthz(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=SECONDS) as answer:
        return json.load(answer)


class TestAdmission:
    def test_without_a_cookie_nobody_gets_in(self, page_server):
        assert status_of(page_server, Host=f"127.0.0.1:{page_server.port}") == 403
        (line,) = page_server.logged()
        assert "refused with 403" in line

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({}, 101),
            ({"Origin": "http://127.0.0.1:{port}"}, 101),
            ({"Origin": "http://127.0.0.1:1"}, 403),
            ({"Origin": "https://example.com"}, 403),
            ({"Host": "example.com:{port}"}, 403),
            ({"Cookie": "mediastreams-{port}=forged"}, 403),
            ({"Sec_WebSocket_Version": "8"}, 426),
            ({"Sec_WebSocket_Key": None}, 400),
        ],
        ids=str,
    )
    def test_who_gets_in(self, page_server, cookie, changes, status):
        port = page_server.port
        headers = {"Host": "127.0.0.1:{port}", "Cookie": cookie, **changes}
        headers = {name: value and value.replace("{port}", str(port)) for name, value in headers.items()}
        assert status_of(page_server, **headers) == status

    def test_a_post_is_no_handshake(self, page_server, cookie):
        line = "POST /page/live HTTP/1.1"
        data = handshake(line, Host=f"127.0.0.1:{page_server.port}", Cookie=cookie, Content_Length="0")
        assert exchange(page_server, data).startswith("HTTP/1.1 405 ")

    def test_so_many_and_no_more(self, start_page_server):
        server = start_page_server(PAGE_VIEWERS="2", MAX_STREAMS="1", TWILIO_AUTH_TOKEN="0" * 32)
        cookie = log_in(server)
        with Page(server, cookie) as one, Page(server, cookie):
            one.wait_for("calls")
            with pytest.raises(InvalidStatus) as refused:
                Page(server, cookie)
            assert refused.value.response.status_code == 503
            assert b"2 pages watch already (PAGE_VIEWERS)" in refused.value.response.body
            # They are no streams.
            assert healthz(server) == {"status": "ok", "streams": 0}
            result = run_caller(server.url, "--fast", TWILIO_AUTH_TOKEN="0" * 32)
            assert (result.returncode, result.stderr) == (0, "")
        server.wait_for(r"refused with 503, 2 pages watch already \(PAGE_VIEWERS\)")
        for _ in range(3):
            with Page(server, cookie) as another:
                another.wait_for("calls")
                another.ws.close()

    def test_without_a_page_there_is_no_websocket(self, start_page_server):
        server = start_page_server(PAGE_TOKEN="off")
        assert status_of(server) == 404


class TestCalls:
    def test_hello_then_all_calls(self, page_server, cookie):
        with Page(page_server, cookie) as page:
            hello, calls = page.receive(), page.receive()
        assert hello == {
            "event": "hello",
            "workers": 1,
            "recordings": False,
            "recogniser": False,
            "caller": command("call"),
        }
        assert calls.keys() == {"event", "live", "ended"}

    def test_a_call_from_its_start_to_its_end(self, page_server, page, cookie):
        parameters = {"<b>who</b>": "it's \u202eme"}
        with connect(page_server.url, compression=None) as call:
            call.send(start(custom_parameters=parameters).to_json())
            row = page.wait_for_call()
            assert (row["streamSid"], row["callSid"], row["tracks"]) == (SID, "CA1", ["inbound"])
            assert row["parameters"] == {"<b>who</b>": "it's \\u202eme"}
            assert (row["decodable"], row["twoWay"], row["ending"]) == (True, False, "")
            speak(call, LOUD + LOUD, first=4)
            change = page.wait_for("changed", lambda message: message["calls"][0].get("lost"))
            assert change["calls"] == [{"id": row["id"], "seconds": 1.0, "lost": 2}]
            with Page(page_server, cookie) as another:
                (now,) = another.wait_for("calls")["live"]
                assert (now["id"], now["seconds"], now["lost"]) == (row["id"], 1.0, 2)
            call.send(stop(5).to_json())
            last = page.wait_for_end(row["id"])
        assert (last["ending"], last["seconds"], last["lost"]) == ("stop", 1.0, 2)
        assert last["endedAt"] >= last["startedAt"]
        with Page(page_server, cookie) as another:
            assert another.wait_for("calls")["ended"][0] == last

    def test_a_dropped_one(self, page_server, page):
        with connect(page_server.url, compression=None) as call:
            call.send(start().to_json())
            id = page.wait_for_call()["id"]
            call.socket.shutdown(socket.SHUT_RDWR)  # without a Close
            assert page.wait_for_end(id)["ending"] == "dropped"


class TestLevels:
    def test_they_move_while_someone_speaks_and_rest_after(self, page, call):
        call.send(start(tracks=("inbound", "outbound")).to_json())
        id = page.wait_for_call()["id"]
        page.send("show", ids=[id])
        assert page.wait_for("levels")["levels"] == {id: {"inbound": None, "outbound": None}}
        speak(call, LOUD)
        page.wait_for("levels", lambda message: message["levels"][id]["inbound"] is not None)
        levels = page.of["levels"][-1]["levels"]
        assert levels == {id: {"inbound": pytest.approx(-5.8, abs=0.3), "outbound": None}}
        page.wait_for("levels", lambda message: message["levels"][id]["inbound"] is None)

    def test_of_what_each_page_shows(self, page_server, page, cookie):
        with contextlib.ExitStack() as stack:
            ids = []
            for _ in range(3):
                call = stack.enter_context(connect(page_server.url, compression=None))
                call.send(start().to_json())
                ids.append(page.wait_for_call()["id"])
            other = stack.enter_context(Page(page_server, cookie))
            page.send("show", ids=ids[:2])
            other.send("show", ids=[ids[1], ids[2], "no such call"])
            assert page.wait_for("levels")["levels"].keys() == set(ids[:2])
            assert other.wait_for("levels")["levels"].keys() == set(ids[1:])
            page.send("show", ids=[ids[2]])
            page.wait_for("levels", lambda message: message["levels"].keys() == {ids[2]})


class TestSelect:
    def test_all_so_far_and_what_comes(self, page_server, page, call):
        call.send(start(custom_parameters={"bidirectional": "true"}).to_json())
        id = page.wait_for_call()["id"]
        speak(call, LOUD)
        call.send(dtmf(3).to_json())
        page_server.wait_for("Dtmf Message received")
        page.send("select", id=id)
        detail = page.wait_for("call")
        assert detail["id"] == id
        assert detail["transcripts"] == detail["marks"] == []
        texts = [line["text"] for line in detail["lines"]]
        assert texts[0].startswith("Start Message received: ")
        assert texts[-1].startswith("Dtmf Message received: ")
        assert "Payload is: " in texts[2]
        assert not [text for text in texts if len(text) > 1000]  # elided
        assert detail["lines"][0]["level"] == "INFO"
        call.send(Mark(4, SID, MarkMetadata("greeting")).to_json())
        call.send(dtmf(5).to_json())
        assert page.wait_for("mark") == {"event": "mark", "id": id, "name": "greeting", "at": 0.5}
        assert page.wait_for("dtmf") == {"event": "dtmf", "id": id, "digit": "1", "at": 0.5}
        texts = [message["text"] for message in page.of["line"]]
        assert (
            texts[0] == "Stream MZ0123456789abcdef0123456789abcdef: Twilio returned a mark that was not "
            "sent: greeting (more of this kind are only counted)"
        )
        call.send(stop(6).to_json())
        page.wait_for("line", lambda message: message["text"].startswith(f"Stream {SID}: 0.50 s; inbound"))
        assert {message["id"] for message in page.of["line"]} == {id}

    def test_one_that_has_ended(self, page_server, page):
        say(page_server, [start().to_json(), dtmf(2).to_json(), stop(3).to_json()])
        id = page.wait_for_call()["id"]
        page.wait_for_end(id)
        page.send("select", id=id)
        detail = page.wait_for("call")
        assert [each["digit"] for each in detail["digits"]] == ["1"]

    def test_one_that_is_not_known(self, page):
        page.send("select", id="none")
        expected = {"event": "call", "id": "none", "transcripts": [], "lines": [], "digits": [], "marks": []}
        assert page.wait_for("call") == expected

    def test_the_wave_is_that_of_the_audio(self, page, call):
        call.send(start().to_json())
        id = page.wait_for_call()["id"]
        page.send("select", id=id)
        page.wait_for("call")
        speak(call, LOUD, SILENT, LOUD)
        peaks = {}
        while len(peaks) < 75:
            wave = page.wait_for("wave")
            assert (wave["id"], wave["track"]) == (id, "inbound")
            peaks.update(enumerate(wave["peaks"], wave["start"]))
        assert [peaks[n] for n in range(75)] == [51] * 25 + [0] * 25 + [51] * 25
        assert page.of["audio"] == []

    def test_nothing_of_another_one(self, page_server, page, call):
        call.send(start().to_json())
        page.send("select", id=page.wait_for_call()["id"])
        page.wait_for("call")
        say(page_server, [start().to_json(), dtmf(2).to_json(), stop(3).to_json()])
        page.wait_for_end(page.wait_for_call()["id"])
        assert not page.of.keys() & {"dtmf", "line"}

    def test_secret_keys_are_not_shown(self, start_page_server):
        server = start_page_server(LOG_DIGITS="off")
        with Page(server) as page, connect(server.url, compression=None) as call:
            call.send(start().to_json())
            id = page.wait_for_call()["id"]
            call.send(dtmf(2).to_json())
            page.send("select", id=id)
            page.wait_for("call")
            call.send(dtmf(3).to_json())
            assert page.wait_for("dtmf")["digit"] == "(not shown)"
            page.send("select", id=id)
            assert [each["digit"] for each in page.wait_for("call")["digits"]] == ["(not shown)"] * 2


class TestListen:
    def test_what_was_said_is_heard(self, page, call):
        call.send(start(tracks=("inbound", "outbound")).to_json())
        id = page.wait_for_call()["id"]
        page.send("listen", id=id)
        assert page.wait_for("listening") == {"event": "listening", "id": id, "number": 1, "rate": 8000}
        speak(call, LOUD, SILENT, LOUD)
        speak(call, SILENT, LOUD, first=5, track="outbound")
        heard = [bytearray(), bytearray()]
        while len(heard[0]) < 12000 or len(heard[1]) < 8000:
            message = page.receive()
            if isinstance(message, bytes):
                track, zero, number, position = struct.unpack("<BBHI", message[:8])
                assert (zero, number, position) == (0, 1, len(heard[track]))
                heard[track] += message[8:]
        assert heard == [LOUD + SILENT + LOUD, SILENT + LOUD]

    def test_another_call_has_another_number(self, page_server, page, call):
        call.send(start().to_json())
        id = page.wait_for_call()["id"]
        for number in (1, 2):
            page.send("listen", id=id)
            assert page.wait_for("listening")["number"] == number
        speak(call, LOUD)
        while not page.of["audio"]:
            page.receive()
        assert struct.unpack("<H", page.of["audio"][0][2:4]) == (2,)
        page.send("listen", id=None)
        assert page.wait_for("listening") == {"event": "listening", "id": None, "number": 3, "rate": 0}

    def test_one_that_has_ended(self, page_server, page):
        say(page_server, [start().to_json(), stop(2).to_json()])
        page.send("listen", id=page.wait_for_call()["id"])
        assert page.wait_for("listening")["id"] is None


class TestTranscripts:
    def test_of_calls_that_are_shown_or_selected(self, start_page_server):
        server = start_page_server("-c", CHANGED.format(SPEAKING))
        cookie = log_in(server)
        with (
            Page(server, cookie) as shows,
            Page(server, cookie) as selects,
            Page(server, cookie) as neither,
            connect(server.url, compression=None) as call,
        ):
            call.send(start().to_json())
            id = shows.wait_for_call()["id"]
            shows.send("show", ids=[id])
            shows.wait_for("levels")
            selects.send("select", id=id)
            selects.wait_for("call")
            call.send(dtmf(2).to_json())
            said = {
                "event": "transcript",
                "track": "inbound",
                "speaker": "caller",
                "start": 0.5,
                "end": 1.0,
                "id": id,
            }
            for page in (shows, selects):
                for text, final in ("hel", False), ("hello", True), ("bye", False), ("", True):
                    assert page.wait_for("transcript") == {**said, "text": text, "final": final}
            change = neither.wait_for(
                "changed",
                lambda message: "words" in message["calls"][0] and "tracks" not in message["calls"][0],
            )
            assert change["calls"] == [{"id": id, "words": {"speaker": "caller", "text": "bye"}}]
            assert "transcript" not in neither.of
            neither.send("select", id=id)
            assert [each["text"] for each in neither.wait_for("call")["transcripts"]] == ["hello"]


class TestBadPages:
    @pytest.mark.parametrize(
        ("message", "code", "reason"),
        [
            ("{", 1008, "not a message of the page: "),
            ('{"event":"shout"}', 1008, "not a message of the page: "),
            ('{"event":"show","ids":["1"],"more":1}', 1008, "not a message of the page: "),
            ("[" * 5000, 1008, "not a message of the page: "),
            (b"\x00", 1008, "not a message of the page: a binary message"),
            ("x" * 16385, 1009, "a message of more than 16384 bytes"),
        ],
        ids=["no JSON", "unknown", "more", "deep", "binary", "long"],
    )
    def test_what_a_page_does_not_say(self, page, message, code, reason):
        page.ws.send(message)
        closed = page.rest()
        assert closed[0] == code
        assert closed[1].startswith(reason)

    def test_a_reset_is_no_traceback(self, page_server, cookie):
        with Page(page_server, cookie) as page:
            page.wait_for("calls")
            page.ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            page.ws.socket.close()
        page_server.wait_for("connection lost")

    def test_one_that_answers_no_ping_is_closed(self, start_page_server):
        server = start_page_server(
            "-c", CHANGED.format("viewer.PING_SECONDS = 0.2; viewer.Viewers.idle_seconds = 1.5")
        )
        cookie = log_in(server)
        data = handshake("GET /page/live HTTP/1.1", Host=f"127.0.0.1:{server.port}", Cookie=cookie)
        with (
            Page(server, cookie) as page,
            socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as silent,
        ):
            silent.sendall(data)
            received = b""
            while part := silent.recv(65536):
                received += part
                if b"nothing received" in received:
                    break
            assert received.count(b'\x89\x00\x81\x11{"event":"alive"}') >= 2  # Pings
            assert received.endswith(b"\x88\x1c" + struct.pack("!H", 1001) + b"nothing received for 1.5 s")
            page.send("select", id="none")
            page.wait_for("call")  # it has answered its Pings

    def test_one_that_does_not_read_is_closed_and_felt_by_nobody(self, start_page_server):
        server = start_page_server(
            "-c", CHANGED.format("viewer.MAX_WAITING, websocket.CLOSE_SECONDS = 20_000, 60")
        )
        cookie = log_in(server)
        with Page(server, cookie) as page, stalled(server, cookie) as slow:
            page.wait_for("calls")
            row = {"custom_parameters": {f"{n}": "x" * 190 for n in range(20)}}
            with connect(server.url, compression=None) as call:
                call.send(start().to_json())
                id = page.wait_for_call()["id"]
                speak(call, LOUD)
                for _ in range(100):  # each is 8 kB to a page, and the slow one's socket takes some 100
                    say(server, [start(**row).to_json(), stop(2).to_json()])
                    page.wait_for("changed", lambda message: message["calls"][0].get("ending"))
                server.wait_for("page closed with 1013, the page reads too slowly")
                call.send(stop(3).to_json())
                assert page.wait_for_end(id)["ending"] == "stop"
            assert slow.rest() == (1013, "the page reads too slowly")
        assert "Traceback" not in server.stop()


def stalled(server, cookie):
    """Return a page that reads nothing, until it is asked to."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    return Page(server, cookie, sock=connection, max_queue=1)


class FakeWebSocket:
    """A WebSocket whose peer reads nothing until it is `released`, and says nothing."""

    peer = "peer"
    closed = False

    def __init__(self):
        self.handler = SimpleNamespace(socket=socket.socket())
        self.sent, self.closed_with = [], None
        self.released, self._ended = Event(), Event()

    def receive(self):
        self._ended.wait()

    def send_frame(self, data, opcode):
        self.released.wait()
        self.sent.append((opcode, data))

    def send_frames(self, frames):
        self.released.wait()
        self.sent.extend((opcode, data) for data, opcode in frames)

    def close(self, code, reason):
        self.closed, self.closed_with = True, (code, reason)
        self._ended.set()


class TestOrder:
    """What a page that reads slowly gets first, and what it does not get."""

    @pytest.fixture
    def websocket(self):
        websocket = FakeWebSocket()
        yield websocket
        websocket.handler.socket.close()

    @pytest.fixture
    def slow(self, websocket):
        """Return a page whose first message waits for its peer to read."""
        calls = LiveCalls(Consumers(), Lines())
        viewer = Viewer(websocket, Viewers(calls, None, 1, lambda: Hello(1, False, False)))
        greenlet = gevent.spawn(viewer.run)
        gevent.sleep(0)
        yield viewer
        websocket.close(1000, "")
        greenlet.get(timeout=SECONDS)

    def sent(self, websocket, number):
        """Let the peer read; return what it gets behind the first messages."""
        websocket.released.set()
        wait_until(lambda: len(websocket.sent) == 2 + number)
        return websocket.sent[2:]

    def test_texts_first_then_levels_waves_and_audio(self, slow, websocket):
        audio = Audio("1", "inbound", 0, b"x")
        slow.put_audio(audio)
        slow.put_wave(b"wave")
        slow.put_levels(b"levels")
        slow.put(b"text")
        slow.put(b"another")
        assert self.sent(websocket, 5) == [
            (0x1, b"text"),
            (0x1, b"another"),
            (0x1, b"levels"),
            (0x1, b"wave"),
            (0x2, audio_frame(audio, 0)),
        ]

    def test_old_audio_and_waves_are_left_out_and_levels_replaced(self, slow, websocket):
        for n in range(viewer_module.MAX_WAVES + 50):
            slow.put_audio(Audio("1", "inbound", n, b"x"))
            slow.put_wave(b"%d" % n)
            slow.put_levels(b"levels %d" % n)
            slow.put(b"text")
        last = viewer_module.MAX_WAVES + 49
        texts = last + 1
        kept = texts + 1 + viewer_module.MAX_WAVES + viewer_module.MAX_AUDIO
        sent = [data for _, data in self.sent(websocket, kept)]
        assert sent[:texts] == [b"text"] * texts
        assert sent[texts] == b"levels %d" % last
        assert sent[texts + 1] == b"50"
        assert sent[-1] == audio_frame(Audio("1", "inbound", last, b"x"), 0)
        assert websocket.closed_with is None

    def test_where_too_many_texts_wait_it_is_closed(self, slow, websocket, caplog):
        slow.put(b"x" * (viewer_module.MAX_WAITING + 1))
        assert websocket.closed_with is None
        slow.put(b"one more")
        slow.put(b"and another")
        assert websocket.closed_with == (1013, "the page reads too slowly")
        (record,) = caplog.records
        assert record.getMessage() == "peer: page closed with 1013, the page reads too slowly"

    def test_a_new_selection_drops_the_old_wave(self, slow, websocket):
        slow.put_wave(b"old")
        slow._do(Select(None))
        slow.put(b"text")
        assert self.sent(websocket, 1) == [(0x1, b"text")]


class TestDrain:
    @pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
    def test_pages_are_closed_first(self, start_page_server, command):
        server = start_page_server(*command)
        with Page(server) as page, connect(server.url, compression=None) as call:
            call.send(start().to_json())
            page.wait_for_call()
            server.process.terminate()
            assert page.rest() == (1001, "the server is going away")
            assert page.of["draining"] == [{"event": "draining"}]
            call.send(stop(2).to_json())
            for _ in call:
                pass
            assert call.close_code == 1000
        printed = server.stop(told=False)
        assert re.search(f"Stream {SID}: 0.00 s", printed)
        assert "Traceback" not in printed

    def test_one_that_does_not_read_holds_nothing_up(self, start_page_server):
        server = start_page_server()
        with stalled(server, log_in(server)):
            server.wait_for("a page watches the calls")
            server.process.terminate()
            server.process.wait(SECONDS)

    def test_a_page_says_how_many_workers_there_are(self, start_page_server, tmp_path):
        server = start_page_server("-m", "gunicorn", "-w", "2", "app:app", RECORDINGS_DIR=str(tmp_path))
        with Page(server) as page:
            assert page.wait_for("hello") == {
                "event": "hello",
                "workers": 2,
                "recordings": True,
                "recogniser": False,
                "caller": command("call"),
            }
            server.process.terminate()
            assert page.rest()[0] == 1001
        assert "Traceback" not in server.stop(told=False)


def test_under_a_server_that_asks_nobody_there_is_no_page(start_server, tmp_path):
    """With gevent-websocket's own handler, as in the tutorial, nothing checks who looks."""
    program = """
from gevent import pywsgi
from geventwebsocket.handler import WebSocketHandler
from app import app
server = pywsgi.WSGIServer(("127.0.0.1", 0), app, handler_class=WebSocketHandler)
server.start()
print(f"listening on: http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""
    server = start_server("-c", program, PAGE_TOKEN=TOKEN, PYTHONPATH=str(ROOT))
    with connect(f"ws://127.0.0.1:{server.port}/page/live", compression=None) as ws:
        assert list(ws) == []
