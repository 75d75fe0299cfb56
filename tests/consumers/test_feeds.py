"""Consumers in the threads of a process, with streams whose messages come from the test."""

import re
import threading
import time

import gevent
import pytest
from gevent import GreenletExit
from support.server import ROOT, SECONDS, run_caller
from support.streams import CONNECTED, SID, FakeConnection, dtmf, media, start, stop, warnings

from mediastreams.config import Settings
from mediastreams.consumers import feeds as module
from mediastreams.consumers.base import Consumer
from mediastreams.consumers.feeds import MAX_THREADS, Consumers
from mediastreams.protocol.messages import Mark, MarkMetadata
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript

OTHER = "MZ" + "f" * 32
MISSED = []  # what consumers have missed, in the test that runs


def mark(number):
    return Mark(number, SID, MarkMetadata("m"))


class Noting(Consumer):
    """Notes what it gets, in a dict of the test's."""

    notes: dict

    def __init__(self, stream):
        super().__init__(stream)
        self.got = self.notes.setdefault(stream.name, [])

    def start(self, message):
        self.got.append(message)

    def media(self, message):
        self.got.append(message)

    def dtmf(self, message):
        self.got.append(message)

    def mark(self, message):
        self.got.append(message)

    def stop(self):
        self.got.append("stop")


@pytest.fixture
def notes():
    Noting.notes = {}
    MISSED.clear()
    return Noting.notes


@pytest.fixture
def consumers(notes):
    consumers = Consumers(on_missed=lambda *what: MISSED.append(what))
    consumers.register(Noting)
    return consumers


@pytest.fixture
def stuck():
    """Return a consumer that is stuck in its first media message until the test ends."""
    released = threading.Event()

    class Stuck(Consumer):
        count = 0

        def media(self, message):
            Stuck.count += 1
            released.wait(SECONDS)

    yield Stuck
    released.set()


def receive(stream, *messages):
    for message in messages:
        stream.receive(message.to_json())


def call(consumers, *messages):
    """Put a whole stream through the consumers."""
    with Stream(FakeConnection(), Settings(), consumers) as stream:
        receive(stream, *messages)
    return stream


def wait_until(condition):
    with gevent.Timeout(SECONDS):
        while not condition():
            gevent.sleep(0.005)


class TestWhatAConsumerGets:
    def test_the_call_in_its_order(self, consumers, notes):
        messages = [start(), media(2, 0), media(3, 20, "outbound"), dtmf(4), mark(5), media(6, 40)]
        call(consumers, CONNECTED, *messages, stop(7))
        assert notes == {SID: [*messages, "stop"]}

    def test_nothing_that_is_of_no_use(self, consumers, notes):
        call(consumers, start(), media(2, 0), media(2, 0), media(3, 20, sid=OTHER), stop(4), media(5, 40))
        assert notes == {SID: [start(), media(2, 0), "stop"]}

    def test_stop_once_where_the_connection_dropped(self, consumers, notes):
        call(consumers, start(), media(2, 0))
        assert notes == {SID: [start(), media(2, 0), "stop"]}

    def test_stop_once_where_the_route_failed(self, consumers, notes):
        with pytest.raises(ZeroDivisionError), Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start(), media(2, 0))
            raise ZeroDivisionError
        assert notes == {SID: [start(), media(2, 0), "stop"]}
        assert stream.ending == "failed"

    def test_nothing_of_a_stream_that_never_started(self, consumers, notes):
        call(consumers, CONNECTED)
        assert notes == {}

    def test_no_stream_gets_anothers(self, consumers, notes):
        with Stream(FakeConnection(), Settings(), consumers) as one:
            receive(one, start())
            with Stream(FakeConnection(), Settings(), consumers) as other:
                receive(other, start(sid=OTHER, inner=OTHER))
                for n in range(2, 100):
                    receive(one, media(n, 20 * n))
                    receive(other, media(n, 30 * n, sid=OTHER))
        assert [m.media.timestamp for m in notes[SID][1:-1]] == [20 * n for n in range(2, 100)]
        assert [m.media.timestamp for m in notes[OTHER][1:-1]] == [30 * n for n in range(2, 100)]

    def test_it_comes_while_the_stream_goes_on(self, consumers, notes):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start(), media(2, 0))
            wait_until(lambda: len(notes.get(SID, [])) == 2)
            receive(stream, media(3, 20))
            wait_until(lambda: len(notes[SID]) == 3)

    def test_flush_when_nothing_waits(self, consumers):
        flushed = []

        @consumers.register
        class Flushing(Noting):
            def flush(self):
                flushed.append(self.stream.name)

        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start(), media(2, 0), media(3, 20))
            wait_until(lambda: flushed)
        assert flushed == [SID]

    def test_in_another_thread_than_the_servers(self, consumers):
        threads = set()

        @consumers.register
        class Threads(Consumer):
            def media(self, message):
                threads.add(threading.get_ident())

            start = stop = lambda self, *_: threads.add(threading.get_ident())

        call(consumers, start(), media(2, 0), stop(3))
        assert threads
        assert threading.get_ident() not in threads

    def test_any_callable_makes_one(self, consumers, notes):
        made = []
        assert consumers.register(lambda stream: made.append(stream) or Consumer(stream))
        assert made == [call(consumers, start(), stop(2))]

    def test_nothing_runs_on_between_calls(self, consumers):
        call(consumers, start(), stop(2))
        wait_until(lambda: consumers._ticking is None)
        call(consumers, start(), stop(2))
        wait_until(lambda: consumers._ticking is None)


class TestFailure:
    @pytest.mark.parametrize("error", [KeyError("x"), SystemExit(1), GreenletExit(), KeyboardInterrupt()])
    @pytest.mark.parametrize("method", ["__init__", "start", "media", "dtmf", "mark", "flush", "stop"])
    def test_it_is_logged_once_and_felt_by_nobody(self, consumers, notes, caplog, method, error):
        calls = []

        def fail(self, *_):
            calls.append(method)
            raise error

        consumers.register(type("Failing", (Noting,), {method: fail}))
        messages = [start(), media(2, 0), dtmf(3), mark(4), media(5, 20), media(6, 40)]
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, *messages)
            for number in (7, 8):  # each in a turn of its own
                wait_until(lambda: len(notes.get(SID, [])) >= number - 1)  # noqa: B023
                receive(stream, media(number, 20 * number - 80))
            receive(stream, stop(9))
        assert len(calls) == 1
        (record,) = caplog.records
        assert record.getMessage() == f"Stream {SID}: Failing failed and gets nothing more"
        assert record.exc_info[1] is error
        assert [got for got in notes[SID] if got == "stop"]
        assert stream.ending == "stop"

    def test_the_next_stream_has_one_of_its_own(self, consumers, notes, caplog):
        failing = iter([True, False])

        @consumers.register
        class Failing(Noting):
            def start(self, message):
                if next(failing):
                    raise ValueError
                super().start(message)

        call(consumers, start(), stop(2))
        call(consumers, start(sid=OTHER, inner=OTHER), media(2, 0, sid=OTHER))
        assert len(notes[OTHER]) == 2 * 3
        assert len(caplog.records) == 1


class TestStuck:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        monkeypatch.setattr(module, "END_SECONDS", 0.5)

    def test_other_consumers_of_the_stream_go_on(self, consumers, notes, stuck, caplog):
        consumers.register(stuck)
        call(consumers, start(), media(2, 0), media(3, 20), stop(4))
        assert notes[SID] == [start(), media(2, 0), media(3, 20), "stop"]
        assert warnings(caplog) == [
            f"Stream {SID}: Stuck has not finished within 0.5 s, and is no longer waited for"
        ]

    def test_the_same_consumer_of_other_streams_goes_on(self, consumers, stuck):
        class SometimesStuck(stuck, Noting):
            def media(self, message):
                super().media(message) if self.stream.name == SID else Noting.media(self, message)

        consumers.register(SometimesStuck)
        with Stream(FakeConnection(), Settings(), consumers) as one:
            receive(one, start(), media(2, 0))
            wait_until(lambda: stuck.count)
            begin = time.monotonic()
            call(consumers, start(sid=OTHER, inner=OTHER), media(2, 0, sid=OTHER))
            assert time.monotonic() - begin < 0.5  # it has finished
        assert len(Noting.notes[OTHER]) == 2 * 3

    def test_what_it_misses_is_counted(self, consumers, notes, stuck, caplog, monkeypatch):
        monkeypatch.setattr(module, "MAX_WAITING", 300)
        consumers.register(stuck)
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start(), media(2, 40))
            wait_until(lambda: stuck.count)
            for n in range(3, 3 + 300 + 7):
                receive(stream, media(n, 20 * n))
                if n % 100 == 0:
                    wait_until(lambda: len(notes.get(SID, ())) == n)  # noqa: B023
        assert warnings(caplog) == [
            f"Stream {SID}: Stuck is too slow and misses messages",
            f"Stream {SID}: Stuck missed 7 messages",
            f"Stream {SID}: Stuck has not finished within 0.5 s, and is no longer waited for",
        ]
        assert MISSED == [("Stuck", 7)]

    def test_all_threads_of_a_kind_stuck(self, consumers, notes, stuck):
        consumers.register(stuck)
        with gevent.Timeout(SECONDS):
            streams = [Stream(FakeConnection(), Settings(), consumers) for _ in range(MAX_THREADS + 4)]
            for stream in streams:
                receive(stream, start(), media(2, 0))
            while stuck.count < MAX_THREADS:
                gevent.sleep(0.05)
            call(consumers, start(sid=OTHER, inner=OTHER), media(2, 0, sid=OTHER))
        assert len(notes[OTHER]) == 3
        assert stuck.count == MAX_THREADS


class TestAudio:
    """The same audio, where it belongs."""

    @pytest.fixture
    def audio(self, consumers):
        got = []

        class Placed(Consumer):
            def audio(self, track, position, payload):
                got.append((track, position, payload))

        consumers.register(Placed)
        return got

    def test_each_chunk_has_its_position(self, consumers, audio):
        call(consumers, start(), media(2, 20), media(3, 40), media(4, 60, "outbound"))
        assert [(track, position, len(payload)) for track, position, payload in audio] == [
            ("inbound", 160, 160),
            ("inbound", 320, 160),
            ("outbound", 480, 160),
        ]

    def test_a_gap_is_a_jump(self, consumers, audio):
        call(consumers, start(), media(2, 20), media(3, 500))
        assert [position for _, position, _ in audio] == [160, 4000]

    def test_of_an_overlap_what_is_new_comes(self, consumers, audio):
        messages = [media(2, 0), media(3, 40), media(4, 10, size=400)]  # 80 to 480; 160 to 320 are a gap
        call(consumers, start(), *messages)
        payload = messages[-1].media.payload
        assert audio[2:] == [("inbound", 160, payload[80:240])]

    def test_what_comes_again_does_not(self, consumers, audio):
        call(consumers, start(), media(2, 0), media(3, 20), media(4, 0), media(5, 40))
        assert [position for _, position, _ in audio] == [0, 160, 320]


class TestTranscripts:
    """A recogniser's texts, as events to every consumer."""

    @pytest.fixture
    def recogniser(self, consumers):
        class Recogniser(Consumer):
            def __init__(self, stream, publish):
                super().__init__(stream)
                self.publish = publish
                self.count = 0

            def media(self, message):
                self.count += 1
                self.publish(Transcript("inbound", f"{self.count}", False, 0.0, 0.1))

            def stop(self):
                last = [Transcript("inbound", text, True, 0.0, 0.1) for text in ("last", "words")]
                thread = threading.Thread(target=lambda: [self.publish(each) for each in last])
                thread.start()
                thread.join()

        consumers.recognise(Recogniser)
        return Recogniser

    def test_all_of_them_in_order_before_the_stop(self, consumers, recogniser):
        got = {"one": [], "other": []}

        def register(name):
            class Reader(Consumer):
                def transcript(self, transcript):
                    got[name].append((transcript.text, transcript.final))

                def stop(self):
                    got[name].append("stop")

            consumers.register(Reader)

        register("one")
        register("other")
        call(consumers, start(), *(media(n, 20 * n) for n in range(2, 7)), stop(7))
        expected = [*((f"{n}", False) for n in range(1, 6)), ("last", True), ("words", True), "stop"]
        assert got == {"one": expected, "other": expected}

    def test_none_of_another_stream(self, consumers, recogniser):
        got = []

        class Reader(Consumer):
            def transcript(self, transcript):
                got.append((self.stream.name, transcript.text))

        consumers.register(Reader)
        with Stream(FakeConnection(), Settings(), consumers) as one:
            receive(one, start(), media(2, 0))
            call(consumers, start(sid=OTHER, inner=OTHER), media(2, 0, sid=OTHER), media(3, 20, sid=OTHER))
        for sid, texts in ((SID, ["1", "last", "words"]), (OTHER, ["1", "2", "last", "words"])):
            assert [text for name, text in got if name == sid] == texts

    def test_a_recogniser_that_is_stuck_keeps_nobody_from_the_end(self, consumers, notes, stuck, caplog):
        class Recogniser(stuck):
            def __init__(self, stream, publish):
                super().__init__(stream)

        consumers.recognise(Recogniser)
        call(consumers, start(), media(2, 0), stop(3))
        assert notes == {SID: [start(), media(2, 0), "stop"]}
        assert f"Stream {SID}: Recogniser has not finished within" in "".join(warnings(caplog))


def with_consumer(tmp_path, source):
    """Write an `app.py` with a consumer more."""
    app = (ROOT / "app.py").read_text()
    place = "streams = MediaStreams(app)"
    assert place in app
    line = next(line for line in app.splitlines() if line.startswith(place))
    (tmp_path / "app.py").write_text(app.replace(line, f"{line}\n{source}"))


BLOCKING = """
import time
from mediastreams.consumers.base import Consumer

@streams.register
class Blocking(Consumer):
    def media(self, message):
        time.sleep(3600)
"""


SLOW = """
import time
from mediastreams.consumers.base import Consumer

@streams.register
class Slow(Consumer):
    def media(self, message):
        time.sleep(0.1)

    def stop(self):
        app.logger.info("Slow has all")
"""


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_the_end_of_the_server_waits_for_a_slow_consumer(start_server, tmp_path, command):
    with_consumer(tmp_path, SLOW)
    (tmp_path / "gunicorn.conf.py").write_text((ROOT / "gunicorn.conf.py").read_text())
    server = start_server(*command, cwd=tmp_path)
    assert run_caller(server.url, "--seconds", "1", "--fast").returncode == 0  # 50 messages: 5 s
    server.wait_for("Stream MZ")
    server.process.terminate()
    assert "Slow has all" in server.stop(told=False)


def test_but_not_for_ever(start_server, tmp_path):
    with_consumer(tmp_path, BLOCKING)
    server = start_server(cwd=tmp_path, DRAIN_TIMEOUT="0.1")
    assert run_caller(server.url, "--seconds", "1", "--fast").returncode == 0
    server.wait_for("Stream MZ")
    assert re.search(
        r"Blocking is not finished, the server ends with \d+ messages waiting for it", server.stop()
    )


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_a_consumer_that_blocks_is_not_felt(start_server, tmp_path, command):
    with_consumer(tmp_path, BLOCKING)
    (tmp_path / "gunicorn.conf.py").write_text((ROOT / "gunicorn.conf.py").read_text())
    server = start_server(*command, cwd=tmp_path, DRAIN_TIMEOUT="1")
    result = run_caller(server.url, "--seconds", "1", "--calls", "3")
    assert (result.returncode, result.stderr) == (0, "")
    server.wait_for(r"Stream MZ\w+: 1\.00 s; inbound 50 chunks", times=3)
    printed = server.stop()
    assert len(re.findall("WARNING in feeds: .*Blocking has not finished within 3 s", printed)) == 3
    assert "Traceback" not in printed
