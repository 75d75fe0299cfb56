"""The calls of other servers, from what these tell."""

import msgspec
import pytest
from support.clock import Clock

from mediastreams.viewers import others as module
from mediastreams.viewers.messages import (
    Audio,
    Changed,
    Detail,
    Levels,
    Mark,
    Removed,
    Row,
    Snapshot,
    Words,
)
from mediastreams.viewers.others import MAX_GONE, Others
from mediastreams.viewers.wire import WireError, encode_message, encode_told

DETAIL = Detail("a/1", [], [], [], [])


def row(id, **fields):
    made = Row(id, "MZ1", "CA1", {}, ["inbound"], 1.5, "audio/x-mulaw 8000 Hz", True, False, rate=8000)
    return msgspec.structs.replace(made, **fields)


@pytest.fixture
def clock(monkeypatch):
    return Clock.of(module, monkeypatch)


@pytest.fixture
def told():
    return []


@pytest.fixture
def others(clock, told):
    others = Others("own", told.append)
    others.note_asked(None)
    return others


@pytest.fixture
def tell(others):
    """Return a function that hands over messages of a server, with the next number."""
    numbers = {}

    def tell(*messages, server="a", skip=0):
        numbers[server] = numbers.get(server, 0) + 1 + skip
        return others.take(encode_told(server, numbers[server], map(encode_message, messages)))

    return tell


def ids(others):
    return [each.id for each in others.rows()]


class TestRows:
    def test_of_a_snapshot_oldest_first(self, others, tell, told):
        ended = row("a/1", ending="stop", ended_at=2.5)
        assert others.count_known() == 0
        tell(Snapshot([row("a/3"), row("a/2")], [ended]))
        assert ids(others) == ["a/1", "a/2", "a/3"]
        assert told == [Changed([ended, row("a/2"), row("a/3")])]
        assert others.row("a/1") == ended
        assert [others.row(id) for id in ("a/4", "b/1", "1")] == [None, None, None]
        assert others.count_known() == 1

    def test_what_comes_and_goes(self, others, tell, told):
        tell(Snapshot([], []))
        assert told == []
        tell(Changed([row("a/1")]), Changed([{"id": "a/1", "lost": 2, "words": Words("caller", "hello")}]))
        assert told.pop() == Changed([{"id": "a/1", "lost": 2, "words": Words("caller", "hello")}])
        assert told.pop() == Changed([row("a/1", lost=2, words=Words("caller", "hello"))])
        tell(Removed(["a/1", "a/2"]))
        assert (told, ids(others)) == ([Removed(["a/1"])], [])

    def test_what_a_server_tells_of_others_calls_is_left_out(self, others, tell, told):
        tell(Snapshot([row("b/1"), row("1"), row("a/b/2")], []), server="a")
        tell(Changed([row("own/1"), {"id": "a/1", "lost": 1}]), Mark("greeting", 1.0, "a/1"), DETAIL)
        tell(Audio("b/1", "inbound", 0, b"\0"), Removed(["own/1"]), Levels({"own/1": {"inbound": -5.0}}))
        assert (told, ids(others), others.levels()) == ([], [], {})

    def test_its_own_are_not_read(self, others, told):
        others.take(encode_told("own", 1, [b"\xc0"]))
        with pytest.raises(WireError):
            others.take(encode_told("a", 1, [b"\xc0"]))
        assert told == []


def test_what_happens_in_a_call_that_is_known(tell, told):
    tell(Snapshot([row("a/1")], []))
    del told[:]
    events = [Mark("greeting", 1.0, "a/1"), DETAIL, Audio("a/1", "inbound", 0, b"\0")]
    tell(*events)
    assert told == events


def test_levels_hold_for_a_second(others, tell, clock):
    assert not tell(Snapshot([row("a/1")], []))
    assert tell(Snapshot([row("b/1")], []), Levels({"b/1": {"inbound": None}}), server="b")
    clock.now += 0.6
    assert tell(Levels({"a/1": {"inbound": -5.0}}))
    assert others.levels() == {"a/1": {"inbound": -5.0}, "b/1": {"inbound": None}}
    clock.now += 0.6
    assert others.levels() == {"a/1": {"inbound": -5.0}}


class TestWhatWasMissed:
    def test_a_number(self, others, tell, told, clock):
        tell(Snapshot([row("a/1"), row("a/2")], []))
        clock.now += 2
        assert others.unknown() == []
        tell(skip=1)
        assert others.unknown() == ["a"]
        others.note_asked(["a"])
        assert others.unknown() == []  # it may still answer
        clock.now += 1.1
        assert others.unknown() == ["a"]
        del told[:]
        tell(Snapshot([row("a/3"), row("a/1", lost=1, ending="stop", ended_at=2.0)], []))
        changes = {"id": "a/1", "lost": 1, "ending": "stop", "endedAt": 2.0}
        assert told == [Changed([changes, row("a/3")]), Removed(["a/2"])]
        assert others.unknown() == []

    def test_a_snapshot_that_changes_nothing_is_not_told(self, tell, told):
        for _ in range(2):
            tell(Snapshot([row("a/1")], []))
        assert len(told) == 1

    def test_the_first_snapshot(self, others, tell, clock):
        tell()
        assert others.unknown() == []  # all were asked
        clock.now += 1.1
        assert others.unknown() == ["a"]

    def test_all_are_asked_again(self, others, tell):
        tell(Snapshot([], []))
        others.note_asked(["b"])
        assert others.count_known() == 1
        others.note_asked(None)
        assert others.count_known() == 0


class TestGone:
    def test_its_live_calls_have_ended(self, others, tell, told, clock):
        ended = row("a/1", ending="stop", ended_at=2.5)
        tell(Snapshot([row("a/2")], [ended]), Levels({"a/2": {"inbound": -5.0}}))
        clock.now += 3
        tell(Snapshot([row("b/1")], []), server="b")
        clock.now += 3
        others.expire()
        assert len(told) == 2
        clock.now += 0.1
        others.expire()
        others.expire()
        lost = row("a/2", ending="server lost", ended_at=clock.time())
        assert told[2:] == [Changed([lost])]
        assert sorted(ids(others)) == ["a/1", "a/2", "b/1"]
        assert others.count_known() == 1
        assert others.unknown() == []

    def test_it_is_back(self, others, tell, told, clock):
        tell(Snapshot([row("a/1")], []))
        clock.now += 7
        others.expire()
        del told[:]
        tell()
        assert others.unknown() == ["a"]
        tell(Snapshot([row("a/1")], []))
        assert told == [Changed([{"id": "a/1", "ending": "", "endedAt": None}])]
        clock.now += 5
        others.expire()
        assert others.row("a/1").ended_at is None

    def test_so_many_are_remembered(self, others, tell, told, clock):
        for n in range(MAX_GONE + 2):
            clock.now += 0.1
            tell(Snapshot([row(f"s{n}/1")], []), server=f"s{n}")
        for _ in range(20):
            clock.now += 0.5
            others.expire()
        assert ids(others) == [f"s{n}/1" for n in range(2, MAX_GONE + 2)]
        assert [message for message in told if isinstance(message, Removed)] == [
            Removed(["s0/1"]),
            Removed(["s1/1"]),
        ]

    def test_of_one_its_last_100_calls(self, others, tell, told, clock):
        tell(Snapshot([row(f"a/{n}") for n in range(105, 0, -1)], []))
        clock.now += 7
        others.expire()
        assert ids(others) == [f"a/{n}" for n in range(6, 106)]
        assert told[-1] == Removed([f"a/{n}" for n in range(1, 6)])
