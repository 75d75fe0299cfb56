"""Queues and threads: what a consumer gets, late or not at all, and what that costs the others."""

import threading
import time

import gevent
import pytest
from gevent import GreenletExit
from support.consumers import MISSED, OTHER, Noting, call, mark, receive
from support.server import SECONDS, wait_until
from support.streams import SID, FakeConnection, dtmf, media, start, stop, warnings

from mediastreams.config import Settings
from mediastreams.consumers import feeds, registry
from mediastreams.consumers.base import Consumer
from mediastreams.consumers.feeds import MAX_THREADS
from mediastreams.streams.stream import Stream


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

    def test_the_end_of_its_stream_is_not_felt_by_another(self, consumers, notes):
        """A consumer that has failed is not looked at any more: the tick goes on."""

        class Failing(Noting):
            def media(self, message):
                raise ValueError

        consumers.register(Failing)
        with Stream(FakeConnection(), Settings(), consumers) as live:
            receive(live, start(sid=OTHER, inner=OTHER))
            with Stream(FakeConnection(), Settings(), consumers) as stream:
                receive(stream, start(), media(2, 0))
                kind = consumers._kinds[-1]
                wait_until(lambda: len(kind.feeds) == 1)  # the tick has taken out the one that failed
            ticking = consumers._ticking
            receive(live, media(2, 0, sid=OTHER))
            wait_until(lambda: len(notes[OTHER]) > 2)
            gevent.sleep(2 * registry.TICK_SECONDS)  # in which the tick would fail
            assert consumers._ticking is ticking
            assert not ticking.dead

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


class TestFlush:
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


class TestEvents:
    """A consumer that wants no audio."""

    @pytest.fixture
    def got(self, consumers):
        got = []

        @consumers.register
        class Pressed(Consumer):
            def start(self, message):
                got.append("start")

            def dtmf(self, message):
                got.append(message.sequence_number)

            def stop(self):
                got.append("stop")

        return got

    def test_it_gets_all_without_a_tick(self, consumers, got, monkeypatch):
        monkeypatch.setattr(registry, "TICK_SECONDS", SECONDS)
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            wait_until(lambda: got == ["start"])
            receive(stream, media(2, 0), *map(dtmf, range(3, 60)))
            wait_until(lambda: got == ["start", *range(3, 60)])
        assert got[-1] == "stop"

    def test_what_comes_while_it_runs(self, consumers, monkeypatch):
        monkeypatch.setattr(registry, "TICK_SECONDS", SECONDS)
        got, goes_on = [], threading.Event()

        @consumers.register
        class Pressed(Consumer):
            def dtmf(self, message):
                got.append(message.sequence_number)
                goes_on.wait(SECONDS)

        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start(), dtmf(2))
            wait_until(lambda: got)
            receive(stream, dtmf(3), dtmf(4))
            goes_on.set()
            wait_until(lambda: got == [2, 3, 4])

    def test_what_comes_as_its_thread_ends(self, consumers, got, monkeypatch):
        monkeypatch.setattr(registry, "TICK_SECONDS", SECONDS)
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            for number in range(2, 1000):
                receive(stream, dtmf(number))
                # Often, so that the next key comes while the thread is ending.
                wait_until(lambda number=number: got[-1:] == [number], every=0.0002)

    def test_the_tick_does_not_look_at_it(self, consumers, got, notes):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            noting, pressed = consumers._kinds
            assert (len(noting._ticked), len(pressed._ticked), len(pressed.feeds)) == (1, 0, 1)
        wait_until(lambda: consumers._ticking is None)
        assert (pressed._ticked, pressed.feeds) == (set(), set())

    def test_one_that_has_not_finished_is_asked_again(self, consumers):
        asked = []

        @consumers.register
        class Slow(Consumer):
            def is_finished(self):
                asked.append(None)
                return len(asked) == 3

        call(consumers, start(), stop(2))
        assert len(asked) == 3


class TestStuck:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        monkeypatch.setattr(registry, "END_SECONDS", 0.5)

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
        monkeypatch.setattr(feeds, "MAX_WAITING", 300)
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
