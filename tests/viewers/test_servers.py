"""The page shows the calls of all servers with the same REDIS_URL: processes, over a real Redis."""

import contextlib
import json
import os
import re
import signal
import struct
import time

import pytest
from support.page import TOKEN, Page, log_in
from support.recogniser import SPEAKING
from support.server import SECONDS, run, run_caller, wait_until
from support.streams import SID, dtmf, start, stop
from websockets.sync.client import connect

from mediastreams.protocol.messages import Mark, MarkMetadata, Media, MediaMetadata
from mediastreams.text import command
from mediastreams.viewers.wire import ASK, TELL, Interest, decode_ask, encode_ask

PROGRAM = f'{SPEAKING}\nimport runpy; runpy.run_path("app.py", run_name="__main__")'


@pytest.fixture
def start_one(redis_server, start_server):
    """Return a function that starts a server of those with the same Redis."""

    def start_one(*command, **environ):
        command = command or ("-c", PROGRAM)
        return start_server(*command, PAGE_TOKEN=TOKEN, REDIS_URL=redis_server.url, **environ)

    return start_one


@pytest.fixture
def one(start_one):
    return start_one()


@pytest.fixture
def other(start_one):
    return start_one()


@pytest.fixture
def page(other):
    """A page of `other`."""
    with Page(other) as page:
        page.wait_for("calls")
        yield page


@contextlib.contextmanager
def calling(server, **fields):
    """A call; wait until the server has it."""
    with connect(server.url, compression=None) as call:
        call.send(start(**fields).to_json())
        server.wait_for("Start Message received")
        yield call


def publishes(redis_server):
    """Return how many messages were sent through Redis's channels."""
    with redis_server.client() as client:
        return client.info("commandstats").get("cmdstat_publish", {}).get("calls", 0)


def listeners(redis_server, channel):
    with redis_server.client() as client:
        return client.pubsub_numsub(channel)[0][1]


class TestRows:
    def test_of_all_servers_at_once_and_as_they_come(self, one, other):
        with calling(one) as first, calling(other), Page(other) as page:
            assert page.receive() == {
                "event": "hello",
                "workers": 1,
                "recordings": False,
                "recogniser": False,
                "caller": command("call"),
            }
            rows = page.receive()["live"]
            servers = {row["id"].rpartition("/")[0] for row in rows}
            assert len(rows) == len(servers) == 2
            assert [row["startedAt"] for row in rows] == sorted((r["startedAt"] for r in rows), reverse=True)
            with connect(one.url, compression=None) as call:
                call.send(start(custom_parameters={"name": "Ann"}).to_json())
                row = page.wait_for_call()
                assert row["parameters"] == {"name": "Ann"}
                assert row["id"].rpartition("/")[0] in servers
                call.send(stop(2).to_json())
                last = page.wait_for_end(row["id"])
            assert last == {**row, "ending": "stop", "endedAt": last["endedAt"]}
            send_audio(first, bytes(4000))
            change = page.wait_for("changed", lambda m: "seconds" in m["calls"][0])
            assert change["calls"] == [{"id": rows[1]["id"], "seconds": 0.5}]
            with Page(one) as another:
                calls = another.wait_for("calls")
        assert {row["id"] for row in calls["live"]} == {row["id"] for row in rows}
        assert calls["ended"] == [last]

    def test_levels_of_what_is_shown_in_one_message(self, one, other):
        with calling(one) as loud, calling(other), Page(other) as page:
            ids = [row["id"] for row in two_rows(page)]
            page.send("show", ids=ids)
            page.wait_for("levels", lambda message: message["levels"].keys() == set(ids))
            send_audio(loud, b"\x00" * 4000)
            page.wait_for(
                "levels", lambda message: any(each["inbound"] for each in message["levels"].values())
            )
            del page.of["levels"][:]
            page.wait_for("levels")
            page.wait_for("levels")
        assert {frozenset(message["levels"]) for message in page.of["levels"]} == {frozenset(ids)}

    def test_no_levels_of_a_call_that_has_ended(self, one, other):
        with calling(one), calling(other) as call, Page(other) as page:
            ids = [row["id"] for row in two_rows(page)]
            page.send("show", ids=ids)
            page.wait_for("levels", lambda message: message["levels"].keys() == set(ids))
            send_audio(call, b"\x00" * 4000)
            page.wait_for("levels", lambda message: any(e["inbound"] for e in message["levels"].values()))
            call.send(stop(3).to_json())
            ended = page.wait_for("changed", lambda message: message["calls"][0].get("ending"))["calls"][0]
            assert ended["id"] not in page.wait_for("levels")["levels"]


def two_rows(page):
    """Return the rows of a call on each server."""
    rows = page.wait_for("calls")["live"]
    if len(rows) == 1:  # another server has not answered within a second
        rows.append(page.wait_for_call())
    return rows


def send_audio(call, payload, number=2, timestamp=0):
    metadata = MediaMetadata(track="inbound", chunk=1, timestamp=timestamp, payload=payload)
    call.send(Media(number, metadata, SID).to_json())


class TestOneCall:
    def test_all_so_far_and_what_comes(self, one, page):
        with calling(one) as call:
            id = page.wait_for_call()["id"]
            call.send(dtmf(2).to_json())
            one.wait_for("Dtmf Message received")
            page.send("select", id=id)
            detail = page.wait_for("call", lambda message: message["digits"] and message["transcripts"])
            assert [said["text"] for said in detail["transcripts"]] == ["hello"]
            assert "Start Message received" in detail["lines"][0]["text"]
            call.send(Mark(3, SID, MarkMetadata("greeting")).to_json())
            call.send(dtmf(4).to_json())
            assert page.wait_for("mark")["name"] == "greeting"
            assert page.wait_for("dtmf") == {"event": "dtmf", "id": id, "digit": "1", "at": 0.0}
            texts = [page.wait_for("transcript")["text"] for _ in range(4)]
            assert texts == ["hel", "hello", "bye", ""]
            call.send(stop(5).to_json())
            page.wait_for_end(id)
            page.wait_for("line", lambda message: message["text"].startswith(f"Stream {SID}: 0.00 s"))
        page.send("select", id=id)
        detail = page.wait_for("call", lambda message: message["digits"])
        assert len(detail["digits"]) == 2
        assert [mark["name"] for mark in detail["marks"]] == ["greeting"]

    def test_words_of_what_is_shown(self, one, page):
        with calling(one) as call:
            id = page.wait_for_call()["id"]
            page.send("show", ids=[id])
            page.wait_for("levels")
            call.send(dtmf(2).to_json())
            texts = [page.wait_for("transcript")["text"] for _ in range(4)]
            assert texts == ["hel", "hello", "bye", ""]
            change = page.wait_for("changed", lambda message: "words" in message["calls"][0])
            assert change["calls"] == [{"id": id, "words": {"speaker": "caller", "text": "bye"}}]

    def test_one_listens_to_it_byte_for_byte(self, one, page):
        with calling(one) as call:
            id = page.wait_for_call()["id"]
            page.send("listen", id=id)
            assert page.wait_for("listening") == {"event": "listening", "id": id, "number": 1, "rate": 8000}
            sent = b""
            while len(sent) < 50 * 160 or not page.of["audio"]:
                chunk = os.urandom(160)
                send_audio(call, chunk, 2 + len(sent) // 160, len(sent) // 8)
                sent += chunk
                with contextlib.suppress(TimeoutError):
                    page.of["audio"] += [m for m in [page.ws.recv(0.005)] if isinstance(m, bytes)]
            first = struct.unpack_from("<BBHI", page.of["audio"][0])[3]
            wait_until_heard = len(sent) - first
            while sum(len(frame) - 8 for frame in page.of["audio"]) < wait_until_heard:
                page.receive()
        heard = bytearray()
        for frame in page.of["audio"]:
            track, zero, number, position = struct.unpack_from("<BBHI", frame)
            assert (track, zero, number, position) == (0, 0, 1, first + len(heard))
            heard += frame[8:]
        assert heard == sent[first:]

    def test_waves_of_what_is_selected_and_no_audio(self, one, page):
        with calling(one) as call:
            id = page.wait_for_call()["id"]
            page.send("select", id=id)
            page.wait_for("call", lambda message: message["lines"])
            send_audio(call, b"\x00" * 1600)
            wave = page.wait_for("wave")
            assert wave == {"event": "wave", "id": id, "track": "inbound", "start": 0, "peaks": [98] * 10}
        assert page.of["audio"] == []

    def test_one_cannot_listen_to_a_call_that_has_ended_or_is_not_known(self, one, page):
        with calling(one) as call:
            id = page.wait_for_call()["id"]
            call.send(stop(2).to_json())
            page.wait_for_end(id)
        for each in (id, "nobody/1", "1"):
            page.send("listen", id=each)
            assert page.wait_for("listening")["id"] is None
            page.send("select", id=f"{each}0")
            assert page.wait_for("call") == {
                "event": "call",
                "id": f"{each}0",
                **{name: [] for name in ("transcripts", "lines", "digits", "marks")},
            }


class TestNobodyWatches:
    def test_nothing_is_sent(self, one, other, redis_server):
        with calling(one) as call:
            call.send(dtmf(2).to_json())
        assert run_caller(one.url, "--fast").returncode == 0
        assert publishes(redis_server) == 0
        with redis_server.client() as client, client.pubsub() as asks:
            asks.subscribe(ASK)
            with Page(other) as page:
                page.wait_for("calls")
            wait_until(lambda: is_last(asks.get_message(timeout=0)))
        wait_until(lambda: listeners(redis_server, TELL) == 0)
        before = publishes(redis_server)
        assert before > 1
        assert run_caller(one.url, "--fast").returncode == 0
        time.sleep(2.5)  # longer than from one question, or answer, to the next
        assert publishes(redis_server) == before

    def test_one_that_is_gone_without_a_word_is_told_nothing(self, one, other, redis_server):
        with Page(other) as page:
            page.wait_for("calls")
            os.kill(other.process.pid, signal.SIGKILL)
            with calling(one):
                before = publishes(redis_server)
                wait_until(lambda: publishes(redis_server) > before)  # it still is
                until = time.monotonic() + 8
                while (before := publishes(redis_server)) and time.monotonic() < until:
                    time.sleep(2.5)  # longer than from one answer to the next
                    if publishes(redis_server) == before:
                        break
                assert publishes(redis_server) == before


def is_last(message):
    return message and message["type"] == "message" and decode_ask(message["data"]).is_last


class TestAServerIsLost:
    def test_its_calls_are_said_to_have_ended(self, one, page):
        with calling(one):
            id = page.wait_for_call()["id"]
            began = time.monotonic()
            os.kill(one.process.pid, signal.SIGKILL)
            row = page.wait_for_end(id)
            assert 4 < time.monotonic() - began < 9
        assert row["ending"] == "server lost"
        assert row["endedAt"] > row["startedAt"]
        page.send("listen", id=id)
        assert page.wait_for("listening")["id"] is None

    def test_one_that_only_paused_is_back(self, one, page):
        with calling(one):
            row = page.wait_for_call()
            os.kill(one.process.pid, signal.SIGSTOP)
            assert page.wait_for_end(row["id"])["ending"] == "server lost"
            os.kill(one.process.pid, signal.SIGCONT)
            page.wait_for(
                "changed", lambda m: m["calls"][0] == {"id": row["id"], "ending": "", "endedAt": None}
            )


class TestRedisIsAway:
    def test_the_page_says_so_goes_on_and_comes_back(self, one, other, redis_server):
        with calling(one) as call, calling(other), Page(other) as page:
            there, here = sorted(two_rows(page), key=lambda row: row["startedAt"])
            page.send("select", id=there["id"])
            page.wait_for("call", lambda message: message["lines"])
            redis_server.kill()
            hello = page.wait_for("hello", lambda message: message.get("alone"))
            assert hello == {**page.of["hello"][0], "alone": True}
            with calling(other) as own:
                own.send(dtmf(2).to_json())
                page.wait_for_call()
            call.send(dtmf(2).to_json())
            one.wait_for("Dtmf Message received")
            with calling(one, custom_parameters={"name": "missed"}):
                assert not any(row.get("parameters") for m in page.of["changed"] for row in m["calls"])
                redis_server.start()
                assert "alone" not in page.wait_for("hello")
                page.wait_for("changed", lambda m: m["calls"][-1].get("parameters") == {"name": "missed"})
                detail = page.wait_for("call", lambda message: message["digits"])
                assert detail["id"] == there["id"]
                assert [said["text"] for said in detail["transcripts"]] == ["hello"]
                call.send(dtmf(3).to_json())
                page.wait_for("dtmf")
            assert not any(
                row.get("ending") == "server lost" for m in page.of["changed"] for row in m["calls"]
            )
            assert here["id"] != there["id"]
        for server in (one, other):
            server.wait_for("Redis .* is back")  # some seconds later, where Redis was met while it loaded
            printed = server.stop()
            told = re.findall("Redis .* is (?:away|back).*", printed)
            assert [re.search("away|back", line)[0] for line in told] == ["away", "back"], told
            assert "Traceback" not in printed

    def test_before_the_start(self, start_one, redis_server):
        redis_server.kill()
        one, other = start_one(), start_one()
        with calling(one), Page(other) as page:
            assert page.wait_for("hello")["alone"]
            assert page.wait_for("calls")["live"] == []
            redis_server.start()
            page.wait_for_call()

    def test_a_redis_that_does_not_answer_holds_up_no_call(self, one, other, redis_server):
        with calling(one) as call, Page(one) as page:
            id = page.wait_for("calls")["live"][0]["id"]
            page.send("select", id=id)
            redis_server.suspend()
            began = time.monotonic()
            for number in range(2, 52):
                call.send(dtmf(number).to_json())
            page.wait_for("dtmf")
            call.send(stop(52).to_json())
            page.wait_for_end(id)
            assert time.monotonic() - began < 2
            page.wait_for("hello", lambda message: message.get("alone"))
            redis_server.resume()
            page.wait_for("hello", lambda message: not message.get("alone"))

    def test_a_connection_that_is_lost_is_made_again(self, one, page, redis_server):
        with calling(one):
            page.wait_for_call()
            with redis_server.client() as client:
                assert client.client_kill_filter(_type="pubsub") == 3
            wait_until(lambda: listeners(redis_server, ASK) == 2 and listeners(redis_server, TELL) == 1)
            with calling(one, custom_parameters={"name": "Ann"}):
                page.wait_for("changed", lambda m: m["calls"][0].get("parameters") == {"name": "Ann"})


GARBAGE = [
    b"",
    b"\xc1",
    b"hello",
    b"\x93\x01\xa1a\x00",
    json.dumps([1, "a", 1, []]).encode(),
    encode_ask("a/b", Interest(), None, [], False),
    encode_ask("a", Interest(), None, [], False)[:-1],
    b"\x94\x02\xa1a\x01\x90",  # another version
    b"\x94\x01\xa1a\x01\x91\x81\xa5event\xa4rows",
    b"\x94\x01\xa1a\x01\x91\x83\xa5event\xa4rows\xa4rows\x91\x01\xa6counts\x90",
    b"\x94\x01\xa1a\x01\x91\x81\xa5event\xa5other",
]


def test_what_is_no_message_is_dropped_and_logged_once(one, other, redis_server):
    with Page(other) as page, redis_server.client() as client:
        page.wait_for("calls")
        wait_until(lambda: listeners(redis_server, ASK) == 2 and listeners(redis_server, TELL) == 1)
        for channel in (ASK, TELL):
            for data in GARBAGE:
                client.publish(channel, data)
        with calling(one) as call:
            id = page.wait_for_call()["id"]
            page.send("select", id=id)
            page.wait_for("call", lambda message: message["lines"])
            call.send(dtmf(2).to_json())
            page.wait_for("dtmf")
    for server, channels in ((one, [ASK]), (other, [ASK, TELL])):
        printed = server.stop()
        told = re.findall(r"Redis's channel (\S+) has a message that is not of a server", printed)
        assert sorted(told) == channels  # each comes by a connection of its own
        assert "Traceback" not in printed


def test_another_program_that_asks_is_answered_and_forgotten(one, redis_server):
    with redis_server.client() as client, client.pubsub() as tells:
        tells.subscribe(TELL)
        wait_until(lambda: listeners(redis_server, ASK) == listeners(redis_server, TELL) == 1)
        with calling(one):
            client.publish(ASK, encode_ask("another.program", Interest(), None, [], False))
            wait_until(lambda: (message := tells.get_message(timeout=0)) and SID in str(message["data"]))
    assert "Traceback" not in one.stop()


def test_all_workers_of_gunicorn_are_one_page(start_one, redis_server):
    server = start_one("-m", "gunicorn", "-w", "2", "app:app")
    wait_until(lambda: listeners(redis_server, ASK) == 2)
    cookie = log_in(server)
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(Page(server, cookie))
        assert page.wait_for("hello")["workers"] == 1
        ids = []
        while len({id.rpartition("/")[0] for id in ids}) < 2:
            assert len(ids) < 50
            stack.enter_context(calling(server))
            ids.append(page.wait_for_call()["id"])
        pages = []
        while listeners(redis_server, TELL) < 2:
            assert len(pages) < 15
            pages.append(stack.enter_context(Page(server, cookie)))
            pages[-1].wait_for("calls")
        pages.append(stack.enter_context(Page(server, cookie)))
        pages[-1].wait_for("calls")
        for each in pages:
            assert {row["id"] for row in each.of["calls"][0]["live"]} == set(ids)
    assert "Traceback" not in server.stop()


def test_a_person_with_a_page_sees_what_a_server_tells_before_it_ends(one, page):
    with calling(one) as call:
        id = page.wait_for_call()["id"]
        one.process.terminate()
        one.wait_for("Draining")
        call.send(stop(2).to_json())
        assert page.wait_for_end(id)["ending"] == "stop"
    one.process.wait(SECONDS)


def test_without_a_redis_url_nothing_of_it_is_imported():
    program = 'import app, sys; print({"redis", "mediastreams.viewers.servers"} & sys.modules.keys())'
    assert run("-c", program).stdout == "set()\n"
    assert run("-c", program, REDIS_URL="redis://127.0.0.1:1").stdout != "set()\n"
