"""A server's calls, as a worker reads them from a real Redis."""

import contextlib
import json
import re
import threading
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import RedisError
from support.caller import call
from support.calls import CAPTURED, say
from support.consumers import mark, receive
from support.published import all_entries, announced, entries, has_ended, items, media
from support.server import ROOT, SECONDS, run, run_caller, wait_until
from support.streams import CONNECTED, SID, FakeConnection, dtmf, start, stop, warnings
from support.streams import media as chunk

from mediastreams.cluster.connection import Shards
from mediastreams.cluster.entries import (
    CALLS,
    DetailsItem,
    DtmfItem,
    EndItem,
    MarkItem,
    MediaItem,
    StateItem,
    TranscriptItem,
    audio_key,
    decode_entry,
)
from mediastreams.cluster.publisher import server_name
from mediastreams.cluster.stream import RemoteStream
from mediastreams.config import Settings
from mediastreams.consumers.base import Consumer
from mediastreams.consumers.registry import Consumers
from mediastreams.protocol.messages import Dtmf, DtmfMetadata, MediaFormat
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript

OTHER = "MZ" + "f" * 32


class Noting(Consumer):
    """Notes everything that it gets."""

    def __init__(self, stream, got):
        super().__init__(stream)
        self.got = got

    def media(self, message):
        self.got.append(("media", message))

    def audio(self, track, position, payload):
        self.got.append(("audio", track, position, payload))

    def dtmf(self, message):
        self.got.append(("dtmf", message))

    def mark(self, message):
        self.got.append(("mark", message))

    def transcript(self, transcript):
        self.got.append(("transcript", transcript))


@pytest.fixture
def here():
    """What a consumer beside the calls has got."""
    return []


@pytest.fixture
def consumers(publisher, here):
    consumers = Consumers()
    consumers.tap(publisher.begin)
    consumers.register(lambda stream: Noting(stream, here))
    return consumers


def put(consumers, messages, settings=None):
    """Put a whole stream through the consumers, and return it."""
    with Stream(FakeConnection(), settings or Settings(), consumers) as stream:
        for message in messages:
            stream.receive(message)
    return stream


def texts(*messages):
    return [message.to_json() for message in messages]


def read(client, sid=SID):
    """Return what a worker's consumer gets of a call that has ended, and its stream."""
    wait_until(lambda: has_ended(client, sid))
    stream = RemoteStream(announced(client)[-1])
    got = []
    consumer = Noting(stream, got)
    for item in items(client, sid):
        stream.feed(item, consumer)
    return got, stream


def described(stream):
    """Return what a consumer may ask of its stream."""
    return (
        {name: getattr(stream, name) for name in ("start", "name", "media_format", "rate", "stopped")},
        {name: getattr(stream, name) for name in ("received", "lost", "late", "bad", "losses", "events")},
        {name: getattr(stream, name) for name in ("started_at", "ended_at", "ending", "seconds")},
        {
            name: (track.first, track.end, track.chunks, track.bytes, track.missing, track.gaps)
            for name, track in stream.tracks.items()
        },
    )


def with_gaps():
    """A call of both tracks with lost, late, repeated and bad messages, keys and marks."""
    yield from texts(CONNECTED, start(tracks=("inbound", "outbound")))
    number = 1
    for n in range(200):
        for track in ("inbound", "outbound"):
            number += 1
            if n % 50 == 20 and track == "inbound":
                continue
            message = chunk(number, 20 * n, track)
            message.media.payload = bytes([n]) * 160
            yield message.to_json()
            if n % 90 == 40:
                yield message.to_json()
        if n == 100:  # it goes back, over a gap
            number += 1
            yield chunk(number, 20 * 70 - 30, size=480).to_json()
        if n % 60 == 30:
            number += 2
            yield from texts(dtmf(number - 1), mark(number))
            yield "{}"
    yield stop(number + 1).to_json()


class TestACall:
    @pytest.mark.parametrize("messages", [CAPTURED, list(with_gaps())], ids=["captured", "gaps"])
    def test_a_worker_gets_what_a_consumer_here_gets(self, consumers, here, redis_client, messages):
        stream = put(consumers, messages)
        got, remote = read(redis_client, stream.start.stream_sid)
        assert got == here
        assert len(got) > 140
        assert described(remote) == described(stream)

    def test_what_announces_it(self, consumers, publisher, redis_client):
        stream = put(consumers, texts(CONNECTED, start(), stop(2)))
        wait_until(lambda: has_ended(redis_client, SID))
        (call,) = announced(redis_client)
        assert (call.server, call.idle_timeout, call.start) == (publisher.server, 30.0, start())
        assert call.started_at == stream.started_at.timestamp()
        assert entries(redis_client, SID)[0].call == call.call

    def test_the_first_and_the_last_entry_have_the_numbers(self, consumers, redis_client):
        put(consumers, CAPTURED)
        sid = json.loads(CAPTURED[1])["streamSid"]
        wait_until(lambda: has_ended(redis_client, sid))
        read_entries = entries(redis_client, sid)
        assert [entry.n for entry in read_entries] == list(range(1, len(read_entries) + 1))
        assert any(isinstance(item, StateItem) for item in read_entries[0].items)
        assert [type(item) for item in read_entries[-1].items] == [StateItem, DetailsItem, EndItem]
        ends = [item for item in items(redis_client, sid) if isinstance(item, EndItem)]
        assert len(ends) == 1

    def test_one_that_was_dropped(self, consumers, redis_client):
        connection = FakeConnection()
        with Stream(connection, Settings(), consumers) as stream:
            receive(stream, CONNECTED, start(), chunk(2, 0))
            connection.ending = "dropped"
        _, remote = read(redis_client)
        assert (remote.ending, remote.stopped, remote.ended_at) == ("dropped", False, stream.ended_at)

    def test_another_rate(self, consumers, here, redis_client):
        media_format = MediaFormat(sample_rate=16000)
        put(consumers, texts(start(media_format=media_format), chunk(2, 0, size=320), chunk(3, 40, size=320)))
        got, remote = read(redis_client)
        assert got == here
        assert (remote.rate, remote.tracks["inbound"].gaps) == (16000, [range(320, 640)])

    def test_what_is_not_decoded_has_no_positions(self, consumers, here, redis_client):
        stream = put(
            consumers, texts(start(media_format=MediaFormat("audio/l16")), chunk(2, 0), chunk(3, 20), stop(4))
        )
        got, remote = read(redis_client)
        assert got == here
        assert [item.position for item in media(redis_client, SID)] == [None, None]
        assert described(remote) == described(stream)

    def test_secret_keys_stay_secret(self, consumers, redis_client):
        key = Dtmf(SID, 2, DtmfMetadata(digit="7")).to_json()
        put(consumers, [*texts(start()), key], Settings(log_digits="off"))
        ((_, message),), _ = read(redis_client)
        assert (message.dtmf.digit, message.dtmf.shown) == ("7", "(not shown)")

    def test_texts(self, publisher, redis_client):
        published = []

        class Recogniser(Consumer):
            def __init__(self, stream, publish):
                super().__init__(stream)
                self.publish = publish

            def audio(self, track, position, payload):
                for final in (False, True):
                    published.append(Transcript(track, "Hello.", final, 0.5, 1.0, 0.25))
                    self.publish(published[-1])

        consumers = Consumers()
        consumers.tap(publisher.begin)
        consumers.recognise(Recogniser)
        put(consumers, texts(start(), chunk(2, 0), stop(3)))
        got, _ = read(redis_client)
        assert [each[1] for each in got if each[0] == "transcript"] == published
        assert len(published) == 2
        told = [item for item in items(redis_client, SID) if isinstance(item, TranscriptItem)]
        assert told[1] == TranscriptItem("inbound", "Hello.", True, 0.5, 1.0, 0.25)

    def test_details_come_when_they_have_changed(self, consumers, redis_client, monkeypatch):
        monkeypatch.setattr("mediastreams.cluster.publication._DETAILS_EVERY", 0.0)

        def told():
            return [item for item in items(redis_client, SID) if isinstance(item, DetailsItem)]

        def chunks():
            return len(media(redis_client, SID))

        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start(), chunk(2, 0))
            wait_until(lambda: chunks() == 1)
            receive(stream, chunk(3, 20))
            wait_until(lambda: chunks() == 2)
            assert [details.events["start"] for details in told()] == [1]
            receive(stream, chunk(5, 60))
            wait_until(lambda: chunks() == 3)
            assert told()[1] == DetailsItem(
                {"media": 3, "start": 1}, {"inbound": [(320, 480)]}, [(4, 5, 320)]
            )
        wait_until(lambda: has_ended(redis_client, SID))
        assert len(told()) == 3

    def test_not_more_often_than_every_few_seconds(self, consumers, redis_client):
        with Stream(FakeConnection(), Settings(), consumers) as stream:
            receive(stream, start())
            for n in range(5):
                receive(stream, chunk(2 + 2 * n, 40 * n))
                wait_until(lambda n=n: len(media(redis_client, SID)) == n + 1)
        wait_until(lambda: has_ended(redis_client, SID))
        assert sum(isinstance(item, DetailsItem) for item in items(redis_client, SID)) == 2

    def test_streams_end_at_once(self, start_publisher, start_redis):
        """Whatever Redis does."""
        server = start_redis()
        publisher = start_publisher(server.url)
        server.suspend()
        consumers = Consumers()
        consumers.tap(publisher.begin)
        began = time.monotonic()
        put(consumers, CAPTURED)
        assert time.monotonic() - began < 1


class TestWhichCalls:
    @pytest.mark.parametrize("sid", ["MZ1", "MZ" + "g" * 32, SID + "}", "ms:calls", SID + "\n"])
    def test_a_sid_that_is_not_twilios(self, consumers, redis_client, caplog, sid):
        put(consumers, texts(start(sid=sid), chunk(2, 0, sid=sid)))
        put(consumers, texts(start(), stop(2)))
        wait_until(lambda: has_ended(redis_client, SID))
        assert len(announced(redis_client)) == 1
        (line,) = warnings(caplog)
        assert line.endswith(": not published, its SID is not MZ and 32 digits")

    def test_a_live_one_that_comes_twice(self, consumers, redis_client, caplog):
        with Stream(FakeConnection(), Settings(), consumers) as first:
            receive(first, start(), chunk(2, 0))
            wait_until(lambda: media(redis_client, SID))
            put(consumers, texts(start(), chunk(2, 20), stop(3)))
            assert warnings(caplog) == [f"Stream {SID}: not published, another live stream has its SID"]
            receive(first, chunk(3, 20), stop(4))
        wait_until(lambda: has_ended(redis_client, SID))
        assert [item.sequence_number for item in media(redis_client, SID)] == [2, 3]
        assert len(announced(redis_client)) == 1

    def test_one_that_comes_again_is_another_call(self, consumers, publisher, redis_client, caplog):
        for n in (1, 2):
            put(consumers, texts(start(), stop(2)))
            wait_until(lambda n=n: len(announced(redis_client)) == n)
            call = announced(redis_client)[-1].call
            wait_until(lambda call=call: publisher.stream_of(call) is None)
        calls = [entry.call for entry in all_entries(redis_client, SID)]
        first, second = (call.call for call in announced(redis_client))
        assert first != second
        assert set(calls) == {first, second}
        assert warnings(caplog) == []

    @pytest.mark.parametrize("timestamp", [2**62, 2**63 - 1])
    def test_a_time_beyond_what_can_be_said(self, consumers, redis_client, caplog, timestamp):
        put(consumers, texts(start(), chunk(2, timestamp), chunk(3, timestamp), stop(4)))
        _, remote = read(redis_client)
        assert remote.ending == "failed"
        assert [line for line in warnings(caplog) if "not published" in line] == [
            f"Stream {SID}: not published any more: can't serialize ints < -2**63 or > 2**64 - 1"
        ]
        assert "Traceback" not in caplog.text

    def test_half_a_character(self, publisher, redis_client, caplog):
        stream = Stream(FakeConnection(), Settings())
        receive(stream, start())
        bad = start(custom_parameters={"a": "\ud800"})
        assert publisher.begin(stream, bad) is None
        assert f"Stream {SID}: not published: 'utf-8' codec can't encode" in caplog.text


class TestFinish:
    def test_it_waits_until_everything_is_sent(self, consumers, publisher, redis_client, caplog):
        put(consumers, CAPTURED)
        publisher.finish(10)
        assert has_ended(redis_client, json.loads(CAPTURED[1])["streamSid"])
        assert warnings(caplog) == []

    def test_not_for_longer_than_it_may(self, consumers, publisher, redis_server, caplog):
        redis_server.kill()
        put(consumers, CAPTURED)
        began = time.monotonic()
        publisher.finish(0.5)
        assert 0.5 <= time.monotonic() - began < 2
        assert warnings(caplog)[-1] == "The server ends, and 1.5 s of audio were not published"


def test_names_of_servers(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "a machine: 1{}" + "x" * 99)
    names = {server_name() for _ in range(10)}
    assert len(names) == 10
    assert all(re.fullmatch(r"amachine1x+-\d+-[0-9a-f]{6}", name) for name in names)
    assert max(map(len, names)) < 90


class Follower:
    """Reads a call while it lasts, as a worker does: a thread."""

    def __init__(self, redis_server, sid):
        self.chunks, self.has_ended = [], False
        self._redis, self._key = redis_server, audio_key(sid)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_ending.set()
        self._thread.join()

    def _run(self):
        begin, n = "-", 0
        with self._redis.client() as client:
            while not self._is_ending.wait(0.02):
                new = []
                with contextlib.suppress(RedisError):
                    new = client.xrange(self._key, begin)
                for id, fields in new:
                    begin = b"(" + id
                    entry = decode_entry(fields)
                    if entry.n > n:
                        n = entry.n
                        self.chunks += [item for item in entry.items if isinstance(item, MediaItem)]
                        self.has_ended = isinstance(entry.items[-1], EndItem)


class TestServer:
    """`python app.py`, and the simulated caller."""

    def sid_of(self, printed):
        return re.search("Stream (MZ[0-9a-f]{32}) started", printed)[1]

    def begin(self, server, *arguments):
        """Begin a call; return a function that waits for its end and returns what the caller printed."""
        results = []
        thread = threading.Thread(target=lambda: results.append(run_caller(server.url, *arguments)))
        thread.start()

        def wait():
            thread.join(3 * SECONDS)
            assert (results[0].returncode, results[0].stderr) == (0, "")
            return results[0].stdout

        return wait

    def check_all(self, client, sid, seconds):
        """Check that nothing of a call is missing."""
        wait_until(lambda: has_ended(client, sid))
        numbers = [entry.n for entry in entries(client, sid)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(media(client, sid)) == seconds * 50
        heard_chunks = [item.sequence_number for item in media(client, sid)]
        assert heard_chunks == list(range(2, seconds * 50 + 2))

    def test_both_tracks(self, start_server, redis_server, redis_client):
        server = start_server(REDIS_URL=redis_server.url)
        sid = self.sid_of(call(server.url, "--track", "both_tracks", "--seconds", "2"))
        _, remote = read(redis_client, sid)
        assert {name: track.chunks for name, track in remote.tracks.items()} == {
            "inbound": 100,
            "outbound": 100,
        }
        assert remote.events == {"media": 200, "connected": 1, "start": 1, "stop": 1}
        assert remote.ending == "stop"

    def test_keys_and_marks(self, start_server, redis_server, redis_client):
        server = start_server(REDIS_URL=redis_server.url)
        url = server.url.replace("media", "echo")
        sid = self.sid_of(
            call(url, "--twiml", str(ROOT / "twiml/connect-stream.xml"), "--seconds", "2", "--digits", "12")
        )
        wait_until(lambda: has_ended(redis_client, sid))
        told = items(redis_client, sid)
        assert [item.digit for item in told if isinstance(item, DtmfItem)] == ["1", "2"]
        assert all(isinstance(item.name, str) for item in told if isinstance(item, MarkItem))

    def test_redis_is_killed_and_comes_back(self, start_server, redis_server, redis_client):
        server = start_server(REDIS_URL=redis_server.url)
        wait = self.begin(server, "--seconds", "7")
        wait_until(lambda: announced_sid(redis_client))
        sid = announced_sid(redis_client)
        wait_until(lambda: len(media(redis_client, sid)) > 50)
        redis_server.kill()
        server.wait_for("Redis 127.0.0.1:[0-9]+ is away: ")
        time.sleep(3)
        redis_server.start()
        server.wait_for("Redis 127.0.0.1:[0-9]+ is back after [23]")
        wait()
        self.check_all(redis_client, sid, 7)
        assert "Traceback" not in server.stop()
        assert len(announced(redis_client)) == 1

    def test_away_for_two_windows(self, start_server, redis_server, redis_client):
        server = start_server(REDIS_URL=redis_server.url, REDIS_WINDOW="10")
        wait = self.begin(server, "--seconds", "24")
        wait_until(lambda: announced_sid(redis_client))
        sid = announced_sid(redis_client)
        with Follower(redis_server, sid) as follower:
            wait_until(lambda: len(follower.chunks) > 20)
            redis_server.kill()
            time.sleep(20)
            redis_server.start()
            away = float(server.wait_for("Redis 127.0.0.1:[0-9]+ is back after ([0-9.]+)")[1])
            assert self.sid_of(wait()) == sid
            server.wait_for(f"Stream {sid}: 24.00 s; inbound 1200 chunks, 192000 bytes; 0 messages lost")
            wait_until(lambda: has_ended(redis_client, sid))
            wait_until(lambda: follower.has_ended)
        missing = (1200 - len(follower.chunks)) * 0.02
        assert missing == pytest.approx(away - 10, abs=1.5)
        told = server.wait_for(rf"Stream {sid}: ([0-9.]+) s of its audio were not published")
        assert float(told[1]) == pytest.approx(missing, abs=0.05)
        wait_until(lambda: dropped(server) == pytest.approx(missing, abs=0.001), every=0.2)

    def test_a_suspended_redis_holds_up_no_call(self, start_server, redis_server, redis_client):
        server = start_server(REDIS_URL=redis_server.url)
        wait = self.begin(server, "--seconds", "6")
        wait_until(lambda: announced_sid(redis_client))
        sid = announced_sid(redis_client)
        redis_server.suspend()
        slowest = 0.0
        for _ in range(40):
            began = time.monotonic()
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/livez", timeout=SECONDS) as answer:
                answer.read()
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.1)
        server.wait_for("Redis 127.0.0.1:[0-9]+ is away: Timeout")
        redis_server.resume()
        wait()
        assert slowest < 0.5
        self.check_all(redis_client, sid, 6)
        assert len(announced(redis_client)) == 1

    def test_a_wrong_password(self, start_server, start_redis):
        redis = start_redis("--requirepass", "right")
        url = f"redis://:sesame@127.0.0.1:{redis.port}/0"
        server = start_server(REDIS_URL=url, DRAIN_TIMEOUT="1")
        server.wait_for("is away: the user or the password in REDIS_URL is wrong")
        call(server.url, "--seconds", "1")
        output = server.stop()
        assert output.count("is away") == 1
        assert "sesame" not in output
        assert "Traceback" not in output

    def test_no_room(self, start_server, redis_server, redis_client):
        server = start_server(REDIS_URL=redis_server.url)
        wait = self.begin(server, "--seconds", "4")
        wait_until(lambda: announced_sid(redis_client))
        sid = announced_sid(redis_client)
        redis_client.config_set("maxmemory", 1)
        server.wait_for("is away: command not allowed when used memory > 'maxmemory'")
        redis_client.config_set("maxmemory", 0)
        wait()
        self.check_all(redis_client, sid, 4)

    def test_a_key_of_another_type_is_one_calls_matter(self, start_server, redis_server, redis_client):
        redis_client.set(audio_key(SID), "text")
        server = start_server(REDIS_URL=redis_server.url)
        say(server, texts(CONNECTED, start(), chunk(2, 0), stop(3)))
        server.wait_for(
            f"ERROR in sender: Stream {SID}: not published any more: Redis .* wrong kind of value"
        )
        sid = self.sid_of(call(server.url, "--seconds", "1"))
        self.check_all(redis_client, sid, 1)
        output = server.stop()
        assert output.count("not published any more") == 1
        assert "Traceback" not in output

    def test_what_is_sent_to_several(self, start_server, start_redis):
        redis = [start_redis(), start_redis()]
        server = start_server(REDIS_URL=",".join(each.url for each in redis))
        sids = [f"MZ{n:032x}" for n in range(8)]
        for sid in sids:
            say(server, short_call(sid))
        shards = Shards("redis://a,redis://b")
        for each, shard in zip(redis, shards.all, strict=True):
            here = [sid for sid in sids if shards.of(sid) is shard]
            assert 0 < len(here) < 8
            with each.client() as client:
                wait_until(lambda client=client, here=here: all(has_ended(client, sid) for sid in here))
                assert sids_on(client) == here
                assert all(len(media(client, sid)) == 1 for sid in here)

    def test_one_that_is_away_does_not_hold_up_the_other(self, start_server, start_redis):
        redis = [start_redis(), start_redis()]
        server = start_server(REDIS_URL=",".join(each.url for each in redis), DRAIN_TIMEOUT="1")
        sids = [f"MZ{n:032x}" for n in range(8)]
        redis[0].suspend()
        for sid in sids:
            say(server, short_call(sid))
        with redis[1].client() as client:
            began = time.monotonic()
            wait_until(
                lambda: len(sids_on(client)) >= 2 and all(has_ended(client, s) for s in sids_on(client))
            )
            assert time.monotonic() - began < 3
        redis[0].resume()

    def test_the_end_of_the_server(self, start_server, redis_server, redis_client):
        server = start_server(REDIS_URL=redis_server.url, DRAIN_TIMEOUT="0.5")
        sid = self.sid_of(call(server.url, "--seconds", "1"))
        wait_until(lambda: has_ended(redis_client, sid))
        redis_server.kill()
        call(server.url, "--seconds", "1")
        output = server.stop()
        assert "INFO in publisher: Waiting up to 1 s for Redis: 1.0 s of audio are not published" in output
        assert "WARNING in publisher: The server ends, and 1.0 s of audio were not published" in output
        assert "Traceback" not in output

    def test_a_call_that_the_end_of_the_server_closes(self, start_server, redis_server, redis_client):
        server = start_server(REDIS_URL=redis_server.url, DRAIN_TIMEOUT="0.2")
        thread = threading.Thread(target=run_caller, args=(server.url, "--seconds", "20"))
        thread.start()
        wait_until(lambda: announced_sid(redis_client) and media(redis_client, announced_sid(redis_client)))
        server.stop()
        thread.join()
        _, remote = read(redis_client, announced_sid(redis_client))
        assert remote.ending == "drained"

    def test_where_calls_may_be_deleted(self, start_server, start_redis):
        redis = start_redis("--maxmemory-policy", "allkeys-lru")
        server = start_server(REDIS_URL=redis.url)
        server.wait_for("WARNING in figures: Redis .* its maxmemory-policy is allkeys-lru, not noeviction")


class TestMetrics:
    def told(self, server, port):
        """Return what the metrics have of Redis, without the shard."""
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=SECONDS) as answer:
            text = answer.read().decode()
        return {
            (sample.name.removeprefix("mediastreams_redis_"), sample.labels.get("group", "")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("shard") == f"127.0.0.1:{port}"
        }

    @pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "-w", "2", "app:app"]])
    def test_what_they_tell(self, start_server, redis_server, redis_client, command):
        server = start_server(*command, REDIS_URL=redis_server.url, DRAIN_TIMEOUT="1")
        call(server.url, "--seconds", "1", "--calls", "4")
        for sid in sids_on(redis_client):
            wait_until(lambda sid=sid: has_ended(redis_client, sid))
        redis_client.xgroup_create(CALLS, "recording", "0")
        redis_client.xreadgroup("recording", "w", {CALLS: ">"}, count=1)
        redis_client.hincrby("ms:takeovers", "recording", 2)
        number = sum(len(entries(redis_client, sid)) for sid in sids_on(redis_client))
        assert number >= 20
        expected = {
            ("entries_total", ""): number,
            ("dropped_seconds_total", ""): 0,
            ("up", ""): 1,
            ("calls_waiting", "recording"): 3,
            ("calls_pending", "recording"): 1,
            ("takeovers", "recording"): 2,
        }
        wait_until(
            lambda: (
                print(self.told(server, redis_server.port))
                or self.told(server, redis_server.port) == expected
            ),
            every=0.2,
        )
        redis_server.kill()
        wait_until(lambda: self.told(server, redis_server.port)["up", ""] == 0, every=0.2)


def short_call(sid):
    last = stop(3)
    last.stream_sid = sid
    return texts(CONNECTED, start(sid=sid), chunk(2, 0, sid=sid), last)


def announced_sid(client):
    """Return the SID of the first call."""
    calls = announced(client)
    return calls[0].start.stream_sid if calls else None


def sids_on(client):
    return [each.start.stream_sid for each in announced(client)]


def dropped(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=SECONDS) as answer:
        found = re.search(
            r'^mediastreams_redis_dropped_seconds_total\{shard="[^"]+"\} (\S+)$', answer.read().decode(), re.M
        )
    return float(found[1]) if found else 0.0


class TestUnderGunicorn:
    """Where the standard library is patched."""

    @pytest.fixture
    def gunicorn(self, start_server, redis_server):
        server = start_server(
            "-m", "gunicorn", "-w", "2", "app:app", REDIS_URL=redis_server.url, TRANSCRIBER=""
        )
        server.wait_for("TWILIO_AUTH_TOKEN", times=2)  # the workers are there
        return server

    def test_calls_of_two_workers(self, gunicorn, redis_client):
        printed = call(gunicorn.url, "--calls", "12", "--seconds", "3")
        sids = re.findall("Stream (MZ[0-9a-f]{32}) started", printed)
        wait_until(lambda: len(announced(redis_client)) == 12)
        for sid in sids:
            wait_until(lambda sid=sid: has_ended(redis_client, sid))
            assert len(media(redis_client, sid)) == 150
        output = gunicorn.stop()
        assert "Traceback" not in output
        assert redis_client.xlen(CALLS) == 12

    def test_redis_comes_back(self, gunicorn, redis_server, redis_client):
        redis_server.kill()
        gunicorn.wait_for("is away", times=2)
        printed = call(gunicorn.url, "--calls", "4", "--seconds", "1")
        redis_server.start()
        gunicorn.wait_for("is back", times=2)
        for sid in re.findall("Stream (MZ[0-9a-f]{32}) started", printed):
            wait_until(lambda sid=sid: has_ended(redis_client, sid))
            assert len(media(redis_client, sid)) == 50


class TestWithoutRedis:
    PROGRAM = """
import sys
{before}
from flask import Flask
from mediastreams import MediaStreams
MediaStreams(Flask("a"))
print(sorted(name for name in sys.modules if name.split(".")[0] == "redis" or "cluster" in name))
"""

    def test_nothing_of_it_is_imported(self):
        result = run("-c", self.PROGRAM.format(before=""))
        assert (result.stdout, result.returncode) == ("[]\n", 0)

    def test_with_it_it_is(self):
        result = run("-c", self.PROGRAM.format(before=""), REDIS_URL="redis://127.0.0.1:1/0", TRANSCRIBER="")
        assert "'redis.client'" in result.stdout
        assert "'mediastreams.cluster.words'" in result.stdout

    def test_its_library_is_not_there(self):
        program = self.PROGRAM.format(before="sys.modules['redis'] = None")
        result = run("-c", program, REDIS_URL="redis://127.0.0.1:1/0")
        assert result.returncode == 1
        assert result.stderr == "REDIS_URL cannot be used: it needs pip install -r requirements-redis.txt\n"
        assert run("-c", program).stdout == "['redis']\n"


IMPORTS = """
import gevent.monkey

gevent.monkey.patch_all()
import sys
import time

from gevent.monkey import get_original

import mediastreams.extension
from mediastreams.cluster.connection import Shards
from mediastreams.cluster.publisher import Publisher

me = get_original("_thread", "get_ident")()


class Finder:
    def find_spec(self, name, path=None, target=None):
        if get_original("_thread", "get_ident")() != me:
            print("a thread imports", name)


publisher = Publisher(Shards(sys.argv[1]), 60.0, 30.0, lambda figures: told.append(figures))
told = []
sys.meta_path.insert(0, Finder())
publisher.start()
while not any(figures.is_up for figures in told):
    gevent.sleep(0.01)
"""


def test_its_threads_import_nothing(redis_server):
    """Two threads that import at once may wait for ever, where gevent has patched the locks of imports."""
    result = run("-c", IMPORTS, redis_server.url.replace("127.0.0.1", "localhost"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
