"""What ngrok's agent is asked, and what is made of its answers."""

import pytest
from support.ngrok import Agent
from support.strangers import answering, dripping

from mediastreams import ngrok
from mediastreams.config import Settings

URL = "https://example.ngrok.app"
WSS = "wss://example.ngrok.app"


@pytest.fixture
def agent():
    with Agent((URL, "http://localhost:5000")) as agent:
        yield agent


@pytest.mark.parametrize(
    ("url", "addr", "found"),
    [
        (URL, "http://localhost:5000", [WSS]),
        (URL, "http://127.0.0.1:5000", [WSS]),
        (URL, "http://[::1]:5000", [WSS]),
        (URL, "localhost:5000", [WSS]),
        (URL, "5000", [WSS]),
        ("https://example.com:8443/", "http://host.docker.internal:5000", ["wss://example.com:8443"]),
        (URL, "http://localhost:5001", []),
        (URL, "http://localhost", []),
        (URL, "https://localhost:5000", []),
        (URL, "file:///srv", []),
        (URL, "http://localhost:port", []),
        ("http://example.ngrok.app", "http://localhost:5000", []),
        ("tcp://0.tcp.ngrok.io:12345", "localhost:5000", []),
        ("https://me:pw@example.ngrok.app", "http://localhost:5000", []),
        ("https://[", "http://localhost:5000", []),
    ],
)
def test_a_tunnel_to_the_port(agent, url, addr, found):
    agent.tunnels = [(url, addr)]
    assert ngrok.urls(ngrok.tunnels(agent.url), 5000) == found


def test_port_80_needs_no_port(agent):
    agent.tunnels = [(URL, "http://localhost")]
    assert ngrok.urls(ngrok.tunnels(agent.url), 80) == [WSS]


def test_each_of_them(agent):
    """In the same order for all programs, whatever the agent's is; a tunnel to another machine comes last."""
    agent.tunnels += [
        ("https://b.example", "http://localhost:1"),
        ("https://a.example", "http://192.0.2.1:5000"),
        ("https://c.example", "localhost:5000"),
    ]
    for _ in range(2):
        found = ngrok.urls(ngrok.tunnels(agent.url), 5000)
        assert found == ["wss://c.example", WSS, "wss://a.example"]
        agent.tunnels.reverse()


def test_it_is_asked_for_json(agent):
    ngrok.tunnels(agent.url)
    (headers,) = agent.asked
    assert headers["Accept"] == "application/json"
    assert headers["Host"] == f"127.0.0.1:{agent.port}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"tunnels": [{"config": 1}]}',
        b'{"tunnels": [{"public_url": "\xff"}]}',
        b"[" * 60_000,
    ],
)
def test_what_is_no_agent(agent, body):
    agent.body = body
    with pytest.raises(ngrok.NgrokError) as caught:
        ngrok.tunnels(agent.url)
    assert str(caught.value) == f"what runs at {agent.url} is not ngrok's agent"


def test_an_answer_without_end_is_not_read(agent):
    agent.body = b" " * 10_000_000
    with pytest.raises(ngrok.NgrokError):
        ngrok.tunnels(agent.url)


def test_what_does_not_speak_http():
    with (
        answering(b"SSH-2.0-OpenSSH_9.2\r\n") as port,
        pytest.raises(ngrok.NgrokError, match="is not ngrok's agent"),
    ):
        ngrok.tunnels(f"http://127.0.0.1:{port}")


def test_nobody_is_there():
    with pytest.raises(ngrok.NgrokError, match=r"^no ngrok runs at http://127\.0\.0\.1:1$"):
        ngrok.tunnels("http://127.0.0.1:1")


def test_no_such_host():
    with pytest.raises(ngrok.NgrokError, match=r"^http://no-such-host\.invalid cannot be asked: "):
        ngrok.tunnels("http://no-such-host.invalid")


def test_no_host():
    with pytest.raises(ngrok.NgrokError, match=r"^what runs at http://ex ample is not ngrok's agent$"):
        ngrok.tunnels("http://ex ample")


def test_one_that_does_not_answer(agent, monkeypatch):
    monkeypatch.setattr(ngrok, "SECONDS", 0.1)
    agent.answers.clear()
    with pytest.raises(TimeoutError):
        ngrok.tunnels(agent.url)


def test_one_that_does_not_come_to_an_end(monkeypatch):
    """Each of its bytes comes in time."""
    monkeypatch.setattr(ngrok, "SECONDS", 0.3)
    with dripping(b'{"tunnels": []}', 0.1) as port, pytest.raises(TimeoutError):
        ngrok.tunnels(f"http://127.0.0.1:{port}")


class TestWithTunnel:
    def test_it_is_the_public_url(self, agent):
        settings = Settings(ngrok_api=agent.url, max_streams=3)
        found = ngrok.with_tunnel(settings, 5000)
        assert found == Settings(ngrok_api=agent.url, max_streams=3, public_url=WSS)

    def test_one_that_is_set_stays(self, agent):
        settings = Settings(ngrok_api=agent.url, public_url="wss://a.example")
        assert ngrok.with_tunnel(settings, 5000) == settings
        assert agent.asked == []

    @pytest.mark.parametrize("api", ["off", "http://127.0.0.1:1"])
    def test_none(self, api):
        settings = Settings(ngrok_api=api)
        assert ngrok.with_tunnel(settings, 5000) == settings

    def test_none_to_this_port(self, agent):
        settings = Settings(ngrok_api=agent.url)
        assert ngrok.with_tunnel(settings, 5001) == settings

    def test_one_that_does_not_answer(self, agent, monkeypatch):
        monkeypatch.setattr(ngrok, "SECONDS", 0.1)
        agent.answers.clear()
        settings = Settings(ngrok_api=agent.url)
        assert ngrok.with_tunnel(settings, 5000) == settings
