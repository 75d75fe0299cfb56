"""Recordings that another worker completes, or continues in a part of its own."""

import errno
import json
import os
import resource
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sound import channels_of, plain
from support.streams import SID
from support.takeover import NAME, RAW, Call, Worker, files, key, mark, record, sound, take_over, text

from mediastreams.audio import files as audio_files
from mediastreams.audio.wav import HEADER_SIZE
from mediastreams.streams.pauses import Pauses

FOUND = f"Stream {SID}: "


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "recordings"


@pytest.fixture
def whole(tmp_path):
    """Return a function that returns the files of a call that was recorded in one go."""
    return lambda call: record(call, tmp_path / "whole")


@pytest.fixture
def other(tmp_path):
    """Another worker's folder."""
    return tmp_path / "other"


def account(folder, name=NAME):
    return json.loads((folder / f"{name}.json").read_bytes())


def lines(caplog):
    return [record.getMessage().removeprefix(FOUND) for record in caplog.records]


@st.composite
def calls(draw):
    """Draw a call with gaps, chunks that come late, keys, marks and texts, in entries of any size."""
    tracks = draw(st.sampled_from([("inbound",), ("outbound",), ("inbound", "outbound")]))
    call = Call(*tracks, media_format=draw(st.sampled_from([None, None, RAW])))
    chunks = []
    for track in tracks:
        place = draw(st.integers(0, 300))
        steps = st.tuples(
            st.sampled_from([0, 0, 0, 1, 500, 9000, 30000]), st.integers(1, 400), st.integers(0, 9)
        )
        for gap, size, late in draw(st.lists(steps, max_size=12)):
            place += gap
            # One in ten comes after others that are behind it.
            chunks.append((place + (1200 if late == 9 else 0), track, place, size))
            place += size
    chunks = [chunk[1:] for chunk in sorted(chunks)]
    notes = st.lists(
        st.one_of(
            st.builds(key, st.sampled_from("0123456789*#")),
            st.builds(mark, st.text(max_size=5)),
            st.builds(lambda words, at: text(words, at, at + 0.5), st.text(max_size=5), st.floats(0, 5)),
        ),
        max_size=2,
    )
    came = 0
    while chunks:
        count = draw(st.integers(1, 6))
        came += sum(size for _, _, size in chunks[:count])
        # Before the file has its beginning, the time of a key is known to a millisecond only.
        call.entry(*chunks[:count], *(draw(notes) if came > 0.1 * 8000 * len(tracks) else []))
        del chunks[:count]
    call.end()
    return call


@st.composite
def interruptions(draw):
    """Draw a call, and where its workers die: after a checkpoint, and how many entries after that one."""
    call = draw(calls())
    deaths = st.tuples(st.integers(0, len(call.entries) - 1), st.integers(0, 3), st.booleans())
    return call, sorted(draw(st.lists(deaths, min_size=1, max_size=3)))


@given(interruptions())
@settings(max_examples=150)
def test_it_is_byte_for_byte_as_if_nobody_had_died(drawn):
    """Whatever the dead worker had written; and a suspended one that goes on then changes nothing."""
    call, deaths = drawn
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        expected = record(call, Path(one))
        worker, done, suspended = Worker(call, other), 0, []
        for checkpoint_at, more, is_suspended in deaths:
            worker.take(*call.entries[done:checkpoint_at])
            state = worker.checkpoint()
            worker.take(*call.entries[checkpoint_at : checkpoint_at + more])
            done = checkpoint_at
            if is_suspended:
                suspended.append((worker, checkpoint_at + more))
            else:
                worker.die()
            worker = Worker(call, other, state)
            for zombie, at in suspended:
                zombie.take(*call.entries[at : at + 1])
        for zombie, at in suspended[::2]:
            zombie.finish(*call.entries[at + 1 :])
        worker.finish(*call.entries[done:])
        for zombie, at in suspended[1::2]:
            zombie.finish(*call.entries[at + 1 :])
        assert files(Path(other)) == expected


class TestCompleted:
    def test_by_the_third_worker(self, folder, whole):
        """A long call, with more audio than is written at once."""
        call = Call("inbound", "outbound")
        for n in range(100):
            call.say(8000 * n, 8000 * n + 8000, key("5"), text(f"text {n}", n, n + 0.5))
        call.end()
        first = Worker(call, folder)
        first.take(*call.entries[:40])
        state = first.checkpoint()
        first.take(*call.entries[40:50])
        first.die()
        second = Worker(call, folder, state)
        second.take(*call.entries[40:70])
        state = second.checkpoint()
        second.die()
        third = Worker(call, folder, state)
        assert account(folder)["transcripts"][-1]["text"] == "text 69"
        third.finish(*call.entries[70:])
        assert files(folder) == whole(call)
        assert account(folder)["continues"] is None

    def test_a_key_from_before_it_was_known_where_the_recording_begins(self, folder, whole):
        call = Call("inbound")
        call.say(904, 1544, key("1"))  # less than is waited for
        call.say(1544, 9064)
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        first.checkpoint()
        first.take(call.entries[1])
        state = first.checkpoint()
        first.die()
        Worker(call, folder, state).finish(*call.entries[2:])
        assert files(folder) == whole(call)

    def test_the_subtitles_are_written_again(self, folder, whole):
        """Also where the worker before could not."""
        call = Call("inbound")
        call.say(0, 8000, text("hello", 0.1, 0.5))
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        first.die()
        (folder / f"{NAME}.vtt").unlink()
        Worker(call, folder, state).finish(call.entries[1])
        assert files(folder) == whole(call)

    @pytest.mark.parametrize("media_format", [None, RAW])
    def test_it_is_for_its_owner_only(self, folder, media_format):
        call = Call("inbound", "outbound", media_format=media_format)
        call.say(0, 8000)
        first = Worker(call, folder)
        state = first.checkpoint()
        first.die()
        Worker(call, folder, state).finish(*call.entries)
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    def test_half_a_second_of_what_was_not_written_yet(self, folder, whole):
        """Less than 0.1 s is not written before the other track may have begun."""
        call = Call("inbound", "outbound")
        call.say(480, 640, tracks=["inbound"])
        call.say(400, 1600, tracks=["outbound"])
        call.say(640, 1600, tracks=["inbound"])
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        assert (folder / f"{NAME}.wav").stat().st_size == HEADER_SIZE
        assert state["unwritten"] == [["inbound", 480, sound("inbound", 480, 160)]]
        first.take(call.entries[1])  # it writes, and what it has written is not in the checkpoint
        first.die()
        second = Worker(call, folder, state)
        assert (folder / f"{NAME}.wav").stat().st_size == HEADER_SIZE
        second.finish(*call.entries[1:])
        assert files(folder) == whole(call)
        assert len(channels_of(folder / f"{NAME}.wav")[0]) == 1200

    def test_what_redis_has_lost_meanwhile_stays_in_the_file(self, folder):
        call = Call("inbound")
        for n in range(3):
            call.say(8000 * n, 8000 * n + 8000)
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        first.take(call.entries[1])
        first.die()
        Worker(call, folder, state).finish(*call.entries[2:])
        (audio,) = channels_of(folder / f"{NAME}.wav")
        assert audio == plain(b"".join(sound("inbound", n, 160) for n in range(0, 24000, 160)))


class TestSuspended:
    """The worker before goes on, after another one has taken its recording over."""

    @pytest.mark.parametrize("media_format", [None, RAW])
    @pytest.mark.parametrize("is_over", [False, True])
    def test_it_writes_nothing_more_and_says_so_once(self, folder, whole, caplog, media_format, is_over):
        call = Call("inbound", "outbound", media_format=media_format)
        for n in range(4):
            call.say(8000 * n, 8000 * n + 8000)
        call.entry(text("good", 0.5, 0.9), text("bye", 1.5, 1.9))
        call.end()
        wrong = Call("inbound", "outbound", media_format=media_format)
        wrong.say(100, 60_000, text("not", 0, 1), text("this", 1, 2), key("0"))
        first = Worker(call, folder)
        first.take(*call.entries[:2])
        state = first.checkpoint()
        second = Worker(call, folder, state)
        caplog.clear()
        second.take(call.entries[2])
        if is_over:
            second.finish(*call.entries[3:])
            caplog.clear()
        first.finish(*wrong.entries, *call.entries[-1:])
        name = f"{NAME}.wav" if media_format is None else f"{NAME}-inbound.raw"
        assert lines(caplog) == [f"another worker has taken {folder / name} over, nothing more is written"]
        if not is_over:
            second.finish(*call.entries[3:])
        assert files(folder) == whole(call)

    def test_it_was_suspended_as_it_wrote_the_account(self, folder, monkeypatch):
        call = Call("inbound")
        call.say(0, 8000)
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        write = Path.replace

        def replace_late(path, target):
            monkeypatch.undo()
            raise AssertionError(f"{path} has replaced {target}")

        unlink = Path.unlink

        def unlink_and_wait(path, **options):
            monkeypatch.setattr(Path, "unlink", unlink)
            Worker(call, folder, state).finish(*call.entries)
            monkeypatch.setattr(Path, "replace", replace_late)
            unlink(path, **options)

        monkeypatch.setattr(Path, "unlink", unlink_and_wait)
        first.recording.stop()
        monkeypatch.undo()
        assert Path.replace is write
        assert sorted(files(folder)) == [f"{NAME}.json", f"{NAME}.wav"]
        assert account(folder)["ended"] == "stop"

    def test_a_file_that_was_removed_is_not_taken_over(self, folder):
        """As without workers: somebody has removed it, and the account is written."""
        call = Call("inbound")
        call.say(0, 8000)
        call.end()
        worker = Worker(call, folder)
        worker.take(*call.entries)
        (folder / f"{NAME}.wav").unlink()
        worker.recording.stop()
        assert account(folder)["ended"] == "stop"

    def test_one_that_is_too_late_with_its_takeover_records_nothing(self, folder, whole, caplog, monkeypatch):
        """It was suspended while it copied, and another one has taken over meanwhile."""
        call = Call("inbound")
        for n in range(3):
            call.say(8000 * n, 8000 * n + 8000)
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        first.die()
        third = []
        copy = audio_files._copy

        def copy_and_wait(path, file):
            monkeypatch.undo()
            copy(path, file)
            third.append(Worker(call, folder, state))
            third[0].take(call.entries[1])

        monkeypatch.setattr(audio_files, "_copy", copy_and_wait)
        second = Worker(call, folder, state)
        assert lines(caplog) == ["not recorded, another worker has taken it over"]
        assert second.recording.checkpoint() is None
        second.finish(*call.entries[1:])
        third[0].finish(*call.entries[2:])
        assert files(folder) == whole(call)


class TestPart:
    """The files are not in the folder of the worker that takes over, or are not as they were."""

    def test_it_begins_where_the_checkpoint_was(self, folder, other, whole, caplog):
        caplog.set_level("INFO")
        call = Call("inbound", "outbound")
        for n in range(5):
            call.say(1000 + 8000 * n, 9000 + 8000 * n, key(str(n)), mark(f"m{n}"))
        call.entry(text("before", 0.5, 0.75))
        call.end()
        (wav, *_) = [data for name, data in whole(call).items() if name.endswith(".wav")]
        first = Worker(call, folder)
        first.take(*call.entries[:3])
        state = first.checkpoint()
        first.take(call.entries[3])
        first.die()
        caplog.clear()
        second = Worker(call, other, state)
        assert lines(caplog) == [f"{NAME}-part2.wav continues {NAME}.wav"]
        assert account(other, f"{NAME}-part2")["continues"] == {"recording": f"{NAME}.wav", "at": 3.0}
        second.finish(*call.entries[3:])
        assert sorted(files(other)) == [f"{NAME}-part2.json", f"{NAME}-part2.vtt", f"{NAME}-part2.wav"]
        part = (other / f"{NAME}-part2.wav").read_bytes()
        assert (folder / f"{NAME}.wav").read_bytes()[HEADER_SIZE : HEADER_SIZE + 48000] == wav[58:][:48000]
        assert part[HEADER_SIZE:] == wav[58:][48000:]
        told = account(other, f"{NAME}-part2")
        assert (told["recording"], told["raw"]) == (f"{NAME}-part2.wav", {})
        assert told["continues"] == {"recording": f"{NAME}.wav", "at": 3.0}
        assert told["duration"] == 2.0
        assert told["dtmf"] == [{"digit": "3", "at": 1.0}, {"digit": "4", "at": 2.0}]
        assert told["marks"] == [{"name": "m3", "at": 1.0}, {"name": "m4", "at": 2.0}]
        assert told["transcripts"] == [{"track": "inbound", "text": "before", "start": 0.0, "end": 0.0}]

    def test_each_further_one_tells_what_it_continues(self, tmp_path):
        call = Call("inbound")
        for n in range(6):
            call.say(1000 + 8000 * n, 9000 + 8000 * n)
        call.entry(text("last", 5.25, 5.75))
        call.end()
        worker = Worker(call, tmp_path / "1")
        for n in (2, 3, 4):
            worker.take(call.entries[n - 2])
            state = worker.checkpoint()
            worker.die()
            worker = Worker(call, tmp_path / str(n), state)
        # The last of them is completed in its folder.
        worker.take(call.entries[3])
        state = worker.checkpoint()
        worker.die()
        worker = Worker(call, tmp_path / "4", state)
        worker.finish(*call.entries[4:])
        for n, before in (2, NAME), (3, f"{NAME}-part2"), (4, f"{NAME}-part3"):
            told = account(tmp_path / str(n), f"{NAME}-part{n}")
            assert told["continues"] == {"recording": f"{before}.wav", "at": 1.0}
        assert (told["duration"], told["transcripts"][0]["start"], told["transcripts"][0]["end"]) == (
            *(3.0, 2.25),
            2.75,
        )

    def test_the_number_that_is_there_already_is_left_out(self, folder, other):
        """It is of a worker that has died before its first checkpoint: no audio is thrown away."""
        call = Call("inbound")
        call.say(0, 8000)
        call.say(8000, 16000)
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        second = Worker(call, other, state)
        second.take(call.entries[1])
        there = files(other)
        second.die()
        Worker(call, other, state).finish(*call.entries[1:])
        first.die()
        assert there.items() <= files(other).items()
        told = account(other, f"{NAME}-part3")
        assert (told["continues"]["recording"], told["duration"]) == (f"{NAME}.wav", 1.0)

    def test_a_track_that_is_behind_loses_nothing(self, folder, other):
        call = Call("inbound", "outbound")
        call.say(0, 8000)
        call.say(8000, 9600, tracks=["inbound"])
        call.say(8000, 9600, tracks=["outbound"])
        call.end()
        take_over(call, folder, 2, other)
        left, right = channels_of(other / f"{NAME}-part2.wav")
        assert right == plain(b"".join(sound("outbound", n, 160) for n in range(8000, 9600, 160)))
        assert set(left) == {0xFF}
        assert account(other, f"{NAME}-part2")["continues"]["at"] == 1.0

    def test_unless_it_is_more_than_a_second_behind(self, folder, other):
        """One that was silent for long does not make the part longer."""
        call = Call("inbound", "outbound")
        call.say(0, 8000)
        call.say(8000, 80_000, tracks=["inbound"])
        call.say(80_000, 88_000, tracks=["inbound"])
        call.end()
        take_over(call, folder, 2, other)
        told = account(other, f"{NAME}-part2")
        assert (told["continues"]["at"], told["duration"]) == (9.0, 2.0)

    def test_gaps_and_losses_are_those_of_the_part(self, folder, other):
        call = Call("inbound")
        call.say(1000, 9000)
        call.say(9000, 17000)
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        first.die()
        second = Worker(call, other, state)
        second.take(call.entries[1])
        second.stream._losses = [(range(1, 2), 8999), (range(2, 4), 9000), (range(5, 6), 17000)]
        second.stream.tracks["inbound"].gaps = [range(2000, 9000), range(8000, 9800), range(10_600, 11_400)]
        second.finish(call.entries[-1])
        told = account(other, f"{NAME}-part2")
        assert told["media"]["inbound"]["gaps"] == [
            {"at": 0.0, "duration": 0.1},
            {"at": 0.2, "duration": 0.1},
        ]
        assert told["lost"] == [
            {"sequenceNumber": 2, "messages": 2, "at": 0.0},
            {"sequenceNumber": 5, "messages": 1, "at": 1.0},
        ]

    def test_before_any_audio(self, folder, other):
        call = Call("inbound")
        call.say(1000, 9000)
        call.end()
        first = Worker(call, folder)
        state = first.checkpoint()
        first.die()
        Worker(call, other, state).finish(*call.entries)
        told = account(other, f"{NAME}-part2")
        assert told["continues"] == {"recording": f"{NAME}.wav", "at": 0.0}
        assert told["duration"] == 1.0

    def test_of_what_is_not_decoded(self, folder, other, caplog):
        """Its times are those of `timestamp`."""
        caplog.set_level("INFO")
        call = Call("inbound", "outbound", media_format=RAW)
        call.say(500, 1500, step=20)
        call.say(1500, 2500, key("1"), text("in it", 1.5, 1.75), step=20)
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        first.take(call.entries[1])
        first.die()
        caplog.clear()
        Worker(call, other, state).finish(*call.entries[1:])
        name = f"{NAME}-part2"
        assert lines(caplog)[0] == f"{name}.json continues {NAME}.json"
        for track in ("inbound", "outbound"):
            expected = b"".join(sound(track, n, 20) for n in range(1500, 2500, 20))
            assert (other / f"{name}-{track}.raw").read_bytes() == expected
        told = account(other, name)
        assert told["recording"] is None
        assert told["raw"] == {"inbound": f"{name}-inbound.raw", "outbound": f"{name}-outbound.raw"}
        assert told["continues"] == {"recording": f"{NAME}.json", "at": 0.98}
        assert told["duration"] == 1.0
        assert told["dtmf"] == [{"digit": "1", "at": 1.0}]
        assert told["transcripts"][0]["start"] == 0.52

    def test_of_a_second_recording_of_the_stream(self, folder, other):
        call = Call("inbound")
        call.say(0, 8000)
        call.end()
        first, second = Worker(call, folder), Worker(call, folder)
        second.take(call.entries[0])
        state = second.checkpoint()
        Worker(call, other, state).finish(call.entries[-1])
        first.die()
        second.die()
        assert account(other, f"{NAME}-2-part2")["continues"]["recording"] == f"{NAME}-2.wav"


class TestNotAsItWas:
    """The files are there, but cannot be completed: they stay as they are, and a part follows them."""

    @pytest.fixture
    def left(self, folder):
        """Return a function that records a second of a call, and returns the call and its state."""

        def left(*tracks, media_format=None):
            call = Call(*tracks or ("inbound",), media_format=media_format)
            call.say(0, 8000)
            call.say(8000, 16000)
            call.end()
            worker = Worker(call, folder)
            worker.take(call.entries[0])
            state = worker.checkpoint()
            worker.die()
            return call, state

        return left

    def goes_on_in_a_part(self, folder, call, state):
        there = files(folder)
        Worker(call, folder, state).finish(*call.entries[1:])
        found = files(folder)
        assert there.items() <= found.items()
        new = found.keys() - there.keys()
        assert {name.removeprefix(f"{NAME}-part2")[:1] for name in new} <= {".", "-"}
        assert account(folder, f"{NAME}-part2")["continues"]["at"] in (1.0, 7.84)
        return new

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda path: os.truncate(path, HEADER_SIZE + 7999), "a part of its audio is missing"),
            (lambda path: os.truncate(path, 20), "the header is cut off"),
            (lambda path: os.truncate(path, 0), "the header is cut off"),
            (lambda path: path.write_bytes(bytes(9000)), "this is not a WAV file of mu-law as this module"),
        ],
    )
    def test_a_wav_file(self, folder, left, caplog, spoil, why):
        call, state = left()
        spoil(folder / f"{NAME}.wav")
        new = self.goes_on_in_a_part(folder, call, state)
        assert new == {f"{NAME}-part2.wav", f"{NAME}-part2.json"}
        (line,) = lines(caplog)
        assert line.startswith(f"{NAME} cannot be completed: {why}")

    def test_of_another_number_of_tracks(self, folder, left, caplog):
        call, state = left("inbound", "outbound")
        left_over = Call("inbound")
        left_over.say(0, 80_000)
        (folder / f"{NAME}.wav").unlink()
        worker = Worker(left_over, folder)
        worker.take(*left_over.entries)
        worker.die()
        self.goes_on_in_a_part(folder, call, state)
        assert lines(caplog) == [f"{NAME} cannot be completed: its channels or its rate are others"]

    def test_raw_files(self, folder, left, caplog):
        call, state = left("inbound", "outbound", media_format=RAW)
        os.truncate(folder / f"{NAME}-outbound.raw", 7999)
        new = self.goes_on_in_a_part(folder, call, state)
        assert new == {f"{NAME}-part2{rest}" for rest in (".json", "-inbound.raw", "-outbound.raw")}
        assert lines(caplog) == [f"{NAME} cannot be completed: a part of its audio is missing"]

    @pytest.mark.parametrize("media_format", [None, RAW])
    def test_they_were_removed(self, folder, left, caplog, media_format):
        call, state = left(media_format=media_format)
        (folder / f"{NAME}.{'wav' if media_format is None else 'raw'}").unlink()
        self.goes_on_in_a_part(folder, call, state)
        assert lines(caplog) == []

    @pytest.mark.parametrize("planted", [os.mkfifo, os.mkdir])
    def test_what_is_no_file(self, folder, left, caplog, planted):
        call, state = left()
        (folder / f"{NAME}.wav").unlink()
        planted(folder / f"{NAME}.wav")
        Worker(call, folder, state).finish(*call.entries[1:])
        assert account(folder, f"{NAME}-part2")["duration"] == 1.0

    def test_there_is_no_room_for_a_copy(self, folder, caplog):
        call = Call("inbound")
        call.say(0, 80_000)
        call.say(80_000, 88_000)
        call.end()
        worker = Worker(call, folder)
        worker.take(call.entries[0])
        state = worker.checkpoint()
        worker.die()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
        try:
            there = files(folder)
            Worker(call, folder, state).finish(*call.entries[1:])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert there.items() <= files(folder).items()
        assert len(files(folder)) == 4
        told = account(folder, f"{NAME}-part2")
        assert (told["continues"]["at"], told["duration"], told["error"]) == (10.0, 1.0, None)
        assert lines(caplog) == [f"{NAME} cannot be completed: File too large"]

    def test_nor_for_a_part(self, folder, left, caplog):
        call, state = left()
        there = files(folder)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        try:
            Worker(call, folder, state).finish(*call.entries[1:])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert files(folder) == there
        assert lines(caplog) == [
            f"{NAME} cannot be completed: File too large",
            f"not recorded, RECORDINGS_DIR={str(folder)!r} cannot be used: File too large",
        ]


class TestCheckpoint:
    def test_it_stays_small(self, folder):
        """What is noted of a call grows; the checkpoint is stored once a second."""
        call = Call("inbound", "outbound")
        worker = Worker(call, folder)
        for n in range(700):
            call.say(800 * n, 800 * n + 800, key("1"), mark("a mark"), text("so many words " * 5, n, n + 1))
        worker.take(*call.entries)
        assert len(msgspec.msgpack.encode(worker.checkpoint())) < 200
        worker.die()

    def test_the_account_is_written_only_where_something_was_noted(self, folder):
        call = Call("inbound")
        call.say(0, 8000, text("hello", 0.1, 0.5))
        call.say(8000, 16000)
        call.say(16000, 24000, key("1"))
        worker = Worker(call, folder)
        written = []
        for entry in call.entries:
            worker.take(entry)
            worker.checkpoint()
            written.append((folder / f"{NAME}.json").stat().st_ino)
            worker.checkpoint()
            assert (folder / f"{NAME}.json").stat().st_ino == written[-1]
        worker.die()
        assert written[0] == written[1] != written[2]
        assert account(folder)["transcripts"][0]["text"] == "hello"

    def test_without_a_recording_there_is_none(self, tmp_path):
        (tmp_path / "file").write_text("")
        call = Call("inbound")
        worker = Worker(call, tmp_path / "file" / "recordings")
        assert worker.recording.checkpoint() is None

    def test_nor_is_there_one_of_a_recording_that_has_ended(self, folder, monkeypatch):
        """Another worker begins anew, where there may be room."""
        call = Call("inbound")
        call.say(0, 8000)
        worker = Worker(call, folder)

        def write(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("mediastreams.audio.wav.WavFile._write", write)
        worker.take(*call.entries)
        assert worker.recording.checkpoint() is None

    def test_none_begins_anew(self, folder):
        call = Call("inbound")
        call.say(0, 8000)
        call.end()
        first = Worker(call, folder)
        first.die()
        Worker(call, folder, None).finish(*call.entries)
        assert account(folder, f"{NAME}-2")["duration"] == 1.0
        assert account(folder, f"{NAME}-2")["continues"] is None

    def test_one_that_begins_in_the_middle_tells_its_own_times(self, folder):
        """Redis may not have the beginning of a call any more; the times of texts count from there."""
        call = Call("inbound")
        call.say(1000, 81_000)
        call.say(81_000, 81_400)
        call.say(81_400, 81_600, text("before", 9.0, 10.5))  # less than 0.1 s, which is not written yet
        call.say(81_600, 97_000, text("Hello", 11.0, 11.5))
        call.end()
        worker = Worker(call, folder)
        worker.take(*call.entries[1:4])
        worker.stream.pauses = Pauses([(2000, 3000), (80_000, 81_800)])
        worker.stream._losses = [(range(1, 2), 0), (range(5, 6), 9000), (range(7, 8), 97_000)]
        worker.stream.tracks["inbound"].gaps = [range(2000, 9000), range(80_000, 81_800)]
        worker.finish(call.entries[4])
        told = account(folder)
        assert told["transcripts"] == [
            {"track": "inbound", "text": "before", "start": 0.0, "end": 0.5},
            {"track": "inbound", "text": "Hello", "start": 1.0, "end": 1.5},
        ]
        assert "00:00:01.000 --> 00:00:01.500" in (folder / f"{NAME}.vtt").read_text()
        assert told["duration"] == 2.0
        assert told["media"]["inbound"]["gaps"] == [{"at": 0.0, "duration": 0.1}]
        assert told["paused"] == [{"from": 0.0, "to": 0.1}]
        assert [(loss["sequenceNumber"], loss["at"]) for loss in told["lost"]] == [(1, 0.0), (7, 2.0)]

    @pytest.mark.parametrize("state", [7, {}, {"number": [1, 1]}, {"number": ["../x", 1]}])
    def test_one_that_cannot_be_read(self, folder, caplog, state):
        call = Call("inbound")
        call.say(0, 8000)
        call.end()
        Worker(call, folder, state).finish(*call.entries)
        assert account(folder)["duration"] == 1.0
        (line,) = lines(caplog)
        assert line.startswith("its checkpoint cannot be read: ")


class TestNotes:
    @pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("[")])
    def test_without_the_account_the_audio_is_completed(self, folder, whole, caplog, spoil):
        call = Call("inbound")
        call.say(0, 8000, key("1"))
        call.say(8000, 16000, key("2"))
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        first.die()
        spoil(folder / f"{NAME}.json")
        Worker(call, folder, state).finish(*call.entries[1:])
        assert files(folder)[f"{NAME}.wav"] == whole(call)[f"{NAME}.wav"]
        assert account(folder)["dtmf"] == [{"digit": "2", "at": 2.0}]
        assert lines(caplog) == ["what was noted before the takeover is missing: its account cannot be read"]

    def test_where_nothing_was_noted_nothing_is_missing(self, folder, caplog):
        call = Call("inbound")
        call.say(0, 8000)
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        first.die()
        (folder / f"{NAME}.json").unlink()
        Worker(call, folder, state).finish(*call.entries[1:])
        assert account(folder)["duration"] == 1.0
        assert lines(caplog) == []

    def test_what_was_noted_after_the_checkpoint_is_noted_once(self, folder, whole):
        """The worker before has written its account to the end, and could not say that it was done."""
        call = Call("inbound")
        call.say(0, 8000, key("1"), mark("a"), text("one", 0.1, 0.5))
        call.say(8000, 16000, key("2"), mark("b"), text("two", 1.1, 1.5))
        call.end()
        first = Worker(call, folder)
        first.take(call.entries[0])
        state = first.checkpoint()
        first.finish(*call.entries[1:])
        Worker(call, folder, state).finish(*call.entries[1:])
        assert files(folder) == whole(call)
