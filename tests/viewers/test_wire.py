"""What servers tell each other, as bytes."""

import msgspec
import pytest

from mediastreams.viewers.messages import (
    MAX_SHOWN,
    Audio,
    Changed,
    Detail,
    Dtmf,
    Levels,
    Line,
    Mark,
    Pressed,
    Removed,
    Row,
    Said,
    Snapshot,
    Transcript,
    Wave,
    Words,
)
from mediastreams.viewers.wire import (
    Ask,
    Counts,
    Interest,
    Rows,
    WireError,
    decode_ask,
    decode_messages,
    decode_told,
    encode_ask,
    encode_message,
    encode_told,
)

ROW = Row("a/1", "MZ1", "CA1", {"a": "b"}, ["inbound"], 1.5, "audio/x-mulaw 8000 Hz", True, False)
SAID = Said("inbound", "caller", "hello", True, 0.5, 1.0)


@pytest.mark.parametrize("snapshots", [None, ["b", "c"], []])
def test_a_question(snapshots):
    interest = Interest(frozenset({"b/1", "c/2"}), frozenset({"b/1"}), frozenset())
    ask = decode_ask(encode_ask("a", interest, snapshots, ["b/1"], False))
    wanted = None if snapshots is None else frozenset(snapshots)
    assert ask == Ask(1, "a", interest, wanted, frozenset({"b/1"}), False)


def test_a_question_of_all_pages_that_there_may_be():
    ids = frozenset(f"{n}".zfill(200) for n in range(1000 * MAX_SHOWN))
    assert decode_ask(encode_ask("a", Interest(shown=ids), [], [], False)).interest.shown == ids


@pytest.mark.parametrize(
    "message",
    [
        Snapshot([ROW], [msgspec.structs.replace(ROW, id="a/2", ending="stop", ended_at=2.5)]),
        Removed(["a/1"]),
        Levels({"a/1": {"inbound": -5.5, "outbound": None}}),
        Transcript("inbound", "caller", "hello", True, 0.5, 1.0, "a/1"),
        Line(1.5, "INFO", "text", "a/1"),
        Dtmf("1", 0.5, "a/1"),
        Mark("greeting", 0.5, "a/1"),
        Wave("a/1", "outbound", 3, [0, 98]),
        Audio("a/1", "inbound", 160, b"\xff\x00"),
        Detail("a/1", [SAID], [], [Pressed("1", 0.5)], []),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_as_it_is(message):
    told = decode_told(encode_told("a", 7, [encode_message(message), encode_message(Removed([]))]))
    assert (told.server, told.number) == ("a", 7)
    assert decode_messages(told) == [message, Removed([])]


def test_what_has_changed():
    words = Words("caller", "hello")
    changed = Changed([{"id": "a/2", "lost": 1, "words": words}, ROW, {"id": "a/3", "seconds": 2.5}])
    (message,) = decode_messages(decode_told(encode_told("a", 1, [encode_message(changed)])))
    assert message == Rows([ROW], [Counts("a/2", lost=1, words=words), Counts("a/3", seconds=2.5)])


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "a\n", "a" * 101])
def test_a_server_has_a_plain_name(name):
    with pytest.raises(WireError):
        decode_ask(encode_ask(name, Interest(), None, [], False))
    with pytest.raises(WireError):
        decode_told(encode_told(name, 1, []))


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", [], [2, "a", [[], [], []], None, [], False], [1, "a", [[1], [], []], None, [], 0]],
)
def test_what_is_no_question(value):
    with pytest.raises(WireError):
        decode_ask(msgspec.msgpack.encode(value))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"event": "hello"},
        {"event": "removed"},
        {"event": "removed", "ids": [1]},
        {"event": "removed", "ids": [b"a"]},
        {"event": "wave", "id": "a/1", "track": "both", "start": 0, "peaks": []},
        {"event": "rows", "rows": [{"id": "a/1"}], "counts": []},
        {"event": "rows", "rows": [], "counts": [{"id": "a/1", "lost": "many"}]},
    ],
    ids=str,
)
def test_what_is_no_message(value):
    told = decode_told(encode_told("a", 1, [msgspec.msgpack.encode(value)]))
    with pytest.raises(WireError):
        decode_messages(told)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x94\x02\xa1a\x01\x90", b"\x94\x01\xa1a\x01"])
def test_what_is_no_envelope(data):
    with pytest.raises(WireError):
        decode_told(data)
