"""Streams whose messages come from the test, and a consumer that notes them."""

from mediastreams.config import Settings
from mediastreams.consumers.base import Consumer
from mediastreams.protocol.messages import Mark, MarkMetadata
from mediastreams.streams.stream import Stream
from support.streams import SID, FakeConnection

OTHER = "MZ" + "f" * 32
MISSED = []  # what consumers have missed, in the test that runs


def mark(number):
    return Mark(number, SID, MarkMetadata("m"))


class Noting(Consumer):
    """Notes what it gets, in a dict of the test's."""

    notes: dict

    def __init__(self, stream):
        super().__init__(stream)
        self.got = self.notes.setdefault(stream.name, [])

    def start(self, message):
        self.got.append(message)

    def media(self, message):
        self.got.append(message)

    def dtmf(self, message):
        self.got.append(message)

    def mark(self, message):
        self.got.append(message)

    def stop(self):
        self.got.append("stop")


def receive(stream, *messages):
    for message in messages:
        stream.receive(message.to_json())


def call(consumers, *messages):
    """Put a whole stream through the consumers."""
    with Stream(FakeConnection(), Settings(), consumers) as stream:
        receive(stream, *messages)
    return stream
