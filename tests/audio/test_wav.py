"""Each file is read back by libsndfile, and by sox and ffprobe where they are installed."""

import contextlib
import errno
import shutil
import stat
import struct
import subprocess
import sys

import pytest
from support.server import ROOT, SECONDS, run
from support.sound import channels_of, plain

from mediastreams.audio import mulaw
from mediastreams.audio.wav import HEADER_SIZE, Header, WavFile, Written, read_header

SECOND = bytes(range(256)) * 31 + bytes(range(64))


@pytest.fixture
def new(tmp_path):
    with contextlib.ExitStack() as stack:

        def new(channels=1, rate=8000, after=None):
            wav = WavFile(tmp_path / "call.wav", channels, rate, after)
            stack.callback(wav._file.close)
            return wav

        yield new


@pytest.fixture
def path(tmp_path):
    return tmp_path / "call.wav"


class TestRate:
    @pytest.mark.parametrize("rate", [1000, 11025, 16000, 48_000])
    def test_it_is_in_the_header(self, new, path, rate):
        wav = new(2, rate)
        wav.put(0, 0, SECOND)
        wav.put(1, 0, SECOND[::-1])
        wav.close()
        assert struct.unpack_from("<II", path.read_bytes(), 24) == (rate, 2 * rate)
        assert channels_of(path, at=rate) == [plain(SECOND), plain(SECOND[::-1])]


class TestHeader:
    @pytest.mark.parametrize(("channels", "samples"), [(1, 0), (1, 1), (1, 8000), (2, 1), (2, 12345)])
    def test_every_field(self, new, path, channels, samples):
        wav = new(channels)
        for channel in range(channels):
            wav.put(channel, 0, bytes(samples))
        wav.close()
        data = path.read_bytes()
        size = samples * channels
        assert struct.unpack("<4sI4s", data[:12]) == (b"RIFF", len(data) - 8, b"WAVE")
        assert struct.unpack("<4sIHHIIHHH", data[12:38]) == (
            *(b"fmt ", 18, 7, channels, 8000),
            *(8000 * channels, channels, 8, 0),
        )
        assert struct.unpack("<4sI4s", data[38:50][:8] + b"    ")[:2] == (b"fact", 4)
        assert struct.unpack("<I4sI", data[46:58]) == (samples, b"data", size)
        assert data[58 : 58 + size] == bytes(size)
        assert len(data) == 58 + size + size % 2  # chunks are padded to an even size

    def test_only_its_owner_may_read_it(self, new, path):
        new()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_no_file_is_replaced(self, new, path):
        path.write_bytes(b"precious")
        with pytest.raises(FileExistsError):
            new()
        assert path.read_bytes() == b"precious"


class TestReadHeader:
    @pytest.mark.parametrize(
        ("channels", "rate", "samples"), [(1, 8000, 0), (1, 8000, 3), (2, 16000, 1), (2, 48000, 12345)]
    )
    def test_what_was_written(self, new, path, channels, rate, samples):
        wav = new(channels, rate)
        for channel in range(channels):
            wav.put(channel, 0, bytes(samples))
        wav.flush()
        data = path.read_bytes()
        assert read_header(data) == read_header(data[:HEADER_SIZE]) == Header(channels, rate, samples)
        size = samples * channels
        assert data[HEADER_SIZE:] == bytes(size) + b"\0" * (size % 2)  # an even number

    def test_one_that_is_cut_off(self, new, path):
        new()
        for size in (0, HEADER_SIZE - 1):
            with pytest.raises(ValueError, match=r"^the header is cut off$"):
                read_header(path.read_bytes()[:size])

    @pytest.mark.parametrize("offset", [0, 8, 12, 20, 38])
    def test_another_format(self, new, path, offset):
        new()
        data = bytearray(path.read_bytes())
        data[offset] += 1
        with pytest.raises(ValueError, match=r"^this is not a WAV file of mu-law as this module writes it$"):
            read_header(data)

    @pytest.mark.parametrize("offset", [46, 54])
    def test_sizes_that_do_not_match(self, new, path, offset):
        wav = new(2)
        wav.put(0, 0, bytes(100))
        wav.flush()
        data = bytearray(path.read_bytes())
        data[offset] += 1
        with pytest.raises(ValueError, match=r"^the header contradicts itself$"):
            read_header(data)

    @pytest.mark.parametrize("offset", [22, 24])
    def test_no_channel_and_no_rate(self, new, path, offset):
        new()
        data = bytearray(path.read_bytes())
        data[offset : offset + 2] = bytes(2)
        with pytest.raises(ValueError, match=r"^the header contradicts itself$"):
            read_header(data)


class TestAudio:
    def test_mono_byte_by_byte(self, new, path):
        wav = new()
        for n in range(0, 8000, 160):
            wav.put(0, 1240 + n, SECOND[n : n + 160])
        wav.close()
        assert (wav.origin, wav.samples) == (1240, 8000)
        assert path.read_bytes()[58:] == SECOND
        assert channels_of(path) == [plain(SECOND)]

    def test_stereo_stands_where_it_was_put(self, new, path):
        wav = new(2)
        wav.put(0, 100, SECOND)
        wav.put(1, 60, SECOND[:500])
        wav.put(1, 560, SECOND[:500])
        wav.close()
        left, right = channels_of(path)
        assert left == mulaw.SILENCE * 40 + plain(SECOND)
        assert right == plain(SECOND[:500] * 2) + mulaw.SILENCE * (8040 - 1000)

    def test_a_gap_is_silence(self, new, path):
        wav = new(2)
        for channel in (0, 1):
            wav.put(channel, 0, b"\x01" * 100)
            wav.put(channel, 100_000, b"\x02" * 100)
        wav.close()
        for audio in channels_of(path):
            assert audio == b"\x01" * 100 + mulaw.SILENCE * 99_900 + b"\x02" * 100

    def test_what_comes_late_goes_into_its_gap(self, new, path):
        wav = new(2)
        wav.put(0, 0, b"\x01" * 100)
        wav.put(1, 0, b"\x03" * 500)
        wav.put(0, 300, b"\x01" * 100)
        wav.flush()
        wav.put(0, 100, b"\x02" * 50)
        wav.close()
        left, right = channels_of(path)
        assert (
            left == b"\x01" * 100 + b"\x02" * 50 + mulaw.SILENCE * 150 + b"\x01" * 100 + mulaw.SILENCE * 100
        )
        assert right == b"\x03" * 500

    def test_what_is_before_the_beginning_is_left_out(self, new, path):
        wav = new(2)
        wav.put(0, 1000, b"\x01" * 100)
        wav.flush()
        wav.put(1, 0, b"\x05" * 100)
        wav.put(1, 970, b"\x02" * 30 + b"\x03" * 50)
        wav.close()
        assert channels_of(path) == [b"\x01" * 100, b"\x03" * 50 + mulaw.SILENCE * 50]

    def test_what_goes_back_by_as_much_as_has_gathered(self, new, path):
        wav = new()
        wav.put(0, 0, b"\x01" * 100)
        wav.put(0, 300, b"\x02" * 100)
        wav.put(0, 200, b"\x03" * 100)
        wav.close()
        assert channels_of(path) == [b"\x01" * 100 + mulaw.SILENCE * 100 + b"\x03" * 100 + b"\x02" * 100]

    def test_it_begins_with_the_first_of_all_that_was_put(self, new, path):
        """Also where others came before it, and none follows on the last one."""
        wav = new(2)
        wav.put(0, 160, b"\x02" * 160)
        wav.put(0, 0, b"\x01" * 160)
        wav.put(0, 480, b"\x03" * 160)
        wav.put(1, -40, b"\x04" * 40)
        assert [position for _, position, _ in wav.unwritten()] == [160, 0, 480, -40]
        wav.close()
        left = mulaw.SILENCE * 40 + b"\x01" * 160 + b"\x02" * 160 + mulaw.SILENCE * 160 + b"\x03" * 160
        assert channels_of(path) == [left, b"\x04" * 40 + mulaw.SILENCE * 640]

    def test_channels_far_apart(self, new, path):
        wav = new(2)
        wav.put(0, 0, b"\x01" * 100)
        wav.put(1, 10_000_000, b"\x02" * 100)
        wav.close()
        left, right = channels_of(path)
        assert left[:101] == b"\x01" * 100 + mulaw.SILENCE
        assert right[-101:] == mulaw.SILENCE + b"\x02" * 100
        assert len(left) == 10_000_100

    def test_nothing(self, new, path):
        wav = new(2)
        wav.put(0, 77, b"")
        wav.close()
        assert channels_of(path) == [b"", b""]


class TestWhileItGrows:
    @pytest.mark.parametrize("channels", [1, 2])
    def test_it_is_valid_after_each_flush(self, new, path, channels):
        wav = new(channels)
        place = 0
        for size in (1, 7, 160, 333, 8000):
            for channel in range(channels):
                wav.put(channel, place, SECOND[:size])
            place += size
            wav.flush()
            assert [len(audio) for audio in channels_of(path)] == [place] * channels

    def test_it_is_written_at_least_once_a_second(self, new, path):
        wav = new()
        for n in range(100):
            wav.put(0, 160 * n, SECOND[:160])
        assert len(channels_of(path)[0]) >= 100 * 160 - 8000

    def test_a_whole_second_is_written_by_what_follows(self, new, path):
        wav = new()
        wav.put(0, 0, SECOND)
        wav.put(0, 8000, b"\x01")
        assert channels_of(path) == [plain(SECOND)]

    def test_the_last_byte_that_fits(self, new, monkeypatch):
        monkeypatch.setattr("mediastreams.audio.wav._MAX_BYTES", 100)
        wav = new()
        wav.put(0, 0, bytes(100))
        wav.flush()
        wav.put(0, 100, b"\x01")
        with pytest.raises(OSError, match="4 GiB") as caught:
            wav.flush()
        assert (caught.value.errno, caught.value.strerror) == (
            errno.EFBIG,
            "a WAV file holds at most 4 GiB",
        )

    def test_a_disk_that_fails_at_the_end(self, new, path):
        class Failing:
            def __init__(self, file):
                self._file = file

            def __getattr__(self, name):
                return getattr(self._file, name)

            def truncate(self, _size):
                raise OSError

        wav = new()
        wav.put(0, 0, SECOND)
        wav._file = Failing(wav._file)
        wav.close()
        assert wav._file.closed
        assert channels_of(path) == [plain(SECOND)]

    def test_more_than_the_sizes_can_hold(self, new, path):
        wav = new(2)
        wav.put(0, 0, b"\x01" * 100)
        wav.flush()
        wav.put(0, 2**31, b"\x02")
        with pytest.raises(OSError, match="4 GiB"):
            wav.flush()
        wav.close()
        assert channels_of(path)[0] == b"\x01" * 100

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
    def test_no_room(self, tmp_path):
        """What was written stays valid, and the error is told once."""
        script = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from mediastreams.audio.wav import WavFile\n"
            "wav = WavFile(Path('call.wav'), 1)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (58 + 12000, 58 + 12000))\n"
            "wav.put(0, 0, b'\\x01' * 8000)\n"
            "wav.flush()\n"
            "wav.put(0, 8000, b'\\x02' * 8000)\n"
            "try:\n"
            "    wav.flush()\n"
            "except OSError as error:\n"
            "    print(error.strerror)\n"
            "wav.close()\n"
        )
        result = run("-c", script, cwd=tmp_path)
        assert (result.stdout, result.stderr) == ("File too large\n", "")
        assert channels_of(tmp_path / "call.wav") == [b"\x01" * 8000]
        assert (tmp_path / "call.wav").stat().st_size == 58 + 8000


class TestUnwritten:
    def test_it_is_what_the_next_flush_writes(self, new):
        wav = new(2)
        assert wav.unwritten() == []
        wav.put(1, 100, SECOND[:10])
        assert wav.unwritten() == [(1, 100, SECOND[:10])]
        wav.put(1, 110, SECOND[10:20])
        wav.put(0, 95, SECOND[:7])
        assert wav.unwritten() == [(0, 95, SECOND[:7]), (1, 100, SECOND[:20])]
        wav.flush()
        assert wav.unwritten() == []
        assert wav.origin == 95

    def test_an_origin_that_is_known_stays(self, new, path):
        wav = new()
        wav.origin = 90
        wav.put(0, 95, b"\x01" * 5)
        wav.close()
        assert wav.origin == 90
        assert path.read_bytes()[58:] == mulaw.SILENCE * 5 + b"\x01" * 5


class TestTakeover:
    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("samples", [1, 7, 7900])
    @pytest.mark.parametrize("more", [0, 1, 3])
    def test_it_goes_on_with_what_was_written(self, new, path, channels, samples, more):
        """With all of it, also with what came after the checkpoint."""
        wav = new(channels)
        for channel in range(channels):
            wav.put(channel, 100, SECOND[: samples + more])
        wav.flush()
        whole = path.read_bytes()
        after = new(channels, after=Written(100, samples))
        assert (after.origin, after.samples) == (100, samples + more)
        assert path.read_bytes() == whole
        for channel in range(channels):
            after.put(channel, 100 + samples, SECOND[samples : samples + more])  # again
            after.put(channel, 100 + samples + more, b"\x05" * 9)
        after.close()
        expected = plain(SECOND[: samples + more]) + b"\x05" * 9
        assert channels_of(path) == [expected] * channels
        size = (samples + more + 9) * channels
        assert path.stat().st_size == HEADER_SIZE + size + size % 2

    def test_what_the_process_before_writes_changes_nothing(self, new, path):
        before = new()
        before.put(0, 0, SECOND)
        before.flush()
        assert not before.is_replaced
        after = new(after=Written(0, 8000))
        before.put(0, 0, bytes(20_000))
        before.close()
        assert path.read_bytes()[58:] == SECOND
        assert (before.is_replaced, after.is_replaced) == (True, False)
        assert (before.path, after.path) == (path, path)

    def test_where_nothing_was_written_it_begins_anew(self, new, path):
        """Audio came after the checkpoint, so that where it begins is not known."""
        wav = new(2)
        wav.put(0, 500, SECOND)
        wav.flush()
        wav = new(2, after=Written(None, 0))
        assert (wav.origin, wav.samples) == (None, 0)
        assert path.stat().st_size == HEADER_SIZE
        assert read_header(path.read_bytes()) == Header(2, 8000, 0)
        wav.put(1, 400, SECOND[:99])
        wav.close()
        assert wav.origin == 400
        assert channels_of(path) == [mulaw.SILENCE * 99, plain(SECOND[:99])]

    def test_it_died_while_it_wrote(self, new, path):
        """Behind what the header counts there is a part of the next write."""
        wav = new(2)
        for channel in (0, 1):
            wav.put(channel, 0, SECOND[:100])
        wav.flush()
        with open(path, "ab") as file:
            file.write(b"\x01" * 77)
        wav = new(2, after=Written(0, 90))
        assert path.stat().st_size == HEADER_SIZE + 200
        wav.put(0, 150, b"\x02")
        wav.close()
        left, right = channels_of(path)
        assert left == plain(SECOND[:100]) + mulaw.SILENCE * 50 + b"\x02"
        assert right == plain(SECOND[:100]) + mulaw.SILENCE * 51

    def test_the_machine_died_and_the_audio_is_shorter_than_the_header_says(self, new, path):
        wav = new(2)
        for channel in (0, 1):
            wav.put(channel, 0, SECOND[:100])
        wav.flush()
        with open(path, "r+b") as file:
            file.truncate(HEADER_SIZE + 191)
        there = path.read_bytes()
        with pytest.raises(ValueError, match=r"^a part of its audio is missing$"):
            new(2, after=Written(0, 96))
        assert path.read_bytes() == there
        wav = new(2, after=Written(0, 95))
        assert wav.samples == 95
        assert read_header(path.read_bytes()) == Header(2, 8000, 95)
        assert path.read_bytes()[HEADER_SIZE:] == there[HEADER_SIZE:][:190]

    @pytest.mark.parametrize(("channels", "rate"), [(1, 8000), (2, 16000)])
    def test_of_another_kind(self, new, path, channels, rate):
        new(2)
        there = path.read_bytes()
        with pytest.raises(ValueError, match=r"^its channels or its rate are others$"):
            new(channels, rate, Written(0, 0))
        assert path.read_bytes() == there

    @pytest.mark.parametrize("data", [b"", b"RIFF", bytes(100)])
    def test_what_is_no_wav_file(self, new, path, data):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"^(the header is cut off|this is not a WAV file)"):
            new(after=Written(0, 0))
        assert path.read_bytes() == data
        assert list(path.parent.iterdir()) == [path]

    def test_without_a_file(self, new, path):
        with pytest.raises(FileNotFoundError):
            new(after=Written(0, 0))
        assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("channels", [1, 2])
def test_sox_and_ffprobe_read_it_too(new, path, channels):
    wav = new(channels)
    for channel in range(channels):
        wav.put(channel, 0, SECOND)
    wav.close()
    programs = {"soxi": "8-bit u-law", "ffprobe": "pcm_mulaw"}
    there = [program for program in programs if shutil.which(program)]
    for program in there:
        result = subprocess.run([program, path], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
        printed = result.stdout + result.stderr
        assert (result.returncode, "WARN" in printed, programs[program] in printed) == (0, False, True)
        assert "00:00:01.00" in printed
    if len(there) < 2:
        pytest.skip(f"not installed: {', '.join(set(programs) - set(there))}")
