"""A captured call, and a client that says what it is given."""

from pathlib import Path

from websockets.sync.client import connect

VECTORS = Path(__file__).parents[1] / "vectors"
CAPTURED = (VECTORS / "calls" / "captured.jsonl").read_text().splitlines()


def say(server, messages):
    """Send messages and wait until the server has closed the connection."""
    with connect(server.url, compression=None) as ws:
        for message in messages:
            ws.send(message, text=True)
        for _ in ws:
            pass
