"""Google Cloud Speech-to-Text, on this machine: gRPC, with the types of Google's own client."""

import asyncio
import threading
from concurrent import futures
from itertools import pairwise

import grpc
import pytest
from google.cloud import speech_v1 as speech
from support.provider import SAID, Hearing, Recognised, call_is_shown
from support.server import SECONDS, run_caller

from mediastreams.transcription.google import Google
from mediastreams.transcription.session import Backlog


class FakeGoogle:
    """A gRPC server; `sessions` has what each of them heard."""

    def __init__(self):
        self.sessions = []
        self.failures = []
        self.configs = []
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        method = grpc.stream_stream_rpc_method_handler(
            self._recognise,
            request_deserializer=speech.StreamingRecognizeRequest.deserialize,
            response_serializer=speech.StreamingRecognizeResponse.serialize,
        )
        handler = grpc.method_handlers_generic_handler(
            "google.cloud.speech.v1.Speech", {"StreamingRecognize": method}
        )
        self._server.add_generic_rpc_handlers((handler,))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self):
        self._server.stop(None).wait()

    def _recognise(self, requests, context):
        self.configs.append(next(requests).streaming_config)
        if self.failures:
            context.abort(*self.failures.pop(0))
        hearing = Hearing()
        self.sessions.append(hearing)
        for request in requests:
            if len(request.audio_content) > 25_000:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Audio chunk is too long.")
            yield from map(self._answer, hearing.hear(request.audio_content))
        yield from map(self._answer, hearing.hear(b"", last=True))

    def _answer(self, told):
        text, final, begin, end = told
        words = [speech.WordInfo(word="Heard", start_time=_duration(begin), end_time=_duration(begin + 0.1))]
        best = speech.SpeechRecognitionAlternative(transcript=f" {text}", words=words if final else [])
        result = speech.StreamingRecognitionResult(
            alternatives=[best], is_final=final, result_end_time=_duration(end)
        )
        return speech.StreamingRecognizeResponse(results=[result])


def _duration(seconds):
    return {"seconds": int(seconds), "nanos": round(seconds % 1 * 1e9)}


@pytest.fixture
def google():
    google = FakeGoogle()
    yield google
    google.stop()


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_a_call(start_server, google, command):
    server = start_server(*command, TRANSCRIBER="google", GOOGLE_SPEECH_ENDPOINT=google.url)
    printed = call_is_shown(server, "--seconds", "5.2")
    (hearing,) = google.sessions
    assert hearing.mulaw == SAID.ljust(41600, b"\xff")
    (config,) = google.configs
    assert config.interim_results
    assert config.config.encoding == speech.RecognitionConfig.AudioEncoding.MULAW
    assert (config.config.sample_rate_hertz, config.config.language_code) == (8000, "en-US")
    assert printed.count("WARNING") == 1  # that of TWILIO_AUTH_TOKEN


def test_a_language_that_google_calls_otherwise(start_server, google):
    server = start_server(
        TRANSCRIBER="google", GOOGLE_SPEECH_ENDPOINT=google.url, TRANSCRIBER_LANGUAGE="he-IL"
    )
    call_is_shown(server, "--seconds", "5.2")
    assert [config.config.language_code for config in google.configs] == ["iw-IL"]


def test_errors_are_one_line_and_the_track_goes_on(google):
    google.failures += [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded."),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    ]
    recognised = Recognised(
        lambda: Google({"GOOGLE_SPEECH_ENDPOINT": google.url}), SAID[:48000].ljust(48000, b"\xff")
    )
    assert recognised.warned == ["Google: Quota exceeded.: tried again"]
    assert recognised.paused == [0.5, 1.0]
    assert recognised.heard[-1] == ("Heard 6 s", True, 4.0, 6.0)
    assert len(google.sessions[-1].mulaw) == 48000
    assert all(config.config.sample_rate_hertz == 8000 for config in google.configs)


def test_it_is_told_the_rate(google):
    Recognised(lambda: Google({"GOOGLE_SPEECH_ENDPOINT": google.url}), SAID, rate=16000)
    assert [config.config.sample_rate_hertz for config in google.configs] == [16000]


def test_a_bad_key_is_given_up(google):
    google.failures += [(grpc.StatusCode.UNAUTHENTICATED, "Invalid credentials.")] * 5
    recognised = Recognised(lambda: Google({"GOOGLE_SPEECH_ENDPOINT": google.url}), SAID)
    assert recognised.warned == [
        "Google: Invalid credentials.: tried again",
        "Google: Invalid credentials.: given up, no transcript from here",
    ]
    assert google.sessions == []


def test_no_key_is_one_line(start_server, tmp_path):
    server = start_server(TRANSCRIBER="google", HOME=str(tmp_path), NO_GCE_CHECK="true")
    assert run_caller(server.url, "--seconds", "1.5").returncode == 0
    line = "Google cannot be loaded, no transcripts: Your default credentials were not found"
    server.wait_for(line)
    printed = server.stop()
    assert printed.count(line) == 1
    assert printed.count("1.50 s; inbound 75 chunks") == 1
    assert "Traceback" not in printed


def test_many_texts_for_a_track_that_is_given_up_hold_no_thread(monkeypatch):
    """They come when nobody waits for them any more."""
    is_given_up = threading.Event()

    def recognise(_self, requests, context):
        for _ in requests:
            pass
        assert is_given_up.wait(SECONDS)
        for _ in range(100):
            yield speech.StreamingRecognizeResponse()

    async def give_up():
        backlog = Backlog(lambda *told: None)
        backlog.feed(SAID)
        backlog.finish()
        task = asyncio.create_task(Google({"GOOGLE_SPEECH_ENDPOINT": google.url}).recognise(backlog, str))
        while not (threads := [each for each in threading.enumerate() if "_hold" in each.name]):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        is_given_up.set()
        await asyncio.to_thread(threads[0].join, SECONDS)
        assert not threads[0].is_alive()

    monkeypatch.setattr(FakeGoogle, "_recognise", recognise)
    google = FakeGoogle()
    asyncio.run(give_up())
    google.stop()


def test_a_session_ends_before_googles_limit(google):
    """The next one begins with what had no final words in the one before."""
    # Faster than a call, but for more than a session.
    recognised = Recognised(
        lambda: Google({"GOOGLE_SPEECH_ENDPOINT": google.url}), SAID, seconds=0.3, pace=0.02
    )
    assert recognised.warned == []
    assert len(google.sessions) > 2
    assert b"".join(hearing.mulaw for hearing in google.sessions) == SAID
    finals = [told for told in recognised.heard if told[1]]
    assert finals[-1][3] == pytest.approx(len(SAID) / 8000, abs=0.01)
    assert all(before[3] == pytest.approx(after[2], abs=0.01) for before, after in pairwise(finals))
