"""The simplest two-way stream: callers hear their own voice, a second later.

Nothing is kept here for that second. The echo begins with a second of silence; behind it Twilio buffers what
follows, and plays it in its time.
"""

import contextlib
import logging

from geventwebsocket.exceptions import WebSocketError

from mediastreams.audio.mulaw import SILENCE
from mediastreams.audio.timeline import RATE
from mediastreams.protocol.messages import Dtmf, Mark, Media, Start, Stop
from mediastreams.server.websocket import WebSocket
from mediastreams.streams.playback import PARAMETER, VALUE, SendError
from mediastreams.streams.stream import Stream
from mediastreams.text import printable

logger = logging.getLogger(__name__)

DELAY = 1  # second: less is hard to tell from the phone's own sidetone
_REFUSAL = f'/echo needs <Connect><Stream> with <Parameter name="{PARAMETER}" value="{VALUE}"/>'


def echo(websocket: WebSocket, stream: Stream) -> None:
    """Play what the caller says back to them, until the stream ends. A key begins the echo anew.

    A stream that may not be talked to is closed with 1008.
    """
    # Whoever hangs up may do so while something is sent to them; how the WebSocket ended is logged.
    with stream, contextlib.suppress(WebSocketError):
        while not websocket.closed:
            data = websocket.receive()
            if data is None:
                continue
            match stream.receive(data):
                case Start() if not stream.is_bidirectional:
                    logger.warning("Stream %s: closed with 1008, %s", stream.name, _REFUSAL)
                    websocket.close(1008, _REFUSAL)
                case Start():
                    logger.info("Stream %s: its caller hears an echo", stream.name)
                    _begin(stream)
                case Media(media=media):
                    with contextlib.suppress(SendError):  # a peer may say anything, also a file's header
                        stream.playback.media(media.payload)
                case Dtmf(dtmf=key):
                    logger.info("Stream %s: key %s, the echo begins anew", stream.name, printable(key.digit))
                    stream.playback.clear()
                    _begin(stream)
                case Mark() if mark := stream.playback.returned_mark:
                    logger.info("Stream %s: mark %s %s", stream.name, mark.name, mark.outcome)
                case Stop():
                    break
    logger.info(stream.summary())


def _begin(stream: Stream) -> None:
    stream.playback.media(SILENCE * (DELAY * RATE))
    stream.playback.mark("echo begins")
