"""gunicorn's settings: `gunicorn app:app`, and `-w N` for N workers.

gunicorn needs address, timeout and log format before it loads the application: it takes these from the
environment and `.env`. Its workers obey the settings of the application's `MediaStreams`.
"""

import atexit
import os
import shutil
import sys
import tempfile
import threading

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


def _remove(folder, process):
    if os.getpid() == process:  # not a worker
        shutil.rmtree(folder, ignore_errors=True)


# The workers gather their metrics in this folder, which must be set before one imports prometheus_client. A
# reload reads this file again, and keeps the folder. After USR2 each master has its own.
_PREFIX = "mediastreams-metrics-"
_OWN = f"{_PREFIX}{os.getpid()}-"
_given = os.path.basename(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
if not _given or (_given.startswith(_PREFIX) and not _given.startswith(_OWN)):
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = _folder = tempfile.mkdtemp(prefix=_OWN)
    atexit.register(_remove, _folder, os.getpid())

# All workers have the page's token from here. A reload keeps it.
_token = os.environ["MEDIASTREAMS_PAGE_TOKEN"] = random_page_token()


def when_ready(server):
    """Log where the page is, and what to paste at Twilio."""
    address = server.LISTENERS[0].getsockname()
    port = address[1] if isinstance(address, tuple) else _settings.http_server_port
    for line in addresses(_settings, port, _token, "/page/"):  # `/` may be the application's own
        server.log.info(line)


def child_exit(_server, worker):
    """Forget a worker that has ended, and take its live streams out of the metrics."""
    from prometheus_client.multiprocess import mark_process_dead  # reads the folder's name at import

    mark_process_dead(worker.pid)
    if hasattr(worker, "ended"):  # not one of another `worker_class`
        worker.ended()


def worker_exit(_server, _worker):
    """End the process of a worker that has done its work, before Python frees what its threads still use.

    Under gunicorn each thread that asks Redis has a loop of gevent's own, whose C code crashes then.
    """
    ending = sys.exc_info()[1]
    if isinstance(ending, SystemExit) and not ending.code:
        threading._shutdown()  # these two are what Python's own end begins with
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
