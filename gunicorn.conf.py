"""gunicorn's settings: `gunicorn app:app`, and `-w N` for N workers.

gunicorn needs address, timeout and log format before it loads the application: it takes these from the
environment and `.env`. Its workers obey the settings of the application's `MediaStreams`.
"""

import os
import shutil
import tempfile

from mediastreams.config import load, random_page_token
from mediastreams.web.addresses import addresses

_settings = load()
_host = _settings.http_server_host

bind = f"{f'[{_host}]' if ':' in _host else _host}:{_settings.http_server_port}"
worker_class = "mediastreams.server.gunicorn_worker.Worker"
# A worker drains within DRAIN_TIMEOUT; gunicorn must not kill it before.
graceful_timeout = int(_settings.drain_timeout) + 10
if _settings.log_format == "json":
    logger_class = "mediastreams.server.gunicorn_worker.JsonLogger"
# gunicorn 25.1 and newer would make a socket in the user's home: the same for all servers of a user, and a
# service has no home.
control_socket_disable = True

# The workers gather their metrics in this folder, which must be set before one imports prometheus_client. A
# reload reads this file again, and keeps the folder.
_PREFIX = "mediastreams-metrics-"
_metrics = os.environ.get("PROMETHEUS_MULTIPROC_DIR") or tempfile.mkdtemp(prefix=_PREFIX)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _metrics

# All workers have the page's token from here. A reload keeps it.
_token = os.environ["MEDIASTREAMS_PAGE_TOKEN"] = random_page_token()


def when_ready(server):
    """Log where the page is, and what to paste at Twilio."""
    address = server.LISTENERS[0].getsockname()
    port = address[1] if isinstance(address, tuple) else _settings.http_server_port
    for line in addresses(_settings, port, _token):
        server.log.info(line)


def child_exit(_server, worker):
    """Take the live streams of a worker that has ended out of the metrics."""
    from prometheus_client.multiprocess import mark_process_dead  # reads the folder's name at import

    mark_process_dead(worker.pid)


def on_exit(_server):
    """Remove the folder, unless it is somebody else's."""
    if os.path.basename(_metrics).startswith(_PREFIX):
        shutil.rmtree(_metrics, ignore_errors=True)
