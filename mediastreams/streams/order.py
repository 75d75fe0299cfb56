"""Checks that a message may come at this point of its stream.

    connected -> start -> media | dtmf | mark ... -> stop

An event that Twilio has added may come anywhere before `stop`.
"""

from mediastreams.protocol.messages import Connected, Received, Start, Unknown


def fault(message: Received, start: Start | None, *, stopped: bool) -> tuple[str, str] | None:
    """Return what is wrong with a message: the kind, of which one is logged, and a sentence. None: nothing.

    `start` is the stream's `start` message, None where none came; `stopped` tells whether `stop` came.
    """
    event = message.event
    if stopped:
        return "after stop", f"{event} after stop"
    if isinstance(message, Unknown):
        return None
    if isinstance(message, Connected | Start):
        if start is not None:
            return "after start", f"{event} after start"
        if isinstance(message, Start) and message.stream_sid != message.start.stream_sid:
            return "$.streamSid", "$.streamSid: differs from $.start.streamSid"
        return None
    if start is None:
        return "before start", f"{event} before start"
    if message.stream_sid != start.stream_sid:
        return "$.streamSid", f"$.streamSid: {event} of another stream, {message.stream_sid}"
    return None
