"""One process for all tracks, its crashes and its end: with an engine of the test's in the process."""

import errno
import os
import queue
import signal
import threading

import pytest
from gevent.monkey import get_original
from support.server import SECONDS, wait_until

from mediastreams.transcription import process_engine
from mediastreams.transcription.process_engine import EngineProcess
from mediastreams.transcription.process_protocol import END, HEADER

ENGINE = """
import os
from mediastreams.transcription import process_protocol

for number, kind, rate, audio in process_protocol.read(process_protocol.take_over()):
    if kind == process_protocol.END:
        process_protocol.write(id=number, ended=True, dropped=0.5)
    elif audio == b"crash":
        os._exit(7)
    elif audio == b"warn":
        process_protocol.write(id=number, warning="refused\\n: tried again")
    else:
        text = f"{os.getpid()} {os.environ['GREETING']}"
        process_protocol.write(id=number, text=text, final=True, start=0.0, end=len(audio) / 8000)
"""


class Track:
    """One track, and the texts that come of it."""

    def __init__(self, engine, name="Stream MZ, inbound"):
        self._texts = queue.Queue()
        self._position = 0
        self.recognition = engine.recognise(name, 0, lambda *text: self._texts.put(text))

    def send(self, audio):
        self.recognition.add(self._position, audio)
        self.recognition.flush()
        self._position += len(audio)

    def wait_for_a_new_process(self):
        """Wait until audio goes to a process that has heard nothing yet; what goes to a dead one is lost."""
        wait_until(lambda: self.recognition._written == 0)

    def hear(self, audio):
        """Send audio; return the process that has heard it, what it says, and the positions."""
        self.send(audio)
        text, _, start, end, _ = self._texts.get(timeout=SECONDS)
        process, _, greeting = text.partition(" ")
        return int(process), greeting, start, end


@pytest.fixture
def engine(tmp_path, monkeypatch):
    (tmp_path / "engine_of_the_test.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    engine = EngineProcess("The engine", "engine_of_the_test", {**os.environ, "GREETING": "hello"})
    yield engine
    engine._tracks.clear()  # so that it is not started again
    if engine._input >= 0:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), engine._input)  # the process ends with its input
    wait_until(lambda: engine._input < 0)


def wait_for(caplog, sentence, times=1):
    """Wait until so many lines of the log hold `sentence`."""
    wait_until(lambda: sum(sentence in line for line in caplog.messages) >= times)


def test_one_process_hears_all_tracks(engine):
    first, second = Track(engine), Track(engine)
    process, greeting, start, end = first.hear(bytes(8000))
    assert (greeting, start, end) == ("hello", 0, 3200)  # the first frame
    assert process != os.getpid()
    assert second.hear(bytes(80))[0] == process


def test_neither_ctrl_c_nor_sigterm_ends_it(engine):
    track = Track(engine)
    process = track.hear(bytes(80))[0]
    os.kill(process, signal.SIGINT)
    os.kill(process, signal.SIGTERM)
    assert track.hear(bytes(80))[0] == process


def test_what_it_warns_of_is_one_line_of_the_log(engine, caplog):
    Track(engine, "Stream MZ1, inbound").send(b"warn")
    wait_for(caplog, "Stream MZ1, inbound: refused\\u000a: tried again")


def test_what_was_dropped_is_counted(engine, caplog):
    track = Track(engine)
    track.hear(bytes(80))
    assert not track.recognition.is_finished
    track.recognition.finish()
    wait_for(caplog, "Stream MZ, inbound: 0.5 s were not heard, the recogniser was too slow or away")
    assert track.recognition.dropped == 0.5


def test_a_full_pipe_is_not_waited_for(engine, caplog):
    track = Track(engine)
    process = track.hear(bytes(80))[0]
    os.kill(process, signal.SIGSTOP)
    for _ in range(300):  # 2.4 MB; a pipe has 1 MB at most
        track.send(bytes(8000))
    os.kill(process, signal.SIGCONT)
    warning = "Stream MZ, inbound: the recogniser does not keep up, audio is dropped"
    assert caplog.messages.count(warning) == 1
    assert 100 < track.recognition.dropped < 300


def test_a_track_goes_on_in_another_process_after_a_crash(engine, caplog):
    track = Track(engine)
    process = track.hear(bytes(800))[0]
    track.send(b"crash")
    wait_for(caplog, "The engine has ended (status 7), and is started again")
    track.wait_for_a_new_process()
    other, _, start, end = track.hear(bytes(800))
    assert other != process
    assert (start, end) == (805, 1605)


def test_words_after_a_crash_stand_where_they_were_said(engine, caplog, monkeypatch):
    """Also when the track was about to write while the process was started again."""
    track = Track(engine)
    process = track.hear(bytes(800))[0]
    spawn = get_original("os", "posix_spawn")
    is_spawning, go_on = threading.Event(), threading.Event()

    def slow_spawn(*arguments, **options):
        is_spawning.set()
        assert go_on.wait(SECONDS)
        return spawn(*arguments, **options)

    originals = {("os", "posix_spawn"): slow_spawn}
    monkeypatch.setattr(
        process_engine, "get_original", lambda *names: originals.get(names) or get_original(*names)
    )
    os.kill(process, signal.SIGKILL)
    assert is_spawning.wait(SECONDS)
    writing = threading.Thread(target=track.send, args=(bytes(800),))
    writing.start()
    wait_until(lambda: not track.recognition._positions.position(0))  # it is on its way
    writing.join(0.2)
    go_on.set()
    writing.join(SECONDS)
    _, _, start, end, _ = track._texts.get(timeout=SECONDS)
    assert (start, end) == (800, 1600)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_without_descriptors_it_starts_later(engine, caplog, monkeypatch, fails_at):
    calls = []

    def pipe():
        calls.append(1)
        if len(calls) == fails_at:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return os_pipe()

    os_pipe = os.pipe
    before = os.listdir("/dev/fd")
    monkeypatch.setattr(os, "pipe", pipe)
    track = Track(engine)
    assert os.listdir("/dev/fd") == before
    assert caplog.messages == ["The engine cannot be started: Too many open files"]
    track.send(bytes(8000))
    track.recognition.finish()
    assert (track.recognition.is_finished, track.recognition.dropped) == (True, 1.0)
    assert Track(engine).hear(bytes(80))[1] == "hello"


def test_no_end_is_lost_in_a_full_pipe(engine):
    """The process would hold the track for ever."""
    track, *others = (Track(engine) for _ in range(150))
    process = track.hear(bytes(80))[0]
    os.kill(process, signal.SIGSTOP)
    for _ in range(300):
        track.send(bytes(8000))
    for other in others:
        other.recognition.finish()
    assert engine._unwritten
    os.kill(process, signal.SIGCONT)
    wait_until(lambda: engine.write(HEADER.pack(0, END, 8000, 0)))
    assert not engine._unwritten


def test_what_nobody_hears_is_counted(engine, caplog, monkeypatch):
    monkeypatch.setattr(process_engine, "_MAX_CRASHES", 1)
    track = Track(engine)
    track.hear(bytes(80))
    track.send(b"crash")
    wait_for(caplog, "no transcripts")
    wait_until(lambda: track.recognition.is_finished)
    for each in (track, Track(engine)):
        each.send(bytes(80_000))
        each.recognition.finish()
        assert each.recognition.dropped == pytest.approx(10)
    assert len(caplog.messages) == 1


def test_only_quick_ends_count(engine, caplog, monkeypatch):
    track = Track(engine)
    for n, soon in enumerate([0, 10, 10]):
        monkeypatch.setattr(process_engine, "_SOON", soon)
        track.hear(bytes(80))
        track.send(b"crash")
        wait_for(caplog, "The engine has ended (status 7), and is started again", n + 1)
        track.wait_for_a_new_process()


def test_many_crashes_end_it(engine, caplog):
    track = Track(engine)
    for n in range(3):
        track.wait_for_a_new_process()
        track.hear(bytes(80))
        track.send(b"crash")
        wait_for(caplog, "The engine has ended", n + 1)
    wait_for(caplog, "The engine has ended again and again (status 7), no transcripts")
    assert Track(engine).recognition.is_finished
