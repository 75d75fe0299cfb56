"""`MediaStreams(app)`: where settings, consumers and server meet."""

import contextlib

import pytest
from flask import Flask
from support.server import ROOT, SECONDS
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mediastreams import MediaStreams, Settings


def test_the_application_finds_it():
    app = Flask(__name__)
    streams = MediaStreams(app, Settings(transcriber="off"))
    assert app.extensions["mediastreams"] is streams


def test_its_routes_are_ordinary_ones():
    app = Flask(__name__)
    streams = MediaStreams(app, Settings(transcriber="off"))
    client = app.test_client()
    assert client.get("/healthz").json == {"status": "ok", "streams": 0}
    assert b"mediastreams_streams_live" in client.get("/metrics").data
    streams.state.live.draining = True
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (503, {"status": "draining", "streams": 0})
    assert client.post("/healthz").status_code == 405


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_settings_that_the_application_changes_are_obeyed(start_server, tmp_path, command):
    source = (ROOT / "app.py").read_text()
    place = "streams = MediaStreams(app)\n"
    assert place in source
    changed = (
        "from dataclasses import replace\nfrom mediastreams import load\n"
        "streams = MediaStreams(app, replace(load(), max_streams=2))\n"
    )
    (tmp_path / "app.py").write_text(source.replace(place, changed))
    (tmp_path / "gunicorn.conf.py").write_text((ROOT / "gunicorn.conf.py").read_text())
    server = start_server(*command, cwd=tmp_path)
    with contextlib.ExitStack() as live:
        for _ in range(2):
            live.enter_context(connect(server.url, compression=None, open_timeout=SECONDS))
        with pytest.raises(InvalidStatus) as refused:
            connect(server.url, compression=None, open_timeout=SECONDS)
    assert refused.value.response.status_code == 503
    server.wait_for(r"refused with 503, 2 streams are live \(MAX_STREAMS\)")
