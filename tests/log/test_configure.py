"""What LOG_LEVEL and LOG_FORMAT set up."""

import logging

import pytest
from support.server import run

from mediastreams.config import Settings
from mediastreams.log.configure import TEXT, configure, formatter
from mediastreams.log.json_format import JsonFormatter


def test_text_is_the_tutorials():
    assert formatter(Settings())._fmt == TEXT == "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"


@pytest.mark.parametrize(("log_format", "loaded"), [("text", False), ("json", True)])
def test_the_library_is_loaded_only_for_json(log_format, loaded):
    show = (
        "import sys; from mediastreams import Settings; from mediastreams.log.configure import configure\n"
        f"configure(Settings(log_format={log_format!r})); print('pythonjsonlogger' in sys.modules)"
    )
    assert run("-c", show).stdout == f"{loaded}\n"


def test_what_is_written_is_told(monkeypatch, capfd):
    root, told = logging.Logger("root"), []
    monkeypatch.setattr(logging, "root", root)
    configure(Settings(log_level="WARNING"), lambda record: told.append(record.getMessage()))
    root.info("not logged")
    root.warning("logged")
    assert told == ["logged"]
    assert capfd.readouterr().err.endswith(": logged\n")


def test_it_is_set_once(monkeypatch):
    root = logging.Logger("root")
    monkeypatch.setattr(logging, "root", root)
    configure(Settings(log_level="WARNING", log_format="json"))
    (handler,) = root.handlers
    assert isinstance(handler.formatter, JsonFormatter)
    assert root.level == logging.WARNING


LOGGING_THREADS = """
from gevent import monkey; monkey.patch_all()
import logging
import gevent
from mediastreams.config import Settings
from mediastreams.log.configure import configure

configure(Settings())
ended = []

def log():
    for number in range(2000):
        logging.getLogger("app").info("line %d", number)
    ended.append(True)

for _ in range(4):
    monkey.get_original("_thread", "start_new_thread")(log, ())
log()
while len(ended) < 5:
    gevent.sleep(0.01)
"""


def test_threads_that_log_wait_for_no_lock_of_gevent():
    """Where it has patched all, as under gunicorn."""
    result = run("-c", LOGGING_THREADS)
    assert result.returncode == 0
    assert result.stderr.count("INFO in <string>: line 1999") == 5
