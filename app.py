"""Consume a real-time Media Stream using WebSockets, Python, and Flask.

Twilio forks the audio of a live phone call and sends it to `/media`; the log shows what arrives.
"""

from flask import Flask

from mediastreams import log
from mediastreams.config import load
from mediastreams.consumers.feeds import Consumers
from mediastreams.echo import echo
from mediastreams.protocol.messages import Connected, Dtmf, Mark, Media, Start, Stop, Unknown
from mediastreams.server.handler import serve
from mediastreams.server.sockets import Sockets
from mediastreams.server.websocket import WebSocket
from mediastreams.streams.stream import Stream
from mediastreams.text import elide
from mediastreams.web.webhooks import Webhooks

settings = load()
log.configure(settings)

app = Flask(__name__)
app.register_blueprint(Webhooks(settings))  # the TwiML of a call, and what becomes of its streams
sockets = Sockets(app)
consumers = Consumers(settings)  # what else becomes of a call: a transcript, a recording


@sockets.route("/media")
def media(ws: WebSocket) -> None:
    app.logger.info("Connection accepted")
    # A lot of media messages will be sent rapidly: only the first is shown.
    has_seen_media = False
    with Stream(ws, settings, consumers) as stream:
        while not ws.closed:
            data = ws.receive()
            if data is None:  # the connection is gone
                continue
            # Messages are JSON encoded strings; the class tells the event. None: of no use, and logged.
            message = stream.receive(data)
            match message:
                case Connected():
                    app.logger.info("Connected Message received: %s", message)
                case Start():
                    app.logger.info("Start Message received: %s", message)
                case Media():
                    if not has_seen_media:
                        app.logger.info("Media message: %s", message)
                        payload = message.media.payload  # base64 on the wire, here mu-law bytes at 8 kHz
                        app.logger.info("Payload is: %s", elide(payload))
                        app.logger.info("That's %d bytes", len(payload))
                        app.logger.info("Additional media messages from WebSocket are being suppressed....")
                        has_seen_media = True
                case Dtmf():
                    app.logger.info("Dtmf Message received: %s", message)
                case Mark():
                    app.logger.info("Mark Message received: %s", message)
                case Stop():
                    app.logger.info("Stop Message received: %s", message)
                    break
                case Unknown():
                    app.logger.info("Unknown Message received: %s", message)

    app.logger.info("Connection closed. Received a total of %d messages", stream.received)
    app.logger.info(stream.summary())


@sockets.route("/echo")
def talk_back(ws: WebSocket) -> None:
    echo(ws, Stream(ws, settings, consumers))


if __name__ == "__main__":
    serve(app, settings, consumers)
