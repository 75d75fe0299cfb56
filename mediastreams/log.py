"""The log: the tutorial's lines, or one JSON object a line for those who collect them."""

import logging

from mediastreams.config import Settings

TEXT = "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"


def configure(settings: Settings) -> None:
    """Log to stderr, from LOG_LEVEL on, as LOG_FORMAT says."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings))
    logging.basicConfig(level=settings.log_level, handlers=[handler])


def formatter(settings: Settings) -> logging.Formatter:
    """Return the formatter that LOG_FORMAT asks for."""
    if settings.log_format == "text":
        return logging.Formatter(TEXT)
    from mediastreams.json_log import JsonFormatter  # its library is imported only where it is used

    return JsonFormatter()
