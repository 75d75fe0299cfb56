"""`/livez`, `/healthz` and `/metrics` are ordinary routes: of a Flask application, and of `python app.py`."""

import pytest
from flask import Flask
from support.handshake import exchange
from websockets.sync.client import connect

from mediastreams.config import Settings
from mediastreams.server.state import ServerState
from mediastreams.web import metrics
from mediastreams.web.health import Health


class Counted:
    """Notes how often the metrics were brought up to date."""

    times = 0

    def __call__(self):
        self.times += 1


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def state():
    return ServerState(Settings())


@pytest.fixture
def client(state, counted):
    app = Flask("machines")
    app.register_blueprint(Health(state, counted))
    return app.test_client()


def test_health(client, counted):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.text == '{"status": "ok", "streams": 0}\n'
    assert counted.times == 0


def test_health_while_it_drains(client, state):
    state.drain()
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (503, {"status": "draining", "streams": 0})


def test_it_is_alive(client, counted):
    answer = client.get("/livez")
    assert (answer.status_code, answer.content_type, answer.text) == (
        200,
        "application/json",
        '{"status": "ok"}\n',
    )
    assert counted.times == 0


def test_it_is_alive_while_it_drains(client, state):
    state.drain()
    answer = client.get("/livez")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_metrics_are_up_to_date(client, counted):
    metrics.refused("other")
    answer = client.get("/metrics")
    assert (answer.status_code, answer.content_type) == (200, metrics.CONTENT_TYPE)
    assert 'mediastreams_refusals_total{reason="other"}' in answer.text
    assert counted.times == 1


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/metrics"])
def test_methods(client, path):
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405


def test_live_streams(server):
    with connect(server.url, compression=None):
        answer = exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.endswith('{"status": "ok", "streams": 1}\n')


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/metrics"])
def test_they_fill_no_log(shared_server, path):
    exchange(shared_server, f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert shared_server.logged() == []


def test_they_are_logged_for_who_wants_to_know(start_server):
    server = start_server(LOG_LEVEL="DEBUG")
    for path in ("/livez", "/healthz", "/metrics"):
        exchange(server, f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert any(f'"GET {path}" 200' in line for line in server.logged())
