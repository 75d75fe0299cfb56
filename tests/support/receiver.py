"""A program that takes what CALL_WEBHOOK posts, on a port that the system chose."""

import contextlib
import http.server
import json
import threading
import time

from standardwebhooks import Webhook

from support.server import SECONDS, wait_until

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PATH = "/calls/?token=my-token"


class Receiver:
    """Answers with the statuses that `answers` has, in their order, and then with 204.

    A status is a number, with a Location in a tuple; "hang" answers when the receiver ends, "drop" closes the
    connection, "noise" is no HTTP, "drip" sends a byte at a time, "processing" is at work for ever.
    """

    def __init__(self, *answers, tls=None):
        self.answers = list(answers)
        self.came = []  # (path, headers, body, when)
        self._released = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.came.append((self.path, dict(self.headers), body, time.monotonic()))
                receiver._answer(self)

            def do_GET(self):
                receiver.came.append((self.path, dict(self.headers), None, time.monotonic()))
                receiver._answer(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # the other side may hang up
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def _answer(self, request):
        answer = self.answers.pop(0) if self.answers else 204
        status, location = answer if isinstance(answer, tuple) else (answer, None)
        if status == "hang":
            self._released.wait(SECONDS)
            return
        if status in ("drip", "processing"):
            part = b"HTTP/1.1 102 Processing\r\n\r\n" if status == "processing" else b"H"
            while not self._released.wait(0.1):
                request.wfile.write(part)
            return
        if status == "drop":
            request.close_connection = True
            return
        if status == "noise":
            request.wfile.write(b"SSH-2.0-noise\r\n")
            request.close_connection = True
            return
        request.send_response(status)
        if location:
            request.send_header("Location", location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    @property
    def ids(self):
        return [headers["webhook-id"] for _, headers, _, _ in list(self.came)]

    def accounts(self, count):
        """Wait for so many POSTs; return their accounts. Another implementation checks each."""
        wait_until(lambda: len(self.came) >= count)
        assert len(self.came) == count
        return [verified(headers, body) for _, headers, body, _ in self.came]

    def close(self):
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SECONDS)


def verified(headers, body):
    account = Webhook(SECRET).verify(body, headers)
    assert account == json.loads(body)
    return account


@contextlib.contextmanager
def receiving(*answers, tls=None):
    receiver = Receiver(*answers, tls=tls)
    try:
        yield receiver
    finally:
        receiver.close()


def settings(receiver, folder):
    """Return the environment of a server that posts to it."""
    return {"CALL_WEBHOOK": receiver.url, "CALL_WEBHOOK_SECRET": SECRET, "CALL_WEBHOOK_DIR": str(folder)}
