import re

import pytest
from support.server import run

import mediastreams

PURE = [
    *("text", "protocol.messages", "protocol.signature", "protocol.twiml", "protocol.error_codes"),
    *("audio.mulaw", "audio.wav", "audio.timeline"),
    *("streams.stream", "streams.playback", "streams.transcript"),
    *("consumers.base", "consumers.recording", "caller.playout_buffer", "config"),
    *("log.configure", "log.json_format", "log.limit"),
]


@pytest.mark.parametrize("module", PURE)
def test_the_pure_half_stands_alone(module):
    show = (
        f"import sys, mediastreams.{module}\n"
        "print({'gevent', 'flask', 'werkzeug', 'socket'} & set(sys.modules))"
    )
    result = run("-c", show)
    assert result.stdout == "set()\n", result.stderr


def test_the_package_alone_loads_nothing():
    show = "import sys, mediastreams; print({'gevent', 'flask', 'werkzeug', 'click'} & set(sys.modules))"
    result = run("-c", show)
    assert result.stdout == "set()\n", result.stderr


def test_the_public_names():
    names = [
        "Checkpoint",
        "Consumer",
        "MediaStreams",
        "MediaStreamsError",
        "SendError",
        "Settings",
        "Sockets",
        "Stream",
        "Transcript",
        "WebSocket",
        "__version__",
        "elide",
        "load",
    ]
    assert mediastreams.__all__ == names
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", mediastreams.__version__)
    for name in set(names) - {"__version__"}:
        value = getattr(mediastreams, name)
        assert value.__name__ == name
        assert value.__module__.startswith("mediastreams.")
        assert name in dir(mediastreams)


def test_star_import_and_dir_before_the_first_use():
    show = (
        "import mediastreams; assert set(mediastreams.__all__) <= set(dir(mediastreams))\n"
        "from mediastreams import *; print(Sockets.__module__, elide(bytes(160)))"
    )
    result = run("-c", show)
    assert result.stdout == "mediastreams.server.sockets AAAAAAAA... (216 characters)\n", result.stderr


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'mediastreams' has no attribute 'Socket'"):
        _ = mediastreams.Socket
