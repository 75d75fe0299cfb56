"""Consumers that a worker program runs: they note what they get, in a file for each call in NOTES."""

import os
import time
from pathlib import Path

from mediastreams import Consumer


class Noting(Consumer):
    """Notes each method."""

    def start(self, message):
        self.note(f"start {message.start.call_sid}")

    def media(self, message):
        self.note(f"media {message.sequence_number} {message.media.chunk} {message.media.timestamp}")

    def audio(self, track, position, payload):
        self.note(f"audio {track} {position} {payload.hex()}")

    def dtmf(self, message):
        self.note(f"dtmf {message.dtmf.digit} {message.dtmf.shown}")

    def mark(self, message):
        self.note(f"mark {message.mark.name}")

    def transcript(self, transcript):
        self.note(f"transcript {transcript}")

    def stop(self):
        stream = self.stream
        self.note(f"stop {stream.ending} {stream.received} {stream.lost} {stream.late} {stream.bad}")

    def note(self, what):
        with (Path(os.environ["NOTES"]) / self.stream.name).open("a") as file:
            print(what, file=file)


class Slow(Noting):
    """Takes 50 ms for each chunk."""

    def media(self, message):
        time.sleep(0.05)
        super().media(message)


class Stuck(Noting):
    """Does not return before there is a file `go on` in NOTES."""

    def media(self, message):
        while not (Path(os.environ["NOTES"]) / "go on").exists():
            time.sleep(0.01)
        super().media(message)


class Raising(Noting):
    """Raises at the third chunk."""

    def media(self, message):
        super().media(message)
        if message.media.chunk == 3:
            raise ValueError("the third chunk")


class Deadly(Noting):
    """Ends its process at the third chunk."""

    def media(self, message):
        super().media(message)
        if message.media.chunk == 3:
            os._exit(1)
