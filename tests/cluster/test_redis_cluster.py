"""Whole calls on a Redis Cluster of three nodes: a server, workers, the page of another server."""

import json
import time

import pytest
from support.caller import call
from support.cluster import RECORDING, assert_same, calling, pending, rights
from support.page import TOKEN, Page
from support.recogniser import WORKER
from support.server import wait_until

from mediastreams.cluster.entries import CALLS, audio_key


def keys(cluster):
    """Return the keys of calls that each node has."""
    return [cluster.ask(node, "KEYS", "ms:*:audio") for node in cluster.nodes]


@pytest.fixture
def settings(redis_cluster, tmp_path):
    return {"REDIS_URL": redis_cluster.url, "RECORDINGS_DIR": str(tmp_path / "workers")}


@pytest.fixture
def server(redis_cluster, start_server, tmp_path):
    folder = str(tmp_path / "server")
    return start_server(REDIS_URL=redis_cluster.url, RECORDINGS_DIR=folder, TRANSCRIBER="", PAGE_TOKEN=TOKEN)


def test_calls_on_several_nodes(redis_cluster, server, start_server, start_worker, settings, tmp_path):
    """They are recorded and transcribed by workers, and on the page of a server that has none of them."""
    other = start_server(REDIS_URL=redis_cluster.url, PAGE_TOKEN=TOKEN, TRANSCRIBER="off")
    workers = [start_worker(*RECORDING, **settings) for _ in range(2)]
    workers.append(start_worker("transcription", "--calls", "12", program=("-c", WORKER), **settings))
    with Page(other) as page, calling(server.url, "--calls", "12", "--seconds", "6"):
        wait_until(lambda: len(pending(redis_cluster, "recording")) == 12)
        wait_until(lambda: sum(map(bool, keys(redis_cluster))) > 1)
        page.wait_for("changed", lambda message: message["calls"][0]["id"].count("/"))
    for group in ("recording", "transcription"):
        wait_until(lambda group=group: not pending(redis_cluster, group))
    assert_same(tmp_path / "workers", tmp_path / "server")
    accounts = [json.loads(path.read_text()) for path in (tmp_path / "server").glob("*.json")]
    assert [len(account["transcripts"]) for account in accounts] == [4] * 12
    output = "".join(program.stop() for program in (server, other, *workers))
    assert "Traceback" not in output
    assert "is away" not in output


def test_a_slot_moves_to_another_node(redis_cluster, server, start_worker, settings, tmp_path):
    """That of a call, and that of the list of calls."""
    worker = start_worker(*RECORDING, **settings)
    with calling(server.url, "--calls", "6", "--seconds", "12"):
        wait_until(lambda: len(pending(redis_cluster, "recording")) == 6)
        wait_until(lambda: sum(map(len, keys(redis_cluster))) == 6)
        sid = next(key for of_node in keys(redis_cluster) for key in of_node).decode()[4:-7]
        for key in (audio_key(sid), CALLS):
            with redis_cluster.moving(key):
                time.sleep(1)  # of the calls
    wait_until(lambda: not pending(redis_cluster, "recording"))
    assert_same(tmp_path / "workers", tmp_path / "server")
    assert "Traceback" not in server.stop() + worker.stop()


@pytest.mark.parametrize("has_list", [False, True])
def test_a_node_is_killed_and_comes_back(redis_cluster, server, start_worker, settings, tmp_path, has_list):
    worker = start_worker(*RECORDING, **settings)
    with calling(server.url, "--calls", "8", "--seconds", "12"):
        wait_until(lambda: len(pending(redis_cluster, "recording")) == 8)
        wait_until(lambda: sum(map(bool, keys(redis_cluster))) > 1)
        has_calls = redis_cluster.node_of(CALLS)
        nodes = [node for node, there in zip(redis_cluster.nodes, keys(redis_cluster), strict=True) if there]
        node = has_calls if has_list else next(node for node in nodes if node is not has_calls)
        node.kill()
        server.wait_for("is away: ")
        time.sleep(2)
        node.start()
        server.wait_for("is back after ")
    wait_until(lambda: not pending(redis_cluster, "recording"))
    assert_same(tmp_path / "workers", tmp_path / "server")
    output = server.stop()
    assert "Traceback" not in output + worker.stop()
    assert output.count("is away: ") == output.count("is back after ") == 1


def test_a_user_with_the_rights_that_the_docs_list(
    redis_cluster, start_server, start_worker, settings, tmp_path
):
    for node in redis_cluster.nodes:
        redis_cluster.ask(node, "ACL", "SETUSER", "mediastreams", "on", ">secret-word", *rights())
    settings["REDIS_URL"] = redis_cluster.url.replace("//", "//mediastreams:secret-word@")
    server = start_server(**{**settings, "RECORDINGS_DIR": str(tmp_path / "server")})
    worker = start_worker(*RECORDING, **settings)
    call(server.url, "--calls", "6", "--seconds", "2")
    wait_until(lambda: len(list((tmp_path / "workers").glob("*.json"))) == 6)
    wait_until(lambda: not pending(redis_cluster, "recording"))
    assert sum(map(len, keys(redis_cluster))) == 6
    assert_same(tmp_path / "workers", tmp_path / "server")
    output = server.stop() + worker.stop()
    for word in ("secret-word", "NOPERM", "permission", "Traceback", "is away"):
        assert word not in output
