"""Whole calls: a server, Redis, workers, and the simulated caller; also on several hosts."""

import importlib.util
import json
import re
import sys
import time
import urllib.request

import pytest
import trustme
from support.caller import call
from support.cluster import RECORDING, assert_same, calling, pending, recordings, rights
from support.hosts import Hosts
from support.page import TOKEN, Page
from support.pausing import PAUSING
from support.recogniser import WORKER
from support.redis import RedisServer, free_port
from support.server import ROOT, Server, environment, sounds_like, wait_until
from support.streams import CONNECTED, media, start, stop
from websockets.sync.client import connect


def test_recordings_survive_their_workers(redis_server, start_server, start_worker, tmp_path):
    """Of three workers one is killed and one is suspended for 10 s, under 40 calls."""
    server = start_server(REDIS_URL=redis_server.url, RECORDINGS_DIR=str(tmp_path / "server"))
    workers = [start_worker(*RECORDING, RECORDINGS_DIR=str(tmp_path / "workers")) for _ in range(3)]
    with calling(server.url, "--calls", "40", "--seconds", "26", "--track", "both_tracks"):
        wait_until(lambda: len(pending(redis_server, "recording")) == 40)
        time.sleep(3)  # of the calls
        killed, suspended, _ = sorted(workers, key=lambda worker: -worker.owned(redis_server, "recording"))
        killed.kill()
        suspended.suspend()
        time.sleep(10)
        suspended.resume()
    wait_until(lambda: not pending(redis_server, "recording"))
    assert_same(tmp_path / "workers", tmp_path / "server")
    assert "Traceback" not in suspended.stop()


def test_a_worker_that_joins_gets_what_waits(redis_server, start_server, start_worker, tmp_path):
    server = start_server(REDIS_URL=redis_server.url, RECORDINGS_DIR=str(tmp_path / "server"))
    first = start_worker("recording", "--calls", "3", RECORDINGS_DIR=str(tmp_path / "workers"))
    with calling(server.url, "--calls", "6", "--seconds", "8"):
        wait_until(lambda: len(pending(redis_server, "recording")) == 3)
        second = start_worker("recording", "--calls", "3", RECORDINGS_DIR=str(tmp_path / "workers"))
        wait_until(lambda: second.owned(redis_server, "recording") == 3)
        assert first.owned(redis_server, "recording") == 3
    wait_until(lambda: not pending(redis_server, "recording"))
    assert_same(tmp_path / "workers", tmp_path / "server")


def test_redis_is_killed_and_comes_back(redis_server, start_server, start_worker, tmp_path):
    server = start_server(REDIS_URL=redis_server.url, RECORDINGS_DIR=str(tmp_path / "server"))
    start_worker(*RECORDING, RECORDINGS_DIR=str(tmp_path / "workers"))
    with calling(server.url, "--calls", "5", "--seconds", "12", "--track", "both_tracks"):
        wait_until(lambda: len(pending(redis_server, "recording")) == 5)
        redis_server.kill()
        time.sleep(3)
        redis_server.start()
        server.wait_for(f"Redis 127.0.0.1:{redis_server.port} is back after ")
    wait_until(lambda: not pending(redis_server, "recording"))
    assert_same(tmp_path / "workers", tmp_path / "server")


def test_a_call_in_which_nothing_comes_for_a_while(redis_server, start_server, start_worker, tmp_path):
    """The connection lives: the peer sends pings."""
    server = start_server(
        REDIS_URL=redis_server.url, RECORDINGS_DIR=str(tmp_path / "server"), IDLE_TIMEOUT="1"
    )
    start_worker(*RECORDING, RECORDINGS_DIR=str(tmp_path / "workers"))
    with connect(server.url, compression=None) as ws:
        for message in CONNECTED, start(), media(2, 0):
            ws.send(message.to_json())
        for _ in range(16):
            ws.ping()
            time.sleep(0.25)
        for message in media(3, 4000), stop(4):
            ws.send(message.to_json())
        for _ in ws:
            pass
    wait_until(lambda: not pending(redis_server, "recording"))
    assert_same(tmp_path / "workers", tmp_path / "server")


def test_a_server_is_killed(redis_server, start_server, start_worker, tmp_path):
    server = start_server(REDIS_URL=redis_server.url, IDLE_TIMEOUT="1")
    worker = start_worker(*RECORDING, RECORDINGS_DIR=str(tmp_path))
    with pytest.raises(AssertionError), calling(server.url, "--calls", "2", "--seconds", "30"):
        wait_until(lambda: len(pending(redis_server, "recording")) == 2)
        time.sleep(2)  # of the calls
        server.process.kill()
        worker.wait_for("is lost", times=2)
    wait_until(lambda: not pending(redis_server, "recording"))
    accounts = [account for _, account in recordings(tmp_path).values()]
    assert [account["ended"] for account in accounts] == ["server lost"] * 2
    assert all(account["duration"] > 1 for account in accounts)


def test_a_pause_reaches_the_workers(redis_server, start_server, start_worker, tmp_path):
    """The worker that has the call in its pause is killed, and the next one goes on with the silence."""
    server = start_server("-c", PAUSING, REDIS_URL=redis_server.url, RECORDINGS_DIR=str(tmp_path / "server"))
    workers = [start_worker(*RECORDING, RECORDINGS_DIR=str(tmp_path / "workers")) for _ in range(2)]
    keys = ("--parameter", "bidirectional=true", "--digits", f"*{40 * '4'}#", "--seconds", "14")
    with calling(server.url, *keys):
        server.wait_for("is paused at")
        wait_until(lambda: any(worker.owned(redis_server, "recording") for worker in workers))
        killed, other = sorted(workers, key=lambda worker: -worker.owned(redis_server, "recording"))
        killed.kill()
        other.wait_for("is taken over")
    wait_until(lambda: not pending(redis_server, "recording"))
    assert_same(tmp_path / "workers", tmp_path / "server")
    (made,), (expected,) = recordings(tmp_path / "workers").values(), recordings(tmp_path / "server").values()
    assert made[1]["paused"] == expected[1]["paused"]
    ((begin, end),) = [(pause["from"], pause["to"]) for pause in made[1]["paused"]]
    assert end - begin > 8  # longer than it takes to take a call over
    assert set(made[0][58 + round(8000 * begin) : 58 + round(8000 * end)]) == {0xFF}
    assert [each["digit"] for each in made[1]["dtmf"]] == ["*", *["(not shown)"] * 41]


def console(output):
    """Return the final texts that a server's console shows: second, speaker, text."""
    found = re.findall(r"INFO in transcriber: MZ\w{6} (\d+):(\d\d) (caller|callee): (.*)", output)
    return [(60 * int(minutes) + int(seconds), speaker, text) for minutes, seconds, speaker, text in found]


def test_transcripts_survive_a_worker(redis_server, start_server, start_worker, tmp_path):
    """The worker that transcribes a call is killed: the console has each sentence once, in order."""
    server = start_server(REDIS_URL=redis_server.url, TRANSCRIBER="", RECORDINGS_DIR=str(tmp_path))
    workers = [start_worker("transcription", program=("-c", WORKER)) for _ in range(2)]
    with calling(server.url, "--seconds", "18", "--track", "both_tracks"):
        server.wait_for(" callee: ", times=2)
        killed, other = sorted(workers, key=lambda worker: -worker.owned(redis_server, "transcription"))
        killed.kill()
        other.wait_for("transcription is taken over")
    server.wait_for("18.00 s; ")
    output = server.stop()
    account = json.loads(next(tmp_path.glob("*.json")).read_text())
    sentences = [f"from {1.5 * n + 0.155:.1f} s on on on on on" for n in range(12)]
    for speaker, track in (("caller", "inbound"), ("callee", "outbound")):
        shown = [(second, text) for second, who, text in console(output) if who == speaker]
        assert shown == [(int(1.5 * n), text) for n, text in enumerate(sentences)]
        kept = [(each["text"], each["start"]) for each in account["transcripts"] if each["track"] == track]
        assert kept == [(text, 1.5 * n) for n, text in enumerate(sentences)]
    assert next(tmp_path.glob("*.vtt")).read_text().count("-->") == 24
    assert "Traceback" not in output + other.stop()


@pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None,
    reason="moonshine-voice is not installed (requirements-transcription.txt)",
)
def test_the_local_engine_in_a_worker(redis_server, start_server, start_worker):
    server = start_server(REDIS_URL=redis_server.url, TRANSCRIBER="")
    worker = start_worker("transcription", TRANSCRIBER="local")
    call(server.url, "--track", "both_tracks")
    output = server.stop()
    said = {speaker: text for _, speaker, text in console(output)}
    assert sounds_like(said["caller"], "Hello, this is a simulated call."), output
    assert sounds_like(said["callee"], "I can hear you loud and clear."), output
    assert "Traceback" not in output + worker.stop()


def metrics(server):
    return urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics").read().decode()


def test_a_user_with_the_rights_that_the_docs_list(redis_server, start_server, start_worker, tmp_path):
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "mediastreams", "on", ">secret-word", *rights())
        admin.execute_command("ACL", "SETUSER", "default", "resetkeys", "~ms:calls", "-@all", "+xpending")
        url = f"redis://mediastreams:secret-word@127.0.0.1:{redis_server.port}/0"
        settings = {"REDIS_URL": url, "RECORDINGS_DIR": str(tmp_path / "server"), "PAGE_TOKEN": TOKEN}
        server = start_server(TRANSCRIBER="", **settings)
        other = start_server(**{**settings, "RECORDINGS_DIR": str(tmp_path / "other")})
        recording = start_worker(*RECORDING, REDIS_URL=url, RECORDINGS_DIR=str(tmp_path / "workers"))
        killed = start_worker("transcription", REDIS_URL=url, program=("-c", WORKER))
        with Page(other) as page, calling(server.url, "--seconds", "10"):
            page.wait_for("changed", lambda message: message["calls"][0]["id"].count("/"))
            server.wait_for(" caller: ")
            transcription = start_worker("transcription", REDIS_URL=url, program=("-c", WORKER))
            killed.kill()
            transcription.wait_for("is taken over")
        wait_until(lambda: not pending(redis_server, "recording"))
        takeovers = re.compile('mediastreams_redis_takeovers.*group="transcription".* 1')
        wait_until(lambda: takeovers.search(metrics(server)), every=0.2)
        output = "".join(program.stop() for program in (server, other, recording, transcription))
    assert_same(tmp_path / "workers", tmp_path / "server")
    for word in ("secret-word", "NOPERM", "permission", "Traceback", "is away"):
        assert word not in output


def test_tls(start_redis, start_server, start_worker, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    files = ("--tls-cert-file", tmp_path / "cert.pem", "--tls-key-file", tmp_path / "key.pem")
    port = free_port()
    redis = start_redis("--tls-port", str(port), *map(str, files), "--tls-auth-clients", "no")
    url = f"rediss://127.0.0.1:{port}/0"
    trusting = f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}"
    server = start_server(REDIS_URL=trusting, RECORDINGS_DIR=str(tmp_path / "server"), PAGE_TOKEN="off")
    worker = start_worker(*RECORDING, REDIS_URL=trusting, RECORDINGS_DIR=str(tmp_path / "workers"))
    call(server.url, "--seconds", "2")
    wait_until(lambda: (tmp_path / "workers").exists() and not pending(redis, "recording"))
    assert "Traceback" not in server.stop() + worker.stop()
    assert_same(tmp_path / "workers", tmp_path / "server")
    start_server(REDIS_URL=url).wait_for(f"Redis 127.0.0.1:{port} is away: .*certificate verify failed")


@pytest.fixture
def hosts():
    hosts = Hosts("media", "redis", "work1", "work2")
    yield hosts
    hosts.close()


def test_hosts_whose_link_is_cut(hosts, tmp_path):
    """Media server, Redis and two workers on hosts of their own: two links are cut for 8 s each."""
    (tmp_path / "redis").mkdir()
    redis = RedisServer(tmp_path / "redis", on=hosts.on("redis"), address=hosts.addresses["redis"])
    environ = {**environment(), "PYTHONPATH": str(ROOT), "REDIS_URL": redis.url, "HTTP_SERVER_PORT": "0"}

    def start(host, *command, **settings):
        command = [*hosts.on(host), sys.executable, *command]
        return Server(command, ROOT, {**environ, **settings})

    started = []
    try:
        server = start("media", "app.py", RECORDINGS_DIR=str(tmp_path / "server"))
        started.append(server)
        for host in ("work1", "work2"):
            folder = str(tmp_path / "workers")
            started.append(start(host, "-m", "mediastreams", "work", *RECORDING, RECORDINGS_DIR=folder))
            started[-1].wait_for("takes calls for recording")
        server.wait_until_it_listens()
        caller = start("media", "-m", "mediastreams.caller", server.url, "--calls", "6", "--seconds", "30")
        started.append(caller)
        wait_until(lambda: len(pending(redis, "recording")) == 6)
        with hosts.unplugged("media"):
            server.wait_for("is away")
            time.sleep(8)
        server.wait_for("is back after")
        with hosts.unplugged("work1"):
            time.sleep(8)
        assert "Stopped" in caller.stop(told=False)
        wait_until(lambda: not pending(redis, "recording"))
        assert_same(tmp_path / "workers", tmp_path / "server")
    finally:
        output = [program.stop() for program in started]
        redis.stop()
    assert "Traceback" not in "".join(output)
