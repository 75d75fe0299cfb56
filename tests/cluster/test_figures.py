"""What Redis tells of itself and of groups."""

import pytest
from redis import Redis
from support.streams import start, warnings

from mediastreams.cluster.entries import CALLS, TAKEOVERS, Announced, encode
from mediastreams.cluster.figures import Group, groups, warn_of_policy


@pytest.fixture
def client(redis_server):
    with redis_server.client() as client:
        yield client


def announce(client, number):
    return [client.xadd(CALLS, encode(Announced("c", "s", 1.5, 30.0, start()))) for _ in range(number)]


class TestGroups:
    def test_none(self, client):
        assert groups(client) == {}
        announce(client, 1)
        assert groups(client) == {}

    def test_what_waits_and_what_they_have(self, client):
        announce(client, 5)
        client.xgroup_create(CALLS, "recording", "0")
        client.xgroup_create(CALLS, "new\ncalls", "$")
        client.xreadgroup("recording", "w", {CALLS: ">"}, count=2)
        client.hset(TAKEOVERS, "recording", 7)
        announce(client, 1)
        assert groups(client) == {"recording": Group(4, 2, 7), "new\\u000acalls": Group(1, 0, 0)}

    def test_where_redis_cannot_tell(self, client):
        ids = announce(client, 5)
        client.xgroup_create(CALLS, "recording", "0")
        client.xreadgroup("recording", "w", {CALLS: ">"}, count=2)
        client.xdel(CALLS, ids[3])
        assert client.xinfo_groups(CALLS)[0]["lag"] is None
        assert groups(client) == {"recording": Group(2, 2, 0)}

    def test_of_a_user_who_may_not_ask(self, redis_server, client):
        announce(client, 1)
        client.xgroup_create(CALLS, "recording", "0")
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pass", "~*", "+hgetall")
        with Redis(port=redis_server.port, username="bob", password="pass", protocol=2) as bob:
            assert groups(bob) == {}

    @pytest.mark.parametrize("takeovers", ["many", None])
    def test_takeovers_that_are_none(self, client, takeovers):
        announce(client, 1)
        client.xgroup_create(CALLS, "recording", "0")
        if takeovers:
            client.hset(TAKEOVERS, "recording", takeovers)
        else:
            client.set(TAKEOVERS, "text")
        assert groups(client) == {}


class TestPolicy:
    def test_the_default(self, client, caplog):
        warn_of_policy(client, "here:1")
        assert warnings(caplog) == []

    def test_another(self, client, caplog):
        client.config_set("maxmemory-policy", "allkeys-lru")
        warn_of_policy(client, "here:1")
        assert warnings(caplog) == [
            "Redis here:1 may delete calls when its memory is full: its maxmemory-policy is allkeys-lru, "
            "not noeviction"
        ]

    def test_a_user_who_may_not_ask(self, redis_server, client, caplog):
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pass", "~*", "+ping")
        with Redis(port=redis_server.port, username="bob", password="pass", protocol=2) as bob:
            warn_of_policy(bob, "here:1")
        assert warnings(caplog) == []
