"""RFC 6455, sections 5 to 8, on bytes."""

import itertools
import os
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.frames import INVALID, LARGEST, header, masked
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from mediastreams.server.frames import Close, FrameReader, Violation, close_frame, frame


def read(data, *, cuts=(), largest=LARGEST):
    """Feed `data`, cut at these places, to a new reader; return its events and the Pings."""
    reader, events = FrameReader(largest), []
    places = [0, *sorted(cuts), len(data)]
    for begin, end in itertools.pairwise(places):
        events += reader.feed(data[begin:end])
    return events, reader.pings


TEXT = "\u00e9\u4e2d\U0001f600 and so on, " * 8  # more than 125 bytes, of 1, 2, 3 and 4 each
DATA = os.urandom(300)

VALID = {
    "text": (masked(1, b"hello"), ["hello"], []),
    "text of 16-bit length": (masked(1, TEXT.encode()), [TEXT], []),
    "text of 64-bit length": (masked(1, b"x" * 70_000), ["x" * 70_000], []),
    "binary": (masked(2, DATA), [DATA], []),
    "empty": (masked(1, b"") + masked(2, b""), ["", b""], []),
    "fragments": (
        masked(1, b"a", False) + masked(0, b"b", False) + masked(0, b"", False) + masked(0, b"c"),
        ["abc"],
        [],
    ),
    "fragments cut in a character": (
        masked(1, TEXT.encode()[:1], False) + masked(0, TEXT.encode()[1:]),
        [TEXT],
        [],
    ),
    "pings between fragments": (
        masked(2, b"a", False) + masked(9, b"1") + masked(0, b"b", False) + masked(9, b"") + masked(0, b"c"),
        [b"abc"],
        [b"1", b""],
    ),
    "pong": (masked(10, b"nobody asked") + masked(1, b"a"), ["a"], []),
    "close": (
        masked(1, b"a") + masked(8, b"\x03\xe8bye") + masked(1, b"late"),
        ["a", Close(1000, "bye")],
        [],
    ),
    "close without a code": (masked(8, b""), [Close(1005, "")], []),
    "close inside a message": (masked(1, b"a", False) + masked(8, b"\x03\xe9"), [Close(1001, "")], []),
    "several": (masked(1, TEXT.encode()) * 3, [TEXT] * 3, []),
}


class TestFeed:
    @pytest.mark.parametrize("name", VALID)
    def test_valid(self, name):
        data, events, pings = VALID[name]
        assert read(data, largest=100_000) == (events, pings)

    @pytest.mark.parametrize("name", INVALID)
    def test_invalid(self, name):
        data, code, reason = INVALID[name]
        events, _ = read(masked(1, b"before") + data + masked(1, b"after"))
        whole = ["ab"] if name == "continuation after the end" else []
        assert events == ["before", *whole, Violation(code, reason)]

    @given(st.sampled_from(sorted(VALID)), st.data())
    def test_any_split_gives_the_same(self, name, data):
        whole, events, pings = VALID[name]
        cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=20))
        assert read(whole, cuts=cuts, largest=100_000) == (events, pings)

    @pytest.mark.parametrize("name", VALID)
    def test_cut_once_at_any_place(self, name):
        data, events, pings = VALID[name]
        data = masked(2, b"") + data
        for cut in range(min(len(data), 500)):
            assert read(data, cuts=[cut], largest=100_000) == ([b"", *events], pings)

    @given(
        st.sampled_from([1, 2]),
        st.lists(
            st.sampled_from([0, 1, 124, 125, 126, 127, 500, LARGEST - 1, LARGEST, LARGEST + 1]), min_size=1
        ),
        st.booleans(),
        st.lists(st.integers(0, 2000), max_size=3),
    )
    def test_the_largest_message_is_read_in_any_fragments(self, opcode, sizes, twice, cuts):
        """A message may have LARGEST bytes, each as the first one."""
        parts = [b"x" * size for size in sizes]
        last = len(parts) - 1
        data = b"".join(masked(0 if i else opcode, part, i == last) for i, part in enumerate(parts))
        data += data if twice else b""
        whole = b"".join(parts)
        message = whole.decode() if opcode == 1 else whole
        expected = [message, message] if twice else [message]
        if len(whole) > LARGEST:
            expected = [Violation(1009, f"a message of more than {LARGEST} bytes")]
        assert read(data, cuts=[cut for cut in cuts if cut <= len(data)]) == (expected, [])

    @pytest.mark.parametrize("opcode", [1, 2])
    @pytest.mark.parametrize("length", [125, 126, 65535, 65536])
    def test_each_form_of_the_length_has_its_least_and_its_most(self, opcode, length):
        events, _ = read(masked(opcode, b"x" * length), largest=65536)
        assert [len(event) for event in events] == [length]

    def test_a_control_frame_of_125_bytes(self):
        assert read(masked(9, bytes(125))) == ([], [bytes(125)])
        assert read(masked(8, b"\x03\xe8" + b"x" * 123)) == ([Close(1000, "x" * 123)], [])

    @pytest.mark.parametrize("name", [name for name in VALID if "64-bit" not in name])
    def test_byte_by_byte(self, name):
        data, events, pings = VALID[name]
        assert read(data, cuts=range(len(data)), largest=100_000) == (events, pings)

    @pytest.mark.parametrize("name", INVALID)
    def test_invalid_byte_by_byte(self, name):
        data, code, reason = INVALID[name]
        events, _ = read(data, cuts=range(len(data)))
        assert [event for event in events if isinstance(event, Violation)] == [Violation(code, reason)]

    def test_what_is_wrong_is_known_at_once(self):
        """Fail fast: not when the message is complete (section 7.1.7, 8.1)."""
        for data, code in [
            (b"\xc1", 1002),
            (b"\x81\x05", 1002),
            (b"\x89\xfe", 1002),
            (masked(1, b"a" * 10 + b"\xff" + b"a" * 500)[: 8 + 11], 1007),
            (b"\x82\xfe\xff\xff", 1009),
        ]:
            events, _ = read(data)
            assert [event.code for event in events] == [code]

    def test_a_frame_that_never_comes_takes_no_memory(self):
        reader = FrameReader(2**30)
        reader.feed(header(0x82, 0xFF, struct.pack("!Q", 2**30)))
        assert sum(len(part) for part in reader._parts) == 0
        assert len(reader._header) == 0

    @given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
    def test_anything_is_read_without_an_exception(self, data, cuts):
        events, pings = read(data, cuts=[cut for cut in cuts if cut <= len(data)])
        assert all(isinstance(event, str | bytes | Close | Violation) for event in events)
        assert all(isinstance(event, str | bytes) for event in events[:-1])
        assert all(len(ping) <= 125 for ping in pings)

    @pytest.mark.parametrize("seed", range(200))
    def test_as_the_websockets_package_does(self, seed):
        """Valid frames with a byte or two changed, through both."""
        chance = random.Random(seed)
        names = chance.choices([name for name in VALID if "64-bit" not in name], k=chance.randint(1, 4))
        data = bytearray(b"".join(VALID[name][0] for name in names))
        for _ in range(chance.randint(0, 2)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        events, _ = read(bytes(data))
        messages = [event for event in events if isinstance(event, str | bytes)]
        theirs, ended = theirs_of(bytes(data))
        assert messages == theirs
        if ended is not None and not ours_is_stricter(events[-1]):
            assert (type(events[-1]).__name__, events[-1].code) == ended


def theirs_of(data):
    """Return the messages that websockets reads of `data`, and how it ends."""
    protocol = Protocol(Side.SERVER, max_size=LARGEST)
    protocol.receive_data(data)
    messages, parts = [], []
    for event in protocol.events_received():
        if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            parts.append(event)
            if event.fin:
                joined = b"".join(part.data for part in parts)
                try:
                    messages.append(joined.decode() if parts[0].opcode is Opcode.TEXT else joined)
                except UnicodeDecodeError:
                    return messages, ("Violation", 1007)
                parts = []
    if str(protocol.parser_exc) == "incomplete fragmented message":
        # Theirs alone: section 5.4 lets any control frame stand inside a message, Close too.
        return messages, ("Close", protocol.close_rcvd.code)
    if protocol.parser_exc is not None and not isinstance(protocol.parser_exc, EOFError | ConnectionClosed):
        return messages, ("Violation", protocol.close_sent.code)
    if protocol.close_rcvd is not None:
        return messages, ("Close", protocol.close_rcvd.code)
    return messages, None


def ours_is_stricter(event):
    """Return whether websockets lets pass, for now, what ended ours: it looks at a text's end only."""
    return isinstance(event, Violation) and ("section 5.2" in event.reason or event.code == 1007)


class TestFrame:
    @pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
    def test_it_is_as_short_as_it_can_be(self, length):
        payload = bytes(length)
        assert frame(Opcode.BINARY, payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)

    def test_close(self):
        assert close_frame(1008, "no") == b"\x88\x04\x03\xf0no"
        assert close_frame(1005, "") == b"\x88\x00"

    @given(st.text())
    def test_a_reason_is_cut_between_characters(self, text):
        reason = (text or "\u4e2d") * 50
        data = close_frame(1000, "x" + reason)
        assert data[:4] == bytes((0x88, len(data) - 2)) + b"\x03\xe8"
        assert len(data) <= 2 + 125
        kept = data[4:].decode()
        rest = f"x{reason}".removeprefix(kept)
        assert f"x{reason}" == kept + rest
        assert not rest or len(data) + len(rest[0].encode()) > 2 + 125

    def test_a_long_reason_is_cut_between_characters(self):
        data = close_frame(1000, "\u4e2d" * 100)
        assert len(data) == 2 + 2 + 123
        assert data[4:].decode() == "\u4e2d" * 41

    @pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2000, 5000])
    def test_a_code_that_may_not_be_sent(self, code):
        with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
            close_frame(code, "")
