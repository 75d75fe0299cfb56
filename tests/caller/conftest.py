"""Servers for the simulated caller: one that records what it sends, and one that is a test's own."""

import contextlib
import json
import socket
import threading

import pytest
from support.server import SECONDS
from websockets.sync.server import serve


@pytest.fixture
def record():
    """Return a server's URL and the list of calls that it hears, each a list of parsed messages."""
    calls = []
    replies = []

    def hear(ws):
        call = []
        calls.append(call)
        for text in ws:
            call.append(json.loads(text))
            for reply in replies:
                if call[-1]["event"] == reply["when"]:
                    reply["send"](ws, call)

    with serve(hear, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/media"
        yield url, calls, replies
        server.shutdown()
        thread.join()


@pytest.fixture
def listen():
    """Return a function that serves one connection in a thread, by a function of the test's."""
    with contextlib.ExitStack() as stack:

        def listen(serve):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(SECONDS)

            def accept():
                connection, _ = listener.accept()
                connection.settimeout(SECONDS)
                with connection:
                    serve(connection)

            thread = threading.Thread(target=accept)
            thread.start()
            stack.callback(thread.join)
            return listener.getsockname()[1]

        yield listen
