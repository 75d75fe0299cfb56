"""A server that records what the simulated caller sends."""

import json
import threading

import pytest
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
