"""A server whose callers pause their recording with a key, as before a card number: * pauses, # resumes."""

PAUSING = """
from flask import Flask
from mediastreams import MediaStreams, Sockets
app = Flask(__name__)
sockets = Sockets(app)
streams = MediaStreams(app)

@sockets.route("/media")
def media(ws):
    with streams.open(ws) as stream:
        while not ws.closed:
            message = ws.receive()
            data = None if message is None else stream.receive(message)
            if data is None:
                continue
            if data.event == "dtmf" and data.dtmf.digit == "*":
                stream.pause_recording()
            elif data.event == "dtmf" and data.dtmf.digit == "#":
                stream.resume_recording()
            elif data.event == "dtmf":
                app.logger.info("key %s, %s", data.dtmf.shown, data)
            elif data.event == "stop":
                break
    app.logger.info(stream.summary())

streams.serve()
"""
