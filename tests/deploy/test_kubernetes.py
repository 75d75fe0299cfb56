"""`deploy/kubernetes.yaml`: against Kubernetes' own schemas, and against the server that it runs."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.server import ROOT, SECONDS, Server, environment, wait_until
from support.streams import CONNECTED, start
from websockets.sync.client import connect

from mediastreams.config import Settings

PATH = ROOT / "deploy" / "kubernetes.yaml"
RESOURCES = {each["kind"]: each for each in yaml.safe_load_all(PATH.read_text())}
POD = RESOURCES["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
ENVIRON = {each["name"]: each["value"] for each in CONTAINER["env"]}


def test_kubernetes_understands_it():
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", str(PATH)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (result.stdout + result.stderr).count(" passed for resource ") == len(RESOURCES) == 4


def test_names_and_numbers_agree():
    labels = POD["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert RESOURCES[kind]["spec"]["selector"] == {"matchLabels": labels}
    assert RESOURCES["Service"]["spec"]["selector"] == labels
    target = RESOURCES["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = RESOURCES["Deployment"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == Settings().http_server_port
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    used = [RESOURCES["Service"]["spec"]["ports"][0]["targetPort"]]
    used += [CONTAINER[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")]
    assert used == [port["name"]] * 3


def test_it_waits_longer_than_gunicorn():
    command = [sys.executable, "-m", *CONTAINER["command"], "--print-config"]
    printed = subprocess.run(
        command, cwd=ROOT, env={**environment(), **ENVIRON}, capture_output=True, text=True, check=True
    ).stdout
    config = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    graceful_timeout = int({key.strip(): value for key, value in config.items()}["graceful_timeout"])
    _, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    grace = POD["spec"]["terminationGracePeriodSeconds"]
    assert grace > int(seconds) + graceful_timeout > float(ENVIRON["DRAIN_TIMEOUT"])


@pytest.fixture
def server():
    """What the container runs, on a port of this machine."""
    environ = {**environment(), **ENVIRON, "HTTP_SERVER_PORT": "0", "LOG_FORMAT": "text"}
    server = Server([sys.executable, "-m", *CONTAINER["command"]], ROOT, environ)
    try:
        server.wait_until_it_listens()
        server.url = f"ws://127.0.0.1:{server.port}/media"
        yield server
    finally:
        server.stop()


def ask(server, path):
    """Return the status and the body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_probes_and_metric(server):
    """A drain fails the readiness probe, and not the liveness probe. The autoscaler's metric is served."""
    ready, live = (CONTAINER[name]["httpGet"]["path"] for name in ("readinessProbe", "livenessProbe"))
    (wanted,) = RESOURCES["HorizontalPodAutoscaler"]["spec"]["metrics"]
    with connect(server.url, compression=None) as ws:
        for message in (CONNECTED, start()):
            ws.send(message.to_json())
        ws.ping().wait(SECONDS)
        families = text_string_to_metric_families(ask(server, "/metrics")[1])
        (family,) = [each for each in families if each.name == wanted["pods"]["metric"]["name"]]
        assert family.type == "gauge"
        assert [(sample.labels, sample.value) for sample in family.samples] == [({}, 1)]
        assert (ask(server, ready)[0], ask(server, live)[0]) == (200, 200)
        os.kill(server.process.pid, signal.SIGTERM)
        wait_until(lambda: ask(server, ready)[0] == 503, every=0.1)
        assert ask(server, live)[0] == 200
        ws.ping().wait(SECONDS)
