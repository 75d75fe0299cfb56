"""A page without a browser: it has logged in, and speaks the page's WebSocket."""

import contextlib
import http.client
import json
import time
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.server import SECONDS

TOKEN = "0123456789abcdef-page"


def log_in(server, token=TOKEN):
    """Return the cookie that the server gives for the token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    body = urlencode({"token": token})
    connection.request("POST", "/page/login", body, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    assert answer.status == 303
    cookie = answer.getheader("Set-Cookie").partition(";")[0]
    connection.close()
    return cookie


class Page:
    """An open page: a context manager. `of` has all messages that were received, by event."""

    def __init__(self, server, cookie=None, **options):
        headers = {"Cookie": cookie or log_in(server), **options.pop("headers", {})}
        url = f"ws://127.0.0.1:{server.port}/page/live"
        options = {"additional_headers": headers, "compression": None, "open_timeout": SECONDS, **options}
        self.ws = connect(url, **options).__enter__()
        self.of = {"audio": []}

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.ws.__exit__(*what)

    def send(self, event, **fields):
        self.ws.send(json.dumps({"event": event, **fields}))

    def receive(self):
        """Return the next message: a dict, or bytes."""
        message = self.ws.recv(SECONDS)
        if isinstance(message, bytes):
            self.of["audio"].append(message)
            return message
        message = json.loads(message)
        self.of.setdefault(message["event"], []).append(message)
        return message

    def wait_for(self, event, condition=lambda message: True):
        """Return the next message of this event that meets a condition."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            message = self.receive()
            if isinstance(message, dict) and message["event"] == event and condition(message):
                return message
        raise AssertionError(f"no {event} came; but {self.of.keys()}")

    def wait_for_call(self):
        """Return the row of the next call that begins."""
        return self.wait_for("changed", lambda m: m["calls"][0].get("endedAt", 0) is None)["calls"][0]

    def wait_for_end(self, id):
        """Return the row of a call that ends."""
        return self.wait_for("changed", lambda m: m["calls"][0]["id"] == id and m["calls"][0].get("ending"))[
            "calls"
        ][0]

    def rest(self):
        """Receive until the WebSocket has ended; return the code and the reason of the Close."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.receive()
        return self.ws.close_code, self.ws.close_reason
