import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediastreams.protocol import messages
from mediastreams.protocol.messages import (
    Dtmf,
    DtmfMetadata,
    Media,
    MediaMetadata,
    MessageError,
    SendClear,
    SendMark,
    SendMarkMetadata,
    SendMedia,
    SendMediaMetadata,
    Unknown,
    parse,
    parse_sent,
)

VECTORS = Path(__file__).parents[1] / "vectors"
VALID = sorted((VECTORS / "valid").glob("*.json"))
INVALID = sorted((VECTORS / "invalid").glob("*.json"))
TYPES = {t.__struct_config__.tag: t for t in messages.Message.__subclasses__() if t.__name__[:4] != "Send"}
MEDIA = Media(1, MediaMetadata(chunk=2, timestamp=3, payload=bytes(range(160))), "MZ1")


def stem(path):
    return path.stem


def expected(path):
    """Return the message that a `.expected` file describes: ints as numbers, else as on the wire."""
    fields = json.loads(path.with_suffix(".expected").read_text())
    return (
        Unknown(fields["unknown"]) if "unknown" in fields else msgspec.convert(fields, TYPES[fields["event"]])
    )


class TestParse:
    @pytest.mark.parametrize("path", VALID, ids=stem)
    @pytest.mark.parametrize("read", [Path.read_bytes, Path.read_text], ids=["bytes", "text"])
    def test_valid(self, path, read):
        assert parse(read(path)) == expected(path)

    @pytest.mark.parametrize("path", INVALID, ids=stem)
    def test_invalid(self, path):
        with pytest.raises(MessageError) as caught:
            parse(path.read_bytes())
        assert str(caught.value) == path.with_suffix(".error").read_text().rstrip("\n")
        assert caught.value.path.startswith("$")

    def test_there_are_many_kinds_of_invalid(self):
        assert len({path.with_suffix(".error").read_text() for path in INVALID}) >= 20

    def test_an_error_is_made_of_its_path_and_its_reason(self):
        with pytest.raises(MessageError) as caught:
            parse("{")
        assert (caught.value.path, caught.value.reason) == ("$", "Input data was truncated")
        assert caught.value.args == ("$", "Input data was truncated")  # of which a copy is made

    def test_numbers_are_ints_and_the_payload_bytes(self):
        message = parse((VECTORS / "valid/media.json").read_text())
        assert (message.sequence_number, message.media.chunk, message.media.timestamp) == (3, 1, 5)
        assert message.media.payload == b"\xff\x7e\x00\x80"

    @given(st.binary() | st.text() | st.text(st.characters(codec=None, categories=["Cs", "Ll"])))
    def test_anything_is_a_message_or_a_message_error(self, data):
        with pytest.raises(MessageError):
            parse(data)

    @given(st.data())
    def test_a_message_with_any_value_anywhere_is_one_or_a_message_error(self, data):
        json_value = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
        fields = json.loads(data.draw(st.sampled_from(VALID)).read_text())
        parent = fields
        key = data.draw(st.sampled_from(sorted(parent)))
        while isinstance(parent[key], dict) and parent[key] and data.draw(st.booleans()):
            parent = parent[key]
            key = data.draw(st.sampled_from(sorted(parent)))
        parent[key] = data.draw(json_value)
        try:
            message = parse(json.dumps(fields))
        except MessageError as error:
            assert str(error).isprintable()
        else:
            assert str(message).isprintable()


class TestPrint:
    @pytest.mark.parametrize("path", [p for p in VALID if "unknown" not in p.stem], ids=stem)
    def test_the_json_is_what_twilio_sends(self, path):
        message = expected(path)
        assert parse(message.to_json()) == message
        if path.stem in ("connected", "start", "media", "dtmf", "mark", "stop"):
            assert json.loads(message.to_json()) == json.loads(path.read_text())

    def test_the_payload_is_elided(self):
        for text in (str(MEDIA), repr(MEDIA), f"{MEDIA}"):
            assert json.loads(text)["media"]["payload"] == "AAECAwQF... (216 characters)"
        assert str(SendMedia("MZ1", SendMediaMetadata(bytes(160)))) == (
            '{"event":"media","streamSid":"MZ1","media":{"payload":"AAAAAAAA... (216 characters)"}}'
        )

    def test_a_key(self):
        key = DtmfMetadata(digit="7")
        assert (key.shown, key.as_secret().shown) == ("7", "(not shown)")
        assert json.loads(str(Dtmf("MZ1", 2, key)))["dtmf"]["digit"] == "7"

    def test_a_secret_key_is_not_shown(self):
        message = Dtmf("MZ1", 2, DtmfMetadata(digit="7").as_secret())
        for text in (str(message), repr(message), f"{message}", str(message.dtmf), repr(message.dtmf)):
            assert "(not shown)" in text
            assert "7" not in text
        assert isinstance(message.dtmf, DtmfMetadata)
        assert message.dtmf.digit == "7"
        assert parse(message.to_json()) == Dtmf("MZ1", 2, DtmfMetadata(digit="7"))
        assert DtmfMetadata(track="another", digit="7").as_secret().track == "another"

    def test_an_unknown_event_names_itself(self):
        assert str(parse('{"event":"closed"}')) == "closed"
        assert str(parse('{"event":"\\u001b[31m"}')) == "\\u001b[31m"
        assert str(Unknown("x" * 64)) == "x" * 64
        assert str(Unknown("x" * 65)) == "x" * 64 + "..."

    @given(st.text())
    def test_whatever_a_peer_sends_stays_on_its_line(self, text):
        assert str(msgspec.structs.replace(MEDIA, stream_sid=text)).isprintable()

    def test_long_texts_are_cut(self):
        assert len(str(msgspec.structs.replace(MEDIA, stream_sid="x" * 60_000))) < 5000


class TestSent:
    @pytest.mark.parametrize(
        ("message", "wire"),
        [
            (
                SendMedia("MZ1", SendMediaMetadata(b"\xff" * 3)),
                '{"event":"media","streamSid":"MZ1","media":{"payload":"////"}}',
            ),
            (
                SendMark("MZ1", SendMarkMetadata("a")),
                '{"event":"mark","streamSid":"MZ1","mark":{"name":"a"}}',
            ),
            (SendClear("MZ1"), '{"event":"clear","streamSid":"MZ1"}'),
        ],
        ids=["media", "mark", "clear"],
    )
    def test_the_json_has_exactly_twilios_fields(self, message, wire):
        assert message.to_json() == wire
        assert parse_sent(wire) == message

    @pytest.mark.parametrize(
        ("wire", "error"),
        [
            ('{"event":"clear","streamSid":"MZ1","more":1}', "$: Object contains unknown field `more`"),
            ('{"event":"mark","streamSid":"MZ1","mark":{}}', "$.mark.name: missing"),
            ('{"event":"play","streamSid":"MZ1"}', "$.event: Invalid value 'play'"),
            ("{", "$: Input data was truncated"),
        ],
    )
    def test_what_twilio_would_warn_of_is_an_error(self, wire, error):
        with pytest.raises(MessageError) as caught:
            parse_sent(wire)
        assert str(caught.value) == error
