"""The tutorial's program: imports, names, the order of the branches and the last lines are those of the page.

https://www.twilio.com/docs/voice/tutorials/consume-real-time-media-stream-using-websockets-python-and-flask.
It is written for the tests and knows nothing of this project; comments and texts are fewer than the page's.
Like the page it waits for `closed`, which Twilio never sends; some copies end at `stop` instead.
"""

import base64
import json
import logging

from flask import Flask
from flask_sockets import Sockets

app = Flask(__name__)
sockets = Sockets(app)

HTTP_SERVER_PORT = 5000


@sockets.route("/media")
def echo(ws):
    app.logger.info("Connection accepted")
    has_seen_media = False
    message_count = 0
    while not ws.closed:
        message = ws.receive()
        if message is None:
            app.logger.info("No message received...")
            continue
        data = json.loads(message)
        if data["event"] == "connected":
            app.logger.info(f"Connected Message received: {message}")
        if data["event"] == "start":
            app.logger.info(f"Start Message received: {message}")
        if data["event"] == "media":
            if not has_seen_media:
                app.logger.info(f"Media message: {message}")
                payload = data["media"]["payload"]
                app.logger.info(f"Payload is: {payload}")
                chunk = base64.b64decode(payload)
                app.logger.info(f"That's {len(chunk)} bytes")
                has_seen_media = True
        if data["event"] == "closed":
            app.logger.info(f"Closed Message received: {message}")
            break
        message_count += 1

    app.logger.info(f"Connection closed. Received a total of {message_count} messages")


if __name__ == "__main__":
    app.logger.setLevel(logging.DEBUG)
    from gevent import pywsgi
    from geventwebsocket.handler import WebSocketHandler

    server = pywsgi.WSGIServer(("", HTTP_SERVER_PORT), app, handler_class=WebSocketHandler)
    print("Server listening on: http://localhost:" + str(HTTP_SERVER_PORT))
    server.serve_forever()
