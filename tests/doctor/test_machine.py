"""What `doctor` finds on this machine: settings, port, tunnel, descriptors, recordings, engine."""

import resource
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support.handshake import handshake
from support.ngrok import Agent
from support.server import SECONDS
from support.strangers import dripping

from mediastreams.config import Settings
from mediastreams.doctor import FaultError, SkippedError, machine


class TestBroken:
    """Each thing that is broken on purpose is the only fault that is found; the line says what to mend."""

    def test_a_key_without_its_secret(self, world):
        world.start()
        status, lines = world.examine(TWILIO_API_KEY="SK" + "1" * 32)
        assert status == 1
        assert lines["settings"] == ("FAIL", "TWILIO_API_KEY needs TWILIO_API_SECRET")

    @pytest.mark.parametrize(
        ("environ", "text"),
        [
            ({"CALL_WEBHOOK": "https://a.example/"}, "CALL_WEBHOOK needs CALL_WEBHOOK_SECRET"),
            (
                {
                    "CALL_WEBHOOK": "https://a.example/",
                    "CALL_WEBHOOK_SECRET": "whsec_" + "A" * 32,
                    "CALL_WEBHOOK_DIR": "/dev/null",
                },
                "CALL_WEBHOOK_DIR='/dev/null' cannot be used: /dev/null is not a folder",
            ),
        ],
    )
    def test_what_the_call_webhook_lacks(self, environ, text):
        with pytest.raises(FaultError) as caught:
            machine.check_settings(Settings.read(environ))
        assert str(caught.value) == text

    def test_redis_without_its_library(self, monkeypatch):
        monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(FaultError, match=r"^REDIS_URL needs pip install -r requirements-redis\.txt$"):
            machine.check_settings(Settings(redis_url="redis://127.0.0.1"))

    def test_the_server_does_not_run(self, world):
        assert world.fault() == ("port", f"nothing listens on 127.0.0.1:{world.port}: start `python app.py`")

    def test_another_program_has_the_port(self, world):
        class Other(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_error(403)

            def log_message(self, *_):
                pass

        with HTTPServer(("127.0.0.1", world.port), Other) as other:
            thread = threading.Thread(target=other.serve_forever, args=(0.05,))
            thread.start()
            fault = world.fault()
            other.shutdown()
            thread.join()
        assert fault == (
            "port",
            f"another program listens on 127.0.0.1:{world.port}: stop it, or set another HTTP_SERVER_PORT",
        )

    def test_another_program_does_not_come_to_an_end(self, monkeypatch):
        """Each of its bytes comes in time."""
        monkeypatch.setattr(machine, "_SECONDS", 0.3)
        health = b'{"status": "ok", "streams": 0}'
        with dripping(health, 0.1) as port, pytest.raises(FaultError, match=r"^another program listens on "):
            machine.check_port(Settings(http_server_port=port))

    def test_the_server_drains(self, world):
        world.start()
        with socket.create_connection(("127.0.0.1", world.port), SECONDS) as call:
            call.sendall(handshake(X_Twilio_Signature=world.signature()))
            assert call.recv(12) == b"HTTP/1.1 101"
            world.server.process.terminate()
            world.server.wait_for("Draining")
            assert world.fault() == (
                "port",
                f"the server on 127.0.0.1:{world.port} is draining: start it again",
            )

    def test_ngrok_does_not_run(self, world):
        world.start(PUBLIC_URL=world.url)
        assert world.fault(NGROK_API="http://127.0.0.1:1") == (
            "tunnel",
            f"no ngrok runs at http://127.0.0.1:1: run `ngrok http {world.port}`, or set PUBLIC_URL",
        )

    def test_ngrok_does_not_answer(self, monkeypatch):
        monkeypatch.setattr(machine.ngrok, "SECONDS", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(FaultError) as caught:
                machine.find_address(Settings(ngrok_api=url))
        assert str(caught.value) == f"{url} does not answer: run `ngrok http 5000`, or set PUBLIC_URL"

    def test_ngrok_has_no_tunnel(self, world):
        world.start()
        world.agent.tunnels = []
        assert world.fault() == (
            "tunnel",
            f"there is no tunnel: run `ngrok http {world.port}`, or set PUBLIC_URL",
        )

    def test_the_tunnel_leads_to_another_port(self, world):
        world.start()
        world.agent.tunnels = [(world.url, "http://localhost:1")]
        line = (
            f"the tunnel {world.url} leads to http://localhost:1, not to port {world.port}: run `ngrok http "
        )
        assert world.fault() == ("tunnel", f"{line}{world.port}`")
        assert world.fault(PUBLIC_URL=world.url) == ("tunnel", f"{line}{world.port}`")

    def test_public_url_is_that_of_an_earlier_tunnel(self, world):
        world.start()
        assert world.fault(PUBLIC_URL="https://old.ngrok.app") == (
            "tunnel",
            f"PUBLIC_URL is https://old.ngrok.app, but the tunnel to port {world.port} is {world.url}: "
            "change PUBLIC_URL, or remove it and restart the server",
        )

    def test_there_are_too_few_descriptors(self, world):
        world.start()
        assert world.fault(
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)), MAX_STREAMS="1000"
        ) == (
            "descriptors",
            "MAX_STREAMS=1000 needs 2064 file descriptors, and the system allows 256: "
            "raise the limit (ulimit -n) or lower MAX_STREAMS",
        )

    def test_recordings_cannot_be_made(self, world, tmp_path):
        world.start()
        (tmp_path / "file").touch()
        folder = str(tmp_path / "file")
        assert world.fault(RECORDINGS_DIR=folder) == (
            "recordings",
            f"RECORDINGS_DIR={folder!r} cannot be used: {folder} is not a folder",
        )

    def test_the_recogniser_has_no_key(self, world):
        world.start()
        assert world.fault(TRANSCRIBER="watson") == (
            "engine",
            "TRANSCRIBER='watson' cannot be used: it needs SPEECH_TO_TEXT_APIKEY",
        )

    def test_the_recogniser_is_not_installed(self, world, tmp_path):
        world.start()
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['moonshine_voice'] = None\n")
        name, text = world.fault(TRANSCRIBER="local", PYTHONPATH=str(tmp_path))
        assert name == "engine"
        assert text.startswith("there are no transcripts: moonshine-voice is not installed")


class TestLeftOut:
    def test_without_recordings(self):
        with pytest.raises(SkippedError, match="RECORDINGS_DIR is not set"):
            machine.check_recordings(Settings())


def test_other_tunnels_do_not_matter():
    """Those of TCP and of plain HTTP, and those to other programs."""
    others = [("tcp://0.tcp.ngrok.io:12345", "localhost:22"), ("https://b.ngrok.app", "http://localhost:80")]
    mine = [("http://a.ngrok.app", "http://localhost:5000"), ("https://a.ngrok.app", "http://localhost:5000")]
    with Agent(*others, *mine) as agent:
        for public_url in (None, "wss://a.ngrok.app"):
            settings = Settings(ngrok_api=agent.url, public_url=public_url)
            assert machine.find_address(settings) == "https://a.ngrok.app"


def test_an_address_that_is_not_ngroks():
    settings = Settings(ngrok_api="http://127.0.0.1:1", public_url="wss://media.example.com")
    assert machine.find_address(settings) == "https://media.example.com"


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(
        machine.shutil, "disk_usage", lambda _: machine.shutil._ntuple_diskusage(1, 1, 5_000_000)
    )
    with pytest.raises(FaultError, match=r"has only 5 MB left$"):
        machine.check_recordings(Settings(recordings_dir=str(tmp_path)))


@pytest.mark.parametrize("host", ["a..b", "::1%", "1:2", "a" * 70])
def test_a_host_that_is_none(host):
    with pytest.raises(FaultError, match=r"another program listens on |nothing listens on "):
        machine.check_port(Settings(http_server_host=host))


def test_a_port_that_the_system_chooses():
    with pytest.raises(FaultError, match="HTTP_SERVER_PORT=0 does not tell where the server listens"):
        machine.check_port(Settings(http_server_port=0))
