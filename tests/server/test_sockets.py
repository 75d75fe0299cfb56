"""Flask-Sockets' decorator, on a server that serves an application of the test's own."""

import http.client
import re

import pytest
from support.own_app import TUTORIALS_END
from support.server import SECONDS
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

APP = """
import logging
import gevent
from flask import Blueprint, Flask, request
from mediastreams import MediaStreams, Sockets

logging.basicConfig(level="INFO", format="[%(levelname)s] %(name)s: %(message)s")
app = Flask(__name__)
sockets = Sockets(app)
streams = MediaStreams(app)

@sockets.route("/echo")
def echo(ws):
    while not ws.closed:
        message = ws.receive()
        if message is not None:
            ws.send(message)

@sockets.route("/rooms/<int:room>", defaults={"floor": 3}, strict_slashes=False)
def rooms(ws, room, floor):
    ws.send(f"{floor}/{room} {request.path}")

@sockets.route("/broken")
def broken(ws):
    ws.receive()
    {}["event"]

@sockets.route("/in-time")
def in_time(ws):
    with gevent.Timeout(0.1):
        ws.receive()

@app.route("/")
def page():
    return "a page"

@app.route("/both")
def both_page():
    return "the page"

@sockets.route("/both")
def both_socket(ws):
    ws.send("the socket")

blueprint = Blueprint("lines", __name__)

@blueprint.route("/lines/<name>")
def line(ws, name):
    ws.send(name)

inner = Blueprint("inner", __name__, url_prefix="/inner/")
inner.add_url_rule("/<name>", view_func=line)
blueprint.register_blueprint(inner)
blueprint.register_blueprint(inner, url_prefix="/other", name="other")

sockets.register_blueprint(blueprint, url_prefix="/v1")

if __name__ == "__main__":
    streams.serve()
"""


@pytest.fixture
def server(start_server, tmp_path):
    (tmp_path / "own.py").write_text(APP)
    return start_server("own.py", cwd=tmp_path)


@pytest.fixture
def open_socket(server):
    def open_socket(path):
        return connect(f"ws://127.0.0.1:{server.port}{path}", compression=None, open_timeout=SECONDS)

    return open_socket


def request(server, method, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def test_route(open_socket):
    with open_socket("/echo") as ws:
        for text in ("one", "two"):
            ws.send(text)
            assert ws.recv(SECONDS) == text


def test_options_are_passed_on(open_socket):
    for path in ("/rooms/7", "/rooms/7/"):
        with open_socket(path) as ws:
            assert ws.recv(SECONDS) == f"3/7 {path}"


@pytest.mark.parametrize("path", ["/v1/lines/a", "/v1/inner/a", "/v1/other/a"])
def test_a_blueprint_and_those_in_it(open_socket, path):
    with open_socket(path) as ws:
        assert ws.recv(SECONDS) == "a"


def test_a_page_and_a_socket_may_share_a_path(server, open_socket):
    assert request(server, "GET", "/both")[1] == "the page"
    with open_socket("/both") as ws:
        assert ws.recv(SECONDS) == "the socket"


SEVERAL = """
from flask import Flask
from mediastreams import MediaStreams, Sockets
from werkzeug.middleware.dispatcher import DispatcherMiddleware

def say(name):
    return lambda ws: ws.send(name)

inner = Flask("inner")
Sockets(inner).add_url_rule("/inner", None, say("inner"))
app = Flask("outer")
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/mounted": inner})
Sockets(app).add_url_rule("/one", None, say("one"))
streams = MediaStreams(app)
Sockets(app).add_url_rule("/two", None, say("two"))
app.before_request(lambda: ("log in first", 401))

if __name__ == "__main__":
    streams.serve()
"""


def test_other_sockets_and_applications_behind_them(start_server):
    server = start_server("-c", SEVERAL)
    for path, name in (("/one", "one"), ("/two", "two"), ("/mounted/inner", "inner")):
        with connect(f"ws://127.0.0.1:{server.port}{path}", compression=None) as ws:
            assert ws.recv(SECONDS) == name
    answers = {}
    for path in ("/page/live", "/nope", "/mounted/nope", "/"):
        with pytest.raises(InvalidStatus) as caught:
            connect(f"ws://127.0.0.1:{server.port}{path}", compression=None, open_timeout=SECONDS)
        answers[path] = caught.value.response.body.decode()
    nothing = "There is no WebSocket at this path.\n"
    assert answers == {
        "/page/live": "Log in at / first.\n",  # the page's own
        **dict.fromkeys(("/nope", "/mounted/nope", "/"), nothing),
    }
    assert request(server, "GET", "/nope")[1] == "log in first"


def test_a_plain_get_is_told_to_upgrade(server):
    response, body = request(server, "GET", "/echo")
    assert (response.status, response.headers["Upgrade"]) == (426, "websocket")
    assert body.startswith("This is a WebSocket endpoint")


def test_another_method_is_not_allowed(server):
    response, _ = request(server, "POST", "/echo")
    assert response.status == 405
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(("path", "status"), [("/nope", 404), ("/rooms/x", 404), ("/", 404)])
def test_a_path_without_a_socket_never_becomes_one(open_socket, path, status):
    with pytest.raises(InvalidStatus) as caught:
        open_socket(path)
    assert caught.value.response.status_code == status


def test_a_key_error_of_the_function_is_seen(server, open_socket):
    with open_socket("/echo") as bystander:
        with open_socket("/broken") as ws:
            ws.send("x")
            server.wait_for(r"The function of /broken failed")
            server.wait_for("KeyError: 'event'")
        bystander.send("still here")
        assert bystander.recv(SECONDS) == "still here"
    assert server.stop().count("Traceback") == 1


def test_a_timeout_of_gevents_ends_its_own_call_as_a_bug_does(start_server):
    server = start_server("-c", APP)
    with connect(f"ws://127.0.0.1:{server.port}/in-time") as ws, pytest.raises(ConnectionClosed) as caught:
        ws.recv(SECONDS)
    assert caught.value.rcvd.code == 1011
    server.wait_for("The function of /in-time failed")
    assert server.stop().count("Traceback") == 1


def test_a_server_that_cannot_upgrade_says_so(caplog):
    namespace = {"__name__": "own"}
    exec(APP, namespace)  # its `serve` is not called
    client = namespace["app"].test_client()
    response = client.get("/echo", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert response.status_code == 501
    text = (
        "This server cannot speak WebSocket: start it with `streams.serve()` (`python app.py`), "
        "or with gunicorn and this project's gunicorn.conf.py."
    )
    assert response.text == f"{text}\n"
    assert [record.getMessage() for record in caplog.records] == [text]


def test_gevent_websockets_own_handler_serves_too(start_server, tmp_path):
    """As the tutorial has it, for who keeps its last lines."""
    (tmp_path / "own.py").write_text(re.sub(r"    serve\(.*\n", TUTORIALS_END, APP))
    server = start_server("own.py", cwd=tmp_path)
    with connect(f"ws://127.0.0.1:{server.port}/echo", compression=None) as ws:
        ws.send("one")
        assert ws.recv(SECONDS) == "one"
