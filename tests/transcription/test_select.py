"""Which engine the settings ask for, and what its process gets."""

import pytest

from mediastreams.config import Settings
from mediastreams.transcription import select

AMAZON = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret", "aws_region": "eu-west-1"}


@pytest.fixture
def chosen(monkeypatch):
    """Return a function that returns what a process would be made of."""
    monkeypatch.setattr(select, "EngineProcess", lambda *made_of: made_of)
    return lambda **settings: select.choose(Settings(**settings))


def test_the_process_gets_the_settings_and_not_what_else_the_environment_says(chosen, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "of the environment")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of the environment")
    monkeypatch.setenv("SSL_CERT_FILE", "authority.pem")
    name, module, environ, provider = chosen(transcriber="amazon", **AMAZON)
    assert (name, module, provider) == ("Amazon", "mediastreams.transcription.provider_process", "amazon")
    assert {setting: environ[setting.upper()] for setting in AMAZON} == AMAZON
    assert "AWS_SESSION_TOKEN" not in environ
    assert environ["SSL_CERT_FILE"] == "authority.pem"


@pytest.mark.parametrize("settings", [{"transcriber": "off"}, {"log_level": "WARNING"}])
def test_no_engine_where_none_is_wanted_or_nobody_reads_it(chosen, settings):
    assert chosen(**{"transcriber": "amazon", **AMAZON, **settings}) is None


@pytest.mark.parametrize("missing", AMAZON)
def test_what_is_missing_ends_the_start(chosen, missing):
    line = f"TRANSCRIBER='amazon' cannot be used: it needs {missing.upper()}"
    with pytest.raises(SystemExit, match=f"^{line}$"):
        chosen(transcriber="amazon", **{**AMAZON, missing: None})
