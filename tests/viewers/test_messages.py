"""The messages of `/page/live`, as JSON and as bytes."""

import json

import msgspec
import pytest

from mediastreams.viewers.messages import (
    MAX_SHOWN,
    Audio,
    Changed,
    Draining,
    Listen,
    Row,
    Select,
    Show,
    Wave,
    Words,
    audio_frame,
    decode,
    encode,
)


class TestToThePage:
    def test_event_says_which_it_is(self):
        assert json.loads(encode(Draining())) == {"event": "draining"}
        assert json.loads(encode(Wave("7", "outbound", 3, [0, 98]))) == {
            "event": "wave",
            "id": "7",
            "track": "outbound",
            "start": 3,
            "peaks": [0, 98],
        }

    def test_a_row_has_the_words_of_the_contract(self):
        row = Row("7", "MZ1", "CA1", {"a": "b"}, ["inbound"], 1.5, "audio/x-mulaw 8000 Hz", True, False)
        row.words = Words("caller", "hello")
        assert json.loads(encode(Changed([row, {"id": "8", "lost": 1}]))) == {
            "event": "changed",
            "calls": [
                {
                    "id": "7",
                    "streamSid": "MZ1",
                    "callSid": "CA1",
                    "parameters": {"a": "b"},
                    "tracks": ["inbound"],
                    "startedAt": 1.5,
                    "format": "audio/x-mulaw 8000 Hz",
                    "decodable": True,
                    "twoWay": False,
                    "seconds": 0.0,
                    "lost": 0,
                    "late": 0,
                    "bad": 0,
                    "missing": 0.0,
                    "words": {"speaker": "caller", "text": "hello"},
                    "ending": "",
                    "endedAt": None,
                    "rate": 0,
                },
                {"id": "8", "lost": 1},
            ],
        }

    @pytest.mark.parametrize(
        ("track", "position", "number", "header"),
        [
            ("inbound", 0, 1, "0000010000000000"),
            ("outbound", 160, 0x0203, "01000302a0000000"),
            ("inbound", 2**32 + 5, 65535, "0000ffff05000000"),
        ],
    )
    def test_audio(self, track, position, number, header):
        assert (
            audio_frame(Audio("7", track, position, b"\xff\x00"), number)
            == bytes.fromhex(header) + b"\xff\x00"
        )


class TestFromThePage:
    @pytest.mark.parametrize(
        ("text", "request_"),
        [
            ('{"event":"show","ids":["1","2"]}', Show(["1", "2"])),
            ('{"event":"show","ids":[]}', Show([])),
            ('{"event":"select","id":"1"}', Select("1")),
            ('{"event":"select","id":null}', Select(None)),
            ('{"event":"listen","id":"1"}', Listen("1")),
            ('{"event":"listen","id":null}', Listen(None)),
        ],
    )
    def test_what_it_may_ask(self, text, request_):
        assert decode(text) == request_

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "[]",
            "{}",
            '{"event":"hello"}',
            '{"event":"select"}',
            '{"event":"select","id":1}',
            '{"event":"select","id":"1","more":1}',
            '{"event":"listen","id":[]}',
            '{"event":"show","ids":null}',
            '{"event":"show","ids":[1]}',
            # What the question to other servers could not have: they would drop it as a whole.
            *(json.dumps({"event": event, "id": "1" * 201}) for event in ("select", "listen")),
            json.dumps({"event": "show", "ids": ["1" * 201]}),
            json.dumps({"event": "show", "ids": ["1"] * (MAX_SHOWN + 1)}),
        ],
    )
    def test_and_nothing_else(self, text):
        with pytest.raises(msgspec.DecodeError):
            decode(text)
