"""`GET /metrics`, read by prometheus_client's own parser."""

import collections
import contextlib
import itertools
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from base64 import b64decode

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import calls
from support.calls import CAPTURED
from support.handshake import exchange, handshake
from support.server import ROOT, SECONDS, Server, environment, run_caller, wait_until
from support.streams import CONNECTED, FakeConnection, media, start, stop
from websockets.sync.client import connect

from mediastreams.config import Settings
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript
from mediastreams.web import metrics

TOKEN = "0123456789abcdef0123456789abcdef"


def scrape(server):
    """Return each sample: its name and labels, and its value; only ours."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=SECONDS) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; ")
        text = answer.read().decode()
    assert not re.search("(MZ|CA|AC)[0-9a-f]{32}", text)
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("mediastreams_"):
                key = (sample.name.removeprefix("mediastreams_"), *sorted(sample.labels.items()))
                assert key not in samples
                samples[key] = sample.value
    return samples


def change(before, after):
    """Return what has another value, without the buckets, by name and label."""
    return {
        (key[0], *(value for _, value in key[1:])): value - before.get(key, 0)
        for key, value in after.items()
        if value != before.get(key, 0) and not key[0].endswith(("_bucket", "_sum"))
    }


class TestACall:
    def test_what_it_changes(self, server):
        before = scrape(server)
        assert before["streams_max",] == 1000
        gauges = ("streams_live", "streams_max")
        assert {value for key, value in before.items() if key[0] not in gauges} == {0}
        lost = CAPTURED[:20] + CAPTURED[23:]
        calls.say(server, [*lost[:5], "{}", '{"event":"closed"}', lost[4], *lost[5:]])
        server.wait_for("messages lost")
        assert change(before, scrape(server)) == {
            ("streams_total", "stop"): 1,
            ("messages_total", "connected"): 1,
            ("messages_total", "start"): 1,
            ("messages_total", "media"): 71,
            ("messages_total", "stop"): 1,
            ("messages_total", "unknown"): 1,
            ("messages_total", "invalid"): 1,
            ("media_bytes_total", "inbound"): 70 * 160,
            ("messages_lost_total",): 3,
            ("messages_late_total",): 1,
            ("messages_bad_total",): 1,
            ("handling_lateness_seconds_count",): 1,
        }

    @pytest.mark.parametrize("failed", [0, 1])
    def test_whose_recording_fails(self, start_server, tmp_path, failed):
        path = tmp_path / "recordings"
        if failed:
            path.touch()  # it is no folder
        server = start_server(RECORDINGS_DIR=str(path), MAX_STREAMS="7")
        assert scrape(server)["streams_max",] == 7
        calls.say(server, CAPTURED)
        server.wait_for("cannot be used" if failed else "recorded in")
        wait_until(lambda: scrape(server)["recordings_failed_total",] == failed)

    def test_a_live_one_is_counted_already(self, server):
        before = scrape(server)
        with connect(server.url, compression=None) as ws:
            for message in CAPTURED[:12]:
                ws.send(message)
            ws.ping().wait(SECONDS)
            server.wait_for("suppressed")
            deadline = time.monotonic() + SECONDS
            while True:
                told = change(before, scrape(server))
                if told.get(("messages_total", "media")) == 10 or time.monotonic() > deadline:
                    break
            assert told == {
                ("streams_live",): 1,
                ("messages_total", "connected"): 1,
                ("messages_total", "start"): 1,
                ("messages_total", "media"): 10,
                ("media_bytes_total", "inbound"): 1600,
            }
        server.wait_for("messages lost")
        told = change(before, scrape(server))
        assert ("streams_live",) not in told
        assert told["streams_total", "peer closed"] == 1

    @pytest.mark.parametrize(
        ("arguments", "ending"),
        [
            (["--drop"], "dropped"),
            ([], "stop"),
            (["--twiml", "twiml/start-stream.xml", "ECHO"], "server closed"),
        ],
    )
    def test_how_it_ended(self, server, arguments, ending):
        url = server.url.replace("media", "echo") if "ECHO" in arguments else server.url
        run_caller(url, "--seconds", "1", *[each for each in arguments if each != "ECHO"])
        server.wait_for("Stream MZ.* messages lost")
        samples = scrape(server)
        endings = {key[1][1]: value for key, value in samples.items() if key[0] == "streams_total"}
        assert {name: value for name, value in endings.items() if value} == {ending: 1}
        assert set(endings) == set(metrics.ENDINGS)


@pytest.fixture(scope="module")
def gated(start_shared_server):
    return start_shared_server(TWILIO_AUTH_TOKEN=TOKEN)


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_bytes", "reason"),
        [
            (handshake("GET /nope HTTP/1.1"), "path"),
            (handshake("POST /media HTTP/1.1", Content_Length="0"), "method"),
            (handshake(Sec_WebSocket_Version="8"), "version"),
            (handshake(Sec_WebSocket_Key="short"), "malformed"),
            (handshake(Upgrade=None), "upgrade"),
            (handshake(), "signature"),
            (b"hello\r\n\r\n", "malformed"),
            (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", "malformed"),
            (b"POST /stream-status HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "signature"),
            (b"POST /stream-status HTTP/1.1\r\nContent-Length: 70000\r\n\r\n", "too large"),
        ],
    )
    def test_each_has_its_reason(self, gated, request_bytes, reason):
        before = scrape(gated)
        exchange(gated, request_bytes)
        assert change(before, scrape(gated)) == {("refusals_total", reason): 1}

    def test_too_many_streams(self, start_server):
        server = start_server(MAX_STREAMS="1")
        with connect(server.url, compression=None):
            exchange(server, handshake())
            assert scrape(server)["refusals_total", ("reason", "streams")] == 1

    def test_a_request_that_is_never_whole(self, start_server):
        server = start_server(START_TIMEOUT="0.2")
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
            connection.sendall(b"GET /")
            connection.recv(1)
        assert scrape(server)["refusals_total", ("reason", "timeout")] == 1

    def test_what_is_answered_is_none(self, shared_server):
        before = scrape(shared_server)
        exchange(shared_server, b"GET /healthz HTTP/1.0\r\n\r\n")
        exchange(shared_server, b"HEAD /metrics HTTP/1.0\r\n\r\n")
        exchange(shared_server, b"GET /twiml/start-stream HTTP/1.0\r\nHost: a\r\n\r\n")
        assert change(before, scrape(shared_server)) == {}


class TestUnderGunicorn:
    @pytest.fixture
    def gunicorn(self, tmp_path):
        environ = {**environment(), "HTTP_SERVER_PORT": "0", "TMPDIR": str(tmp_path)}
        server = Server([sys.executable, "-m", "gunicorn", "-w", "2", "app:app"], ROOT, environ)
        try:
            server.wait_until_it_listens()
            server.wait_for("TWILIO_AUTH_TOKEN", times=2)  # the workers are there
            yield server
        finally:
            server.stop()
        assert list(tmp_path.iterdir()) == []

    def test_it_is_the_sum_of_all_workers(self, gunicorn):
        assert run_caller(gunicorn.url, "--fast", "--calls", "20").returncode == 0
        gunicorn.wait_for("messages lost", times=20)
        for _ in range(10):  # whichever worker answers
            samples = scrape(gunicorn)
            assert samples["streams_total", ("ending", "stop")] == 20
            assert samples["messages_total", ("event", "media")] == 20 * 260
            assert samples["media_bytes_total", ("track", "inbound")] == 20 * 41600
            assert samples["streams_live",] == 0

    def test_live_streams(self, gunicorn):
        with contextlib.ExitStack() as stack:
            for _ in range(6):
                ws = stack.enter_context(connect(gunicorn.url, compression=None))
                ws.ping().wait(SECONDS)
            assert {scrape(gunicorn)["streams_live",] for _ in range(10)} == {6}

    def test_a_worker_that_died_has_no_streams(self, gunicorn):
        pids = re.findall(r"Booting worker with pid: (\d+)", "\n".join(gunicorn.lines))
        with connect(gunicorn.url, compression=None) as ws:
            ws.ping().wait(SECONDS)
            assert scrape(gunicorn)["streams_live",] == 1
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
            gunicorn.wait_for("TWILIO_AUTH_TOKEN", times=2)  # new ones are there
            assert scrape(gunicorn)["streams_live",] == 0


class TestCounts:
    """What a stream counts, and what of it is new."""

    def told(self):
        families = text_string_to_metric_families(metrics.page().decode())
        samples = itertools.chain.from_iterable(family.samples for family in families)
        return collections.Counter(
            {
                (sample.name, *sample.labels.values()): sample.value
                for sample in samples
                # Not the process's own metrics: its CPU time changes between two looks.
                if sample.value and sample.name.startswith("mediastreams_")
            }
        )

    def test_nothing_is_counted_twice(self):
        stream = Stream(FakeConnection(), Settings())
        stream_metrics = metrics.StreamMetrics()
        before = self.told()
        stream_metrics.begin(stream)
        for message in (CONNECTED, start(), media(2, 0), media(5, 60)):
            stream.receive(message.to_json())
            stream_metrics.count()
        stream_metrics.count()
        stream.receive(media(3, 20).to_json())  # it was lost, and is not any more: a counter never goes back
        stream.receive(stop(6).to_json())
        with stream:
            pass
        stream_metrics.end(stream)
        stream_metrics.count()
        told = self.told() - before
        assert told["mediastreams_messages_total", "media"] == 3
        assert told["mediastreams_messages_lost_total",] == 2
        assert told["mediastreams_messages_late_total",] == 1
        assert told["mediastreams_streams_total", "stop"] == 1

    def test_a_stream_that_ends_before_its_start(self):
        stream = Stream(FakeConnection(), Settings())
        before = self.told()
        with stream:
            stream.receive(CONNECTED.to_json())
        metrics.StreamMetrics().end(stream)
        told = self.told() - before
        assert told["mediastreams_messages_total", "connected"] == 1
        assert told["mediastreams_streams_total", "server closed"] == 1

    def test_what_consumers_and_recognisers_missed(self):
        stream_metrics = metrics.StreamMetrics()
        lag = metrics.TranscriptionLag(Stream(FakeConnection(), Settings()), stream_metrics.lag)
        before = self.told()
        metrics.missed("Transcriber", 7)
        stream_metrics.unheard(1.5)
        for seconds in (0.4, 1.2):
            lag.transcript(Transcript("inbound", "words that change", False, 0, 1, seconds))
            lag.transcript(Transcript("inbound", "words", True, 0, 1, seconds))
        stream_metrics.count()
        stream_metrics.count()
        told = self.told() - before
        assert told["mediastreams_consumer_dropped_messages_total", "Transcriber"] == 7
        assert told["mediastreams_transcription_dropped_seconds_total",] == 1.5
        assert told["mediastreams_transcription_lag_seconds_count",] == 2
        assert told["mediastreams_transcription_lag_seconds_bucket", "0.5"] == 1

    def test_what_redis_has(self):
        stream_metrics = metrics.StreamMetrics()
        before = self.told()
        stream_metrics.redis("here:1", True, 7, 1.5, {"recording": (1, 2, 3)})
        assert self.told() == before
        stream_metrics.redis("here:1", True, 5, 0.0, {"recording": (4, 5, 6), "other": (7, 8, 9)})
        stream_metrics.redis("there:1", False, 0, 0.5, {})
        stream_metrics.count()
        told = {key: value for key, value in (self.told() - before).items() if "redis" in key[0]}
        assert told == {
            ("mediastreams_redis_entries_total", "here:1"): 12,
            ("mediastreams_redis_dropped_seconds_total", "here:1"): 1.5,
            ("mediastreams_redis_dropped_seconds_total", "there:1"): 0.5,
            ("mediastreams_redis_up", "here:1"): 1,
            ("mediastreams_redis_calls_waiting", "recording", "here:1"): 4,
            ("mediastreams_redis_calls_pending", "recording", "here:1"): 5,
            ("mediastreams_redis_takeovers", "recording", "here:1"): 6,
            ("mediastreams_redis_calls_waiting", "other", "here:1"): 7,
            ("mediastreams_redis_calls_pending", "other", "here:1"): 8,
            ("mediastreams_redis_takeovers", "other", "here:1"): 9,
        }
        assert 'mediastreams_redis_up{shard="there:1"} 0.0' in metrics.page().decode()
        stream_metrics.redis("here:1", False, 0, 0.0, {})
        stream_metrics.count()
        waiting = ("mediastreams_redis_calls_waiting", "other", "here:1")
        assert self.told()[waiting] == 7  # nobody knows better
        stream_metrics.redis("here:1", True, 0, 0.0, {"recording": (4, 5, 6)})
        stream_metrics.count()
        assert self.told()[waiting] == 0

    def test_it_counts_also_without_streams(self, monkeypatch):
        monkeypatch.setattr(metrics, "COUNT_SECONDS", 0.01)
        stream_metrics = metrics.StreamMetrics()
        name = ("mediastreams_transcription_dropped_seconds_total",)
        before = self.told()[name]
        stream_metrics.keep_counting()
        for n in (1, 2):
            stream_metrics.unheard(1.0)
            wait_until(lambda n=n: self.told()[name] == before + n)

    def test_reasons_that_it_does_not_know(self):
        before = self.told()
        metrics.refused("", 418)
        assert (self.told() - before)["mediastreams_refusals_total", "other"] == 1


def test_bytes_of_a_capture():
    payloads = re.findall(r'"payload":"([^"]*)"', "".join(CAPTURED))
    assert sum(len(b64decode(payload)) for payload in payloads) == 73 * 160
