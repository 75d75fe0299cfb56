"""The JSON formatter of the log. `configure` imports it only where LOG_FORMAT asks for it."""

import logging
import re
import time
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter as _JsonFormatter

from mediastreams.log.limit import event_of, stream_of

_FIELDS = "%(asctime)s %(levelname)s %(module)s %(message)s %(streamSid)s %(callSid)s %(event)s"
_NAMES = {"asctime": "time", "levelname": "level", "exc_info": "exception"}
_NAMED = re.compile(r"\bMZ[0-9a-fA-F]{32}\b")


class JsonFormatter(_JsonFormatter):
    """Formats a record as one JSON object on one line.

    `time` is in UTC (ISO 8601), `level`, `module` and `message` are those of the text. `streamSid` and
    `callSid` are those of the stream that the line is about; null where it is about none that has started.
    Where only the text names the stream, as in a recogniser's lines, `callSid` is null. `event` is the event
    of the message, or of the statusCallback, that the line shows; else null. A failure also has `exception`,
    its traceback. Other attributes that a line is given (`extra`) follow under their own names.

    The stream is the `Stream` in the record's attribute `stream`, else the one in whose route or consumer the
    line was logged. A line without either gives `streamSid`, `callSid` and `event` itself.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__(_FIELDS, rename_fields=_NAMES, reserved_attrs=[*RESERVED_ATTRS, "stream", "limit"])

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Add the fields of `record` to `log_data`."""
        super().add_fields(log_data, record, message_dict)
        stream = stream_of(record)
        start = stream.start.start if stream and stream.start else None
        named = _NAMED.search(record.message)
        about = {
            "streamSid": start.stream_sid if start else named and named[0],
            "callSid": start and start.call_sid,
            "event": event_of(record),
        }
        log_data.update({name: value for name, value in about.items() if name not in vars(record)})
