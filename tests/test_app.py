"""The tutorial: the lines that a call leaves in the log, in their order."""

import json
import re

import pytest
from support.calls import CAPTURED, VECTORS, say
from support.server import ROOT, SECONDS, run, run_caller
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

import mediastreams
from mediastreams.protocol.messages import Dtmf, DtmfMetadata, Mark, MarkMetadata


def test_it_is_one_screen_and_reads_like_the_tutorial():
    source = (ROOT / "app.py").read_text()
    assert source.count("\n") < 60
    for line in (
        "app = Flask(__name__)",
        "sockets = Sockets(app)",
        '@sockets.route("/media")',
        "while not ws.closed:",
        "ws.receive()",
        "has_seen_media = False",
        'if __name__ == "__main__":',
    ):
        assert line in source


def test_the_log_of_a_captured_call(server):
    say(server, CAPTURED)
    server.wait_for(r"Stream MZ")
    start, media, stop = (json.loads(CAPTURED[i]) for i in (1, 2, -1))
    payload = media["media"]["payload"]
    media["media"]["payload"] = elided = f"{payload[:8]}... (216 characters)"

    def compact(message):
        return json.dumps(message, separators=(",", ":"))

    assert server.messages() == [
        "Connection accepted",
        f"Connected Message received: {CAPTURED[0]}",
        f"Start Message received: {compact(start)}",
        f"Media message: {compact(media)}",
        f"Payload is: {elided}",
        "That's 160 bytes",
        "Additional media messages from WebSocket are being suppressed....",
        f"Stop Message received: {compact(stop)}",
        "Connection closed. Received a total of 76 messages",
        (VECTORS / "calls" / "captured.summary").read_text().rstrip("\n"),
    ]


def test_what_was_said_is_not_logged(server):
    say(server, CAPTURED)
    printed = server.stop()
    for message in CAPTURED[2:-1]:
        assert json.loads(message)["media"]["payload"][:16] not in printed


def test_dtmf_mark_and_unknown_have_their_lines(server):
    sid = json.loads(CAPTURED[1])["streamSid"]
    dtmf = Dtmf(sid, 2, DtmfMetadata(digit="1")).to_json()
    mark = Mark(3, sid, MarkMetadata("my label")).to_json()
    say(server, [*CAPTURED[:2], dtmf, mark, '{"event":"closed"}', CAPTURED[-1]])
    server.wait_for("Connection closed")
    assert f"Dtmf Message received: {dtmf}" in server.messages()
    assert f"Mark Message received: {mark}" in server.messages()
    assert "Unknown Message received: closed" in server.messages()
    assert "Connection closed. Received a total of 6 messages" in server.messages()


def test_bad_messages_are_named_counted_and_survived(server):
    bad = [path.read_bytes() for path in sorted((VECTORS / "invalid").glob("*.json"))]
    bad.remove((VECTORS / "invalid" / "not-utf8.json").read_bytes())  # RFC 6455 ends the connection
    say(server, [*CAPTURED[:10], *bad, *bad, *CAPTURED[10:]])
    printed = server.stop()
    assert "Traceback" not in printed
    assert f"Connection closed. Received a total of {76 + 2 * len(bad)} messages" in printed
    assert f"73 chunks, 11680 bytes; 0 messages lost, 0 late, {2 * len(bad)} bad" in printed
    warnings = re.findall(r"WARNING in stream: (.*)", printed)
    assert len(warnings) == len(set(warnings)) < len(bad)
    for place in ("$.media.payload: ", "$.start.tracks[1]: ", "bad message: $: "):
        assert sum(place in warning for warning in warnings) == 1


def test_a_dropped_connection_has_its_closing_lines(server):
    assert run_caller(server.url, "--seconds", "0.5", "--drop").returncode == 0
    server.wait_for("Connection closed. Received a total of")
    assert "no stop message" in server.wait_for("Stream MZ").string
    assert "Traceback" not in server.stop()


def test_two_calls_at_once_do_not_mix(server):
    a = CAPTURED
    b = [message.replace("a1a1", "b7b7") for message in CAPTURED[:40]] + [
        CAPTURED[-1].replace("a1a1", "b7b7")
    ]
    with connect(server.url, compression=None) as one, connect(server.url, compression=None) as other:
        for i in range(len(a)):
            one.send(a[i])
            if i < len(b):
                other.send(b[i])
        for ws in (one, other):
            for _ in ws:
                pass
    printed = server.stop()
    assert "Received a total of 76 messages" in printed
    assert "Received a total of 41 messages" in printed
    assert re.search(r"Stream MZ(a1)+: 1\.46 s; inbound 73 chunks, 11680 bytes; 0 messages lost", printed)
    assert re.search(r"Stream MZ(b7)+: 0\.76 s; inbound 38 chunks, 6080 bytes; 35 messages lost", printed)


def test_log_level(start_server):
    server = start_server(LOG_LEVEL="WARNING")
    say(server, [*CAPTURED[:2], "{}", CAPTURED[-1]])
    assert [line for line in server.stop().splitlines() if "INFO" in line] == []
    assert any("bad message" in line for line in server.lines)


def test_a_failure_in_the_route_shows_its_stream_once(start_server, tmp_path):
    source = (ROOT / "app.py").read_text().replace("has_seen_media = True", "1 / 0")
    (tmp_path / "app.py").write_text(source)
    server = start_server(cwd=tmp_path)
    with connect(server.url, compression=None, open_timeout=SECONDS) as ws:
        for message in CAPTURED[:3]:
            ws.send(message)
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(SECONDS)
    assert caught.value.rcvd.code == 1011
    printed = server.stop()
    assert printed.count("Traceback") == 1
    assert printed.count("in stream MZ" + "a1" * 16) == 1


class TestCommandLine:
    def test_help_names_every_option(self):
        result = run("app.py", "--help")
        assert (result.returncode, result.stderr) == (0, "")
        for option in ("--host HOST", "--port PORT", "--version", "docs/settings.md"):
            assert option in result.stdout

    def test_help_shows_a_host_with_a_per_cent_sign(self):
        result = run("app.py", "--help", HTTP_SERVER_HOST="fe80::1%eth0")
        assert (result.returncode, result.stderr) == (0, "")
        assert "fe80::1%eth0" in result.stdout

    def test_version(self):
        result = run("app.py", "--version")
        assert (result.returncode, result.stdout) == (0, f"mediastreams {mediastreams.__version__}\n")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["--prot", "8080"], "unrecognized arguments: --prot 8080"),
            (["8080"], "unrecognized arguments: 8080"),
            (["--po", "8080"], "unrecognized arguments: --po 8080"),
            (["--port", "http"], "--port http: it must be a port number from 0 to 65535"),
            (["--host", "a b"], "--host a b: it must be a host name or an IP address of this machine"),
            (["--port"], "argument --port: expected one argument"),
        ],
    )
    def test_what_it_does_not_know_is_refused(self, arguments, error):
        result = run("app.py", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("usage: app.py [-h] [--host HOST] [--port PORT] [--version]\n")
        assert result.stderr.endswith(f"app.py: error: {error}\n")

    def test_it_wins_over_the_settings(self, start_server):
        server = start_server("app.py", "--port", "0", "--host", "127.0.0.2", HTTP_SERVER_PORT="1")
        assert f"Server listening on: http://127.0.0.2:{server.port}" in server.lines
