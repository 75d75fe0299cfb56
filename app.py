"""Consume a real-time Media Stream using WebSockets, Python, and Flask.

Twilio forks the audio of a live phone call and sends it to `/media`; the log shows what arrives.
"""

from flask import Flask

from mediastreams import MediaStreams, Sockets, WebSocket, elide
from mediastreams.echo import echo

app = Flask(__name__)
sockets = Sockets(app)
streams = MediaStreams(app)
sockets.register_blueprint(echo)  # /echo: callers hear their own voice


@sockets.route("/media")
def media(ws: WebSocket) -> None:
    app.logger.info("Connection accepted")
    # A lot of media messages will be sent rapidly: only the first is shown.
    has_seen_media = False
    with streams.open(ws) as stream:
        while not ws.closed:
            message = ws.receive()
            if message is None:  # the connection is gone
                continue
            # Messages are JSON encoded strings. None: one that cannot be used; the log says why.
            data = stream.receive(message)
            if data is None:
                continue
            # The event tells which type of message it is.
            if data.event == "connected":
                app.logger.info("Connected Message received: %s", data)
            elif data.event == "start":
                app.logger.info("Start Message received: %s", data)
            elif data.event == "media":
                if not has_seen_media:
                    app.logger.info("Media message: %s", data)
                    payload = data.media.payload  # base64 on the wire, here mu-law bytes at 8 kHz
                    app.logger.info("Payload is: %s", elide(payload))
                    app.logger.info("That's %d bytes", len(payload))
                    app.logger.info("Additional media messages from WebSocket are being suppressed....")
                    has_seen_media = True
            elif data.event == "stop":
                app.logger.info("Stop Message received: %s", data)
                break
            else:  # dtmf and mark, of two-way streams, or an event that Twilio has added
                app.logger.info("%s Message received: %s", data.event.title(), data)

    app.logger.info("Connection closed. Received a total of %d messages", stream.received)
    app.logger.info(stream.summary())


if __name__ == "__main__":
    streams.serve()
