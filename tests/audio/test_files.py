"""Files that are taken over from a process which may still write to them."""

import errno
import os
from pathlib import Path

import pytest

from mediastreams.audio import files as module
from mediastreams.audio.files import (
    TakenOverError,
    copy_over,
    identity,
    is_replaced,
    unusable,
    write_all,
)

DATA = os.urandom(3_000_000)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "call.wav"
    path.write_bytes(DATA)
    return path


def no_copy_file_range(monkeypatch):
    monkeypatch.delattr(os, "copy_file_range")


def one_that_fails_in_the_middle(monkeypatch):
    """Between some file systems it fails, and it may have copied a part before."""

    def copy(source, target, size):
        os.write(target, os.read(source, 1000))
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", copy)


def one_that_copies_a_part_at_a_time(monkeypatch):
    def copy(source, target, size):
        return os.write(target, os.read(source, 700_000))

    monkeypatch.setattr(os, "copy_file_range", copy)


def the_systems(monkeypatch):
    """Where it can be used, nothing is read: blocks may be shared."""

    def write(*_):
        raise AssertionError

    monkeypatch.setattr(module, "write_all", write)


WAYS = [no_copy_file_range, one_that_fails_in_the_middle, one_that_copies_a_part_at_a_time, the_systems]


class TestCopyOver:
    @pytest.mark.parametrize("way", WAYS)
    def test_it_replaces_the_file(self, path, monkeypatch, way):
        way(monkeypatch)
        with open(path, "r+b", buffering=0) as old:
            with copy_over(path) as file:
                assert file.read() == DATA
                file.seek(0)
                file.write(b"new")
                assert path.read_bytes() == DATA
            file.write(b"er")
            old.write(b"what a suspended process writes")
        file.close()
        assert path.read_bytes() == b"newer" + DATA[5:]
        assert os.listdir(path.parent) == [path.name]
        assert path.stat().st_mode & 0o777 == 0o600

    def test_where_the_block_raises_all_stays_as_it_is(self, path):
        with pytest.raises(ValueError, match=r"^no$"), copy_over(path) as file:
            file.write(b"new")
            raise ValueError("no")
        assert file.closed
        assert path.read_bytes() == DATA
        assert os.listdir(path.parent) == [path.name]

    def test_and_where_there_is_no_room(self, path, monkeypatch):
        no_copy_file_range(monkeypatch)

        def write(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(module, "write_all", write)
        with pytest.raises(OSError, match="No space left"), copy_over(path):
            raise AssertionError
        assert path.read_bytes() == DATA
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("make", [lambda path: None, os.mkdir, os.mkfifo])
    def test_where_there_is_no_file(self, tmp_path, make):
        make(tmp_path / "call.wav")
        there = os.listdir(tmp_path)
        with pytest.raises(FileNotFoundError) as caught, copy_over(tmp_path / "call.wav"):
            raise AssertionError
        assert (caught.value.errno, caught.value.strerror) == (errno.ENOENT, "No such file or directory")
        assert os.listdir(tmp_path) == there

    def test_the_last_to_begin_has_the_file(self, path):
        with pytest.raises(TakenOverError), copy_over(path) as first:
            with copy_over(path) as last:
                last.write(b"last")
            first.write(b"first")
        assert first.closed
        last.close()
        assert path.read_bytes()[:5] == b"last" + DATA[4:5]
        assert os.listdir(path.parent) == [path.name]

    def test_what_another_file_has_is_left_alone(self, path):
        """And what a crash has left of this one goes."""
        others = ["call.wav.txt", "call.json.part", "call.wave.1.part", "a.call.wav.1.part", "call.wav.part2"]
        for name in [*others, "call.wav.0123.part"]:
            path.with_name(name).touch()
        with copy_over(path) as file:
            pass
        file.close()
        assert sorted(os.listdir(path.parent)) == sorted([*others, path.name])


class TestIsReplaced:
    def test_it_is_told_by_the_file_and_not_by_its_name(self, path):
        with open(path, "rb", buffering=0) as file:
            known = identity(file)
            assert not is_replaced(path, known)
            path.rename(path.with_name("other"))
            assert not is_replaced(path, known)  # there is none
            assert not is_replaced(path.with_name("other"), known)
            path.write_bytes(DATA)
            assert is_replaced(path, known)

    def test_the_same_number_on_another_device(self, path):
        status = path.stat()
        assert is_replaced(path, (status.st_dev + 1, status.st_ino))
        assert is_replaced(path, (status.st_dev, status.st_ino + 1))


def test_all_is_written_though_a_write_takes_a_part():
    class Slow:
        def __init__(self):
            self.data = b""

        def write(self, data):
            self.data += data[:7]
            return min(len(data), 7)

    file = Slow()
    write_all(file, DATA[:100])
    assert file.data == DATA[:100]


def test_a_new_file_is_for_its_owner_only(tmp_path):
    path = Path(tmp_path, "new")
    with open(path, "xb", opener=module.open_private):
        pass
    assert path.stat().st_mode & 0o777 == 0o600


class TestUnusable:
    def test_a_folder_that_can_be_made(self, tmp_path):
        assert unusable(str(tmp_path)) is None
        assert unusable(str(tmp_path / "a" / "b")) is None

    def test_what_is_no_folder(self, path, tmp_path):
        (tmp_path / "link").symlink_to("nowhere")
        for name in (path, path / "a", tmp_path / "link", tmp_path / "link" / "a"):
            assert unusable(str(name)) == f"{name.parent if name.name == 'a' else name} is not a folder"

    def test_a_name_that_is_too_long(self, tmp_path):
        assert unusable(str(tmp_path / ("a" * 300))) == "File name too long"
