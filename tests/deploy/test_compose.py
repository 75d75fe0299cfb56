"""`deploy/compose.yaml`, run by `docker compose` with the commands of docs/container.md."""

import json
import re
import shlex

import pytest
from support.markdown import Document
from support.server import ROOT, sounds_like, wait_until

UP, LOGS = Document(ROOT / "docs" / "container.md").blocks("Server, Redis and workers", "sh")
FILE = ("--file", "deploy/compose.yaml")
WORKERS = ["mediastreams-transcription-1", "mediastreams-transcription-2"]
SAID = "Hello, this is a simulated call."
CHECKED = ["mediastreams-redis-1", "mediastreams-server-1"]

pytestmark = pytest.mark.xdist_group("containers")


def compose(podman, command, cwd, **options):
    """Run a `docker compose` command of the page. The image is there, and is not built again."""
    docker, name, *arguments = shlex.split(command)
    assert (docker, name) == ("docker", "compose")
    arguments = ["--no-build" if each == "--build" else each for each in arguments]
    return podman.compose(*arguments, cwd=cwd, **options)


@pytest.fixture
def services(podman, checkout):
    """What the file describes, running."""
    try:
        compose(podman, UP, checkout, checked=CHECKED)
        wait_until(lambda: podman.is_healthy("mediastreams-server-1"))
        yield podman
    finally:
        podman.compose(*FILE, "down", "--volumes", "--timeout", "0", cwd=checkout)


def test_it_names_the_image_gives_time_to_drain_and_reads_env(podman, checkout):
    described = json.loads(podman.compose(*FILE, "config", "--format", "json", cwd=checkout))["services"]
    build = described["server"]["build"]
    assert (build["context"], build["dockerfile"]) == (str(checkout), "deploy/Dockerfile")
    for name in ("server", "transcription"):
        drain = int(described[name]["environment"]["DRAIN_TIMEOUT"])
        assert described[name]["stop_grace_period"] == f"{drain + 15}s"
        assert described[name]["environment"]["PAGE_TOKEN"] == "0123456789abcdef"  # of .env


def test_workers_transcribe_a_call(services, checkout):
    """What they have heard is in the server's log and beside its recording; all end at a SIGTERM."""
    for name in WORKERS:
        wait_until(lambda name=name: "takes calls for transcription" in "\n".join(services.logs(name)))
    call = services.calling("ws://127.0.0.1:5000/media")
    assert "Stopped: 263 messages sent" in call.stop(told=False)

    def texts():
        printed = [line.partition("| ")[2] for line in compose(services, LOGS, checkout).splitlines()]
        return " ".join(json.loads(line)["message"].partition(" caller: ")[2] for line in printed)

    wait_until(lambda: sounds_like(texts(), SAID), every=0.2)
    written = services.docker("exec", "mediastreams-server-1", "sh", "-c", "cat /recordings/*.vtt")
    assert sounds_like(" ".join(re.findall("<v caller>(.*)", written)), SAID)
    services.compose(*FILE, "stop", cwd=checkout)
    assert services.docker("wait", *CHECKED, *WORKERS).split() == ["0"] * 4
