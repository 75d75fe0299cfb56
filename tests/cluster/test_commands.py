"""Commands that are sent at once, to one Redis and to the nodes of a Redis Cluster."""

import pytest
from redis.exceptions import ClusterDownError, ResponseError
from support.server import wait_until

from mediastreams.cluster import connection
from mediastreams.cluster.commands import packed, pipeline, read_streams
from mediastreams.cluster.connection import AwayError, Shard

INCREASE = ("n", packed(b"INCR", b"n"))


def run_when_due(shard, command):
    """Run a command as soon as it is time to try again."""
    answers = []

    def is_there():
        try:
            answers.append(shard.run(command))
        except AwayError:
            return False
        return True

    wait_until(is_there)
    return answers[0]


def add(key, value):
    return key, packed(b"XADD", key.encode(), b"*", b"a", value)


def read(shard, *keys, count=10):
    """Return what each stream has, or the error of one that cannot be read."""
    got = {}
    shard.run(
        lambda client: read_streams(
            client,
            dict.fromkeys(keys, b"0"),
            count,
            take=lambda key, entries: got.update({key: [fields[b"a"] for _, fields in entries]}),
            fail=lambda key, error: got.update({key: error}),
        )
    )
    return got


class TestPipeline:
    def test_each_answer(self, redis_server):
        with redis_server.client() as client:
            client.set("text", "a")
            answers = pipeline(
                client, [INCREASE, ("text", packed(b"XLEN", b"text")), INCREASE, add("s", bytes(70000))]
            )
            assert (answers[0], answers[2]) == (1, 2)
            assert isinstance(answers[1], ResponseError)
            assert client.xrange("s") == [(answers[3], {b"a": bytes(70000)})]
            assert pipeline(client, []) == []

    def test_a_connection_that_is_lost_is_not_used_again(self, redis_server, monkeypatch):
        monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
        shard = Shard(redis_server.url)
        shard.run(lambda client: client.ping())
        redis_server.suspend()
        with pytest.raises(AwayError):
            shard.run(lambda client: pipeline(client, [INCREASE, INCREASE]))
        redis_server.resume()
        echo = ("", packed(b"ECHO", b""))
        assert run_when_due(shard, lambda client: pipeline(client, [echo])) == [b""]


class TestReading:
    def test_of_several(self, redis_server):
        shard = Shard(redis_server.url)
        commands = [add(key, b"%d" % n) for key in ("a", "b") for n in range(3)]
        shard.run(lambda client: pipeline(client, commands))
        assert read(shard, "a", "b", "c") == {"a": [b"0", b"1", b"2"], "b": [b"0", b"1", b"2"]}
        assert read(shard, "a", count=2) == {"a": [b"0", b"1"]}
        assert read(shard, "c") == {}

    def test_one_that_cannot_be_read_is_no_other_ones_matter(self, redis_server):
        shard = Shard(redis_server.url)
        shard.run(lambda client: client.set("text", "a"))
        shard.run(lambda client: pipeline(client, [add("a", b"0")]))
        got = read(shard, "text", "a")
        assert "WRONGTYPE" in str(got.pop("text"))
        assert got == {"a": [b"0"]}


class TestInACluster:
    KEYS = tuple(f"ms:{{{n}}}" for n in range(30))

    @pytest.fixture
    def shard(self, redis_cluster, monkeypatch):
        monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.3)
        return Shard(redis_cluster.url)

    def fill(self, shard, value=b"1"):
        return shard.run(lambda client: pipeline(client, [add(key, value) for key in self.KEYS]))

    def test_each_answer_in_its_place(self, redis_cluster, shard):
        ids = self.fill(shard)
        assert len({redis_cluster.node_of(key).port for key in self.KEYS}) == 3
        with redis_cluster.client() as client:
            assert [client.xrange(key)[0][0] for key in self.KEYS] == ids

    def test_streams_are_read(self, shard):
        self.fill(shard)
        self.fill(shard, b"2")
        assert read(shard, *self.KEYS) == {key: [b"1", b"2"] for key in self.KEYS}
        assert read(shard, *self.KEYS, count=1) == {key: [b"1"] for key in self.KEYS}

    def test_a_slot_that_moves(self, redis_cluster, shard):
        key = self.KEYS[0]
        self.fill(shard)
        with redis_cluster.moving(key):
            self.fill(shard, b"2")
            assert read(shard, key) == {key: [b"1", b"2"]}
        self.fill(shard, b"3")
        assert read(shard, *self.KEYS) == {key: [b"1", b"2", b"3"] for key in self.KEYS}

    def test_a_node_that_is_gone_does_not_hold_up_the_others(self, redis_cluster, shard):
        self.fill(shard)
        gone = redis_cluster.node_of(self.KEYS[0])
        there = [key for key in self.KEYS if redis_cluster.node_of(key) is not gone]
        gone.kill()
        answers = dict(zip(self.KEYS, self.fill(shard, b"2"), strict=True))
        assert all(isinstance(answers[key], bytes) is (key in there) for key in self.KEYS)
        assert all(isinstance(answers[key], ClusterDownError) for key in self.KEYS if key not in there)
        got = read(shard, *self.KEYS)
        assert sorted(key for key in got if isinstance(got[key], list)) == sorted(there)
        assert all(isinstance(got[key], ClusterDownError) for key in self.KEYS if key not in there)
        gone.start()
        run_when_due(shard, lambda client: client.xlen(self.KEYS[0]))
        assert read(shard, *self.KEYS)[self.KEYS[0]] == [b"1"]

    def test_something_that_cannot_be_read(self, shard):
        shard.run(lambda client: client.set(self.KEYS[0], "text"))
        shard.run(lambda client: pipeline(client, [add(key, b"1") for key in self.KEYS[1:]]))
        got = read(shard, *self.KEYS)
        assert "WRONGTYPE" in str(got.pop(self.KEYS[0]))
        assert got == {key: [b"1"] for key in self.KEYS[1:]}
