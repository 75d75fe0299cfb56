import pytest
from conftest import ROOT, run

import mediastreams

PURE = [
    *("messages", "track", "stream", "consumer", "signature"),
    *("mulaw", "wav", "recording", "config", "twiml"),
]


@pytest.mark.parametrize("module", PURE)
def test_the_pure_half_stands_alone(module):
    show = (
        f"import sys, mediastreams.{module}\n"
        "print({'gevent', 'flask', 'werkzeug', 'socket'} & set(sys.modules))"
    )
    result = run("-c", show)
    assert result.stdout == "set()\n", result.stderr


def test_the_map_names_every_module():
    named = [line.split("`")[1] for line in mediastreams.__doc__.splitlines() if line.startswith("`")]
    there = {path.stem for path in (ROOT / "mediastreams").glob("*.py")} - {"__init__"}
    assert set(named) == there
