"""The command `doctor`: with everything in order, and with one thing after the other broken."""

import re
import resource
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support.handshake import handshake
from support.markdown import Document
from support.ngrok import Agent
from support.rest import KEY, NUMBER, SECRET, Rest
from support.server import ROOT, SECONDS, TOKEN, environment, run_command
from support.strangers import dripping
from support.tunnel import Tunnel

from mediastreams.config import Settings
from mediastreams.doctor import FaultError, SkippedError, machine, twilio
from mediastreams.text import command

KEYS = {"TWILIO_API_KEY": KEY, "TWILIO_API_SECRET": SECRET}
REFUSED = b"HTTP/1.1 502 Bad Gateway\r\nNgrok-Error-Code: ERR_NGROK_8012\r\nContent-Length: 0\r\n\r\n"


class World:
    """A server with its tunnel, an account with a number that leads there, and what the doctor sees of it."""

    def __init__(self, start_server, tmp_path, rest, agent):
        self._start_server = start_server
        self.rest, self.agent = rest, agent
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.tunnel = Tunnel(self.port, tmp_path)
        self.environ = {
            **rest.environ,
            **self.tunnel.environ,
            "HTTP_SERVER_PORT": str(self.port),
            "NGROK_API": agent.url,
            "RECORDINGS_DIR": str(tmp_path / "recordings"),
        }

    def open(self):
        """Let the agent and the account know the tunnel."""
        self.url = self.tunnel.url
        self.agent.tunnels = [(self.url, f"http://localhost:{self.port}")]
        self.number = self.rest.add(voice_url=f"{self.url}/twiml/start-stream")

    def start(self, **environ):
        self.server = self._start_server(**{**self.environ, **environ})

    def examine(self, *arguments, preexec_fn=None, **environ):
        """Run the doctor; return its status, and what it prints of each check: its mark and its text."""
        environ = {**self.environ, **environ}
        if preexec_fn is None and "PYTHONPATH" not in environ:  # where what is imported is no other
            result = run_command("doctor", *arguments, **environ)
        else:
            result = subprocess.run(
                [sys.executable, "-m", "mediastreams", "doctor", *arguments],
                cwd=ROOT,
                env={**environment(), **environ},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=3 * SECONDS,
                preexec_fn=preexec_fn,
            )
        assert result.stderr == ""
        assert not any(secret in result.stdout for secret in (TOKEN, SECRET))
        lines = [re.fullmatch(r"(ok|FAIL|-) +(\w+) +(.+)", line) for line in result.stdout.splitlines()]
        assert len({line[2] for line in lines}) == len(lines)
        return result.returncode, {line[2]: (line[1], line[3]) for line in lines}

    def fault(self, *arguments, **options):
        """Run the doctor, which must fail; return the only fault that it finds: the check and its text."""
        status, lines = self.examine(*arguments, **options)
        ((name, text),) = [(name, text) for name, (mark, text) in lines.items() if mark == "FAIL"]
        assert status == 1
        return name, text


@pytest.fixture
def world(start_server, tmp_path):
    with Rest() as rest, Agent() as agent:
        world = World(start_server, tmp_path, rest, agent)
        with world.tunnel:
            world.open()
            yield world


def test_everything_is_in_order(world):
    world.start()
    status, lines = world.examine()
    recordings = lines["recordings"][1]
    assert re.fullmatch(rf"{world.environ['RECORDINGS_DIR']} has room for \d+ hours of calls", recordings)
    assert (status, lines) == (
        0,
        {
            "settings": ("ok", "they can be used"),
            "port": ("ok", f"the server answers on 127.0.0.1:{world.port}, live streams: 0"),
            "tunnel": ("ok", world.url),
            "TwiML": ("ok", f"{world.url}/twiml/start-stream is served"),
            "handshake": ("ok", f"wss{world.url[5:]}/media answers 101 Switching Protocols"),
            "signature": ("ok", "a handshake that Twilio has not signed is refused"),
            "call": ("ok", "a call of 2 s went through"),
            "clock": ("ok", "it is right"),
            "account": ("ok", "the account is active"),
            "number": ("ok", f"the calls of {NUMBER} come here"),
            "descriptors": ("ok", "there are enough for 1000 streams"),
            "recordings": ("ok", recordings),
            "engine": ("-", "TRANSCRIBER is off: there are no transcripts"),
        },
    )
    world.server.wait_for(r"2\.00 s; inbound 100 chunks")


def test_the_document_shows_what_it_prints(world):
    (shown,) = Document(ROOT / "docs" / "first-call.md").blocks("When it does not work", "")
    world.start()
    _, lines = world.examine()
    names = [re.fullmatch(r"(ok|FAIL|-) +(\w+) +.+", line)[2] for line in shown.splitlines()]
    assert names == list(lines)


def test_a_two_way_document(world):
    world.start()
    world.number["voice_url"] = f"{world.url}/twiml/connect-stream"
    status, lines = world.examine("--twiml", "connect-stream")
    assert (status, lines["call"][0]) == (0, "ok")
    world.server.wait_for("its caller hears an echo")


class TestBroken:
    """Each thing that is broken on purpose is the only fault that is found; the line says what to mend."""

    def test_a_setting_that_cannot_be_used(self, world):
        status, lines = world.examine(MAX_STREAMS="many")
        assert (status, lines) == (
            1,
            {
                "settings": (
                    "FAIL",
                    "MAX_STREAMS='many' cannot be used: it must be a number from 1 to 1000000",
                )
            },
        )

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
            call.sendall(handshake(X_Twilio_Signature=self.signature(world)))
            assert call.recv(12) == b"HTTP/1.1 101"
            world.server.process.terminate()
            world.server.wait_for("Draining")
            assert world.fault() == (
                "port",
                f"the server on 127.0.0.1:{world.port} is draining: start it again",
            )

    @staticmethod
    def signature(world):
        from twilio.request_validator import RequestValidator

        return RequestValidator(TOKEN).compute_signature(f"wss{world.url[5:]}/media", {})

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

    def test_the_tunnel_does_not_reach_the_server(self, world):
        world.start()
        world.tunnel.answer = REFUSED
        assert world.fault() == (
            "TwiML",
            f"Twilio would report 11200 HTTP retrieval failure: {world.url}/twiml/start-stream was answered "
            "with 502 Bad Gateway",
        )

    def test_the_address_does_not_exist(self, world):
        world.start()
        world.number["voice_url"] = "https://no-such-host.invalid/twiml/start-stream"
        name, text = world.fault(PUBLIC_URL="https://no-such-host.invalid", NGROK_API="off")
        assert name == "TwiML"
        assert "11210" in text

    def test_the_certificate_is_not_valid(self, world):
        world.start()
        name, text = world.fault(SSL_CERT_FILE="/dev/null")
        assert name == "TwiML"
        assert "11220" in text

    def test_there_is_no_such_document(self, world):
        world.start()
        name, text = world.fault("--twiml", "mine")
        assert name == "TwiML"
        assert "There is no such TwiML document; there are: both-tracks, connect-stream" in text

    def test_the_server_has_another_token(self, world):
        world.start(TWILIO_AUTH_TOKEN="another-token-0123456789")
        assert world.fault() == (
            "TwiML",
            "the server refuses what these settings sign: it runs with another TWILIO_AUTH_TOKEN, or for "
            "another address, restart it",
        )

    def test_the_server_has_another_public_url(self, world):
        world.start(PUBLIC_URL="https://old.ngrok.app", TWILIO_AUTH_TOKEN="")
        assert world.fault() == (
            "TwiML",
            "the document names wss://old.ngrok.app/media, not this address: "
            "the server has another PUBLIC_URL, restart it",
        )

    def test_the_server_has_no_token(self, world):
        world.start(TWILIO_AUTH_TOKEN="")
        assert world.fault() == (
            "signature",
            "the server accepts handshakes that Twilio has not signed: it runs without TWILIO_AUTH_TOKEN, "
            "restart it",
        )

    def test_a_proxy_drops_the_upgrade(self, world):
        world.start()
        world.tunnel.change = lambda head: re.sub(rb"(?i)\r\n(upgrade|connection): [^\r]*", b"", head)
        name, text = world.fault()
        assert name == "handshake"
        assert "31920 handshake failed: the server answered 426 UPGRADE REQUIRED" in text

    def test_the_server_is_for_another_account(self, world):
        world.start(TWILIO_ACCOUNT_SID="AC" + "1" * 32)
        name, text = world.fault()
        assert name == "call"
        assert "31921 server closed the WebSocket: it sent a Close, 1008" in text

    def test_the_server_is_full(self, world):
        world.start(MAX_STREAMS="1")
        with socket.create_connection(("127.0.0.1", world.port), SECONDS) as call:
            call.sendall(handshake(X_Twilio_Signature=self.signature(world)))
            assert call.recv(12) == b"HTTP/1.1 101"
            name, text = world.fault()
        assert name == "handshake"
        assert "503" in text

    def test_the_tunnel_cuts_calls_off(self, world):
        world.start()
        world.tunnel.seconds = 1
        name, text = world.fault()
        assert name == "call"
        assert text.startswith("Twilio would report 31903 connection broken: ")

    @pytest.mark.parametrize(("seconds", "which"), [(3600, "slow"), (-3600, "fast")])
    def test_the_clock_is_wrong(self, world, seconds, which):
        world.start()
        world.rest.skew = seconds
        name, text = world.fault()
        assert name == "clock"
        assert re.fullmatch(rf"it is 3(599|600|60\d) s {which}: let the system set it \(NTP\)", text)

    def test_twilio_cannot_be_reached(self, world):
        world.start()
        status, lines = world.examine(TWILIO_API_URL="http://127.0.0.1:1")
        why = "Twilio cannot be asked: nothing listens on 127.0.0.1:1 (is the server running?)"
        assert status == 1
        assert lines["clock"] == lines["account"] == ("FAIL", why)

    def test_the_token_is_not_that_of_the_account(self, world):
        """It was replaced in the Console: server and doctor agree, and Twilio does not."""
        world.start(TWILIO_AUTH_TOKEN="another-token-0123456789")
        assert world.fault(TWILIO_AUTH_TOKEN="another-token-0123456789") == (
            "account",
            "Twilio answered 20003 Authenticate (HTTP 401): check TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, "
            "see https://www.twilio.com/docs/errors/20003",
        )

    def test_the_token_is_not_that_of_the_account_though_the_key_is(self, world):
        world.start(TWILIO_AUTH_TOKEN="another-token-0123456789")
        name, text = world.fault(TWILIO_AUTH_TOKEN="another-token-0123456789", **KEYS)
        assert name == "account"
        assert "20003 Authenticate" in text

    def test_the_key_was_deleted(self, world):
        world.start()
        name, text = world.fault(**{**KEYS, "TWILIO_API_SECRET": "another-secret"})
        assert name == "number"
        assert "20003 Authenticate (HTTP 401): check TWILIO_API_KEY and TWILIO_API_SECRET, see" in text

    def test_the_account_is_suspended(self, world):
        world.start()
        world.rest.account["status"] = "suspended"
        assert world.fault() == ("account", "the account is suspended: see the Twilio Console")

    def test_the_number_leads_elsewhere(self, world):
        world.start()
        world.number["voice_url"] = "https://old.ngrok.app/twiml/start-stream"
        assert world.fault() == (
            "number",
            f"the calls of no number come to {world.url}: `{command('number', NUMBER)}`",
        )

    def test_the_number_names_no_document(self, world):
        world.start()
        address = world.number["voice_url"] = f"{world.url}/twiml/start-steam"
        name, text = world.fault()
        assert name == "number"
        assert text.startswith(f"for calls of {NUMBER} Twilio would report 11200 HTTP retrieval failure: ")
        assert f"{address} was answered with 404" in text

    def test_an_application_has_the_number(self, world):
        world.start()
        world.number["voice_application_sid"] = "AP" + "1" * 32
        assert world.fault()[0] == "number"

    def test_there_is_no_number(self, world):
        world.start()
        world.rest.numbers.clear()
        assert world.fault() == (
            "number",
            "the account has no number for calls: buy one in the Twilio Console",
        )

    def test_the_number_is_not_for_calls(self, world):
        world.start()
        world.number["capabilities"] = {"voice": False, "sms": True}
        assert world.fault()[1].startswith("the account has no number for calls: ")

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
    def test_without_an_account(self, world):
        world.start(TWILIO_ACCOUNT_SID="")
        status, lines = world.examine(TWILIO_ACCOUNT_SID="")
        assert status == 0
        assert lines["account"] == ("-", "TWILIO_ACCOUNT_SID is not set")
        assert lines["number"] == ("-", "it needs the account and the public address")

    def test_without_a_token(self, world):
        world.start(TWILIO_AUTH_TOKEN="")
        status, lines = world.examine(TWILIO_AUTH_TOKEN="")
        assert status == 0
        assert "anybody can send a stream" in lines["settings"][1]
        assert lines["signature"] == ("-", "TWILIO_AUTH_TOKEN is not set")
        assert lines["account"] == ("-", "TWILIO_AUTH_TOKEN is not set, nor TWILIO_API_KEY")

    def test_with_a_key_alone(self, world):
        world.start(TWILIO_AUTH_TOKEN="")
        status, lines = world.examine(TWILIO_AUTH_TOKEN="", **KEYS)
        assert status == 0
        assert lines["account"] == ("ok", "the API key opens it")
        assert lines["number"] == ("ok", f"the calls of {NUMBER} come here")

    def test_a_twiml_bin(self, world):
        world.start()
        world.number["voice_url"] = "https://handler.twilio.com/twiml/EH" + "1" * 32
        status, lines = world.examine()
        assert status == 0
        assert lines["number"] == ("-", f"{NUMBER}: what is in a TwiML Bin is not known here")

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


@pytest.mark.parametrize(
    ("voice_url", "comes_here"),
    [
        ("https://EXAMPLE.ngrok.app/twiml/start-stream", True),
        ("https://example.ngrok.app:443/twiml/start-stream", True),
        ("https://example.ngrok.app:444/twiml/start-stream", False),
        ("https://example.ngrok.app/TwiML/start-stream", False),
        ("https://[x", False),
        (None, False),
    ],
)
def test_how_a_webhook_is_written(voice_url, comes_here):
    with Rest() as rest:
        rest.add(voice_url=voice_url)
        settings = Settings.read(rest.environ)
        if comes_here:
            assert "come here" in twilio.check_number(settings, "https://Example.ngrok.app", is_served=False)
        else:
            with pytest.raises(FaultError, match="the calls of no number come to"):
                twilio.check_number(settings, "https://Example.ngrok.app", is_served=False)


def test_a_port_that_the_system_chooses():
    with pytest.raises(FaultError, match="HTTP_SERVER_PORT=0 does not tell where the server listens"):
        machine.check_port(Settings(http_server_port=0))


def test_a_trial_account():
    with Rest() as rest:
        rest.account["type"] = "Trial"
        text = twilio.check_account(Settings.read(rest.environ))
    assert text == "the account is active, a trial: it calls only verified numbers"
