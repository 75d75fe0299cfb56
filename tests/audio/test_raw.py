"""A file of payloads as they came. A full disk and a killed server are in test_formats."""

import pytest

from mediastreams.audio.raw import RawFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.raw"


def test_payloads_stand_one_behind_the_other(path):
    raw = RawFile(path)
    for payload in (b"one ", b"", b"two"):
        raw.put(payload)
    raw.flush()
    assert path.read_bytes() == b"one two"
    raw.put(b" three")
    raw.close()
    assert path.read_bytes() == b"one two three"
    assert (raw.path, raw.size) == (path, 13)


def test_what_gathers_is_written_without_a_flush(path):
    raw = RawFile(path)
    raw.put(bytes(65535))
    assert path.read_bytes() == b""
    raw.put(b"!")
    assert path.read_bytes() == bytes(65535) + b"!"
    raw.close()


def test_closing_twice_does_nothing(path):
    raw = RawFile(path)
    raw.put(b"all")
    raw.close()
    raw.close()
    assert path.read_bytes() == b"all"


def test_it_is_for_its_owner_only_and_never_another_file(path):
    RawFile(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        RawFile(path)


class TestTakeover:
    def left(self, path, data):
        """Let a process write a file and die."""
        raw = RawFile(path)
        raw.put(data)
        raw.close()

    def test_it_goes_on_where_the_checkpoint_was(self, path):
        self.left(path, b"one two")
        raw = RawFile(path, 4)
        assert raw.size == 4
        assert path.read_bytes() == b"one "
        raw.put(b"2")
        assert raw.size == 5
        raw.close()
        assert path.read_bytes() == b"one 2"

    def test_all_of_it_was_written(self, path):
        self.left(path, b"one ")
        raw = RawFile(path, 4)
        raw.put(b"two")
        raw.close()
        assert path.read_bytes() == b"one two"

    def test_nothing_was_written(self, path):
        self.left(path, b"not in the checkpoint")
        raw = RawFile(path, 0)
        raw.put(b"one")
        raw.close()
        assert path.read_bytes() == b"one"

    def test_one_that_has_less(self, path):
        self.left(path, b"one")
        with pytest.raises(ValueError, match=r"^a part of its audio is missing$"):
            RawFile(path, 4)
        assert path.read_bytes() == b"one"
        assert list(path.parent.iterdir()) == [path]

    def test_the_process_before_notices_it(self, path):
        before = RawFile(path)
        assert not before.is_replaced
        after = RawFile(path, 0)
        assert before.is_replaced
        assert not after.is_replaced
        before.put(b"before")
        before.close()
        assert before.is_replaced
        after.put(b"after")
        after.close()
        assert not after.is_replaced
        assert path.read_bytes() == b"after"
