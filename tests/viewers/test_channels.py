"""Redis's channels for greenlets."""

import threading

import pytest
from support.server import wait_until
from support.streams import warnings

from mediastreams.cluster.connection import Shard
from mediastreams.viewers import channels as module
from mediastreams.viewers.channels import Channels


class Heard:
    """Notes what is heard, and in which threads."""

    def __init__(self):
        self.messages, self.changes, self.threads = [], [], set()

    def take(self, data):
        self.threads.add(threading.get_ident())
        if data == b"fail":
            raise RuntimeError("a fault of ours")
        self.messages.append(data)

    def changed(self, is_up):
        self.threads.add(threading.get_ident())
        self.changes.append(is_up)


@pytest.fixture
def channels(redis_server):
    return Channels(Shard(redis_server.url))


@pytest.fixture
def listen(channels):
    """Return a function that listens to a channel, until the test ends; and what is heard there."""
    listening = []

    def listen(channel):
        heard = Heard()
        listening.append(channels.listen(channel, heard.take, heard.changed))
        return listening[-1], heard

    yield listen
    for each in listening:
        each.close()
    wait_until(lambda: not channels._listening.task_queue.unfinished_tasks)


def test_what_is_published_is_heard_in_order(channels, listen):
    listening, heard = listen("a")
    assert listening.is_up is None
    _, other = listen("b")
    wait_until(lambda: heard.changes and other.changes)
    assert (heard.changes, listening.is_up) == ([True], True)
    sent = [b"%d" % n for n in range(250)]
    assert {channels.publish("a", data) for data in sent} == {1}
    assert channels.publish("c", b"nobody") == 0
    wait_until(lambda: len(heard.messages) == len(sent))
    assert heard.messages == sent
    assert other.messages == []
    assert heard.threads == {threading.get_ident()}


def test_a_long_message_comes_whole(channels, listen):
    _, heard = listen("a")
    wait_until(lambda: heard.changes)
    data = bytes(5_000_000)
    channels.publish("a", data)
    channels.publish("a", b"behind it")
    wait_until(lambda: len(heard.messages) == 2)
    assert heard.messages == [data, b"behind it"]


def test_a_closed_one_hears_nothing(channels, listen, redis_server):
    listening, heard = listen("a")
    wait_until(lambda: heard.changes)
    listening.close()
    channels.publish("a", b"too late")
    with redis_server.client() as client:
        wait_until(lambda: client.pubsub_numsub("a")[0][1] == 0)
    assert (heard.messages, heard.changes) == ([], [True])


def test_a_fault_is_logged_and_the_next_message_is_taken(channels, listen, caplog):
    _, heard = listen("a")
    wait_until(lambda: heard.changes)
    channels.publish("a", b"fail")
    channels.publish("a", b"next")
    wait_until(lambda: heard.messages)
    assert warnings(caplog) == ["A message of a was not handled"]


def test_redis_goes_and_comes_back(channels, listen, redis_server, caplog):
    _, heard = listen("a")
    wait_until(lambda: heard.changes)
    redis_server.kill()
    wait_until(lambda: heard.changes == [True, False])
    assert channels.publish("a", b"lost") is None
    redis_server.start()
    wait_until(lambda: heard.changes == [True, False, True])
    wait_until(lambda: channels.publish("a", b"back"))
    wait_until(lambda: heard.messages == [b"back"])
    first, last = warnings(caplog)
    assert "is away: " in first
    assert "is back after " in last


def test_a_lost_connection_is_made_again(channels, listen, redis_server, caplog):
    _, heard = listen("a")
    wait_until(lambda: heard.changes)
    with redis_server.client() as client:
        client.client_kill_filter(_type="pubsub")
    wait_until(lambda: heard.changes == [True, True])
    assert warnings(caplog) == []


def test_a_silent_connection_is_asked_and_a_dead_one_is_lost(channels, listen, redis_server, monkeypatch):
    monkeypatch.setattr(module, "_READ_SECONDS", 0.05)
    monkeypatch.setattr(module, "PING_SECONDS", 0.1)
    monkeypatch.setattr(module, "_MAX_SILENCE", 0.6)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    _, heard = listen("a")
    wait_until(lambda: heard.changes)
    with redis_server.client() as client:
        wait_until(lambda: client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) >= 20)
    assert heard.changes == [True]
    redis_server.suspend()
    wait_until(lambda: heard.changes == [True, False])
    redis_server.resume()
    wait_until(lambda: heard.changes == [True, False, True])


def test_a_user_who_may_not(start_redis, caplog):
    redis_server = start_redis()
    with redis_server.client() as client:
        client.acl_setuser("page", enabled=True, passwords=["+secret"], commands=["+ping"], channels=["a"])
    channels = Channels(Shard(redis_server.url.replace("//", "//page:secret@")))
    heard = Heard()
    listening = channels.listen("a", heard.take, heard.changed)
    wait_until(lambda: heard.changes == [False])
    listening.close()
    assert channels.publish("a", b"") is None
    assert "secret" not in caplog.text
    assert len(warnings(caplog)) == 1
    wait_until(lambda: not channels._listening.task_queue.unfinished_tasks)
