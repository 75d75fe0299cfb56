"""Which files RECORDINGS_DAYS removes, and which it never touches."""

import logging
import os
import time

import pytest
from support.server import run_caller
from support.streams import SID, warnings

from mediastreams.consumers.old_recordings import OldRecordings

DAY = 86400
NAME = f"20200102T030405.678Z-{SID}"
OTHER = f"20200102T030405.678Z-MZ{32 * 'e'}"


def put(folder, name, days):
    """Make a file to which was written so many days ago."""
    path = folder / name
    path.write_bytes(bytes(1000))
    at = time.time() - days * DAY
    os.utime(path, (at, at))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestRemove:
    def test_a_recording_with_all_that_belongs_to_it(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        suffixes = (".wav", ".json", ".vtt", "-2.wav", "-part2.wav", "-inbound.raw", "-2-part3-outbound.raw")
        drafts = (".json.part", ".vtt.part", ".wav.0123456789abcdef.part")
        for suffix in (*suffixes, *drafts):
            put(tmp_path, NAME + suffix, 31)
        put(tmp_path, f"{OTHER}.wav", 31)
        OldRecordings(str(tmp_path), 30).remove()
        assert names(tmp_path) == []
        assert warnings(caplog) == [
            f"Recordings older than 30 days removed from {tmp_path}: 2, with 11 files of 0.0 MB"
        ]

    def test_one_that_is_not_old_enough(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        put(tmp_path, f"{NAME}.wav", 29.9)
        OldRecordings(str(tmp_path), 30).remove()
        assert (names(tmp_path), warnings(caplog)) == ([f"{NAME}.wav"], [])

    @pytest.mark.parametrize("newest", [".wav", ".json", "-part2.wav", ".wav.0123456789abcdef.part"])
    def test_nothing_of_a_stream_that_is_written(self, tmp_path, newest):
        """Whichever of its files that is, and however long the call is."""
        for suffix in (".wav", ".json", ".vtt", "-part2.wav"):
            put(tmp_path, NAME + suffix, 400)
        put(tmp_path, NAME + newest, 0)
        before = names(tmp_path)
        OldRecordings(str(tmp_path), 1).remove()
        assert names(tmp_path) == before

    def test_no_other_file(self, tmp_path):
        others = ["notes.txt", f"{NAME}.mp3", f"{NAME}.wav.bak", f"x{NAME}.wav", ".part", f"{NAME[:-1]}.wav"]
        for name in others:
            put(tmp_path, name, 400)
        (tmp_path / "elsewhere").write_text("kept")
        (tmp_path / f"{OTHER}.wav").symlink_to(tmp_path / "elsewhere")
        (tmp_path / f"{OTHER}.json").mkdir()
        before = names(tmp_path)
        OldRecordings(str(tmp_path), 1).remove()
        assert names(tmp_path) == before

    def test_nothing_of_a_stream_that_is_linked(self, tmp_path):
        (tmp_path / "elsewhere").touch()
        (tmp_path / f"{NAME}.wav").symlink_to(tmp_path / "elsewhere")
        put(tmp_path, f"{NAME}.json", 400)
        before = names(tmp_path)
        OldRecordings(str(tmp_path), 1).remove()
        assert names(tmp_path) == before

    def test_a_clock_that_is_set_forward(self, tmp_path, monkeypatch):
        """What is being written has the time of before; a look later it has not."""
        old = OldRecordings(str(tmp_path), 30)
        put(tmp_path, f"{OTHER}.wav", 31)
        put(tmp_path, f"{NAME}.wav", 0)
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 40 * DAY)
        old.remove()
        assert names(tmp_path) == [f"{NAME}.wav"]
        old.remove()
        assert names(tmp_path) == []

    def test_a_folder_that_is_not_there_yet(self, tmp_path, caplog):
        OldRecordings(str(tmp_path / "missing"), 1).remove()
        assert warnings(caplog) == []

    def test_what_is_no_folder_is_one_line(self, tmp_path, caplog):
        (tmp_path / "file").touch()
        OldRecordings(str(tmp_path / "file"), 1).remove()
        assert warnings(caplog) == [f"RECORDINGS_DAYS: {tmp_path}/file cannot be read: Not a directory"]

    def test_what_cannot_be_removed_is_one_line(self, tmp_path, caplog, monkeypatch):
        """Tests may run as root, who may remove all: so the system's answer is the test's."""
        for suffix in (".wav", ".json"):
            put(tmp_path, NAME + suffix, 31)

        def unlink(path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.unlink", unlink)
        OldRecordings(str(tmp_path), 30).remove()
        assert warnings(caplog) == [
            f"RECORDINGS_DAYS: old recordings in {tmp_path} cannot be removed: Permission denied"
        ]

    def test_another_process_is_faster(self, tmp_path, caplog, monkeypatch):
        caplog.set_level(logging.INFO)
        old = OldRecordings(str(tmp_path), 30)
        for name in (NAME, OTHER):
            put(tmp_path, f"{name}.wav", 31)
        streams = list(old._streams(time.time()))
        (tmp_path / f"{NAME}.wav").unlink()
        monkeypatch.setattr(old, "_streams", lambda _: streams)
        old.remove()
        assert names(tmp_path) == []
        assert warnings(caplog)[0].endswith(": 1, with 1 files of 0.0 MB")


def test_a_server_removes_what_is_old_and_records(start_server, tmp_path):
    put(tmp_path, f"{NAME}.wav", 31)
    server = start_server(RECORDINGS_DIR=str(tmp_path), RECORDINGS_DAYS="30")
    server.wait_for(r"INFO in old_recordings: Recordings older than 30 days removed from .*: 1, with 1 files")
    assert run_caller(server.url, "--seconds", "0.2").returncode == 0
    server.wait_for(" recorded in ")
    assert len(list(tmp_path.glob("*.wav"))) == 1


def test_it_does_so_each_hour(start_server, tmp_path):
    hour = "from mediastreams.consumers import old_recordings as o; o._EVERY = 0.05"
    program = f"{hour}\nimport runpy; runpy.run_path('app.py', run_name='__main__')"
    server = start_server("-c", program, RECORDINGS_DIR=str(tmp_path), RECORDINGS_DAYS="30")
    for name in (NAME, OTHER):
        put(tmp_path, f"{name}.wav", 31)
        server.wait_for("Recordings older than 30 days removed")
    assert names(tmp_path) == []
