"""Makes what a peer sent fit for a log, and a command fit to be copied."""

import os
import shlex
import shutil
import subprocess
import sys
from base64 import b64encode
from io import TextIOWrapper

_MAX_SHOWN = 4096
# Python takes them for not printable. French has the first two before a colon, Japanese the third between
# words; Persian words have the joiners in them, those of Indian languages and emojis as well.
_OF_WORDS = frozenset("\u00a0\u202f\u3000\u200c\u200d")


def printable(text: str) -> str:
    r"""Return `text` fit for one line of a log: what is not printable is written as \uXXXX.

    A peer chooses event names, SIDs and parameters; a line break or a terminal's escape sequence in them must
    not reach the console. Text over 4,096 characters is cut, with its length.
    """
    if len(text) > _MAX_SHOWN:
        text = f"{text[:_MAX_SHOWN]}... ({len(text)} characters)"
    return _escaped(text, frozenset())


def legible(text: str) -> str:
    """Return `text` on one line as `printable` does, but whole, and with the spaces and joiners of words.

    For pages and subtitles; a terminal does not show where these are.
    """
    return _escaped(text, _OF_WORDS)


def _escaped(text: str, kept: frozenset[str]) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else f"\\u{ord(c):04x}" for c in text)


def elide(payload: bytes) -> str:
    """Return the first 8 characters of a payload as it is on the wire, in base64, and its length there."""
    wire = b64encode(payload).decode()
    return wire if len(wire) <= 8 else f"{wire[:8]}... ({len(wire)} characters)"


def escape_unknown() -> None:
    r"""Let the output of this program show as \xXX what its encoding lacks: a terminal may know less."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def command(*arguments: str) -> str:
    """Return the command `python -m mediastreams` with these arguments, as the shell of this folder takes it.

    Its Python is this one: `python` where that is found on PATH, else by its path.
    """
    python = sys.executable
    if os.path.normcase(shutil.which("python") or "") == os.path.normcase(python):
        python = "python"
    elif python.startswith(beneath := os.path.join(os.getcwd(), "")):
        python = python.removeprefix(beneath)
    words = [python, "-m", "mediastreams", *arguments]
    return printable(subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words))
