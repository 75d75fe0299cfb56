"""Which engine the settings ask for, and what its process gets."""

import pytest
from support.server import run

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
    assert (name, module, provider) == ("Amazon", "mediastreams.transcription.process_main", "amazon")
    assert {setting: environ[setting.upper()] for setting in AMAZON} == AMAZON
    assert "AWS_SESSION_TOKEN" not in environ
    assert environ["SSL_CERT_FILE"] == "authority.pem"


def test_no_engine_where_none_is_wanted(chosen):
    assert chosen(transcriber="off", **AMAZON) is None


def test_where_the_console_shows_no_texts_others_still_get_them(chosen):
    """The page, CALL_WEBHOOK, consumers."""
    assert chosen(transcriber="amazon", **AMAZON, log_level="WARNING") is not None


@pytest.mark.parametrize("missing", AMAZON)
def test_what_is_missing_ends_the_start(chosen, missing):
    line = f"TRANSCRIBER='amazon' cannot be used: it needs {missing.upper()}"
    with pytest.raises(SystemExit, match=f"^{line}$"):
        chosen(transcriber="amazon", **{**AMAZON, missing: None})


WATSON = {"speech_to_text_apikey": "key", "speech_to_text_url": "https://example.com"}


@pytest.mark.parametrize(
    ("settings", "begin", "end"),
    [
        (
            {"transcriber": "amazon", **AMAZON},
            "a language of TRANSCRIBER='amazon': af-ZA, am-ET, ar-AE, ar-SA, be-BY, ",
            ", zh-CN, zh-HK, zh-TW, zu-ZA",
        ),
        (
            {"transcriber": "watson", **WATSON},
            "a language of TRANSCRIBER='watson': ar, cs-CZ, de-DE, en-AU, en-GB, en-IN, en-US, es-419, ",
            ", pt-BR, pt-PT, sv-SE, zh-CN",
        ),
        ({"transcriber": "google"}, "a language of TRANSCRIBER='google': af-ZA, am-ET, ar-AE, ", ", zu-ZA"),
        (
            {"transcriber": "local"},
            "en-US or other English: TRANSCRIBER='local' hears English only",
            "",
        ),
        (
            {},
            "en-US or other English: TRANSCRIBER='local' hears English only",
            "",
        ),
    ],
)
def test_a_language_that_it_does_not_know_ends_the_start(chosen, monkeypatch, settings, begin, end):
    monkeypatch.setattr(select, "_is_installed", lambda module: True)
    with pytest.raises(SystemExit) as caught:
        chosen(**settings, transcriber_language="tlh")
    line = str(caught.value)
    assert line.startswith(f"TRANSCRIBER_LANGUAGE='tlh' cannot be used: it must be {begin}")
    assert line.endswith(end)
    assert "\n" not in line


def test_where_nothing_is_recognised_the_language_does_not_matter(chosen):
    assert chosen(transcriber="off", transcriber_language="tlh") is None


def test_the_process_gets_the_language(chosen):
    _, _, environ, _ = chosen(transcriber="amazon", **AMAZON, transcriber_language="de-DE")
    assert environ["TRANSCRIBER_LANGUAGE"] == "de-DE"


@pytest.mark.parametrize("language", ["en", "en-US", "en-GB"])
def test_the_local_one_hears_any_english(chosen, monkeypatch, language):
    monkeypatch.setattr(select, "_is_installed", lambda module: True)
    name, *_ = chosen(transcriber="local", transcriber_language=language)
    assert name == "The local engine"


def test_one_line_and_no_traceback():
    result = run("app.py", TRANSCRIBER="local", TRANSCRIBER_LANGUAGE="de-de", HTTP_SERVER_PORT="0")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "TRANSCRIBER_LANGUAGE='de-DE' cannot be used: "
        "it must be en-US or other English: TRANSCRIBER='local' hears English only\n"
    )
