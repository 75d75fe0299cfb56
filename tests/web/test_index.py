"""`GET /` without the page: one line, where the application has nothing of its own there."""

import pytest
from flask import Flask, Response
from support.handshake import exchange, handshake
from werkzeug.exceptions import HTTPException, NotFound

from mediastreams import MediaStreams, Settings
from mediastreams.web.index import Index

LINE = (
    "This server receives the audio of phone calls from Twilio (Media Streams): "
    "its WebSocket is at /media, it has no web page.\n"
)


@pytest.fixture
def app():
    app = Flask("index")
    app.register_blueprint(Index(Settings()))
    return app


def ask(app, method="GET", path="/"):
    answer = app.test_client().open(path, method=method)
    return answer.status_code, answer.text


def test_one_line(app):
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.content_type) == (200, "text/plain; charset=utf-8")
    assert answer.text == LINE


def test_the_address_is_that_of_public_url():
    app = Flask("index")
    app.register_blueprint(Index(Settings(public_url="wss://example.ngrok.app")))
    assert "at wss://example.ngrok.app/media," in ask(app)[1]


def test_head(app):
    assert ask(app, "HEAD") == (200, "")


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/x"), ("GET", "/index")])
def test_all_else_is_still_missing(app, method, path):
    assert ask(app, method, path)[0] == 404


def test_a_route_of_the_application_that_is_added_later():
    app = Flask("index")
    MediaStreams(app, Settings(transcriber="off", page_token="off"))
    assert ask(app) == (200, LINE)
    app = Flask("index")
    MediaStreams(app, Settings(transcriber="off", page_token="off"))
    app.add_url_rule("/", view_func=lambda: "mine")
    assert ask(app) == (200, "mine")


def test_a_route_for_another_method(app):
    app.add_url_rule("/", view_func=lambda: "mine", methods=["POST"])
    assert ask(app)[0] == 405
    assert ask(app, "POST") == (200, "mine")


@pytest.mark.parametrize("kind", [404, NotFound, HTTPException])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_handler_of_the_application(kind, is_first):
    app = Flask("index")
    index = Index(Settings())
    if not is_first:
        app.register_blueprint(index)
    app.register_error_handler(kind, lambda error: (f"mine: {error.code}", 404))
    if is_first:
        app.register_blueprint(index)
    assert ask(app) == ask(app, path="/x") == (404, "mine: 404")


def test_what_the_application_does_before_each_request(app):
    app.before_request(lambda: Response("log in first", 401))
    assert ask(app) == (401, "log in first")


def test_it_fills_no_log(start_server):
    server = start_server(PAGE_TOKEN="off")
    answer = exchange(server, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200 ")
    assert answer.endswith(f"\r\n\r\n{LINE}")
    assert server.logged() == []


def test_a_handshake_is_still_refused(shared_server):
    answer = exchange(shared_server, handshake("GET / HTTP/1.1", Connection="Upgrade, close"))
    assert answer.startswith("HTTP/1.1 404 ")
    assert answer.endswith("There is no WebSocket at this path.\n")
