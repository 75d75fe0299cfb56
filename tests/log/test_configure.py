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
