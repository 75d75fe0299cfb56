"""Serve as `python app.py` does, and note when each media message was handled.

    BENCH_LATENESS=FILE PYTHONPATH=. python bench/lateness.py

At its end it writes FILE: a JSON object with a list for each `callSid`, which holds at the place of each
`sequenceNumber` the time in ns of the monotonic clock, 0 where none was handled. How many a call will have,
its `start` says in a custom parameter, `messages`.
"""

import json
import os
import runpy
import sys
import time
from array import array
from pathlib import Path

from mediastreams.protocol.messages import Media, Received, Start
from mediastreams.streams.stream import Stream

handled: dict[str, array] = {}  # by callSid
by_stream: dict[int, array] = {}  # the same, by the identity of the call's Stream
receive = Stream.receive


def receive_and_note(self: Stream, data: str | bytes) -> Received | None:
    """Let the stream receive, and note the time after it."""
    message = receive(self, data)
    if isinstance(message, Media):
        by_stream[id(self)][message.sequence_number] = time.monotonic_ns()
    elif isinstance(message, Start):
        times = array("q", bytes(8 * (int(message.start.custom_parameters["messages"]) + 1)))
        handled[message.start.call_sid] = by_stream[id(self)] = times
    return message


def write() -> None:
    """Write the file."""
    text = json.dumps({sid: list(times) for sid, times in handled.items()})
    Path(os.environ["BENCH_LATENESS"]).write_text(text)


def serve() -> None:
    """Serve until the server ends, and write the file."""
    Stream.receive = receive_and_note
    del sys.argv[1:]  # app.py has a command line of its own
    try:
        runpy.run_path(str(Path(__file__).parents[1] / "app.py"), run_name="__main__")
    finally:
        write()


if __name__ == "__main__":
    serve()
