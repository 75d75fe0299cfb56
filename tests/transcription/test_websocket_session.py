"""How long a provider is waited for, and how much of it is taken: with a provider of the test's."""

import asyncio
import json
import socket
import threading

import pytest
from support.provider import SAID, Recognised

from mediastreams import client
from mediastreams.transcription import provider as provider_module
from mediastreams.transcription import watson, websocket_session
from mediastreams.transcription.session import SessionError
from mediastreams.transcription.websocket_session import converse, open_websocket

PATIENCE = 0.2


@pytest.fixture
def url(start_provider, tls, monkeypatch):
    """Return a function that starts a provider and returns its address."""
    monkeypatch.setenv("SSL_CERT_FILE", tls.file)
    monkeypatch.setattr(websocket_session, "PATIENCE", PATIENCE)
    monkeypatch.setattr(client, "TIMEOUT", PATIENCE)
    return lambda handler: start_provider(lambda provider, ws: handler(ws)).url.replace("https", "wss")


def drop(ws):
    ws.socket.shutdown(socket.SHUT_RDWR)


async def send(url, messages):
    async with asyncio.timeout(20), open_websocket(url, {}) as websocket:
        await converse(websocket, messages, lambda message, has_sent_all: False)


async def once(message):
    yield message


async def for_ever(message):
    while True:
        yield message


def test_who_does_not_read(url):
    has_failed = threading.Event()
    address = url(lambda ws: (has_failed.wait(20), drop(ws)))
    with pytest.raises(SessionError, match=r"^the server has read nothing for 0 s$"):
        asyncio.run(send(address, for_ever(bytes(60_000))))
    has_failed.set()


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (lambda ws: ws.close(1011, "overloaded"), r"it sent a Close, .*1011.*overloaded"),
        (
            lambda ws: ws.socket.shutdown(socket.SHUT_RDWR),
            "the server dropped the connection without a Close",
        ),
        (lambda ws: (ws.send("x" * 65537), ws.recv()), r"the server sent a wrong frame: .*1009.*"),
        (lambda ws: ws.socket.sendall(b"\xff" * 20), r"the server sent a wrong frame: .*1002.*"),
    ],
)
def test_how_it_was_ended(url, handler, why):
    async def nothing():
        await asyncio.Event().wait()
        yield b""

    with pytest.raises(SessionError, match=f"^{why}$"):
        asyncio.run(send(url(handler), nothing()))


def test_a_close_after_all_was_sent_is_no_error(url):
    asyncio.run(send(url(lambda ws: ws.recv()), once(b"all")))


def test_a_wrong_frame_after_all_was_sent_is_one(url):
    address = url(lambda ws: (ws.recv(), ws.send("x" * 65537), ws.recv()))
    with pytest.raises(SessionError, match=r"1009"):
        asyncio.run(send(address, once(b"all")))


def test_who_does_not_shake_hands(url):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SessionError, match=rf"^127.0.0.1:{port} did not answer within 0 s$"):
            asyncio.run(send(f"wss://127.0.0.1:{port}", once(b"")))


def test_who_does_not_speak_tls(url):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(65536)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SessionError, match=rf"\(does port {port} speak TLS\?\)$"):
            asyncio.run(send(f"wss://127.0.0.1:{port}", once(b"")))
        thread.join()


async def _give_token(_):
    return "token"


@pytest.mark.parametrize("listening", [[], [json.dumps({"state": "listening"})]])
def test_who_does_not_answer(start_provider, tls, monkeypatch, listening):
    """Neither at the beginning, nor after the audio."""

    def handle(provider, ws):
        for message in listening:
            ws.send(message)
        for _ in ws:
            pass

    class Watson(watson.Watson):
        session_seconds = PATIENCE
        _request_token = _give_token

    monkeypatch.setenv("SSL_CERT_FILE", tls.file)
    monkeypatch.setattr(watson, "PATIENCE", PATIENCE)
    monkeypatch.setattr(provider_module, "PATIENCE", PATIENCE)
    environ = {"SPEECH_TO_TEXT_APIKEY": "key", "SPEECH_TO_TEXT_URL": start_provider(handle).url}
    recognised = Recognised(lambda: Watson(environ), SAID)
    assert recognised.warned[0] == "Watson: it does not answer: tried again"
    assert len(recognised.paused) == 4
