"""The connection to a Redis that is there, away, full, or none."""

import logging
import threading
import time

import pytest
from redis.exceptions import BusyLoadingError, ResponseError
from support.redis import free_port
from support.strangers import answering
from support.streams import warnings

from mediastreams.cluster import connection
from mediastreams.cluster.connection import AwayError, Shard, Shards

SID = "MZ" + "0123456789abcdef" * 2


def ping(client):
    return client.ping()


def run_when_due(shard, command=ping):
    """Run a command as soon as it is time to try again."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return shard.run(command)
        except AwayError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


class TestShards:
    def test_each_call_has_one_of_them(self):
        shards = Shards("redis://a,redis://b:1/2,rediss://u:p@c:3/4")
        assert [shard.name for shard in shards.all] == ["a:6379", "b:1", "c:3"]
        assert shards.of(SID) is shards.of(SID) is shards.all[0]  # crc32 is 0xF917D1DD
        assert {shards.of(f"MZ{n:032x}") for n in range(100)} == set(shards.all)

    def test_one(self):
        shards = Shards("redis://a")
        assert shards.of(SID) is shards.all[0]


class TestShard:
    def test_a_command(self, redis_server, caplog):
        shard = Shard(redis_server.url)
        assert shard.run(ping) is True
        assert not shard.is_away
        assert warnings(caplog) == []

    def test_one_that_cannot_be_carried_out(self, redis_server, caplog):
        shard = Shard(redis_server.url)
        shard.run(lambda client: client.set("a", "text"))
        with pytest.raises(ResponseError, match="wrong kind of value"):
            shard.run(lambda client: client.xlen("a"))
        assert not shard.is_away
        assert shard.run(ping) is True
        assert warnings(caplog) == []

    def test_nobody_there(self, caplog):
        shard = Shard(f"redis://:secret@127.0.0.1:{free_port()}/0")
        for _ in range(3):
            with pytest.raises(AwayError):
                shard.run(ping)
        assert shard.is_away
        (line,) = warnings(caplog)
        assert line.startswith(f"Redis {shard.name} is away: Error 111 connecting to")
        assert "secret" not in caplog.text

    def test_it_is_not_asked_again_and_again(self, monkeypatch):
        shard = Shard(f"redis://127.0.0.1:{free_port()}/0")
        asked = []

        def ask(client):
            asked.append(time.monotonic())
            client.ping()

        monkeypatch.setattr(connection, "_is_cluster", ask)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            with pytest.raises(AwayError):
                shard.run(ping)
            time.sleep(0.01)
        # After 0.1, 0.2, 0.4 and 0.8 seconds.
        assert 3 <= len(asked) <= 5

    def test_it_goes_and_comes_back(self, redis_server, caplog):
        shard = Shard(redis_server.url)
        shard.run(ping)
        redis_server.kill()
        with pytest.raises(AwayError):
            shard.run(ping)
        redis_server.start()
        assert run_when_due(shard) is True
        assert not shard.is_away
        away, back = warnings(caplog)
        assert away.startswith(f"Redis {shard.name} is away: ")
        assert back.startswith(f"Redis {shard.name} is back after ")

    def test_it_does_not_answer(self, redis_server, monkeypatch, caplog):
        monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
        shard = Shard(redis_server.url)
        shard.run(ping)
        redis_server.suspend()
        began = time.monotonic()
        with pytest.raises(AwayError):
            shard.run(ping)
        assert time.monotonic() - began < 2
        redis_server.resume()
        assert run_when_due(shard) is True
        assert "is away: Timeout reading from" in warnings(caplog)[0]

    @pytest.mark.parametrize(
        ("user", "why"),
        [
            (":wrong", "the user or the password in REDIS_URL is wrong (invalid username-password pair"),
            ("somebody:wrong", "the user or the password in REDIS_URL is wrong (invalid username-password"),
            ("", "the user or the password in REDIS_URL is wrong (Authentication required.)"),
        ],
    )
    def test_a_wrong_password(self, start_redis, caplog, user, why):
        server = start_redis("--requirepass", "right")
        shard = Shard(f"redis://{user}@127.0.0.1:{server.port}/0")
        with pytest.raises(AwayError):
            shard.run(ping)
        (line,) = warnings(caplog)
        assert line.startswith(f"Redis {shard.name} is away: {why}")
        assert "wrong@" not in caplog.text

    def test_a_database_that_is_not_there(self, redis_server, caplog):
        shard = Shard(redis_server.url[:-1] + "99")
        with pytest.raises(AwayError):
            shard.run(ping)
        assert warnings(caplog) == [f"Redis {shard.name} is away: DB index is out of range"]

    def test_what_the_user_may_not_do(self, redis_server, caplog):
        with redis_server.client() as client:
            client.execute_command("ACL", "SETUSER", "bob", "on", ">pass", "~*", "+ping")
        shard = Shard(f"redis://bob:pass@127.0.0.1:{redis_server.port}/0")
        assert shard.run(ping) is True
        with pytest.raises(AwayError):
            shard.run(lambda client: client.xadd("a", {"b": "c"}))
        (line,) = warnings(caplog)
        assert "xadd" in line

    def test_no_room(self, redis_server, caplog):
        shard = Shard(redis_server.url)
        shard.run(lambda client: client.config_set("maxmemory", 1))
        with pytest.raises(AwayError):
            shard.run(lambda client: client.set("a", "b"))
        (line,) = warnings(caplog)
        assert "is away: command not allowed when used memory > 'maxmemory'" in line

    def test_what_is_no_redis(self, caplog):
        with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            shard = Shard(f"redis://127.0.0.1:{port}/0")
            with pytest.raises(AwayError):
                shard.run(ping)
        (line,) = warnings(caplog)
        assert line.startswith(f"Redis {shard.name} is away: ")

    def test_a_host_that_no_host_can_be(self, caplog):
        shard = Shard(f"redis://{'a' * 64}.example/0")
        with pytest.raises(AwayError):
            shard.run(ping)
        assert len(warnings(caplog)) == 1

    def test_each_thread_has_a_client(self, redis_server):
        shard = Shard(redis_server.url)
        clients = []
        threads = [threading.Thread(target=lambda: shard.run(clients.append)) for _ in range(2)]
        for thread in threads:
            thread.start()
            thread.join()
        shard.run(clients.append)
        shard.run(clients.append)
        assert len({id(client) for client in clients}) == 3

    def test_what_was_answered_before_it_went_away_does_not_bring_it_back(self, redis_server, caplog):
        """One thread has its answer, and another one finds the connection closed."""
        shard = Shard(redis_server.url)

        def fail(client):
            raise ConnectionError("closed")

        def answered(client):
            client.ping()
            with pytest.raises(AwayError):
                shard.run(fail)

        shard.run(answered)
        assert shard.is_away
        assert len(warnings(caplog)) == 1
        run_when_due(shard)
        assert not shard.is_away
        assert len(warnings(caplog)) == 2

    def test_while_it_loads_it_stays_away(self, redis_server, monkeypatch, caplog):
        """It answers some commands then, such as PUBLISH."""
        shard = Shard(redis_server.url)

        def load(client):
            raise BusyLoadingError("Redis is loading the dataset in memory")

        with pytest.raises(AwayError):
            shard.run(load)
        run_when_due(shard)
        assert shard.is_away
        assert len(warnings(caplog)) == 1
        monkeypatch.setattr(connection, "_BACK_SECONDS", 0.0)
        run_when_due(shard)
        assert not shard.is_away

    def test_its_errors_are_its_own(self, redis_server):
        def fail(client):
            raise KeyError("a")

        shard = Shard(redis_server.url)
        with pytest.raises(KeyError):
            shard.run(fail)
        assert not shard.is_away


def test_log_levels(redis_server, caplog):
    caplog.set_level(logging.DEBUG)
    shard = Shard(redis_server.url)
    redis_server.kill()
    with pytest.raises(AwayError):
        shard.run(ping)
    assert [record.levelname for record in caplog.records if record.name.startswith("mediastreams")] == [
        "WARNING"
    ]
