"""Calls whose `mediaFormat` is not mu-law at 8 kHz, from the simulated caller to the recording."""

import importlib.util
import json
import math
import os
import random
import re
import signal
import struct
import time
import wave

import pytest
from support.caller import call
from support.server import ROOT, SECONDS, run_caller, sounds_like
from support.sound import channels_of, plain
from support.streams import SID, start
from support.terminal import OnTerminal, pty
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mediastreams.audio import mulaw
from mediastreams.caller import SAMPLE, sound_file
from mediastreams.protocol.messages import Media, MediaFormat, MediaMetadata

RATE = 16000
NAME = "audio/l16"
LINE = "its audio is audio/l16 at 16000 Hz, 1 channel, which is not decoded"


def tone(seconds, rate=RATE, dbfs=-30.0):
    """Return a tone of 440 Hz, in 16-bit PCM."""
    amplitude = 10 ** (dbfs / 20) * math.sqrt(2) * 32768
    samples = (amplitude * math.sin(2 * math.pi * 440 * n / rate) for n in range(round(seconds * rate)))
    return struct.pack(f"<{round(seconds * rate)}h", *map(round, samples))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "recordings"


@pytest.fixture
def recorder(start_server, folder):
    return start_server(RECORDINGS_DIR=str(folder))


@pytest.fixture
def wav(tmp_path):
    """A WAV file of a tone at 16 kHz, 1 s."""
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(tone(1))
    return path


@pytest.fixture
def raw(tmp_path):
    """A raw file of the same tone; it ends within a chunk."""
    path = tmp_path / "tone.l16"
    path.write_bytes(tone(0.99)[:-3])
    return path


def account_of(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


class TestMulawAtAnotherRate:
    def test_a_tone_is_recorded_as_it_was_said(self, recorder, folder, wav):
        printed = call(recorder.url, "--sample-rate", "16000", "--audio", str(wav))
        assert "started: inbound, 1.00 s" in printed
        recorder.wait_for("inbound 50 chunks, 16000 bytes; 0 messages lost")
        (path,) = folder.glob("*.wav")
        assert struct.unpack_from("<HHII", path.read_bytes(), 20) == (7, 1, RATE, RATE)
        assert channels_of(path, at=RATE) == [mulaw.encode(tone(1))]
        account = account_of(folder)
        assert account["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": RATE, "channels": 1}
        assert account["duration"] == 1.0
        assert account["media"]["inbound"] == {"chunks": 50, "bytes": 16000, "missing": 0.0, "gaps": []}
        assert "not decoded" not in recorder.stop()

    def test_where_20_ms_are_no_whole_number_of_samples(self, recorder, folder, wav):
        call(recorder.url, "--sample-rate", "11025", "--fast", "--audio", str(wav), "--track", "both_tracks")
        recorder.wait_for("inbound 50 chunks, 11025 bytes; outbound 50 chunks, 11025 bytes; 0 messages lost")
        (path,) = folder.glob("*.wav")
        inbound, outbound = channels_of(path, at=11025)
        assert abs(mulaw.level(inbound) + 30) < 0.1
        assert set(outbound) == {0xFF}
        assert account_of(folder)["media"]["inbound"]["gaps"] == []

    def test_an_echo_comes_a_second_later(self, server, wav, tmp_path):
        heard = tmp_path / "heard.wav"
        url = server.url.replace("/media", "/echo")
        arguments = ["--sample-rate", "16000", "--audio", str(wav), "--seconds", "2.5"]
        call(url, *arguments, "--parameter", "bidirectional=true", "--save-heard", str(heard))
        (codes,) = channels_of(heard, at=RATE)
        said = plain(mulaw.encode(tone(1))).lstrip(mulaw.SILENCE)
        begin = len(codes) - len(codes.lstrip(mulaw.SILENCE))
        assert RATE <= begin < 1.5 * RATE  # a second of silence, and what the machine took to answer
        assert codes[begin : begin + RATE // 2] == said[: RATE // 2]


class TestAnotherEncoding:
    def test_every_byte_is_kept(self, recorder, folder, raw):
        arguments = ["--sample-rate", "16000", "--encoding", NAME, "--audio", str(raw)]
        call(recorder.url, *arguments, "--drop")
        size = raw.stat().st_size
        recorder.wait_for(f"0.98 s; inbound 50 chunks, {size} bytes; 0 messages lost")
        (path,) = folder.glob("*.raw")
        assert path.read_bytes() == raw.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
        assert {path.suffix for path in folder.iterdir()} == {".raw", ".json"}
        account = account_of(folder)
        assert account["mediaFormat"] == {"encoding": NAME, "sampleRate": RATE, "channels": 1}
        assert (account["recording"], account["raw"]) == (None, {"inbound": path.name})
        assert account["media"] == {"inbound": {"chunks": 50, "bytes": size}}
        assert (account["duration"], account["ended"]) == (0.98, "dropped")
        printed = recorder.stop()
        assert f"{size} bytes of {NAME} kept in {path}" in printed
        assert printed.count(LINE) == printed.count("WARNING in stream") == 1

    def test_killed_in_the_middle_it_has_what_had_come(self, recorder, folder, raw):
        media_format = MediaFormat(NAME, RATE)
        said = raw.read_bytes()
        payloads = [said[i : i + 640] for i in range(0, len(said), 640)]
        with connect(recorder.url, compression=None) as ws:
            ws.send(start(media_format=media_format).to_json())
            for n, payload in enumerate(payloads):
                chunk = MediaMetadata(chunk=n + 1, timestamp=20 * n, payload=payload)
                ws.send(Media(n + 2, chunk, SID).to_json())
            deadline = time.monotonic() + SECONDS
            while not (files := list(folder.glob("*.raw"))) or files[0].stat().st_size < len(said):
                assert time.monotonic() < deadline
                time.sleep(0.01)  # what is waited for is the file
            os.killpg(recorder.process.pid, signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                ws.recv(SECONDS)
        assert files[0].read_bytes() == said
        account = account_of(folder)
        assert (account["mediaFormat"]["encoding"], account["raw"]) == (NAME, {"inbound": files[0].name})
        assert account["end"] is None

    def test_two_tracks_have_a_file_each(self, recorder, folder, raw):
        call(recorder.url, "--encoding", NAME, "--audio", str(raw), "--track", "both_tracks", "--fast")
        recorder.wait_for("inbound .* outbound .* 0 messages lost")
        files = {path.name.rpartition("-")[2]: path.read_bytes() for path in folder.glob("*.raw")}
        assert files == {"inbound.raw": raw.read_bytes(), "outbound.raw": raw.read_bytes()}
        assert {track: name.rpartition("-")[2] for track, name in account_of(folder)["raw"].items()} == {
            "inbound": "inbound.raw",
            "outbound": "outbound.raw",
        }

    @pytest.mark.skipif(pty is None, reason="this system has no pseudo-terminals")
    def test_it_is_not_metered(self, raw, wav):
        arguments = ["--sample-rate", "16000", "--seconds", "2.5"]
        for more, is_metered in (
            (["--audio", str(wav)], True),
            (["--audio", str(raw), "--encoding", NAME], False),
        ):
            server = OnTerminal()
            try:
                assert run_caller(server.url, *arguments, *more).returncode == 0
                server.wait_for("Stream MZ.* 0 messages lost")
            finally:
                server.stop()
            assert (b"-30 dBFS" in server.bytes) is is_metered
            assert (b"dBFS" in server.bytes) is is_metered

    def test_a_consumer_gets_media_and_no_audio(self, start_server, tmp_path, raw):
        (tmp_path / "app.py").write_text(
            "from flask import Flask\n"
            "from mediastreams import Consumer, MediaStreams, Sockets\n"
            "app = Flask(__name__)\nsockets = Sockets(app)\nstreams = MediaStreams(app)\n"
            "@streams.register\n"
            "class Counting(Consumer):\n"
            "    media_bytes = audio_bytes = 0\n"
            "    def media(self, message): self.media_bytes += len(message.media.payload)\n"
            "    def audio(self, track, position, payload): self.audio_bytes += len(payload)\n"
            "    def stop(self):\n"
            "        encoding = self.stream.media_format.encoding\n"
            "        app.logger.info('%s %d %d', encoding, self.media_bytes, self.audio_bytes)\n"
            "@sockets.route('/media')\n"
            "def media(ws):\n"
            "    with streams.open(ws) as stream:\n"
            "        while (message := ws.receive()) is not None:\n"
            "            stream.receive(message)\n"
            "if __name__ == '__main__':\n    streams.serve()\n"
        )
        server = start_server(cwd=tmp_path)
        call(server.url, "--encoding", NAME, "--audio", str(raw), "--fast")
        server.wait_for(rf"{NAME} {raw.stat().st_size} 0$")

    def test_an_echo_is_refused(self, server, raw):
        url = server.url.replace("/media", "/echo")
        arguments = ["--encoding", NAME, "--audio", str(raw), "--parameter", "bidirectional=true"]
        result = run_caller(url, *arguments, "--seconds", "2")
        assert result.returncode == 1
        server.wait_for("closed with 1008, /echo needs a stream of mu-law, of one channel")
        assert "Traceback" not in server.stop()

    def test_a_disk_without_room_ends_it_with_one_line(self, start_server, tmp_path):
        path = tmp_path / "noise"
        path.write_bytes(random.Random(7).randbytes(500_000))
        (tmp_path / "app.py").write_text(
            "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
            + (ROOT / "app.py").read_text()
        )
        folder = tmp_path / "recordings"
        server = start_server(cwd=tmp_path, RECORDINGS_DIR=str(folder))
        call(server.url, "--encoding", NAME, "--audio", str(path), "--fast")
        server.wait_for("500000 bytes; 0 messages lost")
        (raw,) = folder.glob("*.raw")
        assert raw.read_bytes() == path.read_bytes()[:200_000]
        assert account_of(folder)["error"] == "File too large"
        printed = server.stop()
        assert printed.count(f"the recording {raw} ends: File too large") == printed.count(" ERROR ") == 1


@pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None, reason="moonshine-voice is not installed"
)
def test_mu_law_is_transcribed_at_any_rate(start_server, tmp_path):
    """The sample in three formats; the one that is not decoded is not heard."""
    raw = tmp_path / "sample.l16"
    raw.write_bytes(mulaw.decode(sound_file.read(str(SAMPLE), RATE)[0]))
    server = start_server(TRANSCRIBER="local")
    call(server.url, "--sample-rate", "16000", "--encoding", NAME, "--audio", str(raw), "--fast")
    server.wait_for(LINE)
    calls = [call(server.url, *options) for options in ((), ("--sample-rate", "16000"))]
    sids = [re.search("Stream (MZ[0-9a-f]{6})", printed)[1] for printed in calls]
    server.wait_for("Connection closed", times=2)
    printed = server.stop()
    said = re.findall("INFO in transcriber: (MZ[0-9a-f]{6}) [0-9:]+ caller: (.*)", printed)
    heard = [" ".join(text for sid, text in said if sid == wanted) for wanted in sids]
    assert {sid for sid, _ in said} == set(sids)
    assert all(sounds_like(text, "Hello, this is a simulated call.") for text in heard), heard
    assert printed.count(LINE) == 1
    assert "last words" not in printed
