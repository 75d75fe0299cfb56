"""What LOG_LEVEL and LOG_FORMAT set up."""

import json
import logging

import pytest
from support.server import run

from mediastreams.config import Settings
from mediastreams.log.configure import TEXT, configure, formatter
from mediastreams.log.json_format import JsonFormatter
from mediastreams.log.keys import hide_keys


def test_text_is_the_tutorials():
    assert formatter(Settings())._fmt == TEXT == "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"


@pytest.mark.parametrize(("log_format", "loaded"), [("text", False), ("json", True)])
def test_the_library_is_loaded_only_for_json(log_format, loaded):
    show = (
        "import sys; from mediastreams import Settings; from mediastreams.log.configure import configure\n"
        f"configure(Settings(log_format={log_format!r})); print('pythonjsonlogger' in sys.modules)"
    )
    assert run("-c", show).stdout == f"{loaded}\n"


def test_what_is_written_is_told(monkeypatch, capfd, page):
    root = logging.Logger("root")
    monkeypatch.setattr(logging, "root", root)
    configure(Settings(log_level="WARNING"), page.add)
    root.info("not logged")
    root.warning("logged")
    assert page.lines == ["logged"]
    assert capfd.readouterr().err.endswith(": logged\n")


def test_it_is_set_once(monkeypatch):
    root = logging.Logger("root")
    monkeypatch.setattr(logging, "root", root)
    configure(Settings(log_level="WARNING", log_format="json"))
    (handler,) = root.handlers
    assert isinstance(handler.formatter, JsonFormatter)
    assert root.level == logging.WARNING


class TestALogThatTheApplicationHasSetUp:
    """In a process of its own: pytest has set up the log of this one."""

    @staticmethod
    def logged(before, *after):
        program = f"""
import logging
from mediastreams import Settings
from mediastreams.log.configure import configure
{before}
for settings in {after}:
    configure(Settings(**settings))
logging.getLogger("own").warning("a line")
"""
        return run("-c", program).stderr.splitlines()

    OWN = "logging.basicConfig(format='own: %(message)s')"

    def test_it_stays(self):
        assert self.logged(self.OWN, {}) == ["own: a line"]

    def test_a_setting_without_effect_is_told(self):
        why = "has no effect: the application has set up the log"
        assert self.logged(self.OWN, {"log_level": "ERROR", "log_format": "json"}) == [
            f"own: LOG_LEVEL=ERROR {why}",
            f"own: LOG_FORMAT=json {why}",
            "own: a line",
        ]

    def test_another_media_streams_is_told_too(self):
        """As where an application factory is called twice, or a server has two applications."""
        program = """
import logging
from mediastreams import Settings
from mediastreams.log.configure import configure

class Page:
    def __init__(self, name):
        self.name = name
    def add(self, record):
        print(self.name, record.getMessage())

pages = [Page(name) for name in "abc"]
for page in pages:
    configure(Settings(), page.add)
del page, pages[1]
logging.getLogger("own").warning("a line")
"""
        assert run("-c", program).stdout.splitlines() == ["a a line", "c a line"]

    def test_another_media_streams_is_not_meant(self):
        (line,) = self.logged("", {"log_format": "json"}, {"log_format": "json"})
        assert json.loads(line)["message"] == "a line"

    def test_keys_are_hidden(self, monkeypatch):
        root, handler = logging.Logger("root"), logging.NullHandler()
        root.addHandler(handler)
        monkeypatch.setattr(logging, "root", root)
        configure(Settings(log_digits="off"))
        assert handler.filters == [hide_keys]
