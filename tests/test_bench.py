"""The benchmark runs, and its table has what its README explains. Its figures are no test."""

import re
import sys

import pytest
from conftest import ROOT, run


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's accounts of a process")
def test_a_short_run():
    result = run("bench/calls.py", "--calls", "2", "--seconds", "1", "--rounds", "1")
    assert result.returncode == 0, result.stderr
    assert re.search(
        r"^\| app\.py \| [\d.]+ \| 1\.00 \| [\d.]+% \| -?[\d.]+ \| ([\d.]+ \| ?){3}$", result.stdout, re.M
    )


def test_its_readme_names_every_peer():
    text = (ROOT / "bench" / "README.md").read_text()
    for peer in (ROOT / "bench" / "peers").glob("*_server.*"):
        assert f"`{peer.name.partition('_')[0]}`" in text
