"""Keeps keys out of the tracebacks in the log, where LOG_DIGITS is off or the recording was paused.

What fails while it handles a key often quotes it: a table that has no such key raises `KeyError: '7'`. The
log then has the traceback without the text of the exception.
"""

import logging
import traceback

from mediastreams.log.limit import stream_of


def hide_keys(record: logging.LogRecord) -> bool:
    """Hide the text of an exception in a stream to which keys have come. A filter that lets all records pass.

    The traceback becomes text here, so that each formatter shows this one.
    """
    stream = stream_of(record)
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and stream is not None and stream.events.get("dtmf"):
        record.exc_text = (
            f"Traceback (most recent call last):\n{''.join(traceback.format_tb(error.__traceback__))}"
            f"{type(error).__name__}: (not shown, it may quote a key)\nin stream {stream.name}"
        )
        record.exc_info = None
    return True


def hide_keys_of_pauses(record: logging.LogRecord) -> bool:
    """Do what `hide_keys` does, in a stream whose recording was paused."""
    stream = stream_of(record)
    return stream is None or not stream.pauses.all or hide_keys(record)
