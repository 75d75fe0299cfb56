import os
import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediastreams.text import command, elide, legible, printable


class TestPrintable:
    @given(st.text(st.characters()))
    def test_any_text_fits_one_line(self, text):
        assert printable(text).isprintable()

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("", ""),
            ("J\u00fcrgen \u4e2d", "J\u00fcrgen \u4e2d"),
            ("a\r\nb\x1b[2J", r"a\u000d\u000ab\u001b[2J"),
            ("\ud800", r"\ud800"),
        ],
    )
    def test_what_is_not_printable_is_escaped(self, text, shown):
        assert printable(text) == shown

    def test_long_text_is_cut(self):
        assert printable("x" * 4096) == "x" * 4096
        assert printable("x" * 4097) == "x" * 4096 + "... (4097 characters)"


# Persian, Hindi, an emoji; French as many write it; a Japanese name.
WORDS = [
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\u0915\u094d\u200d\u0937",
    "\U0001f468\u200d\U0001f467",
    "Vous\u00a0: allô\u202f?",
    "\u5c71\u7530\u3000\u592a\u90ce",
]


class TestLegible:
    @pytest.mark.parametrize("text", WORDS, ids=ascii)
    def test_words_stay_as_they_are(self, text):
        assert legible(text) == text
        assert legible(f"{text}\n{text}") == rf"{text}\u000a{text}"

    @given(st.text(st.characters()))
    def test_all_else_is_as_it_is_for_a_log(self, text):
        assert printable(legible(text)) == printable(text)


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"", ""),
        (b"\xff\xff\xff", "////"),
        (bytes(6), "AAAAAAAA"),
        (bytes(7), "AAAAAAAA... (12 characters)"),
        (bytes(160), "AAAAAAAA... (216 characters)"),
    ],
)
def test_a_payload_is_elided(payload, shown):
    assert elide(payload) == shown


class TestCommand:
    """What it returns can be typed in the folder it was made in."""

    @pytest.fixture
    def python(self, tmp_path, monkeypatch):
        """A Python of an environment in the current folder, which runs this test."""
        python = tmp_path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        monkeypatch.setattr(sys, "executable", str(python))
        monkeypatch.chdir(tmp_path)
        return python

    def test_with_a_python_of_this_folder(self, python):
        assert (
            command("number", "+1") == f"{os.path.join('.venv', 'bin', 'python')} -m mediastreams number +1"
        )

    def test_with_a_python_of_another_folder(self, python, monkeypatch):
        monkeypatch.chdir(python.parents[1])
        assert command("dial") == f"{os.path.join('bin', 'python')} -m mediastreams dial"
        (python.parents[2] / "other").mkdir()
        monkeypatch.chdir(python.parents[2] / "other")
        assert command("dial") == f"{python} -m mediastreams dial"

    def test_with_the_one_that_the_shell_finds(self, python, monkeypatch):
        monkeypatch.setenv("PATH", str(python.parent))
        assert command("dial") == "python -m mediastreams dial"

    def test_a_shell_reads_what_it_is_given(self, monkeypatch):
        words = ["number", "--voice-url", "https://a.example/?b=c&d='e f'", "--trunk-sid", ""]
        assert shlex.split(command(*words))[1:] == ["-m", "mediastreams", *words]
        monkeypatch.setattr("shutil.which", lambda _: None)  # that of Windows needs Windows
        monkeypatch.setattr(sys, "platform", "win32")
        assert command("number", "a b", "").endswith(' -m mediastreams number "a b" ""')
