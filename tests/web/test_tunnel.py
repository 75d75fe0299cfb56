"""The tunnel of a running server: found, used wherever PUBLIC_URL is, and watched."""

import re
import socket

import pytest
from support.handshake import exchange, handshake
from support.ngrok import Agent
from support.server import SECONDS, TOKEN, run_caller, wait_until
from twilio.request_validator import RequestValidator

from mediastreams.text import command
from mediastreams.web.tunnel import ForwardedHost

URL = "https://example.ngrok.app"
OTHER = "https://other.ngrok.app"
WEBHOOK = f"Or with `{command('number')}`, as the number's webhook: "
QUICK = """
import runpy
from mediastreams.web import tunnel
tunnel.EVERY_SECONDS = 0.05
runpy.run_path("app.py", run_name="__main__")
"""


@pytest.fixture
def agent():
    with Agent() as agent:
        yield agent


@pytest.fixture
def port():
    """A port that nothing listens on: the tunnel must know it before the server does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def server(agent, port, start_server):
    """A server with a tunnel that was there before it."""
    agent.tunnels = [(OTHER, "http://localhost:1"), (URL, f"http://localhost:{port}")]
    return start_server("-c", QUICK, NGROK_API=agent.url, HTTP_SERVER_PORT=str(port), TWILIO_AUTH_TOKEN=TOKEN)


def ask(server, path, **headers):
    """Send a GET with these headers; return the answer."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    request = f"GET {path} HTTP/1.1\r\n{''.join(lines)}Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def signed(path, scheme="https"):
    return RequestValidator(TOKEN).compute_signature(f"{scheme}://example.ngrok.app{path}", {})


def test_what_to_paste_is_printed(server):
    server.stop()
    assert server.lines[2:4] == [
        "To paste into a TwiML Bin, as the Stream's url: wss://example.ngrok.app/media",
        f"{WEBHOOK}https://example.ngrok.app/twiml/start-stream (set DIAL_NUMBER to one that you can answer)",
    ]
    assert "has ended" not in "".join(server.lines)


def test_the_twiml_and_the_signature_of_a_webhook(server):
    path = "/twiml/start-stream"
    answer = ask(server, path, Host="example.ngrok.app", X_Twilio_Signature=signed(path))
    assert '<Stream url="wss://example.ngrok.app/media"' in answer
    # Not the Host's: a tunnel that does not forward it changes nothing.
    answer = ask(server, path, Host="localhost:5000", X_Twilio_Signature=signed(path))
    assert '<Stream url="wss://example.ngrok.app/media"' in answer


def test_the_signature_of_a_handshake(server):
    for signature, status in ((signed("/media", "wss"), 101), ("no", 403)):
        answer = exchange(server, handshake(Host="localhost", X_Twilio_Signature=signature))
        assert answer.startswith(f"HTTP/1.1 {status} ")


def test_the_page(server):
    assert ask(server, "/", Host="example.ngrok.app").startswith("HTTP/1.1 200 ")
    assert ask(server, "/", Host="other.ngrok.app").startswith("HTTP/1.1 403 ")


def test_the_line_where_there_is_no_page(agent, port, start_server):
    agent.tunnels = [(URL, f"http://localhost:{port}")]
    server = start_server(NGROK_API=agent.url, HTTP_SERVER_PORT=str(port), PAGE_TOKEN="off")
    assert "its WebSocket is at wss://example.ngrok.app/media" in ask(server, "/", Host="a.example")


def test_the_simulated_caller_finds_it_too(server, agent):
    environ = {"NGROK_API": agent.url, "TWILIO_AUTH_TOKEN": TOKEN}
    result = run_caller(server.url, "--fast", **environ)
    assert (result.returncode, result.stderr) == (0, "")
    assert run_caller(server.url, "--fast", **{**environ, "NGROK_API": "off"}).returncode == 1


class TestChanges:
    """Each is said in one line."""

    @pytest.fixture
    def server(self, agent, start_server):
        return start_server("-c", QUICK, NGROK_API=agent.url)

    def lines(self, server):
        return [re.sub(r"^\[.*?\] ", "", line) for line in server.lines if " in tunnel: " in line]

    def test_one_that_comes_changes_and_ends(self, server, agent):
        server.wait_for(f"To see what to paste at Twilio, run `ngrok http {server.port}`")
        agent.tunnels = [(URL, f"http://localhost:{server.port}")]
        server.wait_for("as the number's webhook: https://example.ngrok.app/twiml/start-stream")
        assert 'url="wss://example.ngrok.app/media"' in ask(server, "/twiml/start-stream", Host="a.example")
        # A second one changes nothing, in whatever order they are listed.
        agent.tunnels.insert(0, (OTHER, f"http://localhost:{server.port}"))
        asked = len(agent.asked)
        wait_until(lambda: len(agent.asked) > asked + 2)
        agent.tunnels = [(OTHER, f"http://localhost:{server.port}")]
        server.wait_for("is now")
        assert 'url="wss://other.ngrok.app/media"' in ask(server, "/twiml/start-stream", Host="a.example")
        agent.tunnels = []
        server.wait_for("has ended")
        assert 'url="ws://a.example/media"' in ask(server, "/twiml/start-stream", Host="a.example")
        server.stop()
        dials = " (set DIAL_NUMBER to one that you can answer)"
        webhook = WEBHOOK + "https://{}.ngrok.app/twiml/start-stream" + dials
        assert self.lines(server) == [
            "INFO in tunnel: To paste into a TwiML Bin, as the Stream's url: wss://example.ngrok.app/media",
            f"INFO in tunnel: {webhook.format('example')}",
            f"WARNING in tunnel: The tunnel {URL} is now {OTHER}: the number's webhook must be "
            f"{OTHER}/twiml/start-stream, and `{command('number')}` sets it",
            f"WARNING in tunnel: The tunnel {OTHER} has ended: no call reaches this server until "
            f"`ngrok http {server.port}` runs again",
        ]

    def test_an_agent_that_ends(self, start_server):
        with Agent() as agent:
            server = start_server("-c", QUICK, NGROK_API=agent.url)
            agent.tunnels = [(URL, f"http://localhost:{server.port}")]
            server.wait_for("number's webhook: https://example")
        server.wait_for("has ended")

    def test_an_agent_that_does_not_answer_has_not_ended(self, agent, start_server):
        server = start_server(
            "-c", QUICK.replace("= 0.05", "= tunnel.LOOK_SECONDS = 0.05"), NGROK_API=agent.url
        )
        agent.tunnels = [(URL, f"http://localhost:{server.port}")]
        server.wait_for("number's webhook: https://example")
        agent.answers.clear()
        asked = len(agent.asked)
        wait_until(lambda: len(agent.asked) > asked + 3)  # each but the last was given up
        assert 'url="wss://example.ngrok.app/media"' in ask(server, "/twiml/start-stream", Host="a.example")
        assert "has ended" not in server.stop()


def test_calls_go_on_while_the_agent_is_silent(agent, start_server):
    """The server's loop is free while it waits for the agent."""
    slow = QUICK.replace("= 0.05", "= 0.05; tunnel.LOOK_SECONDS = tunnel.ngrok.SECONDS = 2 * 60")
    server = start_server("-c", slow, NGROK_API=agent.url)
    server.wait_for("To see what to paste")
    agent.answers.clear()
    asked = len(agent.asked)
    wait_until(lambda: len(agent.asked) > asked)
    assert run_caller(server.url, "--fast").returncode == 0
    assert len(agent.asked) == asked + 1  # and this one waits still


def test_a_silent_agent_does_not_hold_up_the_start(agent, start_server):
    agent.answers.clear()
    server = start_server(NGROK_API=agent.url)
    server.wait_for("To see what to paste at Twilio, run `ngrok http", seconds=5)
    assert run_caller(server.url, "--fast").returncode == 0


def test_off_asks_nobody(agent, start_server):
    server = start_server("-c", QUICK, NGROK_API="off", PAGE_TOKEN="off")
    assert run_caller(server.url, "--fast").returncode == 0
    assert agent.asked == []


def test_public_url_asks_nobody(agent, start_server):
    server = start_server("-c", QUICK, NGROK_API=agent.url, PUBLIC_URL="a.example")
    server.wait_for("webhook: https://a.example/")
    assert run_caller(server.url, "--fast").returncode == 0
    assert agent.asked == []


def test_a_worker_of_gunicorn(agent, port, start_server):
    agent.tunnels = [(URL, f"http://localhost:{port}")]
    server = start_server(
        "-m", "gunicorn", "app:app", NGROK_API=agent.url, HTTP_SERVER_PORT=str(port), TWILIO_AUTH_TOKEN=TOKEN
    )
    server.wait_for(f"in tunnel: {WEBHOOK}https://example.ngrok.app/")
    path = "/twiml/start-stream"
    assert "wss://example.ngrok.app/media" in ask(
        server, path, Host="a.example", X_Twilio_Signature=signed(path)
    )


FORWARDED = {"Host": "a.trycloudflare.com", "X_Forwarded_Proto": "https"}


class TestForwardedHost:
    def test_it_is_said_once(self, start_server):
        server = start_server()
        for path in ("/livez", "/twiml/start-stream"):
            ask(server, path, **FORWARDED)
        ask(server, "/livez", **{**FORWARDED, "Host": "b.trycloudflare.com"})
        assert [line for line in server.logged() if "PUBLIC_URL" in line] == [
            "A request came through a tunnel or a proxy, as https://a.trycloudflare.com: if that is yours, "
            "set PUBLIC_URL=https://a.trycloudflare.com and restart"
        ]

    def test_a_handshake(self, start_server):
        server = start_server()
        forwarded = handshake(Host="a.trycloudflare.com", X_Forwarded_Proto="wss")
        assert exchange(server, forwarded).startswith("HTTP/1.1 101 ")
        server.wait_for("set PUBLIC_URL=https://a.trycloudflare.com")

    @pytest.mark.parametrize("setting", ["PUBLIC_URL", "NGROK_API"])
    def test_not_where_the_address_is_known(self, start_server, agent, port, setting):
        agent.tunnels = [(URL, f"http://localhost:{port}")]
        value = {"PUBLIC_URL": "a.example", "NGROK_API": agent.url}[setting]
        server = start_server(HTTP_SERVER_PORT=str(port), **{setting: value})
        ask(server, "/livez", **FORWARDED)
        assert "came through" not in server.stop()

    @pytest.mark.parametrize(
        ("environ", "host"),
        [
            ({"HTTP_HOST": "A.Example", "HTTP_X_FORWARDED_PROTO": "https"}, "a.example"),
            ({"HTTP_HOST": "a.example:8443", "HTTP_X_FORWARDED_PROTO": "https, http"}, "a.example:8443"),
            (
                {
                    "HTTP_HOST": "localhost:5000",
                    "HTTP_X_FORWARDED_HOST": "a.devtunnels.ms, b.example",
                    "HTTP_X_FORWARDED_PROTO": "HTTPS",
                },
                "a.devtunnels.ms",
            ),
            ({"HTTP_HOST": "a.example"}, None),
            ({"HTTP_HOST": "a.example", "HTTP_X_FORWARDED_PROTO": "http"}, None),
            ({"HTTP_HOST": "localhost:5000", "HTTP_X_FORWARDED_PROTO": "https"}, None),
            ({"HTTP_HOST": "192.0.2.1", "HTTP_X_FORWARDED_PROTO": "https"}, None),
            ({"HTTP_HOST": "192.0.2.1:80", "HTTP_X_FORWARDED_PROTO": "https"}, None),
            ({"HTTP_HOST": "[2001:db8::1]", "HTTP_X_FORWARDED_PROTO": "https"}, None),
            ({"HTTP_HOST": "a.example\x1b[2J", "HTTP_X_FORWARDED_PROTO": "https"}, None),
            ({"HTTP_HOST": "a.example/b", "HTTP_X_FORWARDED_PROTO": "https"}, None),
            ({"HTTP_HOST": "-a.example", "HTTP_X_FORWARDED_PROTO": "https"}, None),
            ({"HTTP_HOST": "a." * 200 + "example", "HTTP_X_FORWARDED_PROTO": "https"}, None),
            ({"HTTP_X_FORWARDED_PROTO": "https"}, None),
        ],
    )
    def test_which_host(self, environ, host, caplog):
        caplog.set_level("INFO")
        ForwardedHost(lambda *_: [], lambda: None)(environ, None)
        assert [record.args[0] for record in caplog.records] == ([host] if host else [])
