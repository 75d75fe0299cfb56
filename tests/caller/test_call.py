"""What the simulated caller sends, and when; and what it tells the statusCallback."""

import re
import time

import pytest
from support.caller import call, events
from support.server import run_caller


class TestMessages:
    def test_they_are_those_of_twilio(self, record):
        url, calls, _ = record
        call(url, "--fast", "--seconds", "0.1", "--parameter", "FirstName=Jane", "--parameter", "a=b=c")
        connected, start, *media, stop = calls[0]
        assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        sids = start["start"]
        assert re.fullmatch(
            "MZ[0-9a-f]{32} AC[0-9a-f]{32} CA[0-9a-f]{32}",
            " ".join((start["streamSid"], sids["accountSid"], sids["callSid"])),
        )
        assert start == {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": sids["accountSid"],
                "streamSid": start["streamSid"],
                "callSid": sids["callSid"],
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {"FirstName": "Jane", "a": "b=c"},
            },
            "streamSid": start["streamSid"],
        }
        assert [(m["sequenceNumber"], m["media"]["chunk"], m["media"]["timestamp"]) for m in media] == [
            ("2", "1", "155"),
            ("3", "2", "175"),
            ("4", "3", "195"),
            ("5", "4", "215"),
            ("6", "5", "235"),
        ]
        assert stop == {
            "event": "stop",
            "sequenceNumber": "7",
            "stop": {"accountSid": sids["accountSid"], "callSid": sids["callSid"]},
            "streamSid": start["streamSid"],
        }

    @pytest.mark.parametrize(
        ("option", "tracks"),
        [
            ("inbound_track", ["inbound"]),
            ("outbound_track", ["outbound"]),
            ("both_tracks", ["inbound", "outbound"]),
        ],
    )
    def test_tracks(self, record, option, tracks):
        url, calls, _ = record
        call(url, "--fast", "--seconds", "0.1", "--track", option)
        assert calls[0][1]["start"]["tracks"] == tracks
        media = [m["media"] for m in calls[0] if m["event"] == "media"]
        assert [m["track"] for m in media] == tracks * 5
        assert [m["chunk"] for m in media] == [str(n + 1) for n in range(len(media))]

    def test_digits(self, record):
        url, calls, _ = record
        call(url, "--fast", "--seconds", "1", "--digits", "12#")
        assert [m["dtmf"]["digit"] for m in calls[0] if m["event"] == "dtmf"] == ["1", "2", "#"]
        assert [int(m["sequenceNumber"]) for m in calls[0][1:]] == list(range(1, len(calls[0])))
        assert events(calls[0])[-1] == "stop"

    def test_calls_at_once(self, record):
        url, calls, _ = record
        printed = call(url, "--fast", "--seconds", "0.1", "--calls", "3")
        assert len({messages[1]["streamSid"] for messages in calls}) == 3
        assert "call 2: Stopped: 8 messages sent\n" in printed
        assert printed.endswith("3 calls went through, 0 failed\n")

    def test_real_time(self, record):
        url, _, _ = record
        began = time.monotonic()
        call(url, "--seconds", "1")
        assert time.monotonic() - began >= 0.98


class TestStatusCallback:
    def test_a_failed_handshake_reaches_the_servers_log(self, server, tmp_path):
        document = tmp_path / "bin.xml"
        document.write_text(
            f'<Response><Start><Stream url="ws://127.0.0.1:{server.port}/nope" '
            f'statusCallback="http://127.0.0.1:{server.port}/stream-status"/></Start></Response>'
        )
        result = run_caller("--twiml", str(document))
        assert result.returncode == 1
        assert "Failed: 31920 handshake failed: the server answered 404" in result.stderr
        server.wait_for("stream-error, 31920 handshake failed; check the path in the Stream's url")

    def test_a_callback_that_fails_is_a_warning(self, server, tmp_path):
        document = tmp_path / "bin.xml"
        document.write_text(
            f'<Response><Start><Stream url="{server.url}" statusCallbackMethod="GET" '
            f'statusCallback="http://127.0.0.1:{server.port}/stream-status"/></Start></Response>'
        )
        result = run_caller("--twiml", str(document), "--fast")
        assert (result.returncode, result.stderr) == (0, "")
        for event in ("started", "stopped"):
            warning = f"405 METHOD NOT ALLOWED (statusCallback, stream-{event})"
            assert result.stdout.count(warning) == 1
        assert result.stdout.count("Warning 11200 HTTP retrieval failure: ") == 2
