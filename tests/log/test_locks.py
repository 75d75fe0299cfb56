"""Threads that log, beside the server's and where a process is forked."""

import pytest
from support.server import run

# gevent has patched all, as under gunicorn. A handler is there before, one comes with the application.
LOGGING_THREADS = """
import logging.handlers
before = logging.handlers.WatchedFileHandler("before.log", delay=False)
from gevent import monkey; monkey.patch_all()
import gevent
from mediastreams.log.locks import use_system_locks

use_system_locks()
logger = logging.getLogger("app")
for handler in (before, logging.FileHandler("after.log"), logging.StreamHandler()):
    logger.addHandler(handler)
logger.setLevel("INFO")
ended = []

def log():
    for number in range(2000):
        logger.info("line %d", number)
    ended.append(True)

for _ in range(4):
    monkey.get_original("_thread", "start_new_thread")(log, ())
log()
while len(ended) < 5:
    gevent.sleep(0.01)
"""
CONFIGURED = """
from gevent import monkey; monkey.patch_all()
import _thread
import logging
from mediastreams.config import Settings
from mediastreams.log.configure import configure

configure(Settings())
assert type(logging._lock) is type(logging.root.handlers[0].lock) is _thread.RLock
"""
FORKS = """
import logging, os, signal, threading
from mediastreams.config import Settings
from mediastreams.log import configure, locks

{locks}
configure.configure(Settings())
logger = logging.getLogger("app")

def log():
    while True:
        logger.info("busy")

for _ in range(2):
    threading.Thread(target=log, daemon=True).start()
for number in range(50):
    process = os.fork()
    if not process:
        signal.alarm(5)  # ends who waits
        logger.info("child %d", number)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, number
os._exit(0)
"""


def test_no_thread_waits_for_a_lock_of_gevent(tmp_path):
    result = run("-c", LOGGING_THREADS, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for text in (result.stderr, *((tmp_path / f"{name}.log").read_text() for name in ("before", "after"))):
        assert text.count("line 1999\n") == 5
        assert text.count("\n") == 10_000


def test_the_log_of_a_program_that_has_patched_itself():
    result = run("-c", CONFIGURED)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("locks", ["", "locks.use_system_locks()"])
def test_a_forked_process_can_log(locks):
    """Whatever another thread was doing when it was forked."""
    result = run("-c", FORKS.format(locks=locks))
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stderr.count(": child ") == 50
