"""The files of `deploy/` for Prometheus and Grafana, with a Prometheus that asks a server."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from support.programs import executable
from support.redis import RedisServer, free_port
from support.server import ROOT, SECONDS, Server, environment, run_caller, wait_until

DEPLOY = ROOT / "deploy"
(GROUP,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())
TARGETS = [
    pytest.param(target, id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
SELECTOR = re.compile(r"(?:mediastreams_\w+|\bup\b)(?:\{[^}]*\})?")

# app.py with a consumer that takes its time, so that it misses messages.
PROGRAM = """
import gevent.monkey
from app import app, streams
from mediastreams import Consumer

@streams.register
class Slow(Consumer):
    def start(self, message):
        gevent.monkey.get_original("time", "sleep")(3)

    def media(self, message):
        pass
"""


class TestByPromtool:
    def promtool(self, *arguments):
        path = executable("promtool", "apt-get install prometheus")
        result = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=SECONDS)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def test_it_understands_the_files(self):
        assert "1 rule files found" in self.promtool("check", "config", str(DEPLOY / "prometheus.yml"))
        assert f"{len(ALERTS)} rules found" in self.promtool("check", "rules", str(DEPLOY / "alerts.yml"))

    def test_each_alert_is_explained(self):
        page = (ROOT / "docs" / "prometheus.md").read_text()
        assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(ALERTS)

    def test_each_alert_fires_when_it_should_and_not_else(self, tmp_path):
        text = (ROOT / "tests" / "deploy" / "alerts_test.yml").read_text()
        assert set(re.findall(r'alertname="(\w+)"', text)) == set(ALERTS)
        assert "[alerts.yml]" in text
        (tmp_path / "test.yml").write_text(text.replace("[alerts.yml]", f"[{DEPLOY / 'alerts.yml'}]"))
        self.promtool("test", "rules", str(tmp_path / "test.yml"))


class Prometheus:
    """A Prometheus with the files of `deploy/`, which asks a server each second."""

    def __init__(self, folder, port):
        text = (DEPLOY / "prometheus.yml").read_text()
        changes = {
            "127.0.0.1:5000": f"127.0.0.1:{port}",
            "127.0.0.1:5001": f"127.0.0.1:{free_port()}",  # nobody is there
            "_interval: 15s": "_interval: 1s",
        }
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (folder / "prometheus.yml").write_text(text)
        (folder / "alerts.yml").write_text((DEPLOY / "alerts.yml").read_text())
        self._url = f"http://127.0.0.1:{free_port()}"
        path = executable("prometheus", "apt-get install prometheus")
        command = [
            *(path, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address={self._url.removeprefix('http://')}",
        ]
        self._server = Server(command, folder, environment())
        try:
            self._server.wait_for("ready to receive web requests")
        except BaseException:
            self.stop()
            raise

    def ask(self, path, **query):
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                pytest.fail(error.read().decode())

    def labels(self, expression):
        """Wait until the expression has a result; return the names of the labels that all of it has."""
        result = []

        def has_one():
            result[:] = self.ask("query", query=expression)["result"]
            return result

        wait_until(has_one, every=0.2)
        return set.intersection(*(set(each["metric"]) for each in result))

    def stop(self):
        self._server.stop()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A Prometheus that asks a gunicorn with all metrics: it has had a call, and publishes to Redis."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "program.py").write_text(PROGRAM)
    started = []
    try:
        started.append(redis := RedisServer(folder))
        with redis.client() as client:
            client.xgroup_create("ms:calls", "recording", mkstream=True)
        environ = {**environment(), "HTTP_SERVER_PORT": "0", "REDIS_URL": redis.url, "LOG_LEVEL": "WARNING"}
        command = ["-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "-w", "2", "program:app"]
        environ["PYTHONPATH"] = f"{folder}:{ROOT}"
        started.append(server := Server([sys.executable, *command], folder, environ))
        server.wait_until_it_listens()
        started.append(prometheus := Prometheus(tmp_path_factory.mktemp("prometheus"), server.port))
        result = run_caller(server.url, "--fast", "--seconds", "140")
        assert (result.returncode, result.stderr) == (0, "")
        yield prometheus
    finally:
        for each in reversed(started):
            each.stop()


@pytest.mark.xdist_group("prometheus")
class TestWithAServer:
    @pytest.mark.parametrize("name", ALERTS)
    def test_an_alert(self, prometheus, name):
        """Of what it asks for there is something, with the labels that it names."""
        rule = ALERTS[name]
        expression, summary = rule["expr"], rule["annotations"]["summary"]
        labels = set.union(*(prometheus.labels(each) for each in SELECTOR.findall(expression)))
        for names in re.findall(r"(?:by|without) \(([^)]*)\)", expression):
            assert set(names.split(", ")) <= labels
        assert set(re.findall(r"\$labels\.(\w+)", summary)) <= labels

    def test_all_alerts_can_be_evaluated(self, prometheus):
        def health():
            (group,) = prometheus.ask("rules")["groups"]
            return {rule["name"]: rule["health"] for rule in group["rules"]}

        wait_until(lambda: "unknown" not in health().values(), every=0.2)
        assert health() == dict.fromkeys(ALERTS, "ok")

    @pytest.mark.parametrize("target", TARGETS)
    def test_a_panel(self, prometheus, target):
        """It shows something, by the labels of its legend."""
        expression = target["expr"]
        for name, value in {"$instance": ".+", "$__rate_interval": "1m", "$__range": "1h"}.items():
            expression = expression.replace(name, value)
        assert "$" not in expression
        legend = target.get("legendFormat", "")
        assert set(re.findall(r"{{(\w+)}}", legend)) <= prometheus.labels(expression)

    def test_the_choice_of_servers(self, prometheus):
        (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
        assert label in prometheus.labels(metric)

    def test_a_server_that_is_not_there(self, prometheus):
        def alerts():
            labels = [alert["labels"] for alert in prometheus.ask("alerts")["alerts"]]
            return [each["instance"] for each in labels if each["alertname"] == "MediaStreamsDown"]

        wait_until(alerts, every=0.2)
        assert len(alerts()) == 1
        assert prometheus.labels('up{job="mediastreams"} == 1') >= {"instance", "job"}


def test_grafana_knows_all_of_the_dashboard():
    """Grafana's own types, which leave out what they do not know, give the same again."""
    register_default_plugins()
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert_has(known, DASHBOARD)


def assert_has(known, given):
    """Assert that `known` has all of `given`; it also has defaults."""
    if isinstance(given, dict):
        assert given.keys() <= known.keys()
        for key, value in given.items():
            assert_has(known[key], value)
    elif isinstance(given, list):
        assert len(known) == len(given)
        for one, other in zip(known, given, strict=True):
            assert_has(one, other)
    else:
        assert known == given
