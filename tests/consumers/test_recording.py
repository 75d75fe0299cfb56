"""Recordings of whole calls, made by a server in a process of its own, and read back by libsndfile."""

import contextlib
import errno
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import time
from datetime import datetime

import pytest
from support import calls
from support.server import ROOT, SECONDS, run_caller, wait_until
from support.sound import channels_of, plain
from support.streams import CONNECTED, SID, FakeConnection, dtmf, media, start, stop
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mediastreams.audio import files as module
from mediastreams.audio import mulaw
from mediastreams.audio.wav import WavFile
from mediastreams.config import Settings
from mediastreams.consumers.recording import Recording
from mediastreams.protocol.messages import (
    Mark,
    MarkMetadata,
    Media,
    MediaMetadata,
    Start,
    StartMetadata,
    Stop,
    StopMetadata,
)
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript

FIRST = 155  # ms


def hand_over(recording, message):
    """Hand a chunk over where its timestamp says."""
    media = message.media
    recording.audio(media.track, 8 * media.timestamp, media.payload)


class Sender:
    """A call's messages, numbered as Twilio does; `outcome` is what it says in `sent`."""

    def __init__(self, *tracks, sid=SID):
        self.number = 0
        self.sid = sid
        self.sent = {track: {} for track in tracks}  # timestamp: payload
        self.chance = random.Random(7)

    def next(self):
        self.number += 1
        return self.number

    def start(self):
        tracks = tuple(self.sent)
        metadata = StartMetadata("AC" + "1" * 32, self.sid, "CA" + "2" * 32, tracks)
        metadata.custom_parameters = {"FirstName": "J\u00fcrgen", "Escape": "\x1b[2J"}
        return Start(self.next(), metadata, self.sid)

    def media(self, track, timestamp, size=160):
        payload = self.chance.randbytes(size)
        self.sent[track][timestamp] = payload
        return Media(
            self.next(), MediaMetadata(track=track, chunk=1, timestamp=timestamp, payload=payload), self.sid
        )

    def chunks(self, begin, end):
        """Return the media of all tracks for so many chunks of 20 ms."""
        return [self.media(track, FIRST + 20 * n) for n in range(begin, end) for track in self.sent]

    def stop(self):
        return Stop(self.next(), StopMetadata("AC" + "1" * 32, "CA" + "2" * 32), self.sid)

    def audio(self, track):
        """Return what the track's channel must hold: each payload in its place, and silence."""
        first = min(min(sent) for sent in self.sent.values())
        end = max(max(sent) for sent in self.sent.values()) + 20
        audio = bytearray(mulaw.SILENCE * ((end - first) * 8))
        for timestamp, payload in self.sent[track].items():
            at = (timestamp - first) * 8
            audio[at : at + len(payload)] = payload
        return bytes(audio)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "recordings"


@pytest.fixture
def recorder(start_server, folder):
    return start_server(RECORDINGS_DIR=str(folder))


def say(server, messages):
    calls.say(server, [text if isinstance(text, str) else text.to_json() for text in messages])


def metadata_of(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


class TestAudio:
    def test_a_call_of_one_track_byte_by_byte(self, recorder, folder):
        call = Sender("inbound")
        say(recorder, [call.start(), *call.chunks(0, 300), call.stop()])
        (path,) = folder.glob("*.wav")
        assert path.read_bytes()[58:] == call.audio("inbound")
        assert channels_of(path) == [plain(call.audio("inbound"))]

    def test_both_tracks_with_losses_and_a_jump(self, recorder, folder):
        """40 messages lost, and 3 s for which Twilio sent nothing."""
        call = Sender("inbound", "outbound")
        messages = [call.start(), *call.chunks(0, 100)]
        call.number += 40
        messages += [*call.chunks(120, 200), *call.chunks(350, 450), call.stop()]
        say(recorder, messages)
        (path,) = folder.glob("*.wav")
        left, right = channels_of(path)
        assert abs(len(left) / 8000 - 450 * 0.02) < 0.02
        assert left == plain(call.audio("inbound"))
        assert right == plain(call.audio("outbound"))
        assert left[100 * 160 : 120 * 160] == right[200 * 160 : 220 * 160] == mulaw.SILENCE * 3200
        metadata = metadata_of(folder)
        gaps = [{"at": 2.0, "duration": 0.4}, {"at": 4.0, "duration": 3.0}]
        assert metadata["media"]["inbound"]["gaps"] == metadata["media"]["outbound"]["gaps"] == gaps
        assert metadata["lost"] == [{"sequenceNumber": 202, "messages": 40, "at": 2.0}]
        assert (metadata["messages"]["lost"], metadata["duration"]) == (40, 9.0)

    def test_outbound_alone_is_mono(self, recorder, folder):
        call = Sender("outbound")
        say(recorder, [call.start(), *call.chunks(0, 10), call.stop()])
        (path,) = folder.glob("*.wav")
        assert channels_of(path) == [plain(call.audio("outbound"))]

    def test_a_track_that_begins_later(self, recorder, folder):
        call = Sender("inbound", "outbound")
        messages = [call.start()]
        messages += [call.media("inbound", FIRST + 20 * n) for n in range(200)]
        messages += [call.media("outbound", FIRST + 20 * n + 7) for n in range(150, 200)]
        say(recorder, [*messages, call.stop()])
        (path,) = folder.glob("*.wav")
        left, right = channels_of(path)
        assert len(left) == 200 * 160 + 56
        assert right == plain(call.audio("outbound"))

    def test_one_that_begins_a_little_earlier(self, recorder, folder):
        call = Sender("inbound", "outbound")
        messages = [call.start()]
        for n in range(50):
            messages += [call.media("inbound", 160 + 20 * n), call.media("outbound", 155 + 20 * n)]
        say(recorder, [*messages, call.stop()])
        (path,) = folder.glob("*.wav")
        left, right = channels_of(path)
        assert left == mulaw.SILENCE * 40 + plain(b"".join(call.sent["inbound"].values()))
        assert right == plain(b"".join(call.sent["outbound"].values())) + mulaw.SILENCE * 40

    def test_overlaps_and_repeats_do_not_lengthen_it(self, recorder, folder):
        call = Sender("inbound")
        messages = [call.start(), *call.chunks(0, 100)]
        expected = call.audio("inbound")
        for n in range(100):
            messages.append(media(call.next(), FIRST + 20 * n))  # the same places again
        for _ in range(20):
            messages.append(messages[-1])  # and the same message
        overlap = media(call.next(), FIRST + 20 * 99 + 5)
        say(recorder, [*messages, overlap, call.stop()])
        (path,) = folder.glob("*.wav")
        assert channels_of(path) == [plain(expected) + bytes(40)]

    def test_late_messages_fill_their_gap(self, recorder, folder):
        call = Sender("inbound")
        messages = call.chunks(0, 200)
        late = messages[20:40]
        del messages[20:40]
        messages[150:150] = late
        first = call.start()
        first.sequence_number = 0
        say(recorder, [first, *messages, call.stop()])
        (path,) = folder.glob("*.wav")
        assert channels_of(path) == [plain(call.audio("inbound"))]
        assert metadata_of(folder)["media"]["inbound"]["gaps"] == []

    def test_a_first_message_that_comes_late(self, recorder, folder):
        call = Sender("inbound")
        messages = [call.start(), *call.chunks(0, 50), call.stop()]
        messages[1:3] = messages[2], messages[1]
        say(recorder, messages)
        (path,) = folder.glob("*.wav")
        assert channels_of(path) == [plain(call.audio("inbound"))]
        assert metadata_of(folder)["duration"] == 1.0

    @pytest.mark.parametrize("timestamp", [2**63 - 1, 2 * 3600_000, 10**15])
    def test_an_implausible_timestamp_is_logged_and_fills_no_disk(self, recorder, folder, timestamp):
        call = Sender("inbound")
        messages = [call.start(), *call.chunks(0, 50)]
        messages.append(media(call.next(), timestamp))
        messages += [*call.chunks(51, 100), call.stop()]
        say(recorder, messages)
        (path,) = folder.glob("*.wav")
        (audio,) = channels_of(path)
        expected = plain(call.audio("inbound"))
        assert audio == expected[: 50 * 160] + bytes(160) + expected[51 * 160 :]
        assert (
            f"timestamp {timestamp} ms of the inbound track is {timestamp - FIRST - 1000} ms off"
            in recorder.stop()
        )

    def test_an_implausible_beginning_of_the_second_track(self, recorder, folder):
        call = Sender("inbound", "outbound")
        messages = [call.start(), *(call.media("inbound", FIRST + 20 * n) for n in range(50))]
        messages += [media(call.next(), 36_000_000, "outbound"), call.stop()]
        say(recorder, messages)
        (path,) = folder.glob("*.wav")
        assert [len(audio) for audio in channels_of(path)] == [51 * 160] * 2
        assert (
            f"timestamp 36000000 ms of the outbound track is {36_000_000 - FIRST - 1000} ms off"
            in recorder.stop()
        )

    def test_a_track_from_before_the_beginning_is_named(self, tmp_path, caplog):
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start(tracks=("inbound", "outbound")).to_json())
        recording = Recording(stream, str(tmp_path))
        recording.start(stream.start)
        hand_over(recording, media(2, 3000, size=1600))
        recording.flush()
        for n in range(3):
            hand_over(recording, media(3 + n, 1000 + 20 * n, "outbound"))
        recording.stop()
        assert [record.getMessage() for record in caplog.records] == [
            f"Stream {SID}: audio of outbound from before the recording began is left out"
        ]

    def test_what_is_from_before_the_beginning_has_no_gap_in_the_file(self, tmp_path):
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start().to_json())
        recording = Recording(stream, str(tmp_path))
        recording.start(stream.start)
        for n, timestamp in enumerate([*range(1000, 1200, 20), 500]):
            stream.receive(media(2 + n, timestamp).to_json())
            hand_over(recording, media(2 + n, timestamp))
            recording.flush()
        recording.transcript(Transcript("inbound", "Hello", True, 0.6, 0.7))  # since the chunk at 500 ms
        recording.stop()
        metadata = metadata_of(tmp_path)
        assert (metadata["duration"], metadata["media"]["inbound"]["gaps"]) == (0.2, [])
        assert [(text["start"], text["end"]) for text in metadata["transcripts"]] == [(0.1, 0.2)]

    def test_one_that_goes_back_is_named(self, recorder, folder):
        call = Sender("inbound")
        messages = [call.start(), *call.chunks(0, 50), media(call.next(), 160), *call.chunks(50, 100)]
        say(recorder, [*messages, call.stop()])
        (path,) = folder.glob("*.wav")
        assert channels_of(path) == [plain(call.audio("inbound"))]
        assert "timestamp 160 ms of the inbound track goes back" in recorder.stop()

    def test_a_track_that_was_not_announced(self, recorder, folder):
        call = Sender("inbound")
        messages = [call.start(), *call.chunks(0, 10)]
        messages += [media(call.next(), 20 * n, "outbound") for n in range(5)]
        say(recorder, [*messages, call.stop()])
        (path,) = folder.glob("*.wav")
        assert channels_of(path) == [plain(call.audio("inbound"))]
        assert recorder.stop().count("outbound is not among its tracks, not recorded") == 1

    def test_fifty_calls_at_once(self, recorder, folder):
        result = run_caller(recorder.url, "--calls", "50", "--seconds", "2", "--track", "both_tracks")
        assert (result.returncode, result.stderr) == (0, "")
        files = [path.read_bytes()[58:] for path in folder.glob("*.wav")]
        assert len(files) == 50
        assert len(set(files)) == 1  # they say the same
        assert len(files[0]) == 2 * 2 * 8000


class TestWhenItEndsBadly:
    def test_killed_in_the_middle(self, recorder, folder):
        call = Sender("inbound", "outbound")
        with connect(recorder.url, compression=None) as ws:
            ws.send(call.start().to_json())
            begun = time.monotonic()
            for n in range(150):  # at the pace of a call, for what is written depends on it
                time.sleep(max(0, begun + 0.02 * n - time.monotonic()))
                for message in call.chunks(n, n + 1):
                    ws.send(message.to_json())
            os.killpg(recorder.process.pid, signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                ws.recv(SECONDS)
        (path,) = folder.glob("*.wav")
        left, right = channels_of(path)
        assert 2 * 8000 <= len(left) == len(right)
        for audio, track in ((left, "inbound"), (right, "outbound")):
            # The last 20 ms of one track may have come, and not yet those of the other: silence in the file.
            said = plain(call.audio(track))
            written = audio if said.startswith(audio) else audio.removesuffix(mulaw.SILENCE * 160)
            assert said.startswith(written)
        metadata = metadata_of(folder)
        assert (metadata["streamSid"], metadata["end"], metadata["ended"]) == (SID, None, None)

    @pytest.fixture
    def small_disk(self, tmp_path):
        """A folder of 256 kB of its own."""
        folder = tmp_path / "small"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting a small tmpfs is not allowed here")
        yield folder
        subprocess.run(["umount", str(folder)], check=True)

    def test_a_full_disk(self, start_server, small_disk):
        self.fills_the_disk(
            start_server(RECORDINGS_DIR=str(small_disk)), small_disk, "No space left on device"
        )

    def test_a_quota(self, start_server, tmp_path):
        """The same where no folder can be mounted: no file may be larger than 200 kB."""
        (tmp_path / "app.py").write_text(
            "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
            + (ROOT / "app.py").read_text()
        )
        folder = tmp_path / "recordings"
        self.fills_the_disk(start_server(cwd=tmp_path, RECORDINGS_DIR=str(folder)), folder, "File too large")

    def test_full_at_the_very_end(self, tmp_path, caplog, monkeypatch):
        """The last write meets it: one line, and the JSON file says so."""
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start().to_json())
        recording = Recording(stream, str(tmp_path))
        recording.start(stream.start)
        hand_over(recording, media(2, 0))

        def write(self, offset, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(WavFile, "_write", write)
        recording.stop()
        (error,) = caplog.records
        assert error.getMessage().endswith("ends: No space left on device")
        assert metadata_of(tmp_path)["error"] == "No space left on device"

    def test_a_key_after_the_end_of_the_recording_has_its_time(self, tmp_path, monkeypatch):
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start().to_json())
        recording = Recording(stream, str(tmp_path))
        recording.start(stream.start)

        def write(self, offset, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(WavFile, "_write", write)
        for n in range(100):
            hand_over(recording, media(2 + n, 20 * n))
            recording.flush()
        recording.dtmf(dtmf(102))
        recording.stop()
        assert metadata_of(tmp_path)["error"] == "No space left on device"
        assert metadata_of(tmp_path)["dtmf"] == [{"digit": "1", "at": 2.0}]

    def fills_the_disk(self, server, folder, why):
        call = Sender("inbound")
        say(server, [call.start(), *call.chunks(0, 3000), call.stop()])
        server.wait_for(f"Stream {SID}: 60.00 s; inbound 3000 chunks, 480000 bytes; 0 messages lost")
        (path,) = folder.glob("*.wav")
        (audio,) = channels_of(path)
        assert len(audio) > 150_000
        assert plain(call.audio("inbound")).startswith(audio)
        other = run_caller(server.url, "--seconds", "0.2")
        assert (other.returncode, other.stderr) == (0, "")
        printed = server.stop()
        errors = [line for line in printed.splitlines() if " ERROR " in line and SID in line]
        assert len(errors) == 1
        assert errors[0].endswith(f"the recording {path} ends: {why}")
        assert "Traceback" not in printed

    def test_a_file_that_was_removed_meanwhile(self, recorder, folder):
        sender = connect(recorder.url, compression=None)
        with sender as ws:
            for message in (CONNECTED, start(), media(2, 0)):
                ws.send(message.to_json())
            wait_until(lambda: list(folder.glob("*.wav")) and list(folder.glob("*.json")))
            next(folder.glob("*.wav")).unlink()
            ws.send(stop(3).to_json())
            for _ in ws:
                pass
        recorder.wait_for(r"the recording \S+\.wav ends: No such file or directory")
        recorder.wait_for("messages lost")
        assert "recorded in" not in recorder.stop()
        assert metadata_of(folder)["error"] == "No such file or directory"

    def test_a_folder_that_cannot_be(self, start_server, tmp_path):
        (tmp_path / "file").write_text("")
        folder = str(tmp_path / "file" / "recordings")
        server = start_server(RECORDINGS_DIR=folder)
        assert run_caller(server.url, "--seconds", "0.2").returncode == 0
        server.wait_for("Stream MZ.*: 0.20 s; inbound 10 chunks")
        printed = server.stop()
        (error,) = [line for line in printed.splitlines() if " ERROR " in line]
        assert f"not recorded, RECORDINGS_DIR='{folder}' cannot be used: Not a directory" in error
        assert (
            f"WARNING in extension: RECORDINGS_DIR='{folder}' cannot be used: {tmp_path}/file is not"
            in printed
        )
        assert "Traceback" not in printed


class TestMetadata:
    def test_it_is_whole(self, recorder, folder):
        call = Sender("inbound", "outbound")
        messages = [call.start(), *call.chunks(0, 50), dtmf(call.next()), *call.chunks(50, 75)]
        messages += [Mark(call.next(), SID, MarkMetadata("greeting")), "{}"]
        say(recorder, [*messages, *call.chunks(75, 100), call.stop()])
        metadata = metadata_of(folder)
        begin, end = (datetime.fromisoformat(metadata.pop(name)) for name in ("start", "end"))
        assert begin.utcoffset().total_seconds() == 0
        assert 0 <= (end - begin).total_seconds() < SECONDS
        (path,) = folder.glob("*.wav")
        assert path.name == f"{begin:%Y%m%dT%H%M%S}.{begin.microsecond // 1000:03}Z-{SID}.wav"
        media = {"chunks": 100, "bytes": 16000, "missing": 0.0, "gaps": []}
        assert metadata == {
            "streamSid": SID,
            "callSid": "CA" + "2" * 32,
            "accountSid": "AC" + "1" * 32,
            "tracks": ["inbound", "outbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"FirstName": "J\u00fcrgen", "Escape": "\x1b[2J"},
            "resumes": None,
            "resumedBy": None,
            "ended": "stop",
            "recording": path.name,
            "raw": {},
            "continues": None,
            "duration": 2.0,
            "error": None,
            "paused": [],
            "messages": {"received": 205, "lost": 0, "late": 0, "bad": 1},
            "media": {"inbound": media, "outbound": media},
            "lost": [],
            "dtmf": [{"digit": "1", "at": 1.0}],
            "marks": [{"name": "greeting", "at": 1.5}],
            "transcripts": [],
        }

    def test_how_it_ended(self, start_server, folder):
        server = start_server(RECORDINGS_DIR=str(folder), IDLE_TIMEOUT="0.5", MAX_MESSAGE_BYTES="1024")

        def stop_it(ws, call):
            ws.send(call.stop().to_json())

        def send_too_much(ws, call):
            ws.send("x" * 2000)

        ways = {
            "stop": stop_it,
            "peer closed 1000": lambda ws, call: ws.close(),
            "peer closed 4321": lambda ws, call: ws.close(4321),
            "server closed 1009": send_too_much,
            "timed out": lambda ws, call: None,
            "dropped": lambda ws, call: ws.socket.shutdown(2),
        }
        for n, end in enumerate(ways.values()):
            call = Sender("inbound", sid=f"MZ{n:032}")
            with contextlib.suppress(ConnectionClosed), connect(server.url, compression=None) as ws:
                for message in [call.start(), *call.chunks(0, 10)]:
                    ws.send(message.to_json())
                end(ws, call)
                for _ in ws:
                    pass
        server.wait_for("Connection closed", times=len(ways))
        files = [json.loads(path.read_text()) for path in folder.glob("*.json")]
        files.sort(key=lambda metadata: metadata["streamSid"])
        assert [metadata["ended"] for metadata in files] == list(ways)
        assert {metadata["duration"] for metadata in files} == {0.2}
        assert all(metadata["end"] for metadata in files)
        assert "no stop message: dropped" in server.stop()

    def test_drained(self, start_server, folder):
        server = start_server(RECORDINGS_DIR=str(folder), DRAIN_TIMEOUT="0.3")
        call = Sender("inbound")
        with connect(server.url, compression=None) as ws:
            for message in [call.start(), *call.chunks(0, 10)]:
                ws.send(message.to_json())
            server.wait_for("Media message")
            server.process.terminate()
            for _ in ws:
                pass
        server.stop(told=False)
        assert (metadata_of(folder)["ended"], metadata_of(folder)["duration"]) == ("drained", 0.2)

    def test_a_failure_of_the_route(self, start_server, folder, tmp_path):
        source = (ROOT / "app.py").read_text().replace("has_seen_media = True", "1 / 0")
        (tmp_path / "app.py").write_text(source)
        server = start_server(cwd=tmp_path, RECORDINGS_DIR=str(folder))
        run_caller(server.url, "--seconds", "0.2")
        server.wait_for("ZeroDivisionError")
        assert metadata_of(folder)["ended"] == "failed"

    def test_under_gunicorn(self, start_server, folder):
        server = start_server("-m", "gunicorn", "app:app", RECORDINGS_DIR=str(folder))
        result = run_caller(server.url, "--seconds", "1", "--track", "both_tracks")
        assert (result.returncode, result.stderr) == (0, "")
        server.wait_for("1.00 s recorded in")
        assert (metadata_of(folder)["ended"], metadata_of(folder)["duration"]) == ("stop", 1.0)


class TestFiles:
    def test_they_are_their_owners(self, recorder, folder):
        call = Sender("inbound")
        say(recorder, [call.start(), *call.chunks(0, 5), call.stop()])
        paths = list(folder.iterdir())
        assert sorted(path.suffix for path in paths) == [".json", ".wav"]
        assert [stat.S_IMODE(path.stat().st_mode) for path in [folder, *paths]] == [0o700, 0o600, 0o600]

    @pytest.mark.parametrize(
        "sid", ["../../etc/passwd", "MZ" + "0" * 31 + "/", "MZ", "", "MZ" + "0" * 32 + "\n", "/tmp/x", "CON"]
    )
    def test_no_name_comes_from_the_wire(self, recorder, folder, tmp_path, sid):
        call = Sender("inbound", sid=sid)
        say(recorder, [call.start(), *call.chunks(0, 5), call.stop()])
        recorder.wait_for("Connection closed")
        assert not folder.exists()
        assert list(tmp_path.iterdir()) == []
        assert "not recorded, its SID is not MZ and 32 digits" in recorder.stop()

    def test_streams_of_one_name(self, tmp_path):
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start().to_json())
        for n in range(3):
            recording = Recording(stream, str(tmp_path))
            recording.start(stream.start)
            hand_over(recording, media(2, 0, size=n))
            recording.stop()
        sizes = sorted(path.stat().st_size for path in tmp_path.glob("*.wav"))
        assert sizes == [58, 60, 60]
        assert len(list(tmp_path.glob("*.json"))) == 3

    def test_notes_are_bounded(self, tmp_path):
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start().to_json())
        recording = Recording(stream, str(tmp_path))
        recording.start(stream.start)
        for n in range(3000):
            recording.dtmf(dtmf(n))
            recording.mark(Mark(n, SID, MarkMetadata("m" * 60_000)))
        recording.stop()
        metadata = metadata_of(tmp_path)
        assert (len(metadata["dtmf"]), len(metadata["marks"])) == (1000, 1000)
        assert {mark["name"] for mark in metadata["marks"]} == {"m" * 200}

    @pytest.mark.parametrize("planted", ["symlink", "file", "pipe"])
    def test_a_draft_that_somebody_has_planted(self, tmp_path, planted):
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start().to_json())
        folder = tmp_path / "recordings"
        recording = Recording(stream, str(folder))
        recording.start(stream.start)
        (path,) = folder.glob("*.json")
        draft, victim = path.with_suffix(".json.part"), tmp_path / "victim"
        victim.write_text("precious")
        if planted == "symlink":
            draft.symlink_to(victim)
        elif planted == "file":
            draft.touch(mode=0o666)
        else:
            os.mkfifo(draft)
        recording.stop()
        assert victim.read_text() == "precious"
        assert json.loads(path.read_text())["streamSid"] == SID
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600

    def test_no_descriptor_left_for_the_json_file(self, tmp_path, monkeypatch, caplog):
        """The audio is recorded nevertheless."""
        stream = Stream(FakeConnection(), Settings())
        stream.receive(start().to_json())
        recording = Recording(stream, str(tmp_path))

        def open_json(path, flags):
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(module, "open_private", open_json)
        recording.start(stream.start)
        hand_over(recording, media(2, 0))
        monkeypatch.undo()
        recording.stop()
        assert (metadata_of(tmp_path)["duration"], metadata_of(tmp_path)["error"]) == (0.02, None)
        (error,) = caplog.records
        (path,) = tmp_path.glob("*.json")
        assert error.getMessage() == f"Stream {SID}: {path} cannot be written: Too many open files"

    def test_the_log_says_where(self, recorder, folder):
        call = Sender("inbound")
        say(recorder, [call.start(), *call.chunks(0, 5), call.stop()])
        where = recorder.wait_for(r"INFO in recording: Stream (MZ\w+): 0\.10 s recorded in (.*)$")
        assert re.fullmatch(rf"{folder}/\d{{8}}T\d{{6}}\.\d{{3}}Z-{SID}\.wav", where[2])
