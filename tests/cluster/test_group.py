"""Leases and checkpoints, of workers that are objects of the test."""

import time

import pytest
from support.cluster import PublishedCall, pending

from mediastreams.cluster import entries, group
from mediastreams.cluster.connection import Shard
from mediastreams.cluster.entries import PausesItem, StateItem, TrackState
from mediastreams.cluster.group import MAX_ATTEMPTS, Group, Place


@pytest.fixture
def groups(redis_server, monkeypatch):
    """Two workers' parts in a group; a lease ends at once."""
    monkeypatch.setattr(group, "_IDLE", 0)
    first, second = (Group(Shard(redis_server.url), "recording", name) for name in ("first", "second"))
    assert first.take(1) == []  # the group is there
    return first, second


@pytest.fixture
def call(groups, redis_server):
    return PublishedCall(redis_server).announce()


def test_a_call_is_taken_once(groups, call):
    first, second = groups
    [lease] = first.take(10)
    assert lease.announced == call.announced
    assert (lease.token, lease.place, lease.is_takeover) == (1, Place(), False)
    assert first.take(10) == second.take(10) == []


def test_no_more_calls_are_taken_than_asked_for(groups, redis_server):
    for _ in range(5):
        PublishedCall(redis_server).announce()
    first, second = groups
    assert [len(first.take(2)), len(second.take(2)), len(first.take(2))] == [2, 2, 1]


def test_a_renewed_lease_stays(groups, call, monkeypatch):
    first, second = groups
    [lease] = first.take(1)
    monkeypatch.setattr(group, "_IDLE", 60_000)
    assert first.renew([lease]) == {lease.id}
    assert second.take_over(1) == []
    assert second.renew([lease]) == set()
    assert second.finish(lease) is False
    second.release(lease)
    assert second.take_over(1) == []


def test_a_lease_that_has_ended_is_anothers(groups, call, redis_server):
    first, second = groups
    [lease] = first.take(1)
    [taken] = second.take_over(1)
    assert (taken.id, taken.token, taken.is_takeover) == (lease.id, 2, True)
    assert first.renew([lease]) == set()
    assert first.finish(lease) is False
    first.release(lease)
    assert list(pending(redis_server, "recording").values()) == ["second"]
    assert second.renew([taken]) == {taken.id}
    assert second.finish(taken) is True
    assert pending(redis_server, "recording") == {}


def test_a_released_lease_is_taken_over_at_once(groups, call, monkeypatch):
    first, second = groups
    [lease] = first.take(1)
    monkeypatch.setattr(group, "_IDLE", 5_000)
    assert second.take_over(1) == []
    first.release(lease)
    [taken] = second.take_over(1)
    assert taken.id == lease.id


def test_all_pending_calls_are_looked_at(groups, redis_server, monkeypatch):
    first, second = groups
    for _ in range(300):
        PublishedCall(redis_server).announce()
    leases = first.take(300)
    monkeypatch.setattr(group, "_IDLE", 60_000)
    first.renew(leases[:-1])
    with redis_server.client() as client:
        client.xclaim(entries.CALLS, "recording", "first", 0, [leases[-1].id], idle=100_000, justid=True)
    deadline = time.monotonic() + 10
    while not (taken := second.take_over(1)):
        assert time.monotonic() < deadline
    assert taken[0].id == leases[-1].id


def test_where_to_go_on_is_kept(groups, call):
    first, second = groups
    [lease] = first.take(1)
    known = StateItem(9, 1, 0, 0, {"inbound": TrackState(0, 160, 1, 160, 0)}), PausesItem([(0, None)])
    place = Place(b"5-1", 7, True, {"name": "x", "ends": [1, 2], "raw": b"\0"}, known)
    assert first.checkpoint(lease, place) is True
    [taken] = second.take_over(1)
    assert taken.place == place


def test_a_place_without_state_is_kept(groups, call):
    first, second = groups
    [lease] = first.take(1)
    first.checkpoint(lease, Place(b"5-1", 7))
    [taken] = second.take_over(1)
    assert taken.place == Place(b"5-1", 7)


def test_who_has_lost_the_call_sets_nothing_back(groups, call):
    first, second = groups
    [lease] = first.take(1)
    [taken] = second.take_over(1)
    assert second.checkpoint(taken, Place(b"9-1", 9)) is True
    assert first.checkpoint(lease, Place(b"5-1", 7)) is False
    [again] = first.take_over(1)
    assert (again.token, again.place) == (3, Place(b"9-1", 9))


def test_a_call_that_never_gets_on_is_given_up(groups, call, redis_server, caplog):
    first, second = groups
    first.take(1)
    for _ in range(MAX_ATTEMPTS - 1):
        assert len(second.take_over(1)) == 1
    assert second.take_over(1) == []
    assert f"Stream {call.sid}: recording has ended 5 workers, and is given up" in caplog.text
    assert pending(redis_server, "recording") == {}


def test_a_call_that_gets_on_is_not_given_up(groups, call):
    first, second = groups
    [lease] = first.take(1)
    for n in range(2 * MAX_ATTEMPTS):
        [lease] = second.take_over(1)
        assert second.checkpoint(lease, Place(b"5-1", n))


def test_a_call_whose_entry_was_deleted(groups, call, redis_server):
    first, second = groups
    [lease] = first.take(1)
    with redis_server.client() as client:
        client.xdel(entries.CALLS, lease.id)
    assert second.take_over(1) == []
    assert pending(redis_server, "recording") == {}


def test_takeovers_are_counted(groups, call, redis_server):
    first, second = groups
    first.take(1)
    second.take_over(1)
    first.take_over(1)
    with redis_server.client() as client:
        assert client.hgetall(entries.TAKEOVERS) == {b"recording": b"2"}


def test_redis_that_has_lost_its_data(groups, redis_server):
    first, _ = groups
    with redis_server.client() as client:
        client.flushall()
    assert first.take(1) == []
    call = PublishedCall(redis_server).announce()
    [lease] = first.take(1)
    assert lease.announced == call.announced


def test_what_a_group_knows_of_a_call_ends_with_it(groups, call, redis_server):
    first, _ = groups
    [lease] = first.take(1)
    key = entries.group_key(call.announced, "recording")
    with redis_server.client() as client:
        assert 7000 < client.ttl(key) <= 7200
        client.persist(key)
        first.checkpoint(lease, Place(b"5-1", 7))
        assert 7000 < client.ttl(key) <= 7200
        first.finish(lease)
        assert client.hgetall(key) == {b"entry": lease.id}


def test_a_call_that_was_announced_twice_is_taken_once(groups, call, redis_server):
    first, second = groups
    [lease] = first.take(10)
    call.announce()
    assert second.take(10) == []
    assert first.finish(lease) is True
    call.announce()
    assert second.take(10) == []
    assert pending(redis_server, "recording") == {}


def test_two_calls_with_one_sid(groups, call, redis_server):
    first, second = groups
    [lease] = first.take(10)
    PublishedCall(redis_server, stream_sid=call.sid).announce()
    [other] = second.take(10)
    assert (lease.token, other.token) == (1, 1)
    assert first.checkpoint(lease, Place(b"5-1", 7)) is True


def test_calls_of_before_the_group(redis_server):
    live, begun, ended, lost = (PublishedCall(redis_server) for _ in range(4))
    lost.announce(at=time.time() - 31)
    for call in live, begun, ended:
        call.announced.started_at += 600  # by a clock that is wrong
        call.announce()
    live.media()
    ended.media()
    ended.end()
    late = Group(Shard(redis_server.url), "late", "worker")
    assert [lease.announced.call for lease in late.take(10)] == [live.id, begun.id]
    assert len(pending(redis_server, "late")) == 2


def test_calls_of_which_nothing_is_left(redis_server):
    """Their server has ended, and nobody has deleted what it had announced."""
    with redis_server.client() as client:
        client.hset(entries.GROUPS, "recording", time.time() - 20_000)
    _, kept = (PublishedCall(redis_server).announce(at=time.time() - ago) for ago in (10_000, 9_000))
    recent = PublishedCall(redis_server).announce(at=time.time() - 3000)
    kept.media()
    leases = Group(Shard(redis_server.url), "recording", "worker").take(10)
    assert [lease.announced.call for lease in leases] == [kept.id, recent.id]
    assert set(pending(redis_server, "recording")) == {lease.id for lease in leases}


def test_a_call_that_is_taken_over_is_ended_also_if_nothing_is_left(redis_server, monkeypatch):
    monkeypatch.setattr(group, "KEPT_SECONDS", -1)
    monkeypatch.setattr(group, "_IDLE", 0)
    call = PublishedCall(redis_server)
    first, second = (Group(Shard(redis_server.url), "recording", name) for name in ("first", "second"))
    assert first.take(10) == []
    call.announce()
    call.media()
    [lease] = first.take(10)
    with redis_server.client() as client:
        client.delete(entries.audio_key(call.sid))
    [taken] = second.take_over(10)
    assert taken.id == lease.id


def test_entries_go_when_all_groups_have_finished(groups, call, redis_server):
    first, _ = groups
    other = Group(Shard(redis_server.url), "other", "worker-3")
    call.media()
    [lease], [others] = first.take(1), other.take(1)
    with redis_server.client() as client:
        key = entries.audio_key(call.sid)
        client.expire(key, 3600)
        first.finish(lease)
        assert client.ttl(key) > 3500
        other.finish(others)
        assert 50 < client.ttl(key) <= 60
