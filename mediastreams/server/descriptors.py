"""File descriptors: each connection takes one, and another while it is recorded."""

import contextlib
import errno
import logging
from typing import Any

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

from gevent.hub import get_hub
from gevent.pywsgi import WSGIServer

from mediastreams.config import Settings

logger = logging.getLogger(__name__)

_OWN = 64  # for everything but streams: files, pipes, the event loop, requests that are no streams
_PAUSE_SECONDS = 0.25  # until the next try to accept


def make_room(settings: Settings) -> None:
    """Raise this process's limit where MAX_STREAMS needs it; warn in one line if that is not enough."""
    if why := lack(settings):
        logger.warning("%s", why)


def lack(settings: Settings) -> str:
    """Raise this process's limit where MAX_STREAMS needs it; return what is wrong if that is not enough."""
    if resource is None:
        return ""
    needed = settings.max_streams * (2 if settings.recordings_dir is not None else 1) + _OWN
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for higher in (hard, needed):  # macOS refuses its own hard limit, which is infinite
        if limit == resource.RLIM_INFINITY or limit >= needed:
            return ""
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (higher, hard))
            limit = higher
    if limit >= needed:
        return ""
    return (
        f"MAX_STREAMS={settings.max_streams} needs {needed} file descriptors, and the system allows {limit}: "
        "raise the limit (ulimit -n) or lower MAX_STREAMS"
    )


class Server(WSGIServer):
    """A WSGI server that goes on when the system has no descriptor for another connection.

    gevent's own prints a traceback for each try.
    """

    # Connections that may wait to be accepted, as many as gunicorn has: with gevent's 128 those of a burst of
    # calls are dropped, and tried again a second later.
    backlog = 2048

    def do_read(self) -> Any:
        """Accept a connection; without a descriptor for it, accept none for a moment."""
        try:
            return super().do_read()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self.handler_class.state.count_refused("descriptors", 503)  # type: ignore[attr-defined]
        logger.error(
            "No file descriptor is left for another connection (ulimit -n); live streams go on",
            extra={"limit": "a lack of file descriptors"},
        )
        self.stop_accepting()
        self._timer: Any = get_hub().loop.timer(_PAUSE_SECONDS)
        self._timer.start(self._start_accepting_if_started)  # type: ignore[attr-defined, call-arg]
        return None
