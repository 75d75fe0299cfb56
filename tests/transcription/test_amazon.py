"""Amazon Transcribe, on this machine: signatures and frames are those of botocore, Amazon's own library."""

import binascii
import json
import re
import struct
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st
from support.provider import SAID, Hearing, Recognised, call_is_shown
from support.server import run, run_caller
from websockets.exceptions import ConnectionClosed

from mediastreams.audio import mulaw
from mediastreams.transcription.amazon import Amazon, decode_event, encode_event, presign

KEYS = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime(2026, 11, 22, 18, 0, 0, tzinfo=UTC)
QUERY = {"language-code": "en-US", "media-encoding": "pcm", "sample-rate": "8000"}


def presigned_by_botocore(endpoint, session_token, region, monkeypatch):
    import botocore.auth

    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
    url = f"{endpoint}/stream-transcription-websocket"
    request = AWSRequest("GET", url, params=QUERY)
    SigV4QueryAuth(Credentials(*KEYS, session_token), "transcribe", region, expires=300).add_auth(request)
    return request.url


class TestPresign:
    @pytest.mark.parametrize("session_token", [None, "token/with+odd=characters=="])
    @pytest.mark.parametrize(
        "endpoint", ["https://transcribestreaming.eu-west-1.amazonaws.com:8443", "https://localhost:1234"]
    )
    def test_as_botocore_signs(self, monkeypatch, endpoint, session_token):
        ours = urlsplit(presign(endpoint, QUERY, *KEYS, session_token, "eu-west-1", NOW))
        theirs = urlsplit(presigned_by_botocore(endpoint, session_token, "eu-west-1", monkeypatch))
        assert (ours.scheme, ours.netloc, ours.path) == ("wss", theirs.netloc, theirs.path)
        assert parse_qs(ours.query) == parse_qs(theirs.query)


def frame_of(payload, **headers):
    """Return an event-stream frame, made by the book."""
    packed = b""
    for name, value in headers.items():
        name = ":" + name.replace("_", "-")
        packed += bytes([len(name)]) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
    head = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    frame = head + struct.pack(">I", binascii.crc32(head)) + packed + payload
    return frame + struct.pack(">I", binascii.crc32(frame))


class TestEvents:
    @pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 100])
    def test_botocore_reads_what_is_sent(self, payload):
        buffer = EventStreamBuffer()
        buffer.add_data(encode_event(payload))
        (event,) = buffer
        assert event.payload == payload
        assert event.headers == {
            ":content-type": "application/octet-stream",
            ":event-type": "AudioEvent",
            ":message-type": "event",
        }
        assert decode_event(encode_event(payload)) == (event.headers, payload)

    @given(st.binary(max_size=200))
    def test_no_frame_makes_a_traceback(self, data):
        with pytest.raises(ValueError, match=r"."):
            decode_event(data)

    @given(st.integers(0, 10_000), st.integers(1, 255))
    def test_a_broken_frame_is_noticed(self, place, change):
        frame = bytearray(frame_of(b'{"Message":"x"}', message_type="event"))
        frame[place % len(frame)] ^= change
        with pytest.raises(ValueError, match=r"."):
            decode_event(bytes(frame))


def speak(provider, ws):
    """Serve one session."""
    provider.requests.append(ws.request.path)
    if provider.failures:
        provider.failures.pop(0)(ws)
        return
    query = parse_qs(urlsplit(ws.request.path).query)
    signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    spoken = {**QUERY, "language-code": provider.language}
    valid = presign(provider.url, spoken, *KEYS, None, "eu-west-1", signed)
    if valid.partition("?")[2] != ws.request.path.partition("?")[2]:
        message = json.dumps({"Message": "The request signature does not match."}).encode()
        ws.send(frame_of(message, message_type="exception", exception_type="BadRequestException"))
        return
    hearing = Hearing()
    provider.sessions.append(hearing)
    while True:
        buffer = EventStreamBuffer()
        buffer.add_data(ws.recv())
        (event,) = buffer
        if len(event.payload) > 16000:  # a second
            message = json.dumps({"Message": "Your stream is too big."}).encode()
            ws.send(frame_of(message, message_type="exception", exception_type="BadRequestException"))
            return
        for text, final, begin, end in hearing.hear(mulaw.encode(event.payload), last=not event.payload):
            result = {
                "Alternatives": [{"Items": [], "Transcript": text}],
                "StartTime": begin,
                "EndTime": end,
                "IsPartial": not final,
                "ResultId": "1",
            }
            payload = json.dumps({"Transcript": {"Results": [result]}}).encode()
            ws.send(frame_of(payload, message_type="event", event_type="TranscriptEvent"))
        if not event.payload:
            return


@pytest.fixture
def provider(start_provider):
    provider = start_provider(speak)
    provider.language = "en-US"
    return provider


@pytest.fixture
def start(start_server, provider, tls):
    def start(*command, **environ):
        return start_server(
            *command,
            **{
                "TRANSCRIBER": "amazon",
                "AWS_ACCESS_KEY_ID": KEYS[0],
                "AWS_SECRET_ACCESS_KEY": KEYS[1],
                "AWS_DEFAULT_REGION": "eu-west-1",
                "AWS_ENDPOINT_URL_TRANSCRIBE_STREAMING": provider.url,
                "SSL_CERT_FILE": tls.file,
                **environ,
            },
        )

    return start


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_a_call(start, provider, command):
    printed = call_is_shown(start(*command), "--fast")
    (hearing,) = provider.sessions
    assert hearing.mulaw == SAID.ljust(41600, b"\xff")
    assert printed.count("WARNING") == 1  # that of TWILIO_AUTH_TOKEN


def test_a_language_that_amazon_calls_otherwise(start, provider):
    provider.language = "no-NO"
    call_is_shown(start(TRANSCRIBER_LANGUAGE="nb-NO"), "--fast")
    assert len(provider.sessions) == 1


def test_a_wrong_secret_is_one_line_and_the_call_goes_on(start):
    server = start(AWS_SECRET_ACCESS_KEY="wrong")
    assert run_caller(server.url, "--seconds", "0.5").returncode == 0
    server.wait_for("Stream MZ.*0.50 s; inbound 25 chunks")
    printed = server.stop()
    assert (
        printed.count("Amazon: BadRequestException, The request signature does not match.: tried again") == 1
    )
    assert "Traceback" not in printed
    assert "wrong" not in printed


@pytest.fixture
def amazon(provider, tls, monkeypatch):
    """Return a function that returns Amazon as it is in the engine process."""
    monkeypatch.setenv("SSL_CERT_FILE", tls.file)
    environ = {
        "AWS_ACCESS_KEY_ID": KEYS[0],
        "AWS_SECRET_ACCESS_KEY": KEYS[1],
        "AWS_REGION": "eu-west-1",
    }
    return lambda endpoint=provider.url: Amazon(
        {**environ, "AWS_ENDPOINT_URL_TRANSCRIBE_STREAMING": endpoint}
    )


def test_dropped_refused_and_nonsense(amazon, provider):
    def drop(ws):
        ws.recv()
        ws.socket.close()

    def limit(ws):
        ws.recv()
        payload = json.dumps({"Message": "You have reached your limit."}).encode()
        ws.send(frame_of(payload, message_type="exception", exception_type="LimitExceededException"))

    def nonsense(ws):
        ws.send(b"hello")
        try:
            while True:
                ws.recv()
        except ConnectionClosed:
            pass

    provider.failures += [drop, limit, nonsense]
    recognised = Recognised(amazon, SAID[:48000].ljust(48000, b"\xff"), pace=0.005)
    assert recognised.heard[-1] == ("Heard 6 s", True, 4.0, 6.0)
    assert len(provider.sessions[-1].mulaw) == 48000
    assert recognised.warned == ["Amazon: the server dropped the connection without a Close: tried again"]
    assert recognised.paused == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    "answer",
    [
        "hello",
        b"hello",
        frame_of(b"{", message_type="event"),
        frame_of(b"null", message_type="event"),
        frame_of(b'{"Transcript": {"Results": [null]}}', message_type="event"),
        frame_of(b'{"Message": null}', message_type="exception"),
        frame_of(b"{}", message_type="exception"),
        frame_of(b" " * 70_000, message_type="event"),
    ],
)
def test_an_answer_that_is_none(amazon, provider, answer, capfd):
    def speak_nonsense(ws):
        ws.send(answer)
        for _ in ws:
            pass

    provider.failures += [speak_nonsense] * 5
    first, last = Recognised(amazon, SAID).warned
    assert re.fullmatch(r"Amazon: .*: tried again", first)
    assert re.fullmatch(r"Amazon: .*: given up, no transcript from here", last)
    assert capfd.readouterr() == ("", "")


def test_nobody_there(amazon):
    recognised = Recognised(lambda: amazon("https://127.0.0.1:1"), SAID)
    assert (
        recognised.warned[0] == "Amazon: nothing listens on 127.0.0.1:1 (is the server running?): tried again"
    )
    assert recognised.heard == []


def test_what_is_missing_is_one_line():
    result = run("app.py", TRANSCRIBER="amazon", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y")
    assert (result.returncode, result.stderr) == (
        1,
        "TRANSCRIBER='amazon' cannot be used: it needs AWS_REGION\n",
    )


def test_it_is_told_the_rate(amazon, provider):
    provider.failures.append(lambda ws: ws.recv())
    Recognised(amazon, SAID, rate=16000)
    rates = [parse_qs(urlsplit(path).query)["sample-rate"] for path in provider.requests]
    assert rates == [["16000"]]
