"""Sets the log up as the settings say."""

import logging
import sys
from collections.abc import Callable

from mediastreams.config import Settings
from mediastreams.log.keys import hide_keys, hide_keys_of_pauses
from mediastreams.log.limit import LimitedHandler
from mediastreams.log.locks import use_system_locks

logger = logging.getLogger(__name__)

_DEFAULTS = Settings()
TEXT = "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"


def configure(settings: Settings, on_written: Callable[[logging.LogRecord], None] | None = None) -> None:
    """Log to stderr, from LOG_LEVEL on, as LOG_FORMAT and LOG_DIGITS say.

    `on_written`, a method, is called with each record that is written, where it was logged. A log that was
    set up before stays as it is, but for LOG_DIGITS; where the application has done that, `on_written` is
    not called.
    """
    root = logging.getLogger()
    limited = [each for each in root.handlers if isinstance(each, LimitedHandler)]  # an earlier call's
    if not root.handlers:
        handler = LimitedHandler()
        handler.setFormatter(formatter(settings))
        if (monkey := sys.modules.get("gevent.monkey")) and monkey.is_module_patched("threading"):
            use_system_locks()
        logging.basicConfig(level=settings.log_level, handlers=[handler])
        limited = [handler]
    elif not limited:
        _warn_of_no_effect(settings)
    for each in root.handlers:
        each.addFilter(hide_keys if settings.log_digits == "off" else hide_keys_of_pauses)
    if on_written is not None:
        for handler in limited:
            handler.tell(on_written)


def _warn_of_no_effect(settings: Settings) -> None:
    for name in ("log_level", "log_format"):
        value = getattr(settings, name)
        if value != getattr(_DEFAULTS, name):
            logger.warning("%s=%s has no effect: the application has set up the log", name.upper(), value)


def formatter(settings: Settings) -> logging.Formatter:
    """Return the formatter that LOG_FORMAT asks for."""
    if settings.log_format == "text":
        return logging.Formatter(TEXT)
    from mediastreams.log.json_format import JsonFormatter  # its library is imported only where it is used

    return JsonFormatter()
