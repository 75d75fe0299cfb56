"""Calls through the proxies of `deploy/`: over TLS, and while the proxy or a server behind it is replaced."""

import contextlib
import json
import signal
import ssl
import sys
import urllib.request

import pytest
from support.callers import Callers
from support.proxies import Caddy, HAProxy, Nginx
from support.redis import free_port
from support.server import ROOT, TOKEN, Server, environment, run_caller, wait_until

from mediastreams.protocol.signature import sign


class Pair:
    """Two gunicorns, as the proxies' files have them."""

    def __init__(self, **environ):
        self._environ = {**environment(), "LOG_LEVEL": "WARNING", **environ}
        self.ports = [free_port(), free_port()]
        self.servers = [self._start(port) for port in self.ports]
        for server in self.servers:
            server.wait_until_it_listens()

    def _start(self, port):
        environ = {**self._environ, "HTTP_SERVER_PORT": str(port)}
        return Server([sys.executable, "-m", "gunicorn", "app:app"], ROOT, environ)

    def restart(self, number):
        """End one, which lets its calls end, and start it anew; return when it has new calls."""
        stopped = self.servers[number].stop()
        assert "that are still live" not in stopped
        self.servers[number] = server = self._start(self.ports[number])
        server.wait_until_it_listens()
        wait_until(lambda: self.live(number), every=0.1)

    def reload(self):
        """Reload both, and wait until the new workers are there."""
        for server in self.servers:
            server.process.send_signal(signal.SIGHUP)
        for server in self.servers:
            server.wait_for("Worker exiting")

    def live(self, number):
        """Return how many calls one has."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[number]}/healthz") as answer:
            return json.load(answer)["streams"]

    def stop(self):
        for server in self.servers:
            server.stop()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(proxy, marks=pytest.mark.xdist_group(proxy.__name__), id=proxy.__name__)
        for proxy in (Nginx, HAProxy, Caddy)
    ],
)
def running(request, tmp_path_factory):
    """Two servers and the proxy in front of them."""
    pair = Pair(TWILIO_AUTH_TOKEN=TOKEN, START_TIMEOUT="3")
    try:
        proxy = request.param(tmp_path_factory.mktemp("proxy"), pair.ports)
        try:
            yield pair, proxy
        finally:
            proxy.stop()
    finally:
        pair.stop()


def test_calls(running, tmp_path):
    """Signed calls, TwiML with the proxy's address, a two-way stream, and no metrics."""
    _, proxy = running
    environ = {"SSL_CERT_FILE": str(proxy.authority), "TWILIO_AUTH_TOKEN": TOKEN}
    web, heard = f"https://localhost:{proxy.port}", tmp_path / "heard.wav"
    two_way = ("--twiml", f"{web}/twiml/connect-stream", "--seconds", "1", "--save-heard", str(heard))
    for arguments in (
        (f"wss://localhost:{proxy.port}/media", "--fast", "--calls", "10"),
        ("--twiml", f"{web}/twiml/start-stream", "--fast"),
        two_way,
    ):
        result = run_caller(*arguments, **environ)
        assert (result.returncode, result.stderr) == (0, "")
    assert "Heard: " in result.stdout
    context = ssl.create_default_context(cafile=proxy.authority)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{web}/metrics", context=context)


@contextlib.contextmanager
def fifty_calls(proxy):
    """Let 50 calls be live, and the block make more: all must go through."""
    url = f"wss://localhost:{proxy.port}/media"
    context = ssl.create_default_context(cafile=proxy.authority)
    callers = Callers(url, ssl=context, additional_headers={"X-Twilio-Signature": sign(TOKEN, url)})
    try:
        callers.call(50, seconds=3)
        yield callers
        callers.finish()
    finally:
        callers.close()
    assert len(callers.outcomes) > 60
    assert {outcome for _, _, outcome in callers.outcomes} == {"stop"}


@contextlib.contextmanager
def new_calls(callers):
    """Begin ten short calls a second while the block runs, and more than ten."""
    with callers.calling(seconds=0.5, every=0.1):
        yield
        wait_until(lambda: len(callers.outcomes) > 10)


def test_a_reload_refuses_and_cuts_no_call(running):
    """Of the proxy, and then of both servers."""
    pair, proxy = running
    with fifty_calls(proxy) as callers:
        assert min(pair.live(0), pair.live(1)) > 10
        if not proxy.keeps_what_connects:
            proxy.reload()
        with new_calls(callers):
            if proxy.keeps_what_connects:
                proxy.reload()
            pair.reload()


def test_a_rolling_restart_refuses_and_cuts_no_call(running):
    """Each server ends in its turn, and lets its calls end before."""
    pair, proxy = running
    with fifty_calls(proxy) as callers, new_calls(callers):
        pair.restart(0)
        pair.restart(1)
