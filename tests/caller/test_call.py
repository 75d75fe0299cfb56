"""The simulated Twilio against the server, and against servers that talk back."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import wave
from base64 import b64decode, b64encode
from subprocess import PIPE, Popen

import pytest
from support.server import ROOT, SECONDS, environment, run_caller
from support.sound import channels_of
from websockets.sync.server import serve

from mediastreams.audio.mulaw import decode


@pytest.fixture
def record():
    """Return a server's URL and the list of calls that it hears, each a list of parsed messages."""
    calls = []
    replies = []

    def hear(ws):
        call = []
        calls.append(call)
        for text in ws:
            call.append(json.loads(text))
            for reply in replies:
                if call[-1]["event"] == reply["when"]:
                    reply["send"](ws, call)

    with serve(hear, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/media"
        yield url, calls, replies
        server.shutdown()
        thread.join()


def call(url, *arguments):
    result = run_caller(url, *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def events(messages):
    return [message["event"] for message in messages]


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


class TestAudio:
    def test_the_sample_is_small_and_speaks_on_both_tracks(self, record):
        url, calls, _ = record
        assert (ROOT / "mediastreams" / "caller" / "sample.wav").stat().st_size < 100_000
        call(url, "--fast", "--track", "both_tracks")
        for track in ("inbound", "outbound"):
            chunks = [m["media"] for m in calls[0] if m["event"] == "media"]
            codes = b"".join(b64decode(m["payload"]) for m in chunks if m["track"] == track)
            loud = max(decode(codes)[1::2])
            assert len(codes) == 41600
            assert loud > 0x20

    def test_left_is_inbound_and_right_outbound_and_it_repeats(self, record, tmp_path):
        url, calls, _ = record
        path = tmp_path / "stereo.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((2, 2, 8000, 0, "NONE", ""))
            file.writeframes(b"\x00\x10\x00\xf0" * 160)
        call(url, "--fast", "--audio", str(path), "--track", "both_tracks", "--seconds", "0.05")
        media = [m["media"] for m in calls[0] if m["event"] == "media"]
        assert {m["track"]: m["payload"][:4] for m in media} == {"inbound": "r6+v", "outbound": "Ly8v"}
        assert len(media) == 6  # 50 ms are 2.5 chunks a track; the rest of the third is silence
        assert b64decode(media[-1]["payload"]) == b"\x2f" * 80 + b"\xff" * 80


class TestTwiml:
    def write(self, tmp_path, url, verb="Start", attributes=""):
        path = tmp_path / "bin.xml"
        path.write_text(
            f'<Response><{verb}><Stream url="{url}" {attributes}>'
            f'<Parameter name="a" value="b"/></Stream></{verb}>'
            "<Dial>+15550123456</Dial></Response>"
        )
        return str(path)

    def test_url_track_and_parameters_are_the_documents(self, record, tmp_path):
        url, calls, _ = record
        document = self.write(tmp_path, url, attributes='track="both_tracks"')
        result = run_caller("--twiml", document, "--fast", "--parameter", "c=d")
        assert (result.returncode, result.stderr) == (0, "")
        start = calls[0][1]["start"]
        assert (start["tracks"], start["customParameters"]) == (["inbound", "outbound"], {"a": "b", "c": "d"})

    def test_a_url_of_ones_own_wins(self, record):
        url, calls, _ = record
        call(url, "--twiml", str(ROOT / "twiml" / "named-with-parameters.xml"), "--fast", "--seconds", "0.1")
        assert calls[0][1]["start"]["customParameters"] == {"FirstName": "Jane", "LastName": "Doe"}

    @pytest.mark.parametrize(
        ("url", "code"),
        [("https://a.example/media", 31922), ("ws://a.example/media", 31922), ("wss://:1/", 31923)],
    )
    def test_what_twilio_would_not_dial(self, tmp_path, url, code):
        result = run_caller("--twiml", self.write(tmp_path, url))
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert result.stderr.startswith(f"Failed: {code} ")

    def test_the_query_string_is_dropped(self, record):
        url, calls, _ = record
        result = run_caller(f"{url}?token=abc", "--fast", "--seconds", "0.1")
        assert result.returncode == 0
        assert "Twilio drops the query string" in result.stderr
        assert calls

    def test_digits_need_connect(self, record, tmp_path):
        url, calls, _ = record
        assert run_caller("--twiml", self.write(tmp_path, url), "--digits", "1").returncode == 2
        document = self.write(tmp_path, url, "Connect")
        assert run_caller("--twiml", document, "--digits", "1", "--fast").returncode == 0
        assert "dtmf" in events(calls[0])

    def test_a_unidirectional_stream_is_not_spoken_to(self, record, tmp_path):
        url, _, replies = record
        replies.append({"when": "start", "send": lambda ws, call: ws.send("{}")})
        result = run_caller("--twiml", self.write(tmp_path, url), "--seconds", "0.3")
        assert "Warning 31924: the server sends on a unidirectional stream" in result.stdout


class TestTalkingBack:
    def reply(self, event, **fields):
        def send(ws, call):
            ws.send(json.dumps({"event": event, "streamSid": call[1]["streamSid"], **fields}))

        return {"when": "start", "send": send}

    def marks(self, messages):
        return [m["mark"]["name"] for m in messages if m["event"] == "mark"]

    def test_a_mark_returns_at_once_where_nothing_is_buffered(self, record):
        url, calls, replies = record
        replies.append(self.reply("mark", mark={"name": "one"}))
        call(url, "--seconds", "0.3")
        assert self.marks(calls[0]) == ["one"]

    def test_a_mark_returns_when_the_audio_before_it_has_played(self, record):
        url, calls, replies = record
        half_a_second = "//79" * (4000 // 3 + 1)
        replies += [
            self.reply("mark", mark={"name": "before"}),
            self.reply("media", media={"payload": half_a_second}),
            self.reply("mark", mark={"name": "after"}),
        ]
        call(url, "--seconds", "0.8")
        assert self.marks(calls[0]) == ["before", "after"]
        media_before = events(calls[0][: events(calls[0]).index("mark") + 1])
        second = len(calls[0]) - 1 - events(calls[0])[::-1].index("mark")
        assert events(calls[0][:second]).count("media") >= 20 > media_before.count("media")

    def test_clear_returns_the_marks_that_wait(self, record):
        url, calls, replies = record
        replies += [
            self.reply("media", media={"payload": "////" * 80_000}),
            self.reply("mark", mark={"name": "one"}),
            self.reply("mark", mark={"name": "two"}),
            self.reply("clear"),
        ]
        call(url, "--seconds", "0.3")
        assert self.marks(calls[0]) == ["one", "two"]

    @pytest.mark.parametrize(
        ("message", "warning"),
        [
            (b"{}", "Warning 31950: the server sent a binary message; Twilio takes text only"),
            ("{", "Warning 31951: invalid message: $: Input data was truncated"),
            (
                '{"event":"clear","streamSid":"MZ1"}',
                "Warning 31951: invalid message: $.streamSid: not this stream's, MZ1",
            ),
        ],
    )
    def test_a_wrong_message_is_warned_of_once(self, record, message, warning):
        url, _, replies = record
        replies += [{"when": "start", "send": lambda ws, call: ws.send(message)}] * 3
        assert call(url, "--seconds", "0.3").count(warning) == 1


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--audio", "no-such.wav"], "no-such.wav cannot be read: No such file or directory"),
            (["--parameter", "name"], "it must be NAME=VALUE"),
            (["--digits", "12x"], "--digits 12x"),
            (["--calls", "0"], "--calls 0"),
            (["--seconds", "0"], "it must be more than 0"),
            (["--seconds", "nan"], "it must be more than 0"),
            (["--seconds", "inf"], "14400 at most"),
            (["--parameter", "a=" + "b" * 499], "too long"),
            (["--parameter", b"a=\xff"], "in text"),
            (["--track", "both_tracks", "--digits", "1"], "on a bidirectional stream only"),
            (["--twiml", "http://[a/start-stream"], "--twiml http://[a/start-stream: Invalid IPv6 URL"),
            (["--twiml", "no-such.xml"], "no-such.xml cannot be read"),
        ],
    )
    def test_what_cannot_be_used_is_said_in_one_line(self, arguments, words):
        result = run_caller(*arguments)
        assert result.returncode == 2
        assert words in result.stderr
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("url", "code"),
        [
            ("127.0.0.1:5000/media", 31922),
            ("http://127.0.0.1:5000/media", 31922),
            ("ws://[::1/media", 31923),
            ("ws://a..b/media", 31923),
            ("ws://127.0.0.1:99999/media", 31923),
        ],
    )
    def test_an_address_that_cannot_be_dialled(self, url, code):
        result = run_caller(url)
        assert result.returncode == 1
        assert result.stderr.startswith(f"Failed: {code} ")
        assert result.stderr.count("\n") == 1

    def test_ctrl_c_hangs_up(self, record):
        url, calls, _ = record
        command = [sys.executable, "-m", "mediastreams.caller", url, "--seconds", "60"]
        with Popen(command, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=environment(), text=True) as process:
            while "started" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, errors) == (0, "")
        assert "Stopped: " in printed
        assert events(calls[0])[-1] == "stop"

    def test_the_call_goes_on_where_nobody_reads_of_it(self, record):
        url, _, _ = record
        command = f"{sys.executable} -m mediastreams.caller {url} --fast | true"
        run = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True)
        assert run.stderr == b""

    def test_without_a_url_it_calls_the_server_of_the_settings(self, server):
        result = run_caller("--fast", "--seconds", "0.1", HTTP_SERVER_PORT=str(server.port))
        assert result.returncode == 0
        assert f"Calling ws://127.0.0.1:{server.port}/media\n" in result.stdout

    def test_a_terminal_shows_the_seconds_go_by(self, record):
        url, _, _ = record
        leader, follower = pty.openpty()
        command = [sys.executable, "-m", "mediastreams.caller", url, "--seconds", "2.1"]
        with Popen(command, stdout=follower, cwd=ROOT, env=environment()) as process:
            os.close(follower)
            shown = b""
            while select.select([leader], [], [], 10)[0]:
                try:
                    shown += os.read(leader, 1024)
                except OSError:  # EIO: the program has ended
                    break
        os.close(leader)
        assert process.returncode == 0
        assert b"\r1 s, 52 messages\r" in shown


class TestServed:
    """TwiML that a server serves, and the statusCallback that it names; the server is `python app.py`."""

    def test_the_call_that_is_described(self, server):
        address = f"http://127.0.0.1:{server.port}/twiml/named-with-parameters"
        result = run_caller("--twiml", address, "--fast")
        assert (result.returncode, result.stderr) == (0, "")
        asking, calling, *_ = result.stdout.splitlines()
        assert asking == f"Asking {address} for TwiML"
        assert calling == f"Calling {server.url}"
        server.wait_for('"customParameters":{"FirstName":"Jane","LastName":"Doe"}')
        server.wait_for(r'Stream MZ[0-9a-f]{32}: stream-stopped \(name "support-line"\)')
        sid = re.search("MZ[0-9a-f]{32}", result.stdout)[0]
        told = re.findall(r"(MZ[0-9a-f]{32}): stream-(\w+)", "\n".join(server.lines))
        assert told == [(sid, "started"), (sid, "stopped")]

    def test_signed_as_twilio_does(self, start_server):
        """PUBLIC_URL is the address in all signatures, though the caller comes from this machine."""
        environ = {"TWILIO_AUTH_TOKEN": "0123456789abcdef", "PUBLIC_URL": "https://example.com"}
        server = start_server(**environ)
        origin = f"http://127.0.0.1:{server.port}"
        result = run_caller("--twiml", f"{origin}/twiml/start-stream", server.url, "--fast", **environ)
        assert (result.returncode, result.stderr) == (0, "")
        server.wait_for("stream-stopped")
        assert "Warning" not in result.stdout

    def test_without_the_token_it_is_not_served(self, start_server):
        server = start_server(TWILIO_AUTH_TOKEN="0123456789abcdef")
        address = f"http://127.0.0.1:{server.port}/twiml/start-stream"
        result = run_caller("--twiml", address)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert result.stderr.startswith(
            f"Failed: 11200 HTTP retrieval failure: {address} was answered with 403"
        )

    def test_no_such_document(self, server):
        result = run_caller("--twiml", f"http://127.0.0.1:{server.port}/twiml/none")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert (
            "answered with 404 NOT FOUND: There is no such TwiML document; there are: both" in result.stderr
        )

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

    @pytest.mark.parametrize("callback", ["/stream-status", "ftp://a/b", "http://[a/b"])
    def test_a_callback_that_is_none(self, tmp_path, callback):
        document = tmp_path / "bin.xml"
        document.write_text(
            f'<Response><Start><Stream url="wss://a/m" statusCallback="{callback}"/></Start></Response>'
        )
        result = run_caller("--twiml", str(document))
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert f'statusCallback "{callback}"' in result.stderr


class TestSaveHeard:
    def say(self, *parts):
        def send(ws, call):
            sid = call[1]["streamSid"]
            for part in parts:
                body = {"media": {"payload": b64encode(part).decode()}} if part else {}
                ws.send(json.dumps({"event": "media" if part else "clear", "streamSid": sid, **body}))

        return {"when": "start", "send": send}

    def test_it_is_as_long_as_the_call(self, record, tmp_path):
        url, _, replies = record
        replies.append(self.say(b"\x01" * 800, b"\x02" * 800))
        path = tmp_path / "heard.wav"
        printed = call(url, "--seconds", "1", "--save-heard", str(path))
        (codes,) = channels_of(path)
        assert printed.endswith(f"Heard: {len(codes) / 8000:.2f} s, saved in {path}\n")
        assert 8000 * 0.9 < len(codes) < 8000 * 3
        begin = codes.index(1)
        assert codes == b"\xff" * begin + b"\x01" * 800 + b"\x02" * 800 + b"\xff" * (
            len(codes) - begin - 1600
        )

    def test_what_is_cleared_is_not_heard(self, record, tmp_path):
        url, _, replies = record
        replies.append(self.say(b"\x01" * 80000, None, b"\x02" * 800))
        path = tmp_path / "heard.wav"
        path.write_text("an old one")
        call(url, "--seconds", "0.5", "--save-heard", str(path))
        (codes,) = channels_of(path)
        assert codes.count(1) < 4000
        assert codes.count(2) == 800

    def test_nothing_heard_is_silence(self, record, tmp_path):
        url, _, _ = record
        path = tmp_path / "heard.wav"
        call(url, "--seconds", "0.3", "--save-heard", str(path))
        (codes,) = channels_of(path)
        assert set(codes) == {0xFF}

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--save-heard", "no-such/heard.wav"], "there is no such folder"),
            (["--save-heard", "/dev/null"], "it must be a new file, or one to write over"),
            (["--save-heard", "SAID", "--audio", "SAID"], "it must be a new file, or one to write over"),
            (["--save-heard", "heard.wav", "--calls", "2"], "it is for one call"),
            (["--save-heard", "heard.wav", "--track", "both_tracks"], "only on a bidirectional stream"),
        ],
    )
    def test_what_cannot_be_used(self, tmp_path, arguments, words):
        said = tmp_path / "said.wav"
        said.write_bytes((ROOT / "mediastreams" / "caller" / "sample.wav").read_bytes())
        result = run_caller(*[str(said) if each == "SAID" else each for each in arguments])
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert words in result.stderr
        assert said.stat().st_size > 1000
        assert not (ROOT / "heard.wav").exists()


def test_ten_minutes_wait_and_no_more(record):
    url, _, replies = record
    message = {"event": "media", "media": {"payload": b64encode(bytes(600 * 8000)).decode()}}

    def send(ws, call):
        for _ in range(3):
            ws.send(json.dumps({**message, "streamSid": call[1]["streamSid"]}))

    replies.append({"when": "start", "send": send})
    printed = call(url, "--seconds", "1")
    warning = "Warning 31931: more than 10 minutes of audio wait to be played; it is discarded"
    assert printed.count(warning) == 1
