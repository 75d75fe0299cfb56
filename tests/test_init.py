from pathlib import Path

import pytest
from conftest import run

import mediastreams
import mediastreams.transcription

PURE = [
    *("messages", "track", "stream", "consumer", "signature"),
    *("mulaw", "wav", "recording", "config", "transcript", "twiml", "errors", "playback"),
    *("buffer", "log"),
]


@pytest.mark.parametrize("module", PURE)
def test_the_pure_half_stands_alone(module):
    show = (
        f"import sys, mediastreams.{module}\n"
        "print({'gevent', 'flask', 'werkzeug', 'socket'} & set(sys.modules))"
    )
    result = run("-c", show)
    assert result.stdout == "set()\n", result.stderr


@pytest.mark.parametrize("package", [mediastreams, mediastreams.transcription])
def test_the_map_names_every_module(package):
    named = [line.split("`")[1] for line in package.__doc__.splitlines() if line.startswith("`")]
    files = Path(package.__file__).parent.glob("[!_]*")
    assert sorted(named) == sorted(path.stem for path in files if path.suffix in (".py", ""))
