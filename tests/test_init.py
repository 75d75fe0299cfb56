import pytest
from support.server import run

PURE = [
    *("text", "protocol.messages", "protocol.signature", "protocol.twiml", "protocol.error_codes"),
    *("audio.mulaw", "audio.wav", "audio.timeline"),
    *("streams.stream", "streams.playback", "streams.transcript"),
    *("consumers.base", "consumers.recording", "caller.playout_buffer", "config", "log"),
]


@pytest.mark.parametrize("module", PURE)
def test_the_pure_half_stands_alone(module):
    show = (
        f"import sys, mediastreams.{module}\n"
        "print({'gevent', 'flask', 'werkzeug', 'socket'} & set(sys.modules))"
    )
    result = run("-c", show)
    assert result.stdout == "set()\n", result.stderr
