import contextlib
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.streams import CONNECTED, SID, FakeConnection, dtmf, media, start, stop, warnings

from mediastreams.config import Settings
from mediastreams.protocol.messages import (
    Mark,
    MarkMetadata,
    MediaFormat,
    Unknown,
)
from mediastreams.streams.pauses import MAX_PAUSES
from mediastreams.streams.playback import SendError
from mediastreams.streams.stream import Puts, Stream, current
from mediastreams.streams.transcript import Transcript

CALLS = Path(__file__).parents[1] / "vectors" / "calls"
START_OF = '{"event":"start","sequenceNumber":"1","start":{"tracks":[TRACKS]}}'


class Listened(Stream):
    """A stream that remembers what it returned."""


@pytest.fixture
def connection():
    return FakeConnection()


@pytest.fixture
def receive(caplog, connection):
    """Return a function that puts messages (or texts) through a new stream, and returns the stream."""
    caplog.set_level(logging.WARNING)

    def receive(*messages):
        stream = Listened(connection, Settings())
        stream.results = [stream.receive(m if isinstance(m, str) else m.to_json()) for m in messages]
        return stream

    return receive


class TestOrder:
    def test_a_call_as_it_should_be(self, receive, caplog):
        messages = [CONNECTED, start(), media(2, 155), media(3, 175), dtmf(4), stop(5)]
        stream = receive(*messages)
        assert stream.results == messages
        assert (stream.received, stream.lost, stream.late, stream.bad) == (6, 0, 0, 0)
        assert stream.stopped
        assert warnings(caplog) == []

    @pytest.mark.parametrize(
        ("messages", "warning"),
        [
            ([media(2, 0), start(1)], "Stream (not started): bad message: media before start"),
            ([dtmf(2), start(1)], "Stream (not started): bad message: dtmf before start"),
            ([start(), start()], f"Stream {SID}: bad message: start after start"),
            ([start(), stop(2), media(3, 0)], f"Stream {SID}: bad message: media after stop"),
            ([start(), stop(2), stop(3)], f"Stream {SID}: bad message: stop after stop"),
            ([start(), stop(2), start(3)], f"Stream {SID}: bad message: start after stop"),
            ([start(), stop(2), CONNECTED], f"Stream {SID}: bad message: connected after stop"),
            ([start(), CONNECTED], f"Stream {SID}: bad message: connected after start"),
            (
                [start(), media(2, 0, sid="MZ2")],
                f"Stream {SID}: bad message: $.streamSid: media of another stream, MZ2",
            ),
            (
                [start(inner="MZ2"), start()],
                "Stream (not started): bad message: $.streamSid: differs from $.start.streamSid",
            ),
            ([start(), "{}"], f"Stream {SID}: bad message: $.event: missing"),
            (["{}"], "Stream (not started): bad message: $.event: missing"),
        ],
    )
    def test_a_message_out_of_order_is_counted_and_named(self, receive, caplog, messages, warning):
        stream = receive(*messages)
        assert stream.results.count(None) == stream.bad == 1
        assert stream.received == len(messages)
        assert warnings(caplog) == [f"{warning} (more of this kind are only counted)"]

    def test_each_kind_is_named_once(self, receive, caplog):
        stream = receive(start(), "{}", "{}", "[]", "{}", media(9, 0, sid="MZ2"), media(9, 0, sid="MZ3"))
        assert stream.bad == 6
        assert len(warnings(caplog)) == 3

    def test_what_a_peer_chose_stays_on_its_line(self, receive, caplog):
        receive(start(sid="MZ\n\x1b[2J"), media(2, 0, sid="\r\n2026 INFO all is well"))
        assert all(line.isprintable() for line in warnings(caplog))

    def test_another_format_is_named(self, receive, caplog):
        stream = receive(start(media_format=MediaFormat("audio/l16", 16000, 2)), media(2, 0))
        assert stream.bad == 0
        assert "audio/l16" in warnings(caplog)[0]


class TestMediaFormat:
    def test_twilios_before_start(self, connection):
        stream = Stream(connection, Settings())
        assert (stream.media_format, stream.rate) == (MediaFormat("audio/x-mulaw", 8000, 1), 8000)

    @pytest.mark.parametrize("rate", [1000, 11025, 16000, 48_000])
    def test_mulaw_at_another_rate(self, receive, caplog, rate):
        chunks = [media(2 + n, 155 + 20 * n, size=rate // 50) for n in range(50)]
        stream = receive(start(media_format=MediaFormat(sample_rate=rate)), *chunks)
        assert (stream.rate, stream.tracks["inbound"].missing) == (rate, 0)
        assert stream.seconds == pytest.approx(1, abs=0.003)
        assert warnings(caplog) == []

    @pytest.mark.parametrize(
        ("media_format", "name"),
        [
            (MediaFormat("audio/l16", 16000), "audio/l16 at 16000 Hz, 1 channel"),
            (MediaFormat("audio/x-mulaw", 8000, 2), "audio/x-mulaw at 8000 Hz, 2 channels"),
            (MediaFormat("audio/x-mulaw", 999), "audio/x-mulaw at 999 Hz, 1 channel"),
            (MediaFormat("audio/x-mulaw", 48_001), "audio/x-mulaw at 48001 Hz, 1 channel"),
            (MediaFormat("audio/x-mulaw", -8000), "audio/x-mulaw at -8000 Hz, 1 channel"),
            (MediaFormat("audio/x-mulaw", 0), "audio/x-mulaw at 0 Hz, 1 channel"),
            (MediaFormat("a\n\x1b[2Jb", 8000), "a\\u000a\\u001b[2Jb at 8000 Hz, 1 channel"),
        ],
    )
    def test_another_one_is_not_decoded(self, receive, caplog, media_format, name):
        chunks = [media(2 + n, 155 + 20 * n, size=640) for n in range(3)]
        stream = receive(start(media_format=media_format), *chunks, media(5, 5155, size=640))
        assert stream.media_format == media_format
        assert warnings(caplog) == [
            f"Stream {SID}: its audio is {name}, which is not decoded (more of this kind are only counted)"
        ]
        (track,) = stream.tracks.values()
        assert (track.chunks, track.bytes, track.gaps, stream.seconds) == (4, 2560, [], 5.0)
        assert "5.00 s; inbound 4 chunks, 2560 bytes; 0 messages lost" in stream.summary()


class TestConnection:
    def test_start_is_awaited_for_a_time(self, connection):
        with Stream(connection, Settings(start_timeout=3)) as stream:
            assert connection.asked == [("close_after", 3, 1008, "no start message within 3 s")]
            stream.receive(CONNECTED.to_json())
            assert len(connection.asked) == 1
            stream.receive(start().to_json())
            assert connection.asked[1:] == [("keep",)]

    @pytest.mark.parametrize("account", ["AC1", "AC2"])
    def test_another_account_is_refused(self, connection, caplog, account):
        stream = Stream(connection, Settings(twilio_account_sid=account))
        message = stream.receive(start().to_json())  # of AC1
        if account == "AC1":
            assert message == start()
            assert connection.asked == [("keep",)]
        else:
            assert message is None
            assert connection.asked == [("close", 1008, "this server takes the streams of another account")]
            assert "$.start.accountSid: AC1 is not TWILIO_ACCOUNT_SID" in warnings(caplog)[0]


class TestLoss:
    @pytest.mark.parametrize(
        ("numbers", "lost", "late", "taken"),
        [
            ([2, 3, 4], 0, 0, 3),
            ([2, 5, 6], 2, 0, 3),
            ([2, 5, 3, 6], 1, 1, 4),
            ([2, 5, 3, 4, 6], 0, 2, 5),
            ([2, 5, 4, 4, 3, 3], 0, 4, 4),
            ([2, 2, 2, 3], 0, 2, 2),
            ([2, 10**12, 10**12 + 1, 3], 10**12 - 4, 1, 4),
            ([3, 5, 7, 9], 4, 0, 4),
        ],
    )
    def test_sequence_numbers(self, receive, numbers, lost, late, taken):
        stream = receive(start(), *(media(n, 20 * n) for n in numbers))
        assert (stream.lost, stream.late, stream.bad) == (lost, late, 0)
        assert stream.tracks["inbound"].chunks == taken
        assert stream.tracks["inbound"].bytes == 160 * taken

    def test_every_kind_of_message_counts(self, receive):
        stream = receive(CONNECTED, start(), media(2, 0), dtmf(3), media(5, 20), stop(7))
        assert (stream.lost, stream.received) == (2, 6)

    def test_a_bad_message_is_not_also_lost(self, receive):
        stream = receive(
            start(), media(2, 0), '{"event":"media","sequenceNumber":"3"}', media(4, 40), media(6, 80)
        )
        assert (stream.lost, stream.bad) == (1, 1)

    def test_an_unknown_event_is_not_lost(self, receive):
        stream = receive(start(), media(2, 0), '{"event":"later","sequenceNumber":"3"}', media(4, 20))
        assert stream.results[2] == Unknown("later")
        assert (stream.lost, stream.bad) == (0, 0)

    def test_a_message_of_another_stream_hides_no_loss(self, receive):
        stream = receive(start(), media(2, 0), media(3, 0, sid="MZ2"), media(4, 40))
        assert (stream.lost, stream.bad) == (1, 1)

    def test_warnings_are_bounded(self, receive, caplog):
        inbound = ['"inbound"'] * 200
        texts = [START_OF.replace("TRACKS", ", ".join([*inbound[:n], '"x"'])) for n in range(200)]
        assert receive(*texts).bad == 200
        assert len(warnings(caplog)) == 50

    def test_many_gaps_stay_cheap(self, receive):
        stream = receive(start(), *(media(2 * n, 40 * n) for n in range(1, 3000)))
        assert stream.lost == 2998
        assert stream.receive(media(3, 0).to_json()) is None  # beyond what is remembered
        assert stream.late == 1


class TestPlacement:
    def test_the_tracks_are_accounted_for_separately(self, receive):
        stream = receive(
            start(), media(2, 100), media(3, 100, "outbound"), media(4, 120), media(5, 120, "outbound", 80)
        )
        inbound, outbound = stream.tracks["inbound"], stream.tracks["outbound"]
        assert (inbound.first, inbound.end, inbound.chunks, inbound.bytes) == (800, 1120, 2, 320)
        assert (outbound.first, outbound.end, outbound.chunks, outbound.bytes) == (800, 1040, 2, 240)
        assert stream.seconds == 0.04

    def test_rounded_timestamps_are_no_gap(self, receive, caplog):
        receive(start(), *(media(n, round(155 + 19.97 * n)) for n in range(2, 500)))
        assert warnings(caplog) == []

    def test_a_gap_without_loss(self, receive, caplog):
        stream = receive(start(), media(2, 155), media(3, 3175), media(4, 3195))
        assert (stream.lost, stream.tracks["inbound"].missing) == (0, 3000 * 8)
        assert warnings(caplog) == [
            f"Stream {SID}: 3000 ms of the inbound track missing before 3175 ms"
            " (more of this kind are only counted)"
        ]
        assert "3.00 s missing" in stream.summary()

    def test_what_comes_late_is_not_missing(self, receive):
        stream = receive(start(), media(3, 60), media(4, 120), media(5, 80), media(6, 100), media(2, 20))
        track = stream.tracks["inbound"]
        assert (track.first, track.end, track.missing, track.chunks) == (160, 1120, 160, 5)

    def test_going_back(self, receive, caplog):
        stream = receive(start(), media(2, 1000), media(3, 200), media(4, 1020))
        assert (stream.tracks["inbound"].end, stream.tracks["inbound"].missing) == (8320, 780 * 8)
        assert "goes back" in warnings(caplog)[0]


class TestSummary:
    def test_a_captured_call(self, receive):
        stream = receive(*(CALLS / "captured.jsonl").read_text().splitlines())
        assert stream.summary() + "\n" == (CALLS / "captured.summary").read_text()
        assert (stream.received, stream.tracks["inbound"].first) == (76, 155 * 8)

    def test_both_tracks_and_troubles(self, receive):
        stream = receive(start(), media(2, 0), media(4, 0, "outbound"), media(4, 0), "{}")
        assert stream.summary() == (
            f"Stream {SID}: 0.02 s; inbound 1 chunks, 160 bytes; outbound 1 chunks, 160 bytes; "
            "1 messages lost, 1 late, 1 bad; no stop message"
        )

    def test_a_stream_that_never_started(self, receive):
        assert receive(CONNECTED).summary() == "Stream (not started): 0.00 s; 0 messages lost, 0 late, 0 bad"


def test_an_exception_names_the_stream(connection):
    with pytest.raises(KeyError) as caught, Stream(connection, Settings()) as stream:
        stream.receive(start().to_json())
        raise KeyError("event")
    assert caught.value.__notes__ == [f"in stream {SID}"]


class TestTalkingBack:
    ASKED = {"custom_parameters": {"bidirectional": "true"}}  # noqa: RUF012

    def test_a_stream_that_asks_for_it(self, receive, connection):
        stream = receive(CONNECTED, start(**self.ASKED))
        assert stream.is_bidirectional
        stream.playback.mark("one")
        sent = {"event": "mark", "streamSid": SID, "mark": {"name": "one"}}
        assert connection.asked[-1] == ("send", sent)

    def test_it_is_played_at_the_streams_rate(self, receive):
        stream = receive(CONNECTED, start(media_format=MediaFormat(sample_rate=16000), **self.ASKED))
        stream.playback.media(bytes(16000 * 60))
        assert 50 < stream.playback.seconds <= 60

    @pytest.mark.parametrize("parameters", [{}, {"bidirectional": "false"}, {"Bidirectional": "true"}])
    def test_one_that_does_not(self, receive, connection, parameters):
        stream = receive(CONNECTED, start(custom_parameters=parameters))
        assert not stream.is_bidirectional
        with pytest.raises(SendError, match='<Parameter name="bidirectional" value="true"/>'):
            stream.playback.clear()
        assert not [asked for asked in connection.asked if asked[0] == "send"]

    def test_before_start(self, receive):
        stream = receive(CONNECTED)
        assert not stream.is_bidirectional
        with pytest.raises(SendError, match="before start"):
            stream.playback.media(b"a")

    def test_a_mark_that_comes_back_is_matched(self, receive, caplog):
        stream = receive(CONNECTED, start(**self.ASKED))
        mark = stream.playback.mark("one")
        message = Mark(2, SID, MarkMetadata("one"))
        assert stream.receive(message.to_json()) == message
        assert mark.outcome == "played"
        assert caplog.messages == []

    def test_one_that_was_not_sent_is_named_once_and_passed_on(self, receive, caplog):
        stream = receive(CONNECTED, start(**self.ASKED), *[Mark(n, SID, MarkMetadata("x\n")) for n in (2, 3)])
        assert all(stream.results)
        (warning,) = caplog.messages
        assert "Twilio returned a mark that was not sent: x\\u000a" in warning
        assert stream.bad == 0


class TestCounts:
    def test_one_message_in_64_is_a_sample(self, connection):
        samples = []
        stream = Stream(connection, Settings(), on_sample=samples.append)
        stream.receive(start().to_json())
        for number in range(2, 257):
            stream.receive(media(number, number * 20).to_json())
        assert samples == [64 * 20, 128 * 20, 192 * 20, 256 * 20]

    def test_events_are_counted_good_or_bad(self, receive):
        stream = receive(
            CONNECTED, start(), media(2, 0), media(2, 0), dtmf(3), "{}", '{"event":"x"}', stop(4)
        )
        assert stream.events == {
            "media": 2,
            "connected": 1,
            "start": 1,
            "dtmf": 1,
            "invalid": 1,
            "unknown": 1,
            "stop": 1,
        }

    def test_each_message_counts(self, receive):
        """Against the number of times that each was sent."""
        messages = [start(), *3 * ["{}"], *4 * ['{"event":"x"}'], *(dtmf(n) for n in range(9, 14)), stop(14)]
        assert receive(*messages).events == {
            "media": 0,
            "start": 1,
            "invalid": 3,
            "unknown": 4,
            "dtmf": 5,
            "stop": 1,
        }

    @pytest.mark.parametrize(
        ("unknown", "keys", "marks", "told"),
        [
            (0, 100, 100, []),
            (1, 0, 0, ["1 unknown"]),
            (0, 101, 0, ["101 dtmf"]),
            (0, 0, 101, ["101 mark"]),
            (2, 101, 102, ["2 unknown, 101 dtmf, 102 mark"]),
        ],
    )
    def test_the_summary_tells_what_the_log_has_not_shown(self, receive, unknown, keys, marks, told):
        """The log shows the first 100 keys and marks (`log.limit`)."""
        texts = [*unknown * ['{"event":"x"}'], *map(dtmf, range(2, 2 + keys))]
        texts += [Mark(n, SID, MarkMetadata("m")) for n in range(2 + keys, 2 + keys + marks)]
        parts = receive(start(), *texts).summary().split("; ")
        assert parts[1:] == ["0 messages lost, 0 late, 0 bad", *told, "no stop message"]


class FakeConsumers:
    """Consumers that only note what they are given."""

    def __init__(self):
        self.begun, self.ended, self.puts, self.events = [], [], [[], []], []

    def begin(self, stream, message):
        assert stream.start is message
        self.begun.append((stream, message))
        puts = [put.append for put in self.puts]
        self.given = Puts(puts, [*puts, self.events.append])
        return self.given

    def end(self, stream):
        assert stream.ending
        self.ended.append(stream)


class TestConsumers:
    """What is handed on, to each consumer the same."""

    def test_audio_keys_and_marks_from_start_on(self, connection):
        consumers = FakeConsumers()
        messages = [
            CONNECTED,
            start(),
            media(2, 0),
            dtmf(3),
            media(4, 20),
            Mark(5, SID, MarkMetadata("m")),
            media(6, 60),  # after a gap
            media(7, 40),  # late: it fills the gap
            media(7, 40),  # a repeat is ignored
            media(8, 20),  # audio that is there already
            stop(9),
        ]
        with Stream(connection, Settings(), consumers) as stream:
            for message in messages:
                stream.receive(message.to_json())
            assert consumers.begun == [(stream, start())]
            assert consumers.ended == []
        assert consumers.ended == [stream]
        expected = [
            (media(2, 0), 0, None),
            dtmf(3),
            (media(4, 20), 160, None),
            Mark(5, SID, MarkMetadata("m")),
            (media(6, 60), 480, None),
            (media(7, 40), 320, [range(320, 480)]),
            (media(8, 20), 160, []),
        ]
        assert consumers.puts == [expected, expected]
        assert consumers.events == [dtmf(3), Mark(5, SID, MarkMetadata("m"))]

    def test_what_is_not_decoded_fills_nothing(self, connection):
        consumers = FakeConsumers()
        with Stream(connection, Settings(), consumers) as stream:
            stream.receive(start(media_format=MediaFormat("audio/l16")).to_json())
            stream.receive(media(2, 155).to_json())
        assert consumers.puts[0] == [(media(2, 155), 155, [])]

    @pytest.mark.parametrize(("log_digits", "shown"), [("on", "1"), ("off", "(not shown)")])
    def test_a_key_as_the_settings_show_it(self, connection, log_digits, shown):
        consumers = FakeConsumers()
        with Stream(connection, Settings(log_digits=log_digits), consumers) as stream:
            stream.receive(start().to_json())
            returned = stream.receive(dtmf(2).to_json())
        assert consumers.events == [returned]
        assert (returned.dtmf.digit, returned.dtmf.shown) == ("1", shown)

    def test_one_that_comes_later_gets_what_comes_from_then_on(self, connection):
        consumers, later = FakeConsumers(), []
        with Stream(connection, Settings(), consumers) as stream:
            for message in (CONNECTED, start(), media(2, 0)):
                stream.receive(message.to_json())
            consumers.given.chunks.append(later.append)
            stream.receive(media(3, 20).to_json())
            consumers.given.chunks.remove(later.append)
            stream.receive(media(4, 40).to_json())
        assert later == [(media(3, 20), 160, None)]

    def test_none_of_a_stream_that_has_not_started(self, connection):
        consumers = FakeConsumers()
        with Stream(connection, Settings(), consumers) as stream:
            stream.receive(CONNECTED.to_json())
        assert (consumers.begun, consumers.ended) == ([], [stream])


class TestPauses:
    def test_from_what_has_come_to_what_has_come(self, connection, caplog):
        caplog.set_level(logging.INFO)
        stream = Stream(connection, Settings())
        stream.receive(start(tracks=("inbound", "outbound")).to_json())
        stream.receive(media(2, 155).to_json())
        stream.receive(media(3, 165, "outbound").to_json())
        for _ in range(2):  # the second one does nothing
            stream.pause_recording()
        stream.receive(media(4, 175).to_json())
        for _ in range(2):
            stream.resume_recording()
        assert stream.pauses.all == ((8 * 185, 8 * 195),)
        assert warnings(caplog) == [
            f"Stream {SID}: the recording is paused at 0.03 s",
            f"Stream {SID}: the recording goes on at 0.04 s",
        ]

    def test_the_last_chunk_that_is_not_decoded(self, connection):
        """Its timestamp is all that is known of its place."""
        stream = Stream(connection, Settings())
        stream.receive(start(media_format=MediaFormat("audio/l16", 16000)).to_json())
        stream.receive(media(2, 155).to_json())
        stream.pause_recording()
        stream.receive(media(3, 175).to_json())
        stream.resume_recording()
        assert [stream.pauses.overlaps(at, at) for at in (155, 175, 195)] == [False, True, False]

    def test_keys_are_secret_meanwhile(self, connection):
        stream = Stream(connection, Settings())
        stream.receive(start().to_json())
        shown = []
        for number, change in ((2, None), (3, stream.pause_recording), (4, stream.resume_recording)):
            if change:
                change()
            shown.append(stream.receive(dtmf(number).to_json()).dtmf.shown)
            stream.receive(media(number + 3, 20 * number).to_json())
        assert shown == ["1", "(not shown)", "1"]

    def test_texts_that_reach_into_one(self, connection):
        stream = Stream(connection, Settings())
        stream.receive(start().to_json())
        for number in range(2, 52):
            stream.receive(media(number, 135 + 20 * (number - 1)).to_json())
        stream.pause_recording()
        stream.receive(media(52, 1155).to_json())
        stream.resume_recording()

        def is_left_out(begin, end):
            return stream.is_left_out(Transcript("inbound", "four two", True, begin, end))

        assert [is_left_out(*text) for text in ((0.5, 1.0), (0.5, 1.001), (1.01, 1.015), (1.02, 3.0))] == [
            False,
            True,
            True,
            False,
        ]

    def test_the_end_of_the_stream_ends_it(self, connection):
        with Stream(connection, Settings()) as stream:
            stream.receive(start().to_json())
            stream.pause_recording()
            stream.receive(media(2, 0).to_json())
            stream.receive(stop(3).to_json())
        assert stream.pauses.all == ((0, 160),)

    def test_after_many_it_stays_paused(self, connection, caplog):
        stream = Stream(connection, Settings())
        stream.receive(start().to_json())
        for n in range(MAX_PAUSES + 5):
            stream.pause_recording()
            stream.receive(media(2 + 2 * n, 40 * n).to_json())
            stream.resume_recording()
            stream.receive(media(3 + 2 * n, 40 * n + 20).to_json())
        assert stream.pauses.is_open
        assert len(stream.pauses.all) == MAX_PAUSES
        assert len([line for line in warnings(caplog) if "stays paused" in line]) == 1


class TestEnd:
    def end(self, connection, *messages, error=None):
        with contextlib.suppress(KeyError), Stream(connection, Settings()) as stream:
            assert (connection.stream, current.get()) == (stream, stream)
            assert (stream.stopped, stream.ending, stream.ended_at) == (False, "", None)
            for message in messages:
                stream.receive(message.to_json())
            if error:
                raise error
        return stream

    @pytest.mark.parametrize("error", [None, KeyError()])
    def test_a_stop_message(self, connection, error):
        stream = self.end(connection, start(), stop(2), error=error)
        assert stream.ending == "stop"
        assert "stop message" not in stream.summary()

    def test_an_exception(self, connection):
        connection.ending = "peer closed 1000"
        stream = self.end(connection, start(), error=KeyError())
        assert stream.ending == "failed"
        assert stream.summary().endswith("; no stop message: failed")

    @pytest.mark.parametrize("ending", ["", "peer closed 1001", "dropped"])
    def test_as_the_connection_did(self, connection, ending):
        connection.ending = ending
        stream = self.end(connection, start())
        assert stream.ending == (ending or "server closed 1000")
        assert stream.summary().endswith(f"; no stop message: {stream.ending}")

    def test_its_times_are_in_utc(self, connection):
        before = datetime.now(UTC)
        stream = self.end(connection, start())
        assert before <= stream.started_at <= stream.ended_at <= datetime.now(UTC)
        assert self.end(connection).started_at is None


def test_one_of_each_kind_of_warning(receive, caplog):
    """All kinds at once, each twice: none hides another, and each is logged once."""
    messages = [start(custom_parameters={"bidirectional": "true"})]
    number = 2
    for step in (0, 100):
        messages += [
            media(number, step),
            media(number + 3, step + 60),  # lost, gap
            media(number + 2, step + 10),  # late, overlap
            media(number + 2, step + 10),  # repeat
            media(number + 4, 10**9),  # implausible
            media(number + 5, step + 80),  # and back
            Mark(number + 6, SID, MarkMetadata("m")),
        ]
        number += 7
    receive(*messages)
    kinds = [
        "lost: sequenceNumber 5 came where 3 was due",
        "40 ms of the inbound track missing before 60 ms",
        "late: sequenceNumber 4 came where 6 was due",
        "timestamp 10 ms of the inbound track goes back",
        "repeat: sequenceNumber 4 came where 6 was due",
        "timestamp 1000000000 ms of the inbound track is 999999920 ms off, chunk appended",
        "Twilio returned a mark that was not sent: m",
    ]
    ends = " (more of this kind are only counted)"
    assert warnings(caplog) == [f"Stream {SID}: {kind}{ends}" for kind in kinds]


def test_where_the_audio_ended_when_messages_were_lost(receive):
    stream = receive(start(), dtmf(3), media(4, 100), dtmf(6))
    assert [(loss.numbers, loss.position) for loss in stream.losses] == [(range(2, 3), 0), (range(5, 6), 960)]


def test_a_track_that_begins_later_is_placed_beside_the_first(receive):
    """The first has timestamps that step by 19.97 ms, so its audio lags behind them."""
    steps = [media(n + 2, int(n * 19.97)) for n in range(3000)]
    outbound = media(3002, int(3000 * 19.97), "outbound")
    stream = receive(start(), *steps, outbound)
    inbound, outbound = stream.tracks.values()
    assert outbound.first == pytest.approx(inbound.end, abs=8)
