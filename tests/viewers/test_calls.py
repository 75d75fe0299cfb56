"""The calls of this process, as a source for the page."""

import gc
import threading
import weakref
from contextlib import ExitStack

import gevent
import pytest
from support.consumers import receive
from support.server import wait_until
from support.streams import SID, FakeConnection, dtmf, media, start, stop

from mediastreams.config import Settings
from mediastreams.consumers.base import Consumer
from mediastreams.consumers.registry import Consumers
from mediastreams.protocol.messages import MediaFormat
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript as StreamTranscript
from mediastreams.viewers import calls as calls_module
from mediastreams.viewers.calls import MAX_ENDED, LiveCalls
from mediastreams.viewers.lines import Lines
from mediastreams.viewers.messages import (
    Audio,
    Changed,
    Dtmf,
    Levels,
    Logged,
    Removed,
    Transcript,
    Wave,
)


class Watcher:
    """Notes what it is told, and in which thread."""

    def __init__(self):
        self.told, self.threads = [], set()

    def tell(self, message):
        self.told.append(message)
        self.threads.add(threading.get_ident())

    def of(self, kind):
        return [message for message in self.told if isinstance(message, kind)]


class Server:
    """The streams of a server with a page."""

    def __init__(self):
        self.consumers = Consumers()
        self.lines = Lines()
        self.calls = LiveCalls(self.consumers, self.lines)
        self.watcher = Watcher()

    def begin(self, stream, message):
        self.calls.begin(stream)
        self.puts = self.consumers.begin(stream, message)
        return self.puts

    def end(self, stream):
        self.consumers.end(stream)
        self.calls.end(stream)

    def watch(self, shown=(), selected=(), listened=()):
        self.calls.watch(frozenset(shown), frozenset(selected), frozenset(listened))


@pytest.fixture
def server():
    server = Server()
    yield server
    server.calls.close()


@pytest.fixture
def live(server):
    """Return a function that begins a stream, which ends with the test."""
    with ExitStack() as streams:

        def live(**fields):
            stream = streams.enter_context(Stream(FakeConnection(), Settings(), server))
            receive(stream, start(**fields))
            return stream

        yield live


def ended(server, *messages):
    with Stream(FakeConnection(), Settings(), server) as stream:
        receive(stream, *messages)
    return stream


class TestNobodyWatches:
    def test_no_audio_is_handed_to_the_page(self, server, live):
        live()
        assert server.puts.chunks == []
        assert len(server.puts.events) == 1  # a key is rare

    def test_what_happens_is_noted_for_later(self, server):
        ended(server, start(), media(2, 0), dtmf(3), stop(4))
        (row,) = server.calls.snapshot().ended
        assert (row.stream_sid, row.ending, row.seconds) == (SID, "stop", 0.0)
        assert [each.digit for each in server.calls.detail(row.id).digits] == ["1"]

    def test_an_ended_call_keeps_no_stream_alive(self, server):
        # In a greenlet of its own, as the server has it: the context of that also knows the stream.
        gone = gevent.spawn(lambda: weakref.ref(ended(server, start(), media(2, 0), stop(3)))).get()
        server.puts = None
        wait_until(lambda: server.consumers._ticking is None)
        gc.collect()
        assert gone() is None
        assert len(server.calls.snapshot().ended) == 1


class TestSnapshot:
    def test_live_and_ended_calls_newest_first(self, server, live):
        for _ in range(2):
            ended(server, start(), stop(2))
        live()
        live()
        snapshot = server.calls.snapshot()
        assert [row.id for row in snapshot.live] == ["4", "3"]
        assert [row.id for row in snapshot.ended] == ["2", "1"]
        assert {row.ended_at for row in snapshot.live} == {None}

    def test_the_last_100_that_ended(self, server):
        server.calls.open(server.watcher)
        for _ in range(MAX_ENDED + 2):
            ended(server, start(), stop(2))
        rows = server.calls.snapshot().ended
        assert [row.id for row in rows] == [f"{n}" for n in range(MAX_ENDED + 2, 2, -1)]
        assert [message.ids for message in server.watcher.of(Removed)] == [["1"], ["2"]]
        assert server.calls.detail("1") is None

    def test_a_stream_that_never_started_is_no_call(self, server):
        ended(server)
        assert server.calls.snapshot().ended == []


class TestChanges:
    def test_a_call_begins_and_ends(self, server):
        server.calls.open(server.watcher)
        ended(server, start(), media(2, 0), stop(3))
        first, last = (message.calls[0] for message in server.watcher.of(Changed))
        assert first is last
        assert (last.id, last.ending) == ("1", "stop")

    def test_counts_once_in_a_while(self, server, live, monkeypatch):
        monkeypatch.setattr(calls_module, "LEVELS_SECONDS", 0.005)
        monkeypatch.setattr(calls_module, "COUNTS_SECONDS", 0.01)
        server.calls.open(server.watcher)
        stream = live()
        receive(stream, media(5, 0, size=8000))
        wait_until(lambda: len(server.watcher.of(Changed)) == 2)
        assert server.watcher.told[-1].calls == [{"id": "1", "seconds": 1.0, "lost": 3}]
        live()
        wait_until(lambda: len(server.watcher.of(Changed)) == 3)  # nothing more of the first

    def test_words_come_from_another_thread_in_order(self, server):
        class Recogniser(Consumer):
            def __init__(self, stream, publish):
                super().__init__(stream)
                self.publish = publish

            def media(self, message):
                for n in range(50):
                    self.publish(StreamTranscript("inbound", f"{n}", True, 0.0, 0.1))

        server.consumers.recognise(Recogniser)
        server.calls.open(server.watcher)
        ended(server, start(), media(2, 0), stop(3))
        assert [message.text for message in server.watcher.of(Transcript)] == [f"{n}" for n in range(50)]
        assert isinstance(server.watcher.told[-1], Changed)  # the end, after all words
        assert server.watcher.threads == {threading.get_ident()}

    def test_what_a_detail_has_does_not_come_behind_it(self, server, live):
        server.calls.open(server.watcher)
        call = server.calls._of_stream[live()]
        said = StreamTranscript("inbound", "hello", True, 0.0, 0.1)
        thread = threading.Thread(target=call.note_transcript, args=[said])
        thread.start()
        thread.join()
        assert [each.text for each in server.calls.detail("1").transcripts] == ["hello"]
        before = len(server.watcher.of(Transcript))
        gevent.sleep(0.01)
        assert len(server.watcher.of(Transcript)) == before == 1

    def test_nothing_after_the_close(self, server):
        server.calls.open(server.watcher)
        server.calls.close()
        ended(server, start(), media(2, 0), stop(3))
        assert server.watcher.told == []


class TestWatch:
    @pytest.fixture(autouse=True)
    def opened(self, server):
        server.calls.open(server.watcher)

    def speak(self, stream, first=2, count=50):
        receive(stream, *(media(n, 20 * (n - 2)) for n in range(first, first + count)))

    def test_levels_of_calls_that_are_shown(self, server, live):
        live()
        other = live()
        server.watch(shown=["2"])
        self.speak(other)
        wait_until(lambda: any(each.levels["2"]["inbound"] for each in server.watcher.of(Levels)))
        assert {id for message in server.watcher.of(Levels) for id in message.levels} == {"2"}
        assert server.watcher.of(Wave) == server.watcher.of(Audio) == []

    def test_no_more_when_they_are_not(self, server, live):
        stream = live()
        server.watch(shown=["1"], selected=["1"])
        assert len(server.puts.chunks) == 2
        server.watch()
        assert server.puts.chunks == []
        server.watch(shown=["1"])
        self.speak(stream)
        wait_until(lambda: any(each.levels["1"]["inbound"] for each in server.watcher.of(Levels)))
        server.calls.close()
        assert server.puts.chunks == []

    @pytest.mark.parametrize("way", ["selected", "listened"])
    def test_wave_and_audio(self, server, live, way):
        stream = live()
        server.watch(**{way: ["1"]})
        self.speak(stream)
        wait_until(lambda: sum(len(each.payload) for each in server.watcher.of(Audio)) == 50 * 160)
        positions = [each.position for each in server.watcher.of(Audio)]
        assert positions == sorted(positions)
        wait_until(lambda: sum(len(each.peaks) for each in server.watcher.of(Wave)) == 50)
        assert server.watcher.threads == {threading.get_ident()}

    def test_keys_and_lines_of_the_selected_call(self, server, live):
        stream = live()
        receive(stream, dtmf(2))
        server.lines.of(stream).lines.append(Logged(1.0, "INFO", "before"))
        server.watch(selected=["1"])
        receive(stream, dtmf(3))
        wait_until(lambda: server.watcher.of(Dtmf))
        assert server.lines.of(stream).tell is not None
        server.watch()
        assert server.lines.of(stream).tell is None
        assert [line.text for line in server.calls.detail("1").lines] == ["before"]

    def test_a_call_that_has_ended_may_be_selected(self, server):
        stream = ended(server, start(), stop(2))
        server.watch(selected=["1"], shown=["1"], listened=["1"])
        assert server.lines.of(stream).tell is not None  # its last lines are still to come
        server.watch()

    def test_a_call_may_end_while_it_is_watched(self, server):
        with Stream(FakeConnection(), Settings(), server) as stream:
            receive(stream, start())
            server.watch(shown=["1"], selected=["1"], listened=["1"])
            self.speak(stream)
        assert sum(len(each.payload) for each in server.watcher.of(Audio)) == 50 * 160
        assert isinstance(server.watcher.told[-1], Changed)
        server.watch()

    def test_unknown_ids_are_nothing(self, server):
        server.watch(shown=["7"], selected=["8"], listened=["9"])
        assert server.calls.detail("8") is None
        server.watch()


def test_the_rate_of_a_call_to_which_one_can_listen(server, live):
    live()
    live(media_format=MediaFormat("audio/x-mulaw", 16000, 1))
    live(media_format=MediaFormat("audio/opus", 48000, 1))
    ended(server, start(), stop(2))
    assert [server.calls.rate(id) for id in ("1", "2", "3", "4", "5")] == [8000, 16000, None, None, None]
