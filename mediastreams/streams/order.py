"""Checks that a message may come at this point of its stream.

    connected -> start -> media | dtmf | mark ... -> stop

An event that Twilio has added may come anywhere before `stop`.
"""

from typing import NamedTuple

from mediastreams.protocol.messages import Connected, Received, Start, Unknown


class Fault(NamedTuple):
    """Why a message is bad."""

    kind: str
    """What it has in common with others of which one warning is enough."""
    text: str
    """The sentence for the log."""


def fault(message: Received, start: Start | None, *, stopped: bool) -> Fault | None:
    """Return what is wrong with a message, None where nothing is.

    `start` is the stream's `start` message, None where none came; `stopped` tells whether `stop` came.
    """
    event = message.event
    if stopped:
        return Fault("after stop", f"{event} after stop")
    if isinstance(message, Unknown):
        return None
    if isinstance(message, Connected | Start):
        if start is not None:
            return Fault(f"{event} after start", f"{event} after start")
        if isinstance(message, Start) and message.stream_sid != message.start.stream_sid:
            return Fault("$.streamSid", "$.streamSid: differs from $.start.streamSid")
        return None
    if start is None:
        return Fault("before start", f"{event} before start")
    if message.stream_sid != start.stream_sid:
        return Fault("$.streamSid", f"$.streamSid: {event} of another stream, {message.stream_sid}")
    return None
