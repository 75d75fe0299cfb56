"""Sets the log up as the settings say."""

import logging
import sys
from collections.abc import Callable

from mediastreams.config import Settings
from mediastreams.log.keys import hide_keys, hide_keys_of_pauses
from mediastreams.log.limit import LimitedHandler
from mediastreams.log.locks import use_system_locks

TEXT = "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"


def configure(settings: Settings, on_written: Callable[[logging.LogRecord], None] | None = None) -> None:
    """Log to stderr, from LOG_LEVEL on, as LOG_FORMAT and LOG_DIGITS say.

    `on_written` is called with each record that is written, where it was logged.
    """
    handler = LimitedHandler(on_written)
    handler.addFilter(hide_keys if settings.log_digits == "off" else hide_keys_of_pauses)
    handler.setFormatter(formatter(settings))
    if (monkey := sys.modules.get("gevent.monkey")) and monkey.is_module_patched("threading"):
        use_system_locks()
    logging.basicConfig(level=settings.log_level, handlers=[handler])


def formatter(settings: Settings) -> logging.Formatter:
    """Return the formatter that LOG_FORMAT asks for."""
    if settings.log_format == "text":
        return logging.Formatter(TEXT)
    from mediastreams.log.json_format import JsonFormatter  # its library is imported only where it is used

    return JsonFormatter()
