"""The folder of what is to be posted: it outlives its process, and is one process's at a time."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.server import ROOT
from support.streams import SID

from mediastreams.call_webhook.spool import Spool

ID = f"20261122T180000.123Z-{SID}"
LATER = f"20261122T180001.000Z-{SID}-2-part3"

HOLD = """
import sys
from mediastreams.call_webhook.spool import Spool
spool = Spool(sys.argv[1])
print(spool.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def spool(tmp_path):
    return Spool(str(tmp_path / "a" / "spool"))


def test_what_was_put_is_there_for_another(spool):
    assert spool.ids() == []
    spool.put(LATER, b"later")
    spool.put(ID, b"first")
    other = Spool(str(spool.folder))
    assert other.ids() == [ID, LATER]
    assert [other.read(id)[0] for id in other.ids()] == [b"first", b"later"]
    version = other.read(ID)[1]
    assert [other.remove(ID, version), other.remove(ID, version)] == [True, True]
    assert spool.ids() == [LATER]
    with pytest.raises(FileNotFoundError):
        spool.read(ID)


def test_the_same_id_is_replaced(spool):
    spool.put(ID, b"first")
    spool.put(ID, b"second")
    assert (spool.ids(), spool.read(ID)[0]) == ([ID], b"second")


def test_a_later_one_of_the_same_id_stays(spool):
    spool.put(ID, b"first")
    _, version = spool.read(ID)
    spool.put(ID, b"second")
    assert not spool.remove(ID, version)
    body, version = spool.read(ID)
    assert body == b"second"
    assert spool.remove(ID, version)
    assert spool.ids() == []


def test_the_disk_has_the_name_too(spool, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.path.realpath(f"/proc/self/fd/{file}")))
    spool.put(ID, b"")
    assert synced[-1] == str(spool.folder)
    assert len(synced) == 2


def test_what_a_process_that_was_killed_has_left(spool):
    spool.put(ID, b"")
    names = f"{ID}.0123456789abcdef.part", f"{LATER}.0123456789abcdef.part", "mine.part"
    for name in names:
        (spool.folder / name).touch()
    for name in names[1:]:
        os.utime(spool.folder / name, (0, 0))
    assert spool.acquire()
    spool.release()
    assert {path.name for path in spool.folder.glob("*.part")} == {names[0], "mine.part"}


def test_one_that_is_put_in_meanwhile(spool, monkeypatch):
    spool.folder.mkdir(parents=True)
    draft = spool.folder / f"{ID}.0123456789abcdef.part"
    draft.touch()
    glob = Path.glob

    def found(path, pattern):
        drafts = list(glob(path, pattern))
        draft.replace(spool.folder / f"{ID}.account")
        return drafts

    with monkeypatch.context() as looking:
        looking.setattr(Path, "glob", found)
        assert spool.acquire()
    spool.release()
    assert spool.ids() == [ID]


def test_only_its_user_may_read_it(spool):
    spool.put(ID, b"")
    (path,) = spool.folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700


def test_only_accounts_are_listed(spool):
    spool.put(ID, b"")
    for name in (
        "lock",
        "x.account",
        f"{ID}.json",
        f"{ID}.account.part",
        f"{ID}.0123456789abcdef.part",
        ".account",
        f"{ID}.accountx",
    ):
        (spool.folder / name).touch()
    assert spool.ids() == [ID]


def test_a_full_disk_leaves_nothing(spool, monkeypatch):
    spool.put(LATER, b"later")

    def write(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mediastreams.call_webhook.spool.write_all", write)
    with pytest.raises(OSError, match="No space left"):
        spool.put(ID, b"account")
    assert [path.name for path in spool.folder.iterdir()] == [f"{LATER}.account"]


def test_how_old_one_is(spool):
    assert spool.age(ID) == 0.0
    spool.put(ID, b"")
    at = time.time() - 100
    os.utime(spool.folder / f"{ID}.account", (at, at))
    assert 100 <= spool.age(ID) < 120
    other = Spool(str(spool.folder / f"{ID}.account"))
    assert other.age(ID) == 0.0


class TestLock:
    def test_one_at_a_time(self, spool):
        other = Spool(str(spool.folder))
        assert [spool.acquire(), spool.acquire(), other.acquire()] == [True, True, False]
        spool.release()
        spool.release()
        assert [other.acquire(), spool.acquire()] == [True, False]
        other.release()

    def test_it_goes_with_its_process(self, spool):
        command = [sys.executable, "-c", HOLD, str(spool.folder)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            assert process.stdout.readline() == "True\n"
            assert not spool.acquire()
            process.kill()
            process.wait()
            assert spool.acquire()
        spool.release()

    @pytest.mark.parametrize("why", ["no module", "no locks"])
    def test_where_there_are_no_locks(self, spool, monkeypatch, why):
        """As on Windows, or on a file system that has none: rather twice than never."""
        if why == "no module":
            monkeypatch.setitem(sys.modules, "fcntl", None)
        else:

            def flock(*_):
                raise OSError(37, "No locks available")

            monkeypatch.setattr("fcntl.flock", flock)
        other = Spool(str(spool.folder))
        assert [spool.acquire(), other.acquire()] == [True, True]
        spool.release()
        other.release()
