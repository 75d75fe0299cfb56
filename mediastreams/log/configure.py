"""Sets the log up as the settings say."""

import logging

from mediastreams.config import Settings
from mediastreams.log.limit import LimitedHandler

TEXT = "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"


def configure(settings: Settings) -> None:
    """Log to stderr, from LOG_LEVEL on, as LOG_FORMAT says."""
    handler = LimitedHandler()
    handler.setFormatter(formatter(settings))
    logging.basicConfig(level=settings.log_level, handlers=[handler])


def formatter(settings: Settings) -> logging.Formatter:
    """Return the formatter that LOG_FORMAT asks for."""
    if settings.log_format == "text":
        return logging.Formatter(TEXT)
    from mediastreams.log.json_format import JsonFormatter  # its library is imported only where it is used

    return JsonFormatter()
