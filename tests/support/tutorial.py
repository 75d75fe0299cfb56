"""A server as a reader of Twilio's tutorial writes it: the same imports, route, loop and last lines.

It is written for the tests after app.py, and is not Twilio's text, which is at
https://www.twilio.com/docs/voice/tutorials/consume-real-time-media-stream-using-websockets-python-and-flask.
Like that page it knows nothing of this project; the test changes its import of Flask-Sockets and its port.
"""

import base64
import json
import logging

from flask import Flask
from flask_sockets import Sockets

HTTP_SERVER_PORT = 5000

app = Flask(__name__)
sockets = Sockets(app)


@sockets.route("/media")
def echo(ws):
    app.logger.info("Connection accepted")
    events = []
    while not ws.closed:
        message = ws.receive()
        if message is None:
            app.logger.info("No message received...")
            continue
        data = json.loads(message)
        event = data["event"]
        if event == "connected":
            app.logger.info("Connected Message received: %s", message)
        if event == "start":
            app.logger.info("Start Message received: %s", message)
        if event == "media" and "media" not in events:
            payload = data["media"]["payload"]
            app.logger.info("Payload is: %s", payload)
            app.logger.info("That's %d bytes", len(base64.b64decode(payload)))
        events.append(event)
        if event == "closed":
            app.logger.info("Closed Message received: %s", message)
            break

    app.logger.info("Connection closed. Received a total of %d messages", len(events))


if __name__ == "__main__":
    app.logger.setLevel(logging.DEBUG)
    from gevent import pywsgi
    from geventwebsocket.handler import WebSocketHandler

    server = pywsgi.WSGIServer(("", HTTP_SERVER_PORT), app, handler_class=WebSocketHandler)
    print("Server listening on: http://localhost:" + str(HTTP_SERVER_PORT))
    server.serve_forever()
