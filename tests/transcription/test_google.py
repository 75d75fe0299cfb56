"""Google Cloud Speech-to-Text, on this machine: gRPC, with the types of Google's own client."""

import threading
from concurrent import futures
from itertools import pairwise

import grpc
import pytest
from google.cloud import speech_v1 as speech
from support.provider import SAID, Hearing, call_is_shown, shown
from support.server import run_caller


class Google:
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
    google = Google()
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


def test_errors_are_one_line_and_the_call_goes_on(start_server, google):
    google.failures += [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded."),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    ]
    server = start_server(TRANSCRIBER="google", GOOGLE_SPEECH_ENDPOINT=google.url)
    assert run_caller(server.url, "--seconds", "6").returncode == 0
    server.wait_for("Stream MZ")
    printed = server.stop()
    assert printed.count("tried again") == 1
    assert "inbound: Google: Quota exceeded.: tried again" in printed
    assert shown(printed)[-1] == ("0:04", "Heard 6 s")
    assert len(google.sessions[-1].mulaw) == 48000
    assert all(config.config.sample_rate_hertz == 8000 for config in google.configs)
    assert "Traceback" not in printed


def test_a_bad_key_is_given_up(start_server, google):
    google.failures += [(grpc.StatusCode.UNAUTHENTICATED, "Invalid credentials.")] * 5
    server = start_server(TRANSCRIBER="google", GOOGLE_SPEECH_ENDPOINT=google.url)
    assert run_caller(server.url, "--seconds", "10").returncode == 0
    server.wait_for("Stream MZ.*10.00 s; inbound 500 chunks")
    printed = server.stop()
    assert printed.count("Google: Invalid credentials.") == 2
    assert "given up, no transcript from here" in printed


def test_no_key_is_one_line(start_server, tmp_path):
    server = start_server(TRANSCRIBER="google", HOME=str(tmp_path), NO_GCE_CHECK="true")
    assert run_caller(server.url, "--seconds", "3").returncode == 0
    server.wait_for("Stream MZ.*3.00 s; inbound 150 chunks")
    printed = server.stop()
    assert (
        printed.count("Google cannot be loaded, no transcripts: Your default credentials were not found") == 1
    )
    assert "Traceback" not in printed


def test_a_session_ends_before_googles_limit(google, monkeypatch):
    """The next one begins with what had no final words in the one before."""
    from mediastreams.transcription import google as module
    from mediastreams.transcription.session import Backlog, recognise

    heard, said = [], []
    backlog = Backlog(lambda *told: heard.append(told), threading.Event())
    client = module.Speech(google.url)
    thread = threading.Thread(target=recognise, args=(backlog, client.session, 0.3, said.append, said.append))
    thread.start()
    for n in range(0, len(SAID), 800):
        backlog.feed(SAID[n : n + 800])
        threading.Event().wait(0.02)  # faster than a call, but for more than a session
    backlog.finish()
    thread.join(20)
    assert not thread.is_alive()
    assert said == []
    assert len(google.sessions) > 2
    assert b"".join(hearing.mulaw for hearing in google.sessions) == SAID
    finals = [told for told in heard if told[1]]
    assert finals[-1][3] == pytest.approx(len(SAID) / 8000, abs=0.01)
    assert all(before[3] == pytest.approx(after[2], abs=0.01) for before, after in pairwise(finals))
