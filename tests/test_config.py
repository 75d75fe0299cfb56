import re
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import run

from mediastreams import config
from mediastreams.config import SettingError, Settings

ROOT = Path(__file__).parent.parent
DEFAULTS = {field.name.upper(): str(field.default) for field in fields(Settings)}


class TestRead:
    def test_defaults(self):
        assert Settings.read({}) == Settings(5000, "127.0.0.1", "INFO")

    def test_values(self):
        environ = {"HTTP_SERVER_PORT": "8080", "HTTP_SERVER_HOST": "::", "LOG_LEVEL": "debug"}
        assert Settings.read(environ) == Settings(8080, "::", "DEBUG")

    def test_port_where_the_platform_sets_it(self):
        assert Settings.read({"PORT": "80"}).http_server_port == 80
        assert Settings.read({"PORT": "80", "HTTP_SERVER_PORT": "81"}).http_server_port == 81
        assert Settings.read({"PORT": "80", "HTTP_SERVER_PORT": " "}).http_server_port == 80

    @pytest.mark.parametrize(
        ("name", "value", "allowed"),
        [
            ("HTTP_SERVER_PORT", "http", "a port number from 0 to 65535"),
            ("HTTP_SERVER_PORT", "65536", "a port number from 0 to 65535"),
            ("HTTP_SERVER_PORT", "-1", "a port number from 0 to 65535"),
            ("HTTP_SERVER_PORT", "\u0665", "a port number from 0 to 65535"),
            ("PORT", "5000.0", "a port number from 0 to 65535"),
            ("HTTP_SERVER_HOST", "http://localhost", "a host name or an IP address of this machine"),
            ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ],
    )
    def test_a_value_that_cannot_be_used(self, name, value, allowed):
        with pytest.raises(SettingError) as caught:
            Settings.read({name: value})
        assert (caught.value.name, caught.value.value, caught.value.allowed) == (name, value, allowed)
        assert str(caught.value) == f"{name}={value!r} cannot be used: it must be {allowed}"


class TestLoad:
    SHOW = "from mediastreams.config import load; print(load().log_level, load().http_server_port)"

    def test_the_environment_wins_over_dotenv(self, tmp_path):
        (tmp_path / ".env").write_text("LOG_LEVEL=ERROR\nHTTP_SERVER_PORT=81\n")
        assert run("-c", self.SHOW, cwd=tmp_path, LOG_LEVEL="DEBUG").stdout == "DEBUG 81\n"

    def test_a_bad_value_is_one_line(self, tmp_path):
        (tmp_path / ".env").write_text("LOG_LEVEL=LOUD\n")
        result = run("-c", self.SHOW, cwd=tmp_path)
        assert result.returncode == 1
        assert result.stderr == (
            "LOG_LEVEL='LOUD' cannot be used: it must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL\n"
        )

    def test_a_dotenv_that_is_not_text_is_one_line(self, tmp_path):
        (tmp_path / ".env").write_bytes(b"LOG_LEVEL=\xff\xfe\n")
        result = run("-c", self.SHOW, cwd=tmp_path)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert result.stderr.startswith(".env cannot be read: ")


class TestDocumented:
    """One place for each fact: what is written elsewhere must be what `config.py` says."""

    def test_every_setting_has_its_kind(self):
        assert {name.upper() for name in config._KINDS} == set(DEFAULTS)

    def test_env_example(self):
        text = (ROOT / ".env.example").read_text()
        assert dict(re.findall(r"^#(\w+)=(.*)$", text, re.MULTILINE)) == DEFAULTS

    def test_env_example_uncommented_is_the_default(self, tmp_path):
        text = re.sub(r"^#(\w+=)", r"\1", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
        (tmp_path / ".env").write_text(text)
        show = "from mediastreams.config import *; assert load() == Settings()"
        assert run("-c", show, cwd=tmp_path).stderr == ""

    def test_readme(self):
        text = (ROOT / "README.md").read_text()
        table = text.partition("| setting | default |")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| `(\w+)`[^|]* \| `?([^|`]*)`? \|", table, re.MULTILINE)
        assert dict(rows) == DEFAULTS
