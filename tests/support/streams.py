"""Messages as Twilio sends them, and a connection that only notes what it is asked for."""

import json

from mediastreams.protocol.messages import (
    Connected,
    Dtmf,
    DtmfMetadata,
    Media,
    MediaMetadata,
    Start,
    StartMetadata,
    Stop,
    StopMetadata,
)

SID = "MZ" + "0123456789abcdef" * 2
CONNECTED = Connected("Call", "1.0.0")


def start(number=1, sid=SID, **fields):
    return Start(number, StartMetadata("AC1", fields.pop("inner", sid), "CA1", **fields), sid)


def media(number, timestamp, track="inbound", size=160, sid=SID):
    return Media(number, MediaMetadata(track=track, chunk=1, timestamp=timestamp, payload=bytes(size)), sid)


def stop(number):
    return Stop(number, StopMetadata("AC1", "CA1"), SID)


def dtmf(number):
    return Dtmf(SID, number, DtmfMetadata(digit="1"))


class FakeConnection:
    """A WebSocket that only notes what the stream asks of it."""

    ending = ""

    def __init__(self):
        self.asked = []

    def send(self, message):
        self.asked.append(("send", json.loads(message)))

    def close(self, code, message):
        self.asked.append(("close", code, message))

    def close_after(self, seconds, code, reason):
        self.asked.append(("close_after", seconds, code, reason))

    def keep(self):
        self.asked.append(("keep",))


def warnings(caplog):
    return [record.getMessage() for record in caplog.records]
