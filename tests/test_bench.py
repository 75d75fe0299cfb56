"""The benchmark runs, and its table has what its README explains. Its figures are no test."""

import importlib.util
import re
import shutil
import sys

import pytest
from support.server import ROOT, run


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's accounts of a process")
@pytest.mark.parametrize("options", [(), ("--echo",)])
def test_a_short_run(options):
    result = run("bench/calls.py", "--calls", "2", "--seconds", "1", "--rounds", "1", *options)
    assert result.returncode == 0, result.stderr
    assert "did not come back" not in result.stdout
    assert re.search(
        r"^\| app\.py(?: \*)? \| [\d.]+ \| 1\.00 \| [\d.]+% \| -?[\d.]+ \| ([\d.]+ \| ?){3}$",
        result.stdout,
        re.M,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's accounts of a process")
@pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None,
    reason="moonshine-voice is not installed (requirements-transcription.txt)",
)
def test_a_short_transcript():
    result = run("bench/transcription.py", "--times", "1")
    assert result.returncode == 0, result.stderr
    for line in (
        r"1 calls, \d+ texts; [\d.]+ ms is the load itself late \(p99\)",
        r"word errors [\d.]+% \(worst call [\d.]+%\)",
        r"first words [\d.]+ s \(median\), [\d.]+ s \(max\) after they began",
        r"server \d+ MB, its engine \d+ MB resident; [\d.]+% and [\d.]+% of a core",
    ):
        assert re.search(f"^{line}$", result.stdout, re.M), result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's accounts of a process")
def test_a_short_soak():
    result = run("bench/soak.py", "--calls", "3", "--seconds", "4", "--every", "1", "--max-slope", "1000000")
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^\| \d+ \| \d+ \| \d+ \| [\d.]+ \| [\d.]+ \| \d+ \| \d+ \|$", result.stdout, re.M)
    assert len(rows) >= 3
    assert re.search(r"^\d+ calls, \d+ of them dropped\nserver [+-][\d.]+ MB an hour$", result.stdout, re.M)


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's accounts of a process")
def test_a_soak_that_grows_fails():
    result = run("bench/soak.py", "--calls", "1", "--seconds", "3", "--every", "1", "--max-slope", "-1000000")
    assert result.returncode == 1
    assert "Failed: the server grows by more than -1e+06 MB an hour" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's accounts of a process")
def test_a_short_run_with_pages():
    options = ("--calls", "2", "--viewers", "2", "--seconds", "2", "--rounds", "1")
    result = run("bench/viewers.py", *options)
    assert result.returncode == 0, result.stderr
    for line in (
        r"0 pages: [\d.]+% of a core, messages handled after [\d.]+ ms \(p99\)",
        r"2 pages: [\d.]+% of a core, messages handled after [\d.]+ ms \(p99\)",
        r"above: -?[\d.]+% of a core",
        r"texts on the page after [\d.]+ ms \(p50\), [\d.]+ ms \(p99\) of [1-9]\d*",
    ):
        assert re.search(f"^{line}$", result.stdout, re.M), result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's accounts of a process")
def test_a_short_run_with_redis():
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on PATH (apt-get install redis-server)")
    result = run("bench/cluster.py", "--calls", "2", "--seconds", "2", "--rounds", "1")
    assert result.returncode == 0, result.stderr
    for line in (
        r"publishing: -?[\d.]+ us a flush, -?[\d.]+% of a core",
        r"handled without Redis: [\d.]+ ms \(p99\)",
        r"handled with Redis: [\d.]+ ms \(p99\)",
        r"Redis: \d+ us a second of a call, [\d.]+% of a core",
        r"worker: \d+ us a second of a call, [\d.]+% of a core",
        r"audio at a worker's consumer \d+ ms \(p50\), \d+ ms \(p99\) after it was sent; "
        r"0 of 200 messages missing",
    ):
        assert re.search(f"^{line}$", result.stdout, re.M), result.stdout


def test_its_readme_names_every_peer():
    text = (ROOT / "bench" / "README.md").read_text()
    for peer in (ROOT / "bench" / "peers").glob("*_server.*"):
        assert f"`{peer.name.partition('_')[0]}`" in text
