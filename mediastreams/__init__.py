"""Twilio Media Streams on Flask: what the tutorial in `app.py` does not show.

`protocol`       what Twilio documents: messages, signatures, TwiML, error codes
`audio`          mu-law, the WAV file, the timeline of a track
`streams`        one stream: order and loss of its messages, playback, transcripts
`consumers`      what consumes a stream: the interface, the threads, recording, level meter
`transcription`  recognisers, and the consumer that feeds them
`server`         takes calls: handshake, WebSocket, limits, drain
`web`            answers over HTTP: TwiML, statusCallback, metrics
`call_webhook`   posts the account of each stream, until it is taken
`cluster`        calls on Redis: publishes them, and the workers that consume them
`log`            text or JSON, and how many lines a peer can cause
`caller`         a simulated Twilio

The public names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mediastreams.config import Settings, __version__, load
    from mediastreams.consumers.base import Checkpoint, Consumer
    from mediastreams.exceptions import MediaStreamsError
    from mediastreams.extension import MediaStreams
    from mediastreams.server.sockets import Sockets
    from mediastreams.server.websocket import WebSocket
    from mediastreams.streams.playback import SendError
    from mediastreams.streams.stream import Stream
    from mediastreams.streams.transcript import Transcript
    from mediastreams.text import elide

__all__ = [
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

_MODULES = {
    "Checkpoint": "consumers.base",
    "Consumer": "consumers.base",
    "MediaStreams": "extension",
    "MediaStreamsError": "exceptions",
    "SendError": "streams.playback",
    "Settings": "config",
    "Sockets": "server.sockets",
    "Stream": "streams.stream",
    "Transcript": "streams.transcript",
    "WebSocket": "server.websocket",
    "__version__": "config",
    "elide": "text",
    "load": "config",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: without it neither gevent nor Flask is loaded (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
