"""What the page reads of RECORDINGS_DIR: files that `Recording` has written, and others."""

import contextlib
import json
import os
import time

import gevent
import numpy as np
import pytest
import soundfile
from gevent.threadpool import ThreadPool

from mediastreams.audio import wav
from mediastreams.audio.wav import WavFile
from mediastreams.viewers import recordings as module
from mediastreams.viewers.recordings import MAX_LISTED, MAX_PEAKS, RecordedFile, Recordings

SID = "MZ" + "0123456789abcdef" * 2
NAME = f"20261125T180000.123Z-{SID}"
METADATA = {
    "streamSid": SID,
    "callSid": "CA1",
    "tracks": ["inbound", "outbound"],
    "customParameters": {"FirstName": "<b>Jane</b>", "Größe": "\U0001f4de"},
    "end": "2026-11-25T18:00:05.323Z",
    "ended": "stop",
    "duration": 5.2,
    "transcripts": [],
}


@pytest.fixture
def recordings(tmp_path):
    return Recordings(str(tmp_path))


@contextlib.contextmanager
def writing(path, *channels, rate=8000):
    """Write a recording with these codes, and go on."""
    with contextlib.closing(WavFile(path, len(channels), rate)) as file:
        for channel, codes in enumerate(channels):
            file.put(channel, 0, codes)
        file.flush()
        yield file


def write_wav(path, *channels, rate=8000):
    """Write a recording with these codes."""
    with writing(path, *channels, rate=rate):
        pass


def write_json(folder, name=NAME, **changes):
    (folder / f"{name}.json").write_text(
        json.dumps({**METADATA, **changes}, ensure_ascii=False), encoding="utf-8"
    )


class TestNewest:
    def test_one(self, recordings, tmp_path):
        write_wav(tmp_path / f"{NAME}.wav", bytes(41600), bytes(41600))
        write_json(tmp_path)
        (tmp_path / f"{NAME}.vtt").write_text("WEBVTT\n")
        assert recordings.newest() == {
            "recordings": [
                {
                    "name": NAME,
                    "startedAt": "2026-11-25T18:00:00.123Z",
                    "duration": 5.2,
                    "streamSid": SID,
                    "callSid": "CA1",
                    "customParameters": METADATA["customParameters"],
                    "tracks": ["inbound", "outbound"],
                    "ended": "stop",
                    "files": {
                        "json": (tmp_path / f"{NAME}.json").stat().st_size,
                        "vtt": 7,
                        "wav": wav.HEADER_SIZE + 83200,
                    },
                }
            ],
            "more": False,
        }

    def test_of_what_is_not_decoded(self, recordings, tmp_path):
        for suffix in ("-inbound.raw", "-outbound.raw"):
            (tmp_path / f"{NAME}{suffix}").write_bytes(bytes(7))
        write_json(tmp_path)
        (row,) = recordings.newest()["recordings"]
        assert row["duration"] == 5.2
        assert set(row["files"]) == {"json", "-inbound.raw", "-outbound.raw"}

    def test_a_second_one_of_a_stream_in_the_same_millisecond(self, recordings, tmp_path):
        for name in (NAME, f"{NAME}-2"):
            write_json(tmp_path, name)
        assert [row["name"] for row in recordings.newest()["recordings"]] == [f"{NAME}-2", NAME]
        assert {row["streamSid"] for row in recordings.newest()["recordings"]} == {SID}

    def test_those_of_streams(self, recordings, tmp_path):
        others = [f"20261125T180000.124Z-MZ{n:032x}" for n in range(3)]
        for name in (NAME, f"{NAME}-part2", *others):
            write_json(tmp_path, name)
        names = [row["name"] for row in recordings.newest(sids=[SID, f"MZ{1:032x}"])["recordings"]]
        assert names == [others[1], f"{NAME}-part2", NAME]
        assert recordings.newest(sids=["MZ"])["recordings"] == []

    def test_the_parts_of_one_that_workers_have_taken_over(self, recordings, tmp_path):
        names = [f"{NAME}-part2", f"{NAME}-part10", f"{NAME}-2-part2"]
        for name in names:
            write_wav(tmp_path / f"{name}.wav", bytes(8000))
            write_json(tmp_path, name, tracks=["outbound"])
        rows = {row["name"]: row for row in recordings.newest()["recordings"]}
        assert rows.keys() == set(names)
        assert {(row["streamSid"], row["duration"]) for row in rows.values()} == {(SID, 1.0)}
        for name in names:
            with recordings.open(f"{name}.wav") as file:
                assert file.size == wav.HEADER_SIZE + 8000
            assert recordings.peaks(name)["tracks"] == ["outbound"]

    def test_a_part_of_what_is_not_decoded(self, recordings, tmp_path):
        for suffix in ("-part2.raw", "-part3-inbound.raw"):
            (tmp_path / f"{NAME}{suffix}").write_bytes(bytes(7))
        rows = recordings.newest()["recordings"]
        assert [(row["name"], row["files"]) for row in rows] == [
            (f"{NAME}-part3", {"-inbound.raw": 7}),
            (f"{NAME}-part2", {"raw": 7}),
        ]

    def test_one_that_is_being_recorded(self, recordings, tmp_path):
        with writing(tmp_path / f"{NAME}.wav", bytes(8000)) as file:
            write_json(tmp_path, ended=None, end=None, duration=0.0)
            (row,) = recordings.newest()["recordings"]
            assert (row["duration"], row["ended"]) == (1.0, None)
            file.put(0, 8000, bytes(4000))
        (row,) = recordings.newest()["recordings"]
        assert row["duration"] == 1.5

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "\xff",
            '{"callSid": 1}',
            json.dumps({**METADATA, "tracks": "inbound"}),
            json.dumps({**METADATA, "customParameters": {"a": 1}}),
            json.dumps(METADATA)[:-1] + ', "error": "\\ud800"',
        ],
    )
    def test_a_json_file_that_is_broken(self, recordings, tmp_path, text):
        (tmp_path / f"{NAME}.json").write_text(text, encoding="latin-1")
        write_wav(tmp_path / f"{NAME}.wav", bytes(8000))
        (row,) = recordings.newest()["recordings"]
        assert (row["duration"], row["streamSid"], row["startedAt"]) == (1.0, SID, "2026-11-25T18:00:00.123Z")
        assert (row["callSid"], row["customParameters"], row["tracks"]) == (None, {}, [])

    def test_a_wav_file_that_is_none(self, recordings, tmp_path):
        (tmp_path / f"{NAME}.wav").write_bytes(b"RIFF")
        (row,) = recordings.newest()["recordings"]
        assert (row["duration"], row["files"]) == (None, {"wav": 4})

    @pytest.mark.parametrize(
        "name",
        [
            "secret.txt",
            "recording.wav",
            f"{SID}.wav",
            f"{NAME}.json.part",
            f"{NAME}.mp3",
            f"x{NAME}.wav",
            f"{NAME}.wav\n",
            f"{NAME}-x.wav",
            f"{NAME}-inbound.wav",
            f"{NAME}-part.wav",
            f"{NAME}-part2-2.wav",
            f"{NAME}.wav.0123456789abcdef.part",
            NAME,
        ],
    )
    def test_other_files(self, recordings, tmp_path, name):
        (tmp_path / name).write_bytes(b"")
        assert recordings.newest() == {"recordings": [], "more": False}
        assert recordings.open(name) is None

    def test_links_pipes_and_folders(self, recordings, tmp_path):
        outside = tmp_path.parent / f"{tmp_path.name}-outside.wav"
        outside.write_bytes(b"secret")
        (tmp_path / f"{NAME}.wav").symlink_to(outside)
        os.mkfifo(tmp_path / f"{NAME}.vtt")
        (tmp_path / f"{NAME}.json").mkdir()
        (row,) = recordings.newest()["recordings"]
        assert row["files"] == {}
        for suffix in (".wav", ".vtt", ".json"):
            assert recordings.open(NAME + suffix) is None

    def test_no_folder(self, tmp_path):
        recordings = Recordings(str(tmp_path / "later"))
        assert recordings.newest() == {"recordings": [], "more": False}
        assert recordings.open(f"{NAME}.wav") is None
        assert recordings.peaks(NAME) is None

    def test_page_by_page(self, recordings, tmp_path):
        names = [f"202611{day:02}T{hour:02}0000.000Z-{SID}" for day in range(1, 28) for hour in range(10)]
        for name in names:
            (tmp_path / f"{name}.vtt").touch()
        found, before = [], ""
        for rest in (170, 70, 0):
            page = recordings.newest(before)
            assert page["more"] is (rest > 0)
            assert len(page["recordings"]) <= MAX_LISTED
            found += [row["name"] for row in page["recordings"]]
            before = found[-1]
        assert found == names[::-1]
        assert recordings.newest(names[0]) == {"recordings": [], "more": False}
        assert [row["name"] for row in recordings.newest("zz")["recordings"]] == names[::-1][:100]


class TestOpen:
    @pytest.mark.parametrize(
        "name",
        ["", ".", "..", "../secret", f"../{NAME}.wav", f"./{NAME}.wav", f"{NAME}.wav/", f"{NAME}.wav\0"],
    )
    def test_what_is_no_name(self, recordings, tmp_path, name):
        (tmp_path / f"{NAME}.wav").write_bytes(b"")
        (tmp_path.parent / f"{NAME}.wav").write_bytes(b"")
        assert recordings.open(name) is None

    def test_it_reads_any_part(self, recordings, tmp_path):
        data = os.urandom(1000)
        write_wav(tmp_path / f"{NAME}.wav", data)
        whole = (tmp_path / f"{NAME}.wav").read_bytes()
        with recordings.open(f"{NAME}.wav") as file:
            assert file.size == len(whole)
            for start in (0, 10, 57, 58, 59, 1000, len(whole), len(whole) + 5):
                file.seek(start)
                read = b""
                while more := file.read(100):
                    assert len(more) <= 100
                    read += more
                assert read == whole[start:]
                assert file.tell() == max(start, len(whole))

    def test_it_stays_what_it_was_while_it_is_written(self, recordings, tmp_path):
        path = tmp_path / f"{NAME}.wav"
        with writing(path, bytes(range(256)) * 4) as writer, recordings.open(f"{NAME}.wav") as file:
            before, etag = path.read_bytes(), file.etag
            for second in range(3):
                writer.put(0, 1024 + 8000 * second, os.urandom(8000))
                writer.flush()
            assert path.stat().st_size > len(before)
            assert file.read(len(before) + 1000) + file.read(len(before)) == before
        with recordings.open(f"{NAME}.wav") as file:
            assert file.etag != etag
            assert file.size == wav.HEADER_SIZE + 1024 + 3 * 8000

    def test_what_the_header_does_not_count_yet_is_left_out(self, tmp_path):
        """Audio is written before the header that counts it."""
        write_wav(tmp_path / "a.wav", bytes(999))
        with open(tmp_path / "a.wav", "ab") as file:
            file.write(bytes(500))
        with RecordedFile(tmp_path / "a.wav") as file:
            assert (file.size, file.seconds) == (wav.HEADER_SIZE + 1000, round(999 / 8000, 3))  # padded

    def test_a_file_that_is_cut_off_has_the_size_it_has(self, tmp_path):
        write_wav(tmp_path / "a.wav", bytes(1000))
        os.truncate(tmp_path / "a.wav", 500)
        with RecordedFile(tmp_path / "a.wav") as file:
            assert file.size == 500


def peaks_by_libsndfile(path):
    """Return the peaks as another decoder of mu-law and another way through the samples find them."""
    samples, _ = soundfile.read(path, dtype="int16", always_2d=True)
    each = max(-(-len(samples) // MAX_PEAKS), 1)
    return [
        [
            round(max(abs(int(sample)) for sample in samples[i : i + each, channel]) * 100 / 32768)
            for i in range(0, len(samples), each)
        ]
        for channel in range(samples.shape[1])
    ]


class TestPeaks:
    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("samples", [1, 7, 256, 1999, 2000, 2001, 5003, 41600, 83_001])
    def test_they_are_those_of_another_decoder(self, recordings, tmp_path, channels, samples):
        path = tmp_path / f"{NAME}.wav"
        random = np.random.default_rng(samples)
        codes = [random.integers(0, 256, samples, np.uint8) for _ in range(channels)]
        for each in codes:  # quiet for the most part, so that the peaks differ
            each[random.random(samples) < 0.99] |= 0x70
        write_wav(path, *(each.tobytes() for each in codes))
        found = recordings.peaks(NAME)
        assert found["peaks"] == peaks_by_libsndfile(path)
        assert found["seconds"] == round(samples / 8000, 3)
        assert max(map(len, found["peaks"])) <= MAX_PEAKS

    def test_each_code(self, recordings, tmp_path):
        write_wav(tmp_path / f"{NAME}.wav", bytes(range(256)))
        (found,) = recordings.peaks(NAME)["peaks"]
        assert [found] == peaks_by_libsndfile(tmp_path / f"{NAME}.wav")
        assert (found[0x00], found[0x80], found[0x7F], found[0xFF]) == (98, 98, 0, 0)

    def test_blocks_do_not_show(self, recordings, tmp_path, monkeypatch):
        """However much is read at once."""
        write_wav(tmp_path / f"{NAME}.wav", os.urandom(30_001), os.urandom(30_001))
        whole = recordings.peaks(NAME)
        for size in (1, 1000, 4096):
            monkeypatch.setattr(module, "_BLOCK", size)
            assert recordings.peaks(NAME) == whole

    @pytest.mark.parametrize("rate", [8000, 16000, 48000])
    def test_another_rate(self, recordings, tmp_path, rate):
        write_wav(tmp_path / f"{NAME}.wav", bytes(rate * 3 // 2), rate=rate)
        assert recordings.peaks(NAME)["seconds"] == 1.5

    @pytest.mark.parametrize(
        ("channels", "announced", "tracks"),
        [
            (1, ["outbound"], ["outbound"]),
            (1, ["inbound"], ["inbound"]),
            (1, [], ["inbound"]),
            (1, None, ["inbound"]),
            (2, ["outbound", "inbound"], ["inbound", "outbound"]),
            (2, None, ["inbound", "outbound"]),
        ],
    )
    def test_its_tracks(self, recordings, tmp_path, channels, announced, tracks):
        write_wav(tmp_path / f"{NAME}.wav", *[bytes(10)] * channels)
        if announced is not None:
            write_json(tmp_path, tracks=announced)
        assert recordings.peaks(NAME)["tracks"] == tracks

    def test_nothing_yet(self, recordings, tmp_path):
        WavFile(tmp_path / f"{NAME}.wav", 2).close()
        assert recordings.peaks(NAME) == {
            "seconds": 0.0,
            "tracks": ["inbound", "outbound"],
            "peaks": [[], []],
        }

    def test_while_it_is_recorded(self, recordings, tmp_path):
        with writing(tmp_path / f"{NAME}.wav", bytes(8000)):
            found = recordings.peaks(NAME)
        assert (found["seconds"], set(found["peaks"][0])) == (1.0, {98})

    def test_a_file_that_is_cut_off(self, recordings, tmp_path):
        write_wav(tmp_path / f"{NAME}.wav", bytes(8000))
        os.truncate(tmp_path / f"{NAME}.wav", wav.HEADER_SIZE + 4000)
        assert len(recordings.peaks(NAME)["peaks"][0]) == 1000

    def test_what_is_no_recording(self, recordings, tmp_path):
        (tmp_path / f"{NAME}.wav").write_bytes(b"RIFF" + bytes(100))
        soundfile.write(tmp_path / f"{NAME}-2.wav", np.zeros(100, np.int16), 8000)
        for name in (NAME, f"{NAME}-2", f"{NAME}-3", f"../{NAME}", ""):
            assert recordings.peaks(name) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the recording of an hour."""
    folder = tmp_path_factory.mktemp("hour")
    file = WavFile(folder / f"{NAME}.wav", 2)
    second = os.urandom(8000)
    for number in range(3600):
        for channel in (0, 1):
            file.put(channel, number * 8000, second)
    file.close()
    yield folder
    (folder / f"{NAME}.wav").unlink()  # 58 MB


def longest_pause(function):
    """Return for how many seconds the server's thread has had no turn while another one ran `function`."""
    pauses = []

    def look():
        last = time.perf_counter()
        while True:
            gevent.sleep(0.001)
            pauses.append(time.perf_counter() - last)
            last += pauses[-1]

    looking = gevent.spawn(look)
    gevent.sleep(0)
    threads = ThreadPool(1)
    try:
        threads.apply(function)
    finally:
        looking.kill()
        threads.kill()
    return max(pauses)


def holds_nobody_up(function):
    """Return whether the server's thread has its turns; once is enough, because the machine is shared."""
    return any(longest_pause(function) < 0.03 for _ in range(20))


class TestMuch:
    def test_its_peaks_are_there_within_a_second(self, folder):
        recordings = Recordings(str(folder))
        began = time.thread_time()  # of CPU: the machine is shared
        found = recordings.peaks(NAME)
        assert time.thread_time() - began < 1
        assert (found["seconds"], [len(peaks) for peaks in found["peaks"]]) == (3600.0, [2000, 2000])

    def test_they_hold_nobody_up(self, folder):
        recordings = Recordings(str(folder))
        recordings.peaks(NAME)  # numpy is imported
        assert holds_nobody_up(lambda: recordings.peaks(NAME))

    def test_a_long_list_holds_nobody_up(self, tmp_path):
        for number in range(10_000):
            (tmp_path / f"20261125T180000.123Z-MZ{number:032x}.vtt").touch()
        recordings = Recordings(str(tmp_path))
        assert recordings.newest()["more"]
        assert holds_nobody_up(recordings.newest)
