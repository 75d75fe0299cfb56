"""The command `work`: what it refuses, each time with one line."""

import pytest
from support.server import run

REDIS = "redis://:secret-word@127.0.0.1:1"


def work(*arguments, **environ):
    return run("-m", "mediastreams", "work", *arguments, **environ)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "Error: Missing argument 'recording|transcription|MODULE:CLASS ...'."),
        (
            ["recording", "transcription", "--group", "g"],
            "Error: --group is for one consumer: start a worker for each",
        ),
        (["recording", "recording"], "Error: a consumer is named twice"),
        (["nothing"], "nothing: it must be recording, transcription or MODULE:CLASS"),
        ([":Class"], ":Class: it must be recording, transcription or MODULE:CLASS"),
        (["module:"], "module:: it must be recording, transcription or MODULE:CLASS"),
        (
            ["no_such_module:Class"],
            "no_such_module cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (["json:Missing"], "json:Missing: Missing is no subclass of Consumer in json"),
        (["json:JSONDecoder"], "json:JSONDecoder: JSONDecoder is no subclass of Consumer in json"),
        (
            ["recording", "--calls", "0"],
            "Error: Invalid value for '--calls': 0 is not in the range 1<=x<=100000.",
        ),
    ],
)
def test_usage(arguments, line):
    result = work(*arguments, REDIS_URL=REDIS, RECORDINGS_DIR="recordings")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(line)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("consumer", "environ", "line"),
    [
        (
            "recording",
            {},
            "REDIS_URL is not set: a worker needs the Redis on which servers publish their calls",
        ),
        (
            "recording",
            {"REDIS_URL": REDIS},
            "RECORDINGS_DIR is not set: a worker that records needs a folder",
        ),
        (
            "recording",
            {"REDIS_URL": REDIS, "RECORDINGS_DIR": "/dev/null/x"},
            "RECORDINGS_DIR='/dev/null/x' cannot be used: /dev/null is not a folder",
        ),
        (
            "transcription",
            {"REDIS_URL": REDIS, "TRANSCRIBER": "off"},
            "TRANSCRIBER='off' cannot be used: a worker that transcribes needs a recogniser",
        ),
        (
            "transcription",
            {"REDIS_URL": REDIS, "TRANSCRIBER": "watson"},
            "TRANSCRIBER='watson' cannot be used: it needs SPEECH_TO_TEXT_APIKEY",
        ),
        (
            "recording",
            {"REDIS_URL": "http://:secret-word@host"},
            "REDIS_URL='(not shown)' cannot be used: it must be an address such as "
            "redis://user:password@localhost:6379/0 or rediss://..., several with commas, no blanks",
        ),
    ],
)
def test_settings(consumer, environ, line):
    result = work(consumer, **environ)
    assert (result.returncode, result.stderr) == (1, line + "\n")


WITHOUT_REDIS = """
import sys
sys.modules["redis"] = None  # as if it were not installed
from mediastreams.__main__ import main
main()
"""


def test_without_the_library():
    result = run("-c", WITHOUT_REDIS, "work", "recording", REDIS_URL=REDIS)
    assert (result.returncode, result.stderr) == (1, "`work` needs pip install -r requirements-redis.txt\n")


def test_help_without_the_library():
    result = run("-c", WITHOUT_REDIS, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "work    Consume the calls that servers publish on REDIS_URL" in result.stdout
