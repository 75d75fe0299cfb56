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
