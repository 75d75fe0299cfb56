"""The page's routes: of a Flask application, and of servers in processes of their own."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from support.calls import CAPTURED, say
from support.page_http import TOKEN, ask, is_form, log_in, token_of, try_token
from support.server import ROOT, SECONDS, run_caller

from mediastreams import MediaStreams, Settings
from mediastreams.audio import wav
from mediastreams.audio.wav import WavFile
from mediastreams.viewers.routes import FOLDER

NAME = "20261125T180000.123Z-MZ0123456789abcdef0123456789abcdef"
AUDIO = bytes(range(256)) * 100
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "media-src": "'self'",
    "img-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def write_recording(folder, name=NAME):
    with contextlib.closing(WavFile(folder / f"{name}.wav", 1)) as file:
        file.put(0, 0, AUDIO)
    (folder / f"{name}.vtt").write_text("WEBVTT\n")
    (folder / f"{name}.json").write_text("{}")
    return (folder / f"{name}.wav").read_bytes()


@pytest.fixture
def recorded(tmp_path):
    """The bytes of a WAV file in `tmp_path`."""
    return write_recording(tmp_path)


class Client(FlaskClient):
    """A client that reads each answer to its end and closes it, as a server does."""

    def open(self, *arguments, **options):
        return super().open(*arguments, **{"buffered": True, **options})


@pytest.fixture
def app():
    app = Flask("page")
    app.testing = True
    app.test_client_class = Client
    return app


@pytest.fixture
def client(app, tmp_path):
    """A person's browser, not logged in yet."""
    MediaStreams(app, Settings(transcriber="off", page_token=TOKEN, recordings_dir=str(tmp_path)))
    return app.test_client()


@pytest.fixture
def viewer(client):
    """The browser of who has logged in."""
    assert client.post("/page/login", data={"token": TOKEN}).status_code == 303
    return client


class TestThePage:
    def test_without_and_with_the_cookie(self, client):
        form = client.get("/")
        assert form.status_code == 200
        assert 'name="token"' in form.text
        answer = client.post("/page/login", data={"token": TOKEN})
        assert (answer.status_code, answer.location) == (303, "/")
        page = client.get("/")
        assert page.text == (FOLDER / "index.html").read_text()

    @pytest.mark.parametrize(
        ("name", "content_type"),
        [("login.js", "text/javascript"), ("login.css", "text/css")],
    )
    def test_what_the_form_needs_is_there_without_the_cookie(self, client, name, content_type):
        answer = client.get(f"/page/{name}")
        assert (answer.status_code, answer.content_type) == (200, f"{content_type}; charset=utf-8")
        assert answer.data == (FOLDER / name).read_bytes()

    @pytest.mark.parametrize(
        "path", [path for path in FOLDER.iterdir() if path.is_file()], ids=lambda path: path.name
    )
    def test_each_file(self, viewer, path):
        answer = viewer.get(f"/page/{path.name}")
        assert (answer.status_code, answer.data) == (200, path.read_bytes())
        types = {
            ".css": "text/css; charset=utf-8",
            ".html": "text/html; charset=utf-8",
            ".js": "text/javascript; charset=utf-8",
            ".svg": "image/svg+xml",
        }
        assert answer.content_type == types[path.suffix]

    @pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "..", "metrics.py"])
    def test_no_such_file(self, viewer, name):
        answer = viewer.get(f"/page/{name}")
        assert (answer.status_code, answer.text) == (404, "The page has no such file.\n")

    def test_the_icon_that_browsers_ask_for(self, client):
        answer = client.get("/favicon.ico")
        assert (answer.status_code, answer.data) == (204, b"")

    @pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("PUT", "/favicon.ico"), ("GET", "/x")])
    def test_all_else_is_still_missing(self, client, method, path):
        assert client.open(path, method=method).status_code == 404

    def test_no_page(self, app):
        MediaStreams(app, Settings(transcriber="off", page_token="off"))
        client = app.test_client()
        assert "it has no web page" in client.get("/").text
        for path in ("/page/", "/page/index.html", "/page/recordings", "/page/login.js", "/favicon.ico"):
            assert client.get(path).status_code == 404
        assert client.post("/page/login", data={"token": "off"}).status_code == 404


class TestHeaders:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/", 200),
            ("/page/", 200),
            ("/page/login.js", 200),
            ("/page/login.css", 200),
            ("/favicon.ico", 204),
            ("/page/index.html", 200),
            ("/page/nothing", 404),
            ("/page/recordings", 200),
            (f"/page/recordings/{NAME}.wav", 200),
            (f"/page/recordings/{NAME}/peaks", 200),
            ("/page/recordings/nothing/peaks", 404),
            ("/page/recordings/a/b/c", 404),
        ],
    )
    @pytest.mark.parametrize("is_logged_in", [False, True])
    def test_of_every_answer(self, client, recorded, path, status, is_logged_in):
        if is_logged_in:
            client.post("/page/login", data={"token": TOKEN})
        answer = client.get(path)
        is_open = path in ("/", "/page/", "/page/login.js", "/page/login.css", "/favicon.ico")
        assert answer.status_code == (status if is_logged_in or is_open else 403)
        self.check(answer, "same-origin" if is_open else "no-referrer")

    def test_of_refusals_and_of_the_login(self, client):
        self.check(client.get("/", headers={"Host": "evil.example"}), "same-origin")
        self.check(client.get("/page/recordings", headers={"Host": "evil.example"}))
        self.check(client.post("/page/login"), "same-origin")
        self.check(client.post("/page/login", data={"token": TOKEN}), "same-origin")
        self.check(client.post("/page/recordings"))
        self.check(client.get(f"/page/recordings/{NAME}.wav", headers={"Range": "bytes=9-1"}))

    def check(self, answer, referrer="no-referrer"):
        headers = answer.headers
        policy = [
            directive.strip().split(" ", 1) for directive in headers["Content-Security-Policy"].split(";")
        ]
        assert dict(policy) == POLICY
        # Without a referrer a browser posts the form with `Origin: null`, which is refused.
        assert headers["Referrer-Policy"] == referrer
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers

    def test_answers_of_others_have_none(self, app, client):
        app.add_url_rule("/mine", view_func=lambda: "mine")
        for path in ("/healthz", "/mine", "/nothing"):
            assert "Content-Security-Policy" not in client.get(path).headers


class TestInAnApplication:
    """Its own routes and handlers are as without the page."""

    def test_a_page_of_its_own(self, app, client):
        app.add_url_rule("/", view_func=lambda: "mine")
        assert client.get("/").text == "mine"
        assert 'name="token"' in client.get("/page/").text
        answer = client.post("/page/login", data={"token": TOKEN})
        assert (answer.status_code, answer.location) == (303, "/page/")
        assert client.get("/page/").text == (FOLDER / "index.html").read_text()

    def test_a_route_to_which_one_can_only_post(self, app, client):
        """As Twilio does."""
        app.add_url_rule("/", view_func=lambda: "mine", methods=["POST"])
        assert client.post("/").text == "mine"
        assert 'name="token"' in client.get("/").text
        answer = client.post("/page/login", data={"token": TOKEN})
        assert (answer.status_code, answer.location) == (303, "/")
        assert client.get("/").text == (FOLDER / "index.html").read_text()
        assert client.put("/").status_code == 405

    def test_where_that_is_is_said(self, start_server, tmp_path):
        source = (ROOT / "app.py").read_text()
        place = '@sockets.route("/media")'
        (tmp_path / "app.py").write_text(
            source.replace(place, f'app.add_url_rule("/", view_func=str)\n\n\n{place}')
        )
        server = start_server(cwd=tmp_path)
        assert server.wait_for(rf"Watch the calls at http://localhost:{server.port}/page/#[\w-]+$")

    def test_a_form_of_its_own(self, app, client):
        app.add_url_rule("/<path:name>", view_func=lambda name: f"mine: {name}")
        for name in ("login.js", "login.css"):
            assert client.get(f"/{name}").text == f"mine: {name}"
            assert f'"/page/{name}"' in client.get("/").text

    def test_routes_beneath_page(self, app, client):
        app.add_url_rule("/page/<int:number>", endpoint="number", view_func=lambda number: f"mine: {number}")
        app.add_url_rule("/page/about/us", view_func=lambda: "about us")
        for path, text in (("/page/3", "mine: 3"), ("/page/about/us", "about us")):
            answer = client.get(path)
            assert (answer.status_code, answer.text) == (200, text)
            assert "Content-Security-Policy" not in answer.headers
        assert client.get("/page/other").status_code == 403

    def test_its_handler_of_404(self, app, client):
        app.register_error_handler(404, lambda error: ("mine", 404))
        assert 'name="token"' in client.get("/").text
        assert client.get("/nothing").text == "mine"

    def test_what_it_does_before_each_request(self, app, client):
        app.before_request(lambda: ("log in first", 401))
        assert client.get("/").status_code == client.get("/page/").status_code == 401

    @pytest.mark.parametrize("name", ["page", "live_page", "health", "index", "webhooks"])
    def test_a_blueprint_of_any_name(self, app, client, name):
        app.register_blueprint(Blueprint(name, name))

    def test_two_applications(self):
        """Each has a page of its own; the one's token is not the other's."""
        clients = []
        for token in (TOKEN, "another-token-of-a-person"):
            app = Flask(token)
            MediaStreams(app, Settings(transcriber="off", page_token=token))
            clients.append(app.test_client())
        assert [client.post("/page/login", data={"token": TOKEN}).status_code for client in clients] == [
            303,
            403,
        ]


class TestRecordings:
    def test_the_list(self, viewer, recorded):
        answer = viewer.get("/page/recordings")
        assert answer.content_type == "application/json"
        (row,) = answer.json["recordings"]
        assert (row["name"], row["files"]) == (NAME, {"wav": len(recorded), "vtt": 7, "json": 2})
        assert answer.json["more"] is False

    def test_older_ones(self, viewer, recorded):
        assert viewer.get(f"/page/recordings?before={NAME}").json == {"recordings": [], "more": False}
        assert len(viewer.get("/page/recordings?before=9").json["recordings"]) == 1

    def test_without_a_folder(self, app):
        MediaStreams(app, Settings(transcriber="off", page_token=TOKEN))
        client = app.test_client()
        client.post("/page/login", data={"token": TOKEN})
        assert client.get("/page/recordings").json == {"recordings": None, "more": False}
        for path in (f"{NAME}.wav", f"{NAME}/peaks"):
            assert client.get(f"/page/recordings/{path}").status_code == 404

    @pytest.mark.parametrize(
        ("suffix", "content_type"),
        [(".wav", "audio/wav"), (".vtt", "text/vtt; charset=utf-8"), (".json", "application/json")],
    )
    def test_a_file(self, viewer, recorded, tmp_path, suffix, content_type):
        answer = viewer.get(f"/page/recordings/{NAME}{suffix}")
        assert (answer.status_code, answer.content_type) == (200, content_type)
        assert answer.data == (tmp_path / f"{NAME}{suffix}").read_bytes()
        assert "Content-Disposition" not in answer.headers
        assert answer.headers["Accept-Ranges"] == "bytes"

    def test_a_download(self, viewer, recorded):
        answer = viewer.get(f"/page/recordings/{NAME}.wav?download=1")
        assert answer.headers["Content-Disposition"] == f"attachment; filename={NAME}.wav"
        assert answer.data == recorded

    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-", 0, None),
            ("bytes=0-0", 0, 1),
            ("bytes=50-65", 50, 66),
            ("bytes=58-", 58, None),
            ("bytes=1000-99999999", 1000, None),
            ("bytes=-100", -100, None),
        ],
    )
    def test_a_range(self, viewer, recorded, asked, start, stop):
        answer = viewer.get(f"/page/recordings/{NAME}.wav", headers={"Range": asked})
        assert (answer.status_code, answer.data) == (206, recorded[start:stop])
        first = start % len(recorded)
        last = first + len(answer.data) - 1
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(recorded)}"
        assert answer.headers["Content-Length"] == str(len(answer.data))

    @pytest.mark.parametrize(
        "asked",
        [
            "bytes=9-1",
            "bytes=99999999-",
            "bytes=a-b",
            "bytes=",
            "lines=0-1",
            "bytes=0-1,5-6",
            "x",
        ],
    )
    def test_a_bad_range(self, viewer, recorded, asked):
        answer = viewer.get(f"/page/recordings/{NAME}.wav", headers={"Range": asked})
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(recorded)}"
        assert b"RIFF" not in answer.data

    def test_what_the_browser_has_already(self, viewer, recorded, tmp_path):
        path = f"/page/recordings/{NAME}.wav"
        first = viewer.get(path)
        for name, value in (
            ("If-None-Match", first.headers["ETag"]),
            ("If-Modified-Since", first.headers["Last-Modified"]),
        ):
            answer = viewer.get(path, headers={name: value})
            assert (answer.status_code, answer.data) == (304, b"")
        ranged = partial(viewer.get, path)
        etag = first.headers["ETag"]
        assert ranged(headers={"Range": "bytes=0-3", "If-Range": etag}).data == b"RIFF"
        os.utime(tmp_path / f"{NAME}.wav", (1, 1))
        whole = ranged(headers={"Range": "bytes=0-3", "If-Range": etag})
        assert (whole.status_code, whole.data) == (200, recorded)

    def test_the_peaks(self, viewer, recorded):
        answer = viewer.get(f"/page/recordings/{NAME}/peaks")
        assert answer.content_type == "application/json"
        assert (answer.json["seconds"], answer.json["tracks"]) == (3.2, ["inbound"])
        assert len(answer.json["peaks"][0]) == 1970  # of 13 samples

    @pytest.mark.parametrize("name", ["nothing", f"{NAME}.mp3", f"{NAME}.wav.part", f"{NAME[:-1]}0.wav"])
    def test_no_such_file(self, viewer, recorded, name):
        assert viewer.get(f"/page/recordings/{name}").status_code == 404
        assert viewer.get(f"/page/recordings/{name}/peaks").status_code == 404

    def test_what_is_beside_the_recordings(self, viewer, recorded, tmp_path):
        (tmp_path / "secret.json").write_text("{}")
        (tmp_path.parent / f"{NAME}.json").write_text("outside")
        for name in (
            "secret.json",
            f"..%2f{NAME}.json",
            f"%2e%2e/{NAME}.json",
            str(tmp_path / f"{NAME}.json"),
        ):
            assert viewer.get(f"/page/recordings/{name}").status_code in (404, 308)


class TestServed:
    """By a server in a process of its own."""

    @pytest.fixture
    def server(self, start_server, tmp_path):
        return start_server(PAGE_TOKEN=TOKEN, RECORDINGS_DIR=str(tmp_path))

    def test_a_call_that_was_recorded(self, server, tmp_path):
        cookie = log_in(server.port)
        say(server, CAPTURED)
        server.wait_for("messages lost")
        answer = ask(server.port, "/page/recordings", Cookie=cookie)
        (row,) = json.loads(answer.body)["recordings"]
        described = json.loads((tmp_path / f"{row['name']}.json").read_text())
        for name in ("streamSid", "callSid", "customParameters", "tracks", "ended", "duration"):
            assert row[name] == described[name]
        assert row["startedAt"] == described["start"]
        audio = ask(server.port, f"/page/recordings/{row['name']}.wav", Cookie=cookie)
        assert audio.body == (tmp_path / f"{row['name']}.wav").read_bytes()
        assert len(audio.body) == row["files"]["wav"]

    def test_one_that_is_being_recorded_is_a_valid_file_at_any_time(self, server):
        """Whatever comes while it is sent."""
        cookie = log_in(server.port)
        calling = threading.Thread(target=run_caller, args=(server.url, "--seconds", "4"))
        calling.start()
        sizes = set()
        path = None
        while calling.is_alive():
            if path is None:
                rows = json.loads(ask(server.port, "/page/recordings", Cookie=cookie).body)["recordings"]
                path = f"/page/recordings/{rows[0]['name']}.wav" if rows else None
                continue
            data = ask(server.port, path, Cookie=cookie).body
            header = wav.read_header(data)
            assert len(data) == wav.HEADER_SIZE + header.samples + header.samples % 2
            sizes.add(header.samples)
        calling.join()
        assert len(sizes) > 3

    def test_no_file_stays_open(self, server, tmp_path):
        write_recording(tmp_path)
        cookie = log_in(server.port)
        path = f"/page/recordings/{NAME}.wav"
        folder = Path(f"/proc/{server.process.pid}/fd")
        if not folder.exists():
            pytest.skip("this system has no /proc")

        def ask_in_each_way():
            ask(server.port, path, Cookie=cookie)
            ask(server.port, path, "HEAD", Cookie=cookie)
            for asked in ("bytes=0-9", "bytes=9-1"):
                ask(server.port, path, Cookie=cookie, Range=asked)
            etag = ask(server.port, path, Cookie=cookie).headers["ETag"]
            ask(server.port, path, Cookie=cookie, If_None_Match=etag)
            ask(server.port, f"/page/recordings/{NAME}/peaks", Cookie=cookie)
            ask(server.port, "/page/recordings", Cookie=cookie)

        ask_in_each_way()
        opened = []
        for fd in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # of a connection that was closed meanwhile
                opened.append(os.readlink(fd))
        assert not [path for path in opened if str(tmp_path) in path]

    def test_who_goes_away_in_the_middle_of_a_download(self, server, tmp_path):
        with contextlib.closing(WavFile(tmp_path / f"{NAME}.wav", 2)) as file:
            file.put(0, 10_000_000, bytes(1))
            file.put(0, 0, bytes(1))
        cookie = log_in(server.port)
        head = f"GET /page/recordings/{NAME}.wav HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
            connection.sendall(f"{head}Cookie: {cookie}\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
        assert ask(server.port, "/livez").status == 200
        assert "Traceback" not in server.stop()

    def test_a_download_holds_up_nobody(self, server, tmp_path):
        """While one reads as fast as it can, others are answered at once."""
        with contextlib.closing(WavFile(tmp_path / f"{NAME}.wav", 2)) as file:
            file.put(0, 30_000_000, bytes(1))
            file.put(0, 0, bytes(1))
        cookie = log_in(server.port)
        done = threading.Event()
        read = []

        def download():
            while not done.is_set():
                read.append(len(ask(server.port, f"/page/recordings/{NAME}.wav", Cookie=cookie).body))

        thread = threading.Thread(target=download)
        thread.start()
        waits = []
        for _ in range(50):
            began = time.perf_counter()
            ask(server.port, "/livez")
            waits.append(time.perf_counter() - began)
        done.set()
        thread.join()
        assert sorted(waits)[10] < 0.05, waits  # not all: the machine is shared
        assert set(read) == {os.path.getsize(tmp_path / f"{NAME}.wav")}


class TestGunicorn:
    """Its master makes the token, once, and all workers have it."""

    @pytest.fixture
    def start(self, start_server):
        return partial(start_server, "-m", "gunicorn", "-w", "2", "app:app")

    def ask_both(self, server, cookie):
        """Ask until both workers have answered; return whether each let us in."""
        seen = {}
        deadline = time.monotonic() + SECONDS
        workers = re.findall(r"Booting worker with pid: (\d+)", "\n".join(server.lines))[-2:]
        for stopped, asked in (workers, workers[::-1]):
            os.kill(int(stopped), signal.SIGSTOP)
            try:
                seen[asked] = ask(server.port, "/page/index.html", Cookie=cookie).status
            finally:
                os.kill(int(stopped), signal.SIGCONT)
        assert time.monotonic() < deadline
        return list(seen.values())

    def test_one_token_for_all_workers(self, start):
        server = start()
        cookie = log_in(server.port, token_of(server))
        server.wait_for("TWILIO_AUTH_TOKEN is not set", times=2)
        assert self.ask_both(server, cookie) == [200, 200]
        assert server.stop().count("Watch the calls at") == 1

    def test_a_reload_keeps_it(self, start):
        server = start()
        cookie = log_in(server.port, token_of(server))
        server.wait_for("TWILIO_AUTH_TOKEN is not set", times=2)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("TWILIO_AUTH_TOKEN is not set|Worker exiting", times=4)
        assert self.ask_both(server, cookie) == [200, 200]
        assert server.stop().count("Watch the calls at") == 1

    def test_the_address_is_the_pages_where_the_application_has_a_page_of_its_own(self, start, tmp_path):
        source = (ROOT / "app.py").read_text()
        place = '@sockets.route("/media")'
        own = f'app.add_url_rule("/", view_func=lambda: "mine")\n\n\n{place}'
        (tmp_path / "app.py").write_text(source.replace(place, own))
        (tmp_path / "gunicorn.conf.py").write_text((ROOT / "gunicorn.conf.py").read_text())
        server = start(cwd=tmp_path)
        path = server.wait_for(r"Watch the calls at http://[^/]+(/[^#]*)#")[1]
        assert is_form(ask(server.port, path))

    def test_a_token_of_the_settings_is_not_shown(self, start):
        server = start(PAGE_TOKEN=TOKEN)
        address = f"http://localhost:{server.port}/page/"
        server.wait_for(rf"Watch the calls at {address} \(log in with PAGE_TOKEN\)$")
        assert log_in(server.port)
        assert TOKEN not in server.stop()

    def test_no_page(self, start):
        server = start(PAGE_TOKEN="off")
        assert try_token(server.port, "off").status == 404
        assert not is_form(ask(server.port))
        assert "Watch the calls" not in server.stop()

    def test_a_log_as_json_has_no_token(self, start):
        server = start(LOG_FORMAT="json")
        server.wait_for(
            r"Watch the calls at http://localhost:\d+/page/ \(set PAGE_TOKEN: a log has no token\)"
        )
        assert "#" not in server.stop()
