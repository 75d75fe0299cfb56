"""What workers hear, on its way back to the server that has the call."""

import re
import threading
import time

import pytest
from support.consumers import receive
from support.published import announced, entries, has_ended
from support.server import SECONDS, run_caller, wait_until
from support.streams import SID, FakeConnection, media, start, stop, warnings

from mediastreams.cluster import words as module
from mediastreams.cluster.entries import Begun, Done, Heard, StopItem, encode, words_key
from mediastreams.cluster.words import RemoteWords, WordReader
from mediastreams.config import Settings
from mediastreams.consumers.base import Consumer
from mediastreams.consumers.registry import Consumers
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript


class Listening:
    """A stream's `RemoteWords`, to which the test speaks."""

    class Reader:
        def __init__(self):
            self.publisher = self
            self.stopped = []
            self.listeners = []

        def stop_audio(self, stream):
            self.stopped.append(stream)

        def add(self, listener):
            self.listeners.append(listener)

        def remove(self, listener):
            self.listeners.remove(listener)

    def __init__(self):
        self.published, self.unheard = [], []
        self.reader = self.Reader()
        stream = Stream(FakeConnection(), Settings())
        receive(stream, start())
        self.words = RemoteWords(stream, self.reader, self.published.append, self.unheard.append)
        self.words.start(stream.start)

    def hear(self, text, begin, end, final=True, track="inbound"):
        self.words.hear(Heard("c", track, text, final, begin, end, 0.25))

    @property
    def texts(self):
        return [transcript.text for transcript in self.published]


@pytest.fixture
def listening():
    return Listening()


class TestHearing:
    def test_a_text(self, listening):
        listening.hear("Hello.", 0.5, 1.0, track="outbound")
        assert listening.published == [Transcript("outbound", "Hello.", True, 0.5, 1.0, 0.25)]

    def test_partial_texts_until_one_is_final(self, listening):
        for text, final in [
            ("he", False),
            ("hello", False),
            ("Hello.", True),
            ("and", False),
            ("And you?", True),
        ]:
            begin = 0.0 if "l" in text or text == "he" else 1.0
            listening.hear(text, begin, begin + 1, final)
        assert listening.texts == ["he", "hello", "Hello.", "and", "And you?"]

    @pytest.mark.parametrize(
        ("begin", "end", "is_new"), [(0.5, 2.0, False), (1.0, 3.0, False), (1.1, 3.0, True), (2.0, 3.0, True)]
    )
    @pytest.mark.parametrize("final", [True, False])
    def test_what_was_heard_before(self, listening, begin, end, is_new, final):
        """By the worker from which another has taken the call over."""
        listening.hear("First.", 0.0, 1.0)
        listening.hear("Second.", 1.0, 2.0)
        listening.words.hear(Begun("c"))
        listening.hear("Third.", begin, end, final)
        assert listening.texts == ["First.", "Second.", *(["Third."] if is_new else [])]

    def test_each_track_for_itself(self, listening):
        listening.hear("Hello.", 0.0, 2.0)
        listening.hear("Hi.", 0.0, 1.0, track="outbound")
        assert listening.texts == ["Hello.", "Hi."]

    def test_a_text_that_is_taken_back_is_nothing_that_was_heard(self, listening):
        listening.hear("", 0.0, 2.0)
        listening.hear("Hello.", 0.0, 1.0)
        assert listening.texts == ["", "Hello."]


class TestEnd:
    def test_nobody_transcribes_the_call(self, listening):
        listening.words.stop()
        assert listening.reader.stopped == [listening.words.stream]
        assert listening.words.is_finished()
        assert (listening.published, listening.unheard, listening.reader.listeners) == ([], [0.0], [])

    def test_the_last_words_are_waited_for(self, listening):
        listening.words.hear(Begun("c"))
        listening.hear("Goodb", 0.0, 1.0, final=False)
        listening.words.stop()
        assert not listening.words.is_finished()
        listening.hear("Goodbye.", 0.0, 1.0)
        assert not listening.words.is_finished()
        listening.words.hear(Done("c", 1.5))
        assert listening.words.is_finished()
        assert listening.texts == ["Goodb", "Goodbye."]
        assert listening.unheard == [1.5]
        assert listening.reader.listeners == []

    def test_a_text_that_does_not_become_final_is_taken_back(self, listening):
        listening.words.hear(Begun("c"))
        listening.hear("Hello.", 0.0, 1.0, track="outbound")
        listening.hear("Goodb", 0.0, 1.0, final=False)
        listening.words.hear(Done("c", 0.0))
        listening.words.stop()
        assert listening.words.is_finished()
        assert listening.published[-1] == Transcript("inbound", "", True, 0, 0)
        assert listening.texts == ["Hello.", "Goodb", ""]

    def test_but_not_for_ever(self, listening, monkeypatch, caplog):
        listening.words.hear(Begun("c"))
        monkeypatch.setattr(module, "FINAL_SECONDS", 0.1)
        listening.words.stop()
        assert not listening.words.is_finished()
        wait_until(listening.words.is_finished)
        listening.hear("too late", 0.0, 1.0)
        assert listening.published == []
        assert warnings(caplog) == [f"Stream {SID}: the last words are missing"]

    def test_a_worker_that_was_done_too_early(self, listening):
        listening.words.hear(Done("c", 0.0))
        listening.words.hear(Begun("c"))
        listening.words.stop()
        assert not listening.words.is_finished()

    def test_it_wants_no_audio(self):
        consumers = Consumers()
        consumers.recognise(RemoteWords)
        assert not consumers._kinds[0].wants_chunks


class Worker:
    """What a worker writes."""

    def __init__(self, client, publisher):
        self.client, self.publisher = client, publisher

    def call(self):
        wait_until(lambda: announced(self.client))
        return announced(self.client)[-1].call

    def say(self, words):
        return self.client.xadd(words_key(self.publisher.server), encode(words))


class TestReader:
    @pytest.fixture
    def reader(self, publisher):
        reader = WordReader(publisher)
        yield reader
        reader.finish(SECONDS)

    @pytest.fixture
    def got(self):
        return []

    @pytest.fixture
    def consumers(self, publisher, reader, got):
        class Noting(Consumer):
            def transcript(self, transcript):
                got.append(transcript)

        consumers = Consumers()
        consumers.tap(publisher.begin)
        consumers.recognise(lambda stream, publish: RemoteWords(stream, reader, publish, lambda _: None))
        consumers.register(Noting)
        return consumers

    @pytest.fixture
    def worker(self, redis_client, publisher):
        return Worker(redis_client, publisher)

    def test_words_reach_the_consumers_of_their_call(self, consumers, worker, got, redis_client):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start(), media(2, 0))
            call = worker.call()
            worker.say(Begun(call))
            worker.say(Heard("another", "inbound", "not this", True, 0.0, 1.0, 0.0))
            worker.say(Heard(call, "inbound", "Hello.", True, 0.0, 1.0, 0.25))
            wait_until(lambda: got)
            assert got == [Transcript("inbound", "Hello.", True, 0.0, 1.0, 0.25)]

            def finish():
                """Say the last words when the server says that no audio follows."""
                wait_until(lambda: any(StopItem() in entry.items for entry in entries(redis_client, SID)))
                worker.say(Heard(call, "inbound", "Bye.", True, 1.0, 2.0, 0.25))
                worker.say(Done(call, 0.0))

            thread = threading.Thread(target=finish)
            thread.start()
            receive(stream, media(3, 20), stop(4))
            began = time.monotonic()
        assert time.monotonic() - began < 2.0
        thread.join()
        assert [transcript.text for transcript in got] == ["Hello.", "Bye."]
        wait_until(lambda: has_ended(redis_client, SID))
        kinds = [type(item).__name__ for entry in entries(redis_client, SID) for item in entry.items]
        assert kinds.index("StopItem") > max(i for i, kind in enumerate(kinds) if kind == "MediaItem")
        assert kinds.count("StopItem") == 1
        assert kinds[-1] == "EndItem"
        assert kinds.count("TranscriptItem") == 2

    def test_what_cannot_be_read_is_passed_over(self, consumers, worker, got, redis_client, caplog):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            call = worker.call()
            key = words_key(worker.publisher.server)
            redis_client.xadd(key, {"v": "2", "m": "x"})
            redis_client.xadd(key, {"a": "b"})
            redis_client.xadd(key, {"v": "1", "m": b"\xff\x00"})
            worker.say(Heard(call, "inbound", "Hello.", True, 0.0, 1.0, 0.25))
            worker.say(Done(call, 0.0))
            wait_until(lambda: got)
        lines = warnings(caplog)
        assert len(lines) == 3
        assert lines[0] == f"{key}: words that cannot be read: version b'2', this program reads b'1'"
        assert "Traceback" not in caplog.text

    def test_redis_comes_back(self, consumers, worker, got, redis_server):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            call = worker.call()
            worker.say(Heard(call, "inbound", "one", True, 0.0, 1.0, 0.0))
            wait_until(lambda: len(got) == 1)
            redis_server.kill()
            wait_until(lambda: worker.publisher.shards.all[0].is_away)
            redis_server.start()
            worker.say(Heard(call, "inbound", "two", True, 1.0, 2.0, 0.0))
            worker.say(Done(call, 0.0))
            wait_until(lambda: len(got) == 2)
        assert [transcript.text for transcript in got] == ["one", "two"]

    def test_the_words_go_with_the_server(self, consumers, worker, got, redis_client, reader):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            call = worker.call()
            for n in range(3):
                worker.say(Heard(call, "inbound", "word", True, n, n + 1.0, 0.0))
            worker.say(Done(call, 0.0))
            wait_until(lambda: len(got) == 3)
        key = words_key(worker.publisher.server)
        wait_until(lambda: 0 < redis_client.ttl(key) <= 3600)
        began = time.monotonic()
        reader.finish(SECONDS)
        assert time.monotonic() - began < 2
        assert redis_client.exists(key) == 0

    def test_a_key_of_another_type(self, consumers, worker, redis_client, caplog):
        redis_client.set(words_key(worker.publisher.server), "text")
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            wait_until(lambda: "what workers hear cannot be read" in caplog.text)
        assert len(warnings(caplog)) == 1
        assert "Traceback" not in caplog.text

    def test_a_server_that_ends_while_redis_is_away(self, consumers, redis_server, reader):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
        redis_server.suspend()
        began = time.monotonic()
        reader.finish(0.5)
        assert time.monotonic() - began < 1
        redis_server.resume()

    def test_without_a_stream_it_has_no_thread(self, reader):
        assert reader._reading == set()


class TestServer:
    """`python app.py`: the console shows the words, the metrics count them."""

    @pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "-w", "2", "app:app"]])
    def test_a_call(self, start_server, redis_server, redis_client, command):
        server = start_server(*command, REDIS_URL=redis_server.url, TRANSCRIBER="")
        thread = threading.Thread(target=run_caller, args=(server.url, "--seconds", "3"))
        thread.start()
        wait_until(lambda: announced(redis_client))
        (call,) = announced(redis_client)
        key = words_key(call.server)
        redis_client.xadd(key, encode(Begun(call.call)))
        redis_client.xadd(key, encode(Heard(call.call, "inbound", "Hello.", True, 1.0, 2.0, 0.25)))
        server.wait_for(r"INFO in transcriber: MZ[0-9a-f]{6} 0:01 caller: Hello\.")
        sid = call.start.stream_sid
        wait_until(lambda: any(StopItem() in entry.items for entry in entries(redis_client, sid)))
        redis_client.xadd(key, encode(Heard(call.call, "inbound", "Goodbye.", True, 2.0, 3.0, 0.25)))
        redis_client.xadd(key, encode(Done(call.call, 0.0)))
        server.wait_for(r"INFO in transcriber: MZ[0-9a-f]{6} 0:02 caller: Goodbye\.")
        thread.join()
        wait_until(lambda: has_ended(redis_client, sid))
        output = server.stop()
        assert "Traceback" not in output
        assert "No transcripts" not in output
        assert "missing" not in output
        assert not re.search(" (WARNING|ERROR) in (?!state)", output)
        assert redis_client.exists(key) == 0

    def test_with_a_recogniser_of_its_own_it_does_not_read_them(
        self, start_server, redis_server, redis_client
    ):
        server = start_server(REDIS_URL=redis_server.url, TRANSCRIBER="off")
        thread = threading.Thread(target=run_caller, args=(server.url, "--seconds", "1"))
        thread.start()
        wait_until(lambda: announced(redis_client))
        (call,) = announced(redis_client)
        key = words_key(call.server)
        redis_client.xadd(key, encode(Heard(call.call, "inbound", "Hello.", True, 1.0, 2.0, 0.25)))
        thread.join()
        wait_until(lambda: has_ended(redis_client, call.start.stream_sid))
        kinds = [
            type(item).__name__
            for entry in entries(redis_client, call.start.stream_sid)
            for item in entry.items
        ]
        assert "StopItem" not in kinds
        assert "Hello" not in server.stop()
        assert redis_client.xlen(key) == 1
