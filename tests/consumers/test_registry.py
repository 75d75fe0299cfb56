"""The consumers of a server: each stream is handed to all of them, and ends after them."""

import re
import threading

import pytest
from support.consumers import OTHER, call, mark, receive
from support.server import ROOT, run_caller, wait_until
from support.streams import CONNECTED, SID, FakeConnection, dtmf, media, start, stop, warnings

from mediastreams.config import Settings
from mediastreams.consumers.base import Consumer
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript


class TestWhatAConsumerGets:
    def test_the_call_in_its_order(self, consumers, notes):
        messages = [start(), media(2, 0), media(3, 20, "outbound"), dtmf(4), mark(5), media(6, 40)]
        call(consumers, CONNECTED, *messages, stop(7))
        assert notes == {SID: [*messages, "stop"]}

    def test_nothing_that_is_ignored(self, consumers, notes):
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


class TestAttach:
    """A consumer that a live stream gets later, for a while."""

    @pytest.fixture
    def got(self):
        return []

    @pytest.fixture
    def make(self, got):
        class Late(Consumer):
            def start(self, message):
                got.append(message)

            def media(self, message):
                got.append(message)

            def stop(self):
                got.append("stop")

        return Late

    @pytest.fixture
    def kind(self, consumers, make):
        return consumers.register_attachable(make)

    def test_what_comes_meanwhile(self, consumers, kind, make, got, notes):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start(), media(2, 0))
            consumers.attach(stream, kind, make)
            consumers.attach(stream, kind, make)  # it has one
            receive(stream, media(3, 20), media(4, 40))
            consumers.detach(stream, kind)
            consumers.detach(stream, kind)
            receive(stream, media(5, 60))
            wait_until(lambda: got == [start(), media(3, 20), media(4, 40), "stop"])
            wait_until(lambda: not kind.feeds)
        assert len(got) == 4
        assert notes[SID] == [start(), *(media(n, 20 * n - 40) for n in range(2, 6)), "stop"]

    def test_again_it_is_another_one(self, consumers, kind, make, got):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            for number in (2, 3):
                consumers.attach(stream, kind, make)
                receive(stream, media(number, 0))
                consumers.detach(stream, kind)
        wait_until(lambda: not kind.feeds)
        assert sorted(map(str, got)) == sorted(map(str, 2 * [start(), "stop"] + [media(2, 0), media(3, 0)]))

    def test_the_end_of_the_stream_is_its_end(self, consumers, kind, make, got):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            consumers.attach(stream, kind, make)
            receive(stream, media(2, 0))
        assert got == [start(), media(2, 0), "stop"]
        consumers.detach(stream, kind)
        consumers.attach(stream, kind, make)
        assert len(got) == 3

    def test_not_before_the_start(self, consumers, kind, make, got):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            consumers.attach(stream, kind, make)
        assert got == []

    def test_one_that_fails_is_felt_by_nobody(self, consumers, notes, caplog):
        class Failing(Consumer):
            def media(self, message):
                raise ValueError

        kind = consumers.register_attachable(Failing)
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            consumers.attach(stream, kind, Failing)
            receive(stream, media(2, 0))
            wait_until(lambda: caplog.records)
            consumers.detach(stream, kind)
        assert notes[SID] == [start(), media(2, 0), "stop"]
        assert warnings(caplog) == [f"Stream {SID}: Failing failed and gets nothing more"]


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

    def test_what_reads_only_transcripts_gets_no_messages(self, consumers, recogniser):
        class Reader(Consumer):
            def transcript(self, transcript):
                pass

        consumers.register(Reader)
        stream = Stream(FakeConnection(), Settings())
        for puts in consumers.begin(stream, start()):
            assert len(puts) == 2  # for Noting and the recogniser
        consumers.end(stream)

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
