"""A server with its road to Twilio, as `doctor` finds it."""

import re
import socket
import subprocess
import sys

import pytest
from support.ngrok import Agent
from support.rest import SECRET, Rest
from support.server import ROOT, SECONDS, TOKEN, environment, run_command
from support.tunnel import Tunnel
from twilio.request_validator import RequestValidator


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

    def signature(self):
        """Return Twilio's signature of a handshake."""
        return RequestValidator(TOKEN).compute_signature(f"wss{self.url[5:]}/media", {})

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
