"""What the command line and a TwiML document make the simulated caller do."""

import os
import re
import wave
from base64 import b64decode

import pytest
from support.caller import call, events
from support.server import ROOT, run_caller

from mediastreams.audio.mulaw import decode


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


class TestFormat:
    def test_mulaw_at_another_rate_in_chunks_of_20_ms(self, record):
        url, calls, _ = record
        call(url, "--fast", "--sample-rate", "11025", "--seconds", "0.08")
        media = [m["media"] for m in calls[0] if m["event"] == "media"]
        assert [len(b64decode(m["payload"])) for m in media] == [220, 221, 220, 221]

    def test_another_encoding_is_the_files_bytes(self, record, tmp_path):
        url, calls, _ = record
        path = tmp_path / "raw"
        path.write_bytes(bytes(range(256)) * 3)
        arguments = ["--fast", "--encoding", "audio/l16", "--audio", str(path), "--track", "both_tracks"]
        call(url, *arguments)
        call(url, *arguments, "--seconds", "0.1", "--sample-rate", "16000")
        for one, media_format, size, chunks in (
            (calls[0], ["audio/l16", 8000, 1], 768, 3),
            (calls[1], ["audio/l16", 16000, 1], 3200, 5),
        ):
            assert list(one[1]["start"]["mediaFormat"].values()) == media_format
            media = [m["media"] for m in one if m["event"] == "media"]
            for track in ("inbound", "outbound"):
                payloads = [b64decode(m["payload"]) for m in media if m["track"] == track]
                assert b"".join(payloads) == (path.read_bytes() * 5)[:size]
                assert len(payloads) == chunks

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--sample-rate", "999"], "it must be 1000 or more, and 48000 at most"),
            (["--sample-rate", "48001"], "it must be 1000 or more, and 48000 at most"),
            (["--encoding", "audio/l16"], "it needs --audio FILE, whose bytes are sent as they are"),
            (["--encoding", ""], "it must be a name in ASCII"),
            (["--encoding", "a\nb"], "it must be a name in ASCII"),
            (["--encoding", "a", "--audio", "no-such"], "no-such cannot be read: No such file"),
            (["--encoding", "a", "--audio", os.devnull], "is empty"),
            (["--encoding", "a", "--audio", __file__, "--save-heard", "a.wav"], "it saves mu-law only"),
        ],
    )
    def test_what_cannot_be_used(self, arguments, words):
        result = run_caller("ws://127.0.0.1:1/media", *arguments)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert words in result.stderr


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
        parameters = {"FirstName": "Jane", "LastName": "Doe", "From": "+15550100001"}
        assert calls[0][1]["start"]["customParameters"] == parameters

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

    @pytest.mark.parametrize(
        ("attributes", "options", "rate"),
        [
            ('audioFormat="audio/l16" sampleRate="16000"', (), 16000),
            ('sampleRate="16000"', ("--sample-rate", "24000"), 24000),
            ('sampleRate="HD"', (), 8000),
            ('sampleRate="999999"', (), 8000),
            ('audioFormat=""', (), 8000),
        ],
    )
    def test_the_new_attributes_are_named_and_used_where_they_are_understood(
        self, record, tmp_path, attributes, options, rate
    ):
        url, calls, _ = record
        printed = call("--twiml", self.write(tmp_path, url, attributes=attributes), "--fast", *options)
        media_format = {"encoding": "audio/x-mulaw", "sampleRate": rate, "channels": 1}
        assert calls[0][1]["start"]["mediaFormat"] == media_format
        written = re.sub(r'\w+=""', "", attributes).replace('" ', '" and ')
        line = (
            f"New on <Stream>, their values are not documented: {written}; "
            f"this stream is audio/x-mulaw at {rate} Hz, 1 channel\n"
        )
        assert (line in printed) == ("New on" in printed) == bool(written)

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


class TestServed:
    """TwiML that a server serves; the server is `python app.py`."""

    def test_the_call_that_is_described(self, server):
        address = f"http://127.0.0.1:{server.port}/twiml/named-with-parameters"
        result = run_caller("--twiml", address, "--fast")
        assert (result.returncode, result.stderr) == (0, "")
        asking, calling, *_ = result.stdout.splitlines()
        assert asking == f"Asking {address} for TwiML"
        assert calling == f"Calling {server.url}"
        server.wait_for('"customParameters":{"FirstName":"Jane","LastName":"Doe","From":"\\+15550100001"}')
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

    @pytest.mark.parametrize("callback", ["/stream-status", "ftp://a/b", "http://[a/b"])
    def test_a_callback_that_is_none(self, tmp_path, callback):
        document = tmp_path / "bin.xml"
        document.write_text(
            f'<Response><Start><Stream url="wss://a/m" statusCallback="{callback}"/></Start></Response>'
        )
        result = run_caller("--twiml", str(document))
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert f'statusCallback "{callback}"' in result.stderr


class TestOptions:
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
            (["--auth-token", b"\xff"], "--auth-token: it must be ASCII"),
            (["--track", "both_tracks", "--digits", "1"], "<Connect><Stream>: leave out --track"),
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
            ("ws://127.0.0.1/\udcff", 31923),  # a byte that is no UTF-8
            ("ws://a..b/media", 31923),
            ("ws://127.0.0.1:99999/media", 31923),
        ],
    )
    def test_an_address_that_cannot_be_dialled(self, url, code):
        result = run_caller(url)
        assert result.returncode == 1
        assert result.stderr.startswith(f"Failed: {code} ")
        assert result.stderr.count("\n") == 1

    def test_without_a_url_it_calls_the_server_of_the_settings(self, server):
        result = run_caller("--fast", "--seconds", "0.1", HTTP_SERVER_PORT=str(server.port))
        assert result.returncode == 0
        assert f"Calling ws://127.0.0.1:{server.port}/media\n" in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--save-heard", "no-such/heard.wav"], "there is no such folder"),
            (["--save-heard", "a" * 300], "File name too long"),
            (["--save-heard", "/dev/null"], "it must be a new file, or one to write over"),
            (["--save-heard", "SAID", "--audio", "SAID"], "it must be a new file, or one to write over"),
            (["--save-heard", "heard.wav", "--calls", "2"], "it is for one call"),
            (["--save-heard", "heard.wav", "--track", "both_tracks"], "only on a bidirectional stream"),
        ],
    )
    def test_where_what_is_heard_cannot_be_saved(self, tmp_path, arguments, words):
        said = tmp_path / "said.wav"
        said.write_bytes((ROOT / "mediastreams" / "caller" / "sample.wav").read_bytes())
        result = run_caller(*[str(said) if each == "SAID" else each for each in arguments])
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert words in result.stderr
        assert said.stat().st_size > 1000
        assert not (ROOT / "heard.wav").exists()
