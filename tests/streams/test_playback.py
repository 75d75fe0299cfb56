"""What is sent on a stream cannot be malformed, and its marks are matched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import Clock

from mediastreams.protocol.messages import MediaFormat, SendClear, SendMark, SendMedia, parse_sent
from mediastreams.streams import playback
from mediastreams.streams.playback import Playback, SendError

SID = "MZ" + "0123456789abcdef" * 2


@pytest.fixture
def sent():
    return []


@pytest.fixture
def clock(monkeypatch):
    return Clock.of(playback, monkeypatch)


@pytest.fixture
def stream_playback(sent, clock):
    return Playback(SID, sent.append)


class TestSend:
    """https://www.twilio.com/docs/voice/media-streams/websocket-messages, from "Send" on."""

    def test_the_fields_are_those_of_twilio(self, stream_playback, sent):
        stream_playback.media(b"\xff\x7f\x00")
        stream_playback.mark("my label")
        stream_playback.clear()
        assert list(map(json.loads, sent)) == [
            {"event": "media", "streamSid": SID, "media": {"payload": "/38A"}},
            {"event": "mark", "streamSid": SID, "mark": {"name": "my label"}},
            {"event": "clear", "streamSid": SID},
        ]

    def test_the_time_is_that_of_the_streams_rate(self, sent, clock):
        playback = Playback(SID, sent.append, MediaFormat(sample_rate=16000))
        playback.media(bytes(8000))
        assert playback.seconds == 0.5

    @pytest.mark.parametrize(
        "media_format", [MediaFormat("audio/l16", 16000), MediaFormat(channels=2), MediaFormat(sample_rate=0)]
    )
    def test_no_audio_in_a_format_that_is_not_decoded(self, sent, media_format):
        playback = Playback(SID, sent.append, media_format)
        with pytest.raises(SendError, match="media can be sent as mu-law only, and this stream is audio/"):
            playback.media(b"\xff")
        playback.mark("a")
        playback.clear()
        assert [json.loads(text)["event"] for text in sent] == ["mark", "clear"]

    @given(st.binary(), st.text())
    def test_whatever_is_taken_is_one_of_twilios_messages(self, payload, name):
        sent = []
        one = Playback(SID, sent.append)
        expected = []
        try:
            one.media(payload)
            expected += [SendMedia] if payload else []
        except SendError:
            assert payload.startswith(b"RIFF")
        try:
            one.mark(name)
            expected.append(SendMark)
        except SendError:
            assert not name
        one.clear()
        messages = list(map(parse_sent, sent))
        assert list(map(type, messages)) == [*expected, SendClear]
        assert {message.stream_sid for message in messages} == {SID}

    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            ("//8=", "media must be bytes of mu-law, not str"),
            (None, "media must be bytes of mu-law, not NoneType"),
            (160, "media must be bytes of mu-law, not int"),
            ([255, 255], "media must be bytes of mu-law, not list"),
            (
                b"RIFF\x24\x00\x00\x00WAVEfmt ",
                "media must be mu-law without a file's header, which Twilio plays as noise",
            ),
        ],
    )
    def test_media_that_is_no_mulaw(self, stream_playback, sent, payload, words):
        with pytest.raises(SendError) as caught:
            stream_playback.media(payload)
        assert str(caught.value) == words
        assert (sent, stream_playback.seconds) == ([], 0)

    @pytest.mark.parametrize("name", ["", None, 1, b"one", "\ud800"])
    def test_a_mark_that_has_no_name(self, stream_playback, sent, name):
        with pytest.raises(SendError, match="a mark's name must be a text"):
            stream_playback.mark(name)
        assert sent == []
        assert stream_playback.returned(name) is None

    @pytest.mark.parametrize("kind", [bytearray, memoryview])
    def test_bytes_of_any_kind(self, stream_playback, sent, kind):
        stream_playback.media(kind(b"\xff\x7f\x00"))
        assert json.loads(sent[0])["media"] == {"payload": "/38A"}

    @pytest.mark.parametrize("payload", [b"RIFF", b"RIFF\x24\x00\x00\x00AVI LIST", bytes(8) + b"WAVE"])
    def test_what_only_looks_like_a_file(self, stream_playback, sent, payload):
        stream_playback.media(payload)
        assert len(sent) == 1

    def test_no_audio_is_no_message(self, stream_playback, sent):
        stream_playback.media(b"")
        assert sent == []


class TestSeconds:
    def test_what_is_still_to_be_played(self, stream_playback, clock):
        stream_playback.media(bytes(8000))
        stream_playback.media(bytes(4000))
        assert stream_playback.seconds == 1.5
        clock.now += 1
        assert stream_playback.seconds == 0.5
        clock.now += 1
        assert stream_playback.seconds == 0
        stream_playback.media(bytes(8000))
        assert stream_playback.seconds == 1
        stream_playback.clear()
        assert stream_playback.seconds == 0

    def test_what_is_cleared_while_it_is_sent(self, clock):
        """`send` waits where the network is slow; what another greenlet sends meanwhile comes behind."""
        waiting = []

        def send(message):
            if waiting:
                waiting.pop()()

        playback = Playback(SID, send)
        waiting.append(lambda: waiting.append(playback.clear) or playback.mark("one"))
        playback.media(bytes(8000))
        assert (playback.seconds, playback.returned("one").outcome) == (0, "cleared")


class TestMarks:
    def test_played(self, stream_playback, clock):
        stream_playback.media(bytes(8000))
        mark = stream_playback.mark("one")
        assert (mark.name, mark.outcome) == ("one", "")
        clock.now += 1.1
        assert stream_playback.returned("one") is mark
        assert mark.outcome == "played"

    def test_cleared(self, stream_playback, clock):
        stream_playback.media(bytes(8000))
        mark = stream_playback.mark("one")
        clock.now += 0.9
        stream_playback.clear()
        assert stream_playback.returned("one").outcome == mark.outcome == "cleared"

    def test_played_before_clear_and_returned_after_it(self, stream_playback, clock):
        stream_playback.media(bytes(8000))
        stream_playback.mark("one")
        stream_playback.media(bytes(8000))
        stream_playback.mark("two")
        clock.now += 1.5
        stream_playback.clear()
        stream_playback.mark("three")
        names = ["one", "two", "three"]
        assert [stream_playback.returned(name).outcome for name in names] == ["played", "cleared", "played"]

    def test_cleared_when_its_audio_had_just_ended(self, stream_playback, clock):
        stream_playback.media(bytes(8000))
        stream_playback.mark("one")
        clock.now += 1
        stream_playback.clear()
        assert stream_playback.returned("one").outcome == "played"

    def test_a_clock_that_has_just_begun(self, stream_playback, clock):
        clock.now = 0.0
        assert stream_playback.seconds == 0
        mark = stream_playback.mark("one")
        stream_playback.clear()
        assert (stream_playback.returned("one"), mark.outcome) == (mark, "played")

    def test_nothing_before_it_is_played(self, stream_playback):
        stream_playback.mark("one")
        stream_playback.clear()
        assert stream_playback.returned("one").outcome == "played"

    def test_a_name_may_be_used_again(self, stream_playback, clock):
        stream_playback.media(bytes(8000))
        first = stream_playback.mark("one")
        stream_playback.clear()
        stream_playback.media(bytes(8000))
        second = stream_playback.mark("one")
        assert (stream_playback.returned("one"), first.outcome, second.outcome) == (first, "cleared", "")
        clock.now += 1
        assert (stream_playback.returned("one"), second.outcome) == (second, "played")

    def test_the_one_that_came_back_last(self, stream_playback):
        assert stream_playback.returned_mark is None
        mark = stream_playback.mark("one")
        stream_playback.returned("one")
        assert stream_playback.returned_mark is mark
        stream_playback.returned("one")
        assert stream_playback.returned_mark is None

    def test_who_returns_none_costs_no_more_than_a_thousand(self, stream_playback):
        for n in range(1100):
            stream_playback.mark(str(n))
        assert [bool(stream_playback.returned(str(n))) for n in (0, 99, 100, 1099)] == [
            False,
            False,
            True,
            True,
        ]

    def test_one_that_was_not_sent(self, stream_playback):
        stream_playback.mark("one")
        assert stream_playback.returned("two") is None
        assert stream_playback.returned("one")
        assert stream_playback.returned("one") is None

    def test_what_cannot_be_sent_is_passed_on(self):
        def fail(message):
            raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            Playback(SID, fail).media(b"a")
