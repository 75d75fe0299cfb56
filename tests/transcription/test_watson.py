"""Watson, as its documentation describes the WebSocket interface, on this machine."""

import contextlib
import json
import re
import threading
from urllib.parse import parse_qs

import pytest
from support.provider import SAID, Hearing, Recognised, call_is_shown, shown
from support.server import run, run_caller
from websockets.exceptions import ConnectionClosed

from mediastreams.client import tls_context
from mediastreams.transcription.watson import Watson

KEY, TOKEN = "the-api-key", "token-of-the-day"


def speak(provider, ws):
    """Serve one session."""
    provider.requests.append((ws.request.path, ws.request.headers["Authorization"]))
    if provider.failures:
        provider.failures.pop(0)(ws)
        return
    start = json.loads(ws.recv())
    assert start == {
        "action": "start",
        "content-type": "audio/mulaw;rate=8000;channels=1",
        "interim_results": True,
        "timestamps": True,
        "inactivity_timeout": -1,
    }
    hearing = Hearing()
    provider.sessions.append(hearing)
    ws.send(json.dumps({"state": "listening"}))
    last = False
    while not last:
        message = ws.recv()
        last = isinstance(message, str)
        if last:
            assert json.loads(message) == {"action": "stop"}
        for text, final, begin, end in hearing.hear(b"" if last else message, last):
            words = [["Heard", begin, begin + 0.1], ["s", end - 0.1, end]]
            best = {"transcript": f"{text} ", "timestamps": words, "confidence": 0.9}
            ws.send(json.dumps({"result_index": 0, "results": [{"final": final, "alternatives": [best]}]}))
    ws.send(json.dumps({"state": "listening"}))


@pytest.fixture
def provider(start_provider):
    return start_provider(speak)


@pytest.fixture
def token(start_https, provider):
    """The address of who gives tokens."""
    provider.tokens = 0

    def answer(path, body):
        if path != "/identity/token" or parse_qs(body).get("apikey") != [KEY]:
            return 400, '{"errorMessage": "Provided API key could not be found."}'
        provider.tokens += 1
        assert parse_qs(body)["grant_type"] == ["urn:ibm:params:oauth:grant-type:apikey"]
        return 200, json.dumps({"access_token": TOKEN, "expires_in": 3600})

    return start_https(answer)


@pytest.fixture
def start(start_server, provider, token, tls):
    def start(*command, **environ):
        return start_server(
            *command,
            **{
                "TRANSCRIBER": "watson",
                "SPEECH_TO_TEXT_APIKEY": KEY,
                "SPEECH_TO_TEXT_URL": provider.url,
                "SPEECH_TO_TEXT_AUTH_URL": token,
                "SSL_CERT_FILE": tls.file,
                **environ,
            },
        )

    return start


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_a_call(start, provider, command):
    printed = call_is_shown(start(*command), "--fast")
    assert [hearing.mulaw for hearing in provider.sessions] == [SAID[:41600].ljust(41600, b"\xff")]
    assert provider.requests == [("/v1/recognize?model=en-US_Telephony", f"Bearer {TOKEN}")]
    assert printed.count("WARNING") == 1  # that of TWILIO_AUTH_TOKEN


def test_another_language_is_another_model(start, provider):
    call_is_shown(start(TRANSCRIBER_LANGUAGE="es-mx"), "--fast")
    assert provider.requests == [("/v1/recognize?model=es-LA_Telephony", f"Bearer {TOKEN}")]


def test_both_speakers(start, provider):
    server = start()
    assert run_caller(server.url, "--fast", "--track", "both_tracks").returncode == 0
    server.wait_for("Stream MZ")
    printed = server.stop()
    assert len(shown(printed)) == len(shown(printed, "callee")) == 3
    assert len({hearing.mulaw for hearing in provider.sessions}) == 2


def test_a_wrong_key_is_one_line_and_the_call_goes_on(start, provider):
    server = start(SPEECH_TO_TEXT_APIKEY="wrong")
    assert run_caller(server.url, "--seconds", "0.5").returncode == 0
    server.wait_for("Stream MZ.*0.50 s; inbound 25 chunks")
    printed = server.stop()
    assert printed.count("Watson: no token, refused with 400 Bad Request: tried again") == 1
    assert "Traceback" not in printed
    assert "wrong" not in printed
    assert provider.requests == []


@pytest.fixture
def watson(provider, token, tls, monkeypatch):
    """Return a function that returns Watson as it is in the engine process."""
    monkeypatch.setenv("SSL_CERT_FILE", tls.file)
    return lambda url=provider.url, auth_url=token: Watson(
        {"SPEECH_TO_TEXT_APIKEY": KEY, "SPEECH_TO_TEXT_URL": url, "SPEECH_TO_TEXT_AUTH_URL": auth_url}
    )


def test_what_a_dropped_session_had_not_understood_is_sent_again(watson, provider):
    def drop(ws):
        ws.recv()
        ws.send(json.dumps({"state": "listening"}))
        ws.recv()
        ws.socket.close()

    def refuse(ws):
        ws.recv()
        ws.send(json.dumps({"error": "Session timed out."}))
        ws.recv()

    provider.failures += [drop, refuse]
    recognised = Recognised(watson, SAID[:40000], pace=0.005)
    assert recognised.heard[-1] == ("Heard 5.00 s", True, 4.0, 5.0)
    (hearing,) = provider.sessions
    assert len(hearing.mulaw) == 40000
    assert recognised.warned == ["Watson: the server dropped the connection without a Close: tried again"]
    assert provider.tokens == 1


@pytest.mark.parametrize(
    "answer",
    [
        "null",
        "[]",
        '"x"',
        "5",
        "{}" * 3,
        "[" * 60_000,
        '{"results": null}',
        '{"results": [null]}',
        '{"results": [{"final": true, "alternatives": null}]}',
        '{"results": [{"final": true, "alternatives": [{"transcript": null}]}]}',
        '{"results": [{"final": true, "alternatives": [{"transcript": "", "timestamps": [["", null, 1]]}]}]}',
        '{"results": [{"final": true, "alternatives": [{"transcript": "", "timestamps": [["", 0, NaN]]}]}]}',
        '{"error": null}',
        "x" * 70_000,
        b"\xff\xfe\x00",
    ],
)
def test_an_answer_that_is_none(watson, provider, answer, capfd):
    def speak_nonsense(ws):
        ws.recv()
        ws.send(json.dumps({"state": "listening"}))
        ws.recv()
        ws.send(answer)
        for _ in ws:
            pass

    provider.failures += [speak_nonsense] * 5
    first, last = Recognised(watson, SAID).warned
    assert re.fullmatch(r"Watson: .*: tried again", first)
    assert re.fullmatch(r"Watson: .*: given up, no transcript from here", last)
    assert capfd.readouterr() == ("", "")


def test_a_refusal_that_repeats_the_secret(start, provider):
    server = start(SPEECH_TO_TEXT_URL=provider.url + "/refuse")
    assert run_caller(server.url, "--seconds", "0.5").returncode == 0
    server.wait_for("Stream MZ")
    printed = server.stop()
    assert re.search(
        r"WARNING in process_engine: .*inbound: Watson: the server answered 401 Unauthorized: "
        r"it was Bearer \(not shown\): tried again",
        printed,
    )
    assert TOKEN not in printed
    assert len(provider.refused) >= 2
    assert provider.tokens == len(provider.refused)  # each time another was asked for


def test_a_redirect_is_not_followed(watson, provider, start_provider):
    other = start_provider(speak)
    provider.elsewhere = other.url
    recognised = Recognised(lambda: watson(provider.url + "/elsewhere"), SAID)
    assert recognised.warned[0] == "Watson: the server answered 302 Found: tried again"
    assert other.requests == provider.requests == []


def test_a_redirect_of_the_request_for_a_token_is_not_followed(watson, start_https):
    asked = []

    def note(path, body):
        asked.append(body)
        return 200, json.dumps({"access_token": TOKEN})

    elsewhere = start_https(note)
    redirecting = start_https(lambda path, body: (307, "", elsewhere + path))
    recognised = Recognised(lambda: watson(auth_url=redirecting), SAID)
    assert recognised.warned[0] == "Watson: no token, refused with 307 Temporary Redirect: tried again"
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("{", r"an answer that is none of its kind \(JSONDecodeError: .*\)"),
        ("[]", r"an answer that is none of its kind \(TypeError: .*\)"),
        ("x" * 70_000, "no token, the answer is too long"),
    ],
)
def test_a_token_that_is_none(watson, start_https, answer, why):
    address = start_https(lambda path, body: (200, answer))
    recognised = Recognised(lambda: watson(auth_url=address), SAID)
    assert re.fullmatch(f"Watson: {why}: tried again", recognised.warned[0])


def test_nobody_gives_tokens(watson):
    recognised = Recognised(lambda: watson(auth_url="https://127.0.0.1:1"), SAID)
    assert recognised.warned[0] == (
        "Watson: no token, nothing listens on 127.0.0.1:1 (is the server running?): tried again"
    )


def test_who_never_answers_is_not_asked_again_after_the_call(start, provider):
    provider.failures += [lambda ws: [None for _ in ws]] * 10
    server = start()
    assert run_caller(server.url, "--seconds", "0.5").returncode == 0
    server.wait_for("Stream MZ")
    printed = server.stop()
    assert "the last words of inbound are missing" in printed
    assert len(provider.requests) == 1


def test_a_flood_holds_up_nobody(start, provider):
    flooded = threading.Event()

    def flood(ws):
        ws.recv()
        ws.send(json.dumps({"state": "listening"}))
        with contextlib.suppress(ConnectionClosed):
            while True:
                ws.ping()
                flooded.set()

    provider.failures.append(flood)
    server = start()
    assert run_caller(server.url, "--seconds", "1").returncode == 0
    assert flooded.is_set()
    server.wait_for("Stream MZ.*1.00 s; inbound 50 chunks")


def test_a_certificate_that_nobody_has_signed(watson, provider, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    tls_context.cache_clear()
    recognised = Recognised(watson, SAID)
    assert recognised.warned[0].endswith("unable to get local issuer certificate: tried again")
    assert provider.tokens == 0
    monkeypatch.setattr(Watson, "_request_token", _give_token)
    recognised = Recognised(watson, SAID)
    assert recognised.warned[0].endswith("unable to get local issuer certificate: tried again")
    assert provider.requests == []


async def _give_token(watson):
    return TOKEN


def test_what_is_missing_is_one_line(start_server):
    result = run("app.py", TRANSCRIBER="watson", SPEECH_TO_TEXT_APIKEY=KEY)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "TRANSCRIBER='watson' cannot be used: it needs SPEECH_TO_TEXT_URL\n"


def test_it_is_told_the_rate(watson, provider):
    starts = []
    provider.failures.append(lambda ws: starts.append(json.loads(ws.recv())))
    Recognised(watson, SAID, rate=16000)
    assert [start["content-type"] for start in starts] == ["audio/mulaw;rate=16000;channels=1"]
