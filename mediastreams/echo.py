"""The simplest two-way stream: callers hear their own voice, a second later.

Nothing is kept here for that second. The echo begins with a second of silence; Twilio buffers what follows,
and plays it behind.
"""

import contextlib
import logging

from flask import Blueprint, current_app
from geventwebsocket.exceptions import WebSocketError

from mediastreams.audio.mulaw import SILENCE
from mediastreams.extension import MediaStreams
from mediastreams.server.websocket import WebSocket
from mediastreams.streams.playback import PARAMETER, VALUE, SendError
from mediastreams.streams.stream import Stream
from mediastreams.text import printable

logger = logging.getLogger(__name__)

DELAY = 1  # second: less is hard to tell from the phone's own sidetone
_REFUSAL = f'/echo needs <Connect><Stream> with <Parameter name="{PARAMETER}" value="{VALUE}"/>'
_NOT_MULAW = "/echo needs a stream of mu-law, of one channel"


echo = Blueprint("echo", __name__)


@echo.route("/echo")  # type: ignore[type-var]  # of Flask, for views; Sockets hands over a WebSocket
def talk_back(ws: WebSocket) -> None:
    """Play what the caller says back, until the stream ends. A key begins the echo again.

    A stream without the `<Parameter>`, or of another encoding than mu-law, is closed with 1008.
    """
    streams: MediaStreams = current_app.extensions["mediastreams"]
    # A caller may hang up while something is sent; how the WebSocket ended is logged.
    with streams.open(ws) as stream, contextlib.suppress(WebSocketError):
        while not ws.closed:
            message = ws.receive()
            data = None if message is None else stream.receive(message)
            if data is None:
                continue
            if data.event == "start" and not (stream.is_bidirectional and stream.media_format.is_decodable):
                refusal = _NOT_MULAW if stream.is_bidirectional else _REFUSAL
                logger.warning("Stream %s: closed with 1008, %s", stream.name, refusal)
                ws.close(1008, refusal)
            elif data.event == "start":
                logger.info("Stream %s: its caller hears an echo", stream.name)
                _begin(stream)
            elif data.event == "media":
                try:
                    stream.playback.media(data.media.payload)
                except SendError:  # a peer may send anything, also a file's header
                    continue
            elif data.event == "dtmf":
                digit = printable(data.dtmf.shown)
                extra = {"event": "dtmf"}
                logger.info("Stream %s: key %s, the echo begins anew", stream.name, digit, extra=extra)
                stream.playback.clear()
                _begin(stream)
            elif data.event == "mark":
                if mark := stream.playback.returned_mark:
                    extra = {"event": "mark"}
                    logger.info("Stream %s: mark %s %s", stream.name, mark.name, mark.outcome, extra=extra)
            elif data.event == "stop":
                break
    logger.info(stream.summary())


def _begin(stream: Stream) -> None:
    stream.playback.media(SILENCE * (DELAY * stream.rate))
    stream.playback.mark("echo begins")
