"""How it is logged: the tutorial's lines, or one JSON object a line for those who collect them."""

import json
import logging
import re
from datetime import UTC, datetime

from mediastreams.config import Settings
from mediastreams.protocol.messages import Message, Unknown
from mediastreams.streams.stream import Stream, current

TEXT = "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"
_NAMED = re.compile(r"\bMZ[0-9a-fA-F]{32}\b")


def configure(settings: Settings) -> None:
    """Log to stderr, from LOG_LEVEL on, as LOG_FORMAT says."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings))
    logging.basicConfig(level=settings.log_level, handlers=[handler])


def formatter(settings: Settings) -> logging.Formatter:
    """Return what makes a line of a record, as LOG_FORMAT says."""
    return JsonFormatter() if settings.log_format == "json" else logging.Formatter(TEXT)


class JsonFormatter(logging.Formatter):
    """Makes one JSON object of a record.

    `time` is in UTC (ISO 8601), `level`, `module` and `message` are those of the text. `streamSid` and
    `callSid` are those of the stream that it is about, null where it is about none that has started. Where
    only the text names the stream, as a recogniser's lines do, `callSid` is null.
    `event` is that of Twilio's message, or of its statusCallback, which the line shows; else null.
    `exception` is there for a failure only: its traceback.

    A record's `stream`, a `Stream`, says which it is about; else the one in whose route or consumer it was
    logged. What has no `Stream` gives `streamSid`, `callSid` and `event` themselves.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        stream: Stream | None = getattr(record, "stream", None) or current.get()
        start = stream.start.start if stream and stream.start else None
        message = record.getMessage()
        named = _NAMED.search(message)
        fields = {
            "time": _utc(record.created),
            "level": record.levelname,
            "module": record.module,
            "message": message,
            "streamSid": start.stream_sid if start else named and named[0],
            "callSid": start and start.call_sid,
            "event": _event(record.args),
        }
        fields |= {
            name: vars(record)[name] for name in ("streamSid", "callSid", "event") if name in vars(record)
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _event(arguments: object) -> str | None:
    for argument in arguments if isinstance(arguments, tuple) else ():
        if isinstance(argument, Message):
            return str(argument.__struct_config__.tag)
        if isinstance(argument, Unknown):
            return str(argument)
    return None


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
