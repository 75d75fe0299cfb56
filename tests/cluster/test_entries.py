"""What goes through Redis: it comes back as it was, and nothing else makes it through."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.streams import SID, start

from mediastreams.cluster import entries
from mediastreams.cluster.entries import (
    Announced,
    Begun,
    DetailsItem,
    Done,
    DtmfItem,
    EndItem,
    Entry,
    EntryError,
    Heard,
    MarkItem,
    MediaItem,
    PausesItem,
    StateItem,
    StopItem,
    TrackState,
    TranscriptItem,
    decode_announced,
    decode_entry,
    decode_words,
    encode,
    encode_entry,
    encode_item,
)

DECODERS = [decode_announced, decode_entry, decode_words]
# Each as a server has it, and as a program reads it.
ITEMS = [
    (("media", 2, "inbound", 1, 155, b"\x00\xff", 1240), MediaItem(2, "inbound", 1, 155, b"\x00\xff", 1240)),
    (
        ["media", 3, "outbound", 1, 20, b"abcd", ((160, b"a"), (163, b"d"))],
        MediaItem(3, "outbound", 1, 20, b"abcd", [(160, b"a"), (163, b"d")]),
    ),
    (("media", 4, "inbound", 2, 0, b"", ()), MediaItem(4, "inbound", 2, 0, b"", [])),
    (("media", 5, "inbound", 2, 0, b"x", None), MediaItem(5, "inbound", 2, 0, b"x", None)),
    (("dtmf", 6, "inbound_track", "#", True), DtmfItem(6, "inbound_track", "#", True)),
    (("mark", 7, "a mark"), MarkItem(7, "a mark")),
    (
        ("transcript", "inbound", "Hello", True, 0.5, 1, 0.25),
        TranscriptItem("inbound", "Hello", True, 0.5, 1.0, 0.25),
    ),
    (
        ("state", 10, 1, 2, 3, {"inbound": (0, 320, 2, 320, 0)}),
        StateItem(10, 1, 2, 3, {"inbound": TrackState(0, 320, 2, 320, 0)}),
    ),
    (
        ("details", {"start": 1}, {"inbound": [(160, 320)]}, [(3, 5, 160)]),
        DetailsItem({"start": 1}, {"inbound": [(160, 320)]}, [(3, 5, 160)]),
    ),
    (("pauses", ((160, 320), (480, None))), PausesItem([(160, 320), (480, None)])),
    (("stop",), StopItem()),
    (("end", "dropped", 1.5), EndItem("dropped", 1.5)),
]
ANNOUNCED = Announced("c", "machine-1-2", 1.5, 30.0, start())
WORDS = [Begun("c"), Heard("c", "outbound", "hi", False, 0.5, 1.0, 0.25), Done("c", 1.5)]


@pytest.mark.parametrize(("sent", "read"), ITEMS)
def test_an_item_that_is_a_tuple_of_its_fields(sent, read):
    assert decode_entry(encode_entry("c", 7, [encode_item(sent)])) == Entry("c", 7, [read])
    assert decode_entry(encode_entry("c", 7, [encode_item(read)])) == Entry("c", 7, [read])


def test_an_announcement():
    assert decode_announced(encode(ANNOUNCED)) == ANNOUNCED


@pytest.mark.parametrize("words", WORDS)
def test_words(words):
    assert decode_words(encode(words)) == words


def test_the_wire():
    """For those who read it in another language."""
    fields = encode_entry("c", 7, [encode_item(("media", 2, "inbound", 1, 155, b"\xff", 1240))])
    assert fields == {
        b"v": b"1",
        b"m": b"\x93\xa1c\x07\xdc\x00\x01\x97\xa5media\x02\xa7inbound\x01\xcc\x9b\xc4\x01\xff\xcd\x04\xd8",
    }
    assert msgspec.msgpack.decode(encode(ANNOUNCED)[b"m"]) == {
        "call": "c",
        "server": "machine-1-2",
        "startedAt": 1.5,
        "idleTimeout": 30.0,
        "start": {
            "event": "start",
            "sequenceNumber": 1,
            "streamSid": SID,
            "start": {
                "accountSid": "AC1",
                "streamSid": SID,
                "callSid": "CA1",
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {},
            },
        },
    }


def test_keys_of_a_call_are_in_one_slot_of_a_cluster():
    assert entries.audio_key(SID) == "ms:{" + SID + "}:audio"
    announced = Announced("0123", "server", 0.0, 30.0, start())
    assert entries.group_key(announced, "recording") == "ms:{" + SID + "}:0123:recording"
    assert entries.words_key("machine-1-2") == "ms:words:machine-1-2"


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("version", [b"2", b"", b"\xff" * 100])
def test_another_version(decode, version):
    with pytest.raises(EntryError, match=r"^version b'.{0,82}', this program reads b'1'$"):
        decode({b"v": version, b"m": b"\x90"})


@pytest.mark.parametrize("decode", DECODERS)
def test_fields_that_are_not_there(decode):
    with pytest.raises(EntryError):
        decode({})
    with pytest.raises(EntryError):
        decode({b"v": b"1"})


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=200))
def test_any_bytes(decode, data):
    try:
        decode({b"v": b"1", b"m": data})
    except EntryError as error:
        assert str(error)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.sampled_from(["media", "state", "inbound", "heard", "c"]),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("decode", DECODERS)
@given(value=PLAIN)
def test_any_value(decode, value):
    try:
        decode({b"v": b"1", b"m": msgspec.msgpack.encode(value)})
    except EntryError as error:
        assert str(error)


@given(st.data())
def test_a_good_entry_of_which_a_byte_is_another(data):
    fields = encode_entry("c", 7, [encode_item(sent) for sent, _ in ITEMS])
    content = bytearray(fields[b"m"])
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_entry({**fields, b"m": bytes(content)})
    except EntryError as error:
        assert str(error)


def test_nested_without_end():
    for decode in DECODERS:
        with pytest.raises(EntryError):
            decode({b"v": b"1", b"m": b"\x91" * 100_000})
