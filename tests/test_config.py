import re
import runpy
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
from support.server import run

from mediastreams.config import SettingError, Settings, checked, environment

ROOT = Path(__file__).parent.parent
DEFAULTS = {
    field.name.upper(): "" if field.default is None else str(field.default) for field in fields(Settings)
}
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class TestRead:
    def test_defaults(self):
        assert Settings.read({}) == Settings(
            http_server_port=5000,
            http_server_host="127.0.0.1",
            log_level="INFO",
            log_format="text",
            log_digits="on",
            public_url=None,
            ngrok_api="http://127.0.0.1:4040",
            dial_number=None,
            twilio_auth_token=None,
            twilio_account_sid=None,
            twilio_api_key=None,
            twilio_api_secret=None,
            twilio_region=None,
            twilio_edge=None,
            twilio_api_url=None,
            page_token=None,
            page_viewers=20,
            max_streams=1000,
            max_message_bytes=65536,
            start_timeout=10,
            idle_timeout=30,
            drain_timeout=30,
            gather_ms=44,
            recordings_dir=None,
            recordings_days=None,
            call_webhook=None,
            call_webhook_secret=None,
            call_webhook_dir="call-webhook",
            transcriber=None,
            transcriber_language="en-US",
            google_speech_endpoint=None,
            aws_access_key_id=None,
            aws_secret_access_key=None,
            aws_session_token=None,
            aws_region=None,
            aws_endpoint_url_transcribe_streaming=None,
            speech_to_text_apikey=None,
            speech_to_text_url=None,
            speech_to_text_auth_url=None,
        )

    def test_values(self):
        environ = {"HTTP_SERVER_PORT": "8080", "HTTP_SERVER_HOST": "::", "LOG_LEVEL": "debug"}
        assert Settings.read(environ) == Settings(8080, "::", "DEBUG")
        assert Settings.read({"START_TIMEOUT": "0.5", "GATHER_MS": "0"}) == Settings(
            start_timeout=0.5, gather_ms=0
        )
        url = "https://example.com/calls/?token=a%20b"
        assert Settings.read({"CALL_WEBHOOK": url}) == Settings(call_webhook=url)
        assert Settings.read({"CALL_WEBHOOK_SECRET": SECRET}) == Settings(call_webhook_secret=SECRET)
        assert Settings.read({"RECORDINGS_DAYS": "30"}) == Settings(recordings_days=30)

    @pytest.mark.parametrize(
        ("value", "url"),
        [
            ("https://example.ngrok.app", "wss://example.ngrok.app"),
            ("http://example.ngrok.app/", "wss://example.ngrok.app"),
            ("wss://Example.com:8443/media", "wss://Example.com:8443"),
            ("ws://example.com/media/", "wss://example.com"),
            ("wss://example.com/twilio/echo", "wss://example.com/twilio"),
            ("wss://example.com/multimedia", "wss://example.com/multimedia"),
            ("example.com", "wss://example.com"),
            ("example.com:8443/twilio", "wss://example.com:8443/twilio"),
        ],
    )
    def test_public_url_is_normalised(self, value, url):
        assert Settings.read({"PUBLIC_URL": value}).public_url == url

    @pytest.mark.parametrize(("value", "api"), [("http://ngrok:4040/", "http://ngrok:4040"), ("OFF", "off")])
    def test_ngroks_agent(self, value, api):
        assert Settings.read({"NGROK_API": value}).ngrok_api == api

    @pytest.mark.parametrize("host", ["0.0.0.0", "::1", "fe80::1%eth0", "my-host.example", "my_host"])
    def test_hosts(self, host):
        assert Settings.read({"HTTP_SERVER_HOST": host}).http_server_host == host

    @pytest.mark.parametrize(
        ("value", "tag"),
        [
            ("de-de", "de-DE"),
            ("DE", "de"),
            ("YUE-hant-hk", "yue-Hant-HK"),
            ("es-419", "es-419"),
            ("fil-PH", "fil-PH"),
        ],
    )
    def test_the_case_of_a_language(self, value, tag):
        assert Settings.read({"TRANSCRIBER_LANGUAGE": value}).transcriber_language == tag

    @pytest.mark.parametrize("value", ["off", "OFF"])
    def test_digits(self, value):
        assert Settings.read({"LOG_DIGITS": value}).log_digits == "off"

    @pytest.mark.parametrize("value", ["json", "JSON", "Json"])
    def test_case_does_not_matter_to_a_choice(self, value):
        assert Settings.read({"LOG_FORMAT": value}).log_format == "json"

    def test_one_can_be_replaced(self):
        settings = Settings.read({"MAX_STREAMS": "3", "PORT": "80"})
        assert replace(settings, max_streams=2) == Settings(http_server_port=80, max_streams=2)

    def test_the_token_is_not_shown(self):
        settings = Settings.read({"TWILIO_AUTH_TOKEN": "0123456789abcdef"})
        assert settings.twilio_auth_token == "0123456789abcdef"
        assert "0123456789abcdef" not in repr(settings)
        with pytest.raises(SettingError) as caught:
            Settings.read({"TWILIO_AUTH_TOKEN": "secret token"})
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "value",
        [
            "short",
            "fifteen-letters",
            "with a space in it",
            "a" * 257,
            "\u00e9" * 16,
            "a-slash-as/base64-has",
            "a-per-cent-%41-of-it",
        ],
    )
    def test_a_token_of_the_page_that_is_none(self, value):
        with pytest.raises(SettingError) as caught:
            Settings.read({"PAGE_TOKEN": value})
        assert caught.value.allowed == "16 to 256 letters, digits and -._~, or off"

    @pytest.mark.parametrize(("value", "token"), [("OFF", "off"), ("sixteen-letters-", "sixteen-letters-")])
    def test_a_token_of_the_page(self, value, token):
        assert Settings.read({"PAGE_TOKEN": value}).page_token == token

    def test_no_key_is_shown(self):
        secrets = [
            "TWILIO_API_SECRET",
            "PAGE_TOKEN",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "SPEECH_TO_TEXT_APIKEY",
        ]
        settings = Settings.read(dict.fromkeys(secrets, "0123456789abcdef"))
        assert "0123456789abcdef" not in repr(settings)
        for name in secrets:
            with pytest.raises(SettingError) as caught:
                Settings.read({name: "my secret"})
            assert "my secret" not in str(caught.value)

    def test_no_part_of_the_webhook_is_shown(self):
        """Its address may have a token."""
        environ = {"CALL_WEBHOOK": "https://example.com/my-token", "CALL_WEBHOOK_SECRET": SECRET}
        assert not any(text in repr(Settings.read(environ)) for text in ("my-token", SECRET))

    @pytest.mark.parametrize(
        ("name", "value", "allowed"),
        [
            ("CALL_WEBHOOK", "example.com/my-token", "an address such as https://example.com/calls"),
            ("CALL_WEBHOOK", "ftp://example.com/my-token", "an address such as https://example.com/calls"),
            (
                "CALL_WEBHOOK",
                "https://me:my-token@example.com/",
                "an address such as https://example.com/calls",
            ),
            (
                "CALL_WEBHOOK",
                "https://example.com/my-token x",
                "an address such as https://example.com/calls",
            ),
            ("CALL_WEBHOOK", "https://:80/my-token", "an address such as https://example.com/calls"),
            *(
                ("CALL_WEBHOOK_SECRET", value, "whsec_ and 24 to 64 bytes in base64")
                for value in (
                    SECRET.removeprefix("whsec_"),
                    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY=",  # 23 bytes
                    f"whsec_{88 * 'A'}",
                    SECRET[:-1],
                    SECRET + "!",
                )
            ),
        ],
    )
    def test_what_is_no_webhook(self, name, value, allowed):
        with pytest.raises(SettingError) as caught:
            Settings.read({name: value})
        assert str(caught.value) == f"{name}='(not shown)' cannot be used: it must be {allowed}"

    def test_port_where_the_platform_sets_it(self):
        assert Settings.read({"PORT": "80"}).http_server_port == 80
        assert Settings.read({"PORT": "80", "HTTP_SERVER_PORT": "81"}).http_server_port == 81
        assert Settings.read({"PORT": "80", "HTTP_SERVER_PORT": " "}).http_server_port == 80
        assert Settings.read({"PORT": "80"}, {"HTTP_SERVER_PORT": "81"}).http_server_port == 80

    @pytest.mark.parametrize(
        ("name", "value", "allowed"),
        [
            ("HTTP_SERVER_PORT", "http", "a port number from 0 to 65535"),
            ("HTTP_SERVER_PORT", "65536", "a port number from 0 to 65535"),
            ("HTTP_SERVER_PORT", "-1", "a port number from 0 to 65535"),
            ("HTTP_SERVER_PORT", "\u0665", "a port number from 0 to 65535"),
            ("PORT", "5000.0", "a port number from 0 to 65535"),
            ("AWS_DEFAULT_REGION", "eu/west", "the name of a region, such as us-east-1"),
            ("HTTP_SERVER_HOST", "http://localhost", "a host name or an IP address of this machine"),
            ("HTTP_SERVER_HOST", "[::1]", "a host name or an IP address of this machine"),
            ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
            ("LOG_FORMAT", "xml", "one of text, json"),
            ("LOG_DIGITS", "false", "one of on, off"),
            ("DIAL_NUMBER", "15550123456", "a number in E.164, such as +15550123456"),
            ("DIAL_NUMBER", "+1 555 0123456", "a number in E.164, such as +15550123456"),
            ("DIAL_NUMBER", "+0123456", "a number in E.164, such as +15550123456"),
            ("DIAL_NUMBER", "+1234567890123456", "a number in E.164, such as +15550123456"),
            ("DIAL_NUMBER", "+1\u0665\u0665", "a number in E.164, such as +15550123456"),
            ("PUBLIC_URL", "ftp://example.com", "an address such as https://example.ngrok.app"),
            ("PUBLIC_URL", "https://", "an address such as https://example.ngrok.app"),
            ("PUBLIC_URL", "https://a:b", "an address such as https://example.ngrok.app"),
            ("PUBLIC_URL", "https:a", "an address such as https://example.ngrok.app"),
            ("PUBLIC_URL", "https://me:pw@a", "an address such as https://example.ngrok.app"),
            *(
                ("PUBLIC_URL", value, "an address such as https://example.ngrok.app")
                for value in ("https://a.example -> http://localhost:80", "a.example b", "https://a b.c")
            ),
            ("NGROK_API", "https://127.0.0.1:4040", "an address such as http://127.0.0.1:4040, or off"),
            ("NGROK_API", "http://me:pw@a", "an address such as http://127.0.0.1:4040, or off"),
            ("NGROK_API", "on", "an address such as http://127.0.0.1:4040, or off"),
            ("TWILIO_ACCOUNT_SID", "AC123", "AC and 32 hexadecimal digits"),
            ("TWILIO_API_KEY", "AC" + "1" * 32, "SK and 32 hexadecimal digits"),
            ("TWILIO_REGION", "ie1.evil", "the name of a region, such as ie1"),
            ("TWILIO_EDGE", "dublin/", "the name of an edge location, such as dublin"),
            ("TWILIO_API_URL", "http://example.com", "an address that begins with https://"),
            ("PAGE_VIEWERS", "0", "a number from 1 to 1000"),
            ("MAX_STREAMS", "0", "a number from 1 to 1000000"),
            ("MAX_MESSAGE_BYTES", "64k", "a number of bytes from 1024 to 1073741824"),
            ("START_TIMEOUT", "0", "seconds, more than 0 and at most 86400"),
            ("IDLE_TIMEOUT", "nan", "seconds, more than 0 and at most 86400"),
            ("DRAIN_TIMEOUT", "soon", "seconds, more than 0 and at most 86400"),
            ("GATHER_MS", "-1", "milliseconds from 0 to 1000"),
            ("RECORDINGS_DIR", "a\0b", "the name of a folder"),
            ("CALL_WEBHOOK_DIR", "a\0b", "the name of a folder"),
            ("RECORDINGS_DAYS", "0", "days from 1 to 36500"),
            ("RECORDINGS_DAYS", "1.5", "days from 1 to 36500"),
            ("TRANSCRIBER", "wat\u017fon", "one of local, google, amazon, watson, off"),
            ("TRANSCRIBER", "siri", "one of local, google, amazon, watson, off"),
            ("TRANSCRIBER_LANGUAGE", "English", "the BCP 47 tag of a language, such as en-US"),
            ("TRANSCRIBER_LANGUAGE", "en_US", "the BCP 47 tag of a language, such as en-US"),
            ("TRANSCRIBER_LANGUAGE", "\u017fv-SE", "the BCP 47 tag of a language, such as en-US"),
            ("SPEECH_TO_TEXT_URL", "localhost", "an address that begins with https://"),
            ("SPEECH_TO_TEXT_URL", "https:localhost", "an address that begins with https://"),
            ("SPEECH_TO_TEXT_URL", "https://me:pw@a", "an address that begins with https://"),
        ],
    )
    def test_a_value_that_cannot_be_used(self, name, value, allowed):
        with pytest.raises(SettingError) as caught:
            Settings.read({name: value})
        assert (caught.value.name, caught.value.value, caught.value.allowed) == (name, value, allowed)
        assert str(caught.value) == f"{name}={value!r} cannot be used: it must be {allowed}"

    @pytest.mark.parametrize(
        "url",
        [
            "redis://",
            "http://localhost",
            "redis://localhost:0",
            "redis://localhost/name",
            "redis://user:p@ss/word@localhost:6379",
            "redis://one, redis://two",
        ],
    )
    def test_an_address_of_redis_that_cannot_be_used(self, url):
        with pytest.raises(
            SettingError, match=r"^REDIS_URL='\(not shown\)' cannot be used: it must be an address"
        ):
            Settings.read({"REDIS_URL": url})

    @pytest.mark.parametrize(
        "url",
        [
            "redis://a",
            "rediss://u:p%40ss%2Fw@h:1/3?ssl_ca_certs=/x/y.pem",
            "redis://a,redis://b:1/0,redis://[::1]",
        ],
    )
    def test_an_address_of_redis(self, url):
        assert Settings.read({"REDIS_URL": url}).redis_url == url


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

    @pytest.mark.parametrize(
        "text",
        [
            "LOG_LEVEL=INFO\nHTTP_SERVER_PORT: 81\n",
            "A=1\nLOG_LEVEL='INFO\n",
            "# a comment\nLOG_LEVEL\n",
        ],
    )
    def test_a_dotenv_line_that_is_not_one_is_named(self, tmp_path, text):
        (tmp_path / ".env").write_text(text)
        result = run("-c", self.SHOW, cwd=tmp_path)
        assert (result.returncode, result.stderr) == (1, ".env cannot be read: line 2 is not NAME=VALUE\n")

    def test_a_dotenv_that_is_not_text_is_one_line(self, tmp_path):
        (tmp_path / ".env").write_bytes(b"LOG_LEVEL=\xff\xfe\n")
        result = run("-c", self.SHOW, cwd=tmp_path)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert result.stderr.startswith(".env cannot be read: ")


class TestChecked:
    """Settings that a program has made."""

    def test_they_are_read_as_in_the_environment(self):
        made = {"public_url": "https://a.example/media", "log_level": "debug", "max_streams": "7"}
        read = {name.upper(): value for name, value in made.items()}
        assert checked(replace(Settings(), **made)) == Settings.read(read)

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"max_streams": 0}, "MAX_STREAMS='0' cannot be used: it must be a number from 1 to 1000000"),
            ({"log_digits": False}, "LOG_DIGITS='False' cannot be used: it must be one of on, off"),
            ({"page_token": "short"}, "PAGE_TOKEN='(not shown)' cannot be used: it must be 16 to 256"),
        ],
    )
    def test_one_that_cannot_be_used_ends_the_program(self, changed, says):
        with pytest.raises(SystemExit) as caught:
            checked(replace(Settings(), **changed))
        assert str(caught.value).startswith(says)

    @pytest.mark.parametrize("settings", [Settings(), Settings(idle_timeout=0.25, redis_url="redis://a/1")])
    def test_others_stay_as_they_are(self, settings):
        assert checked(settings) == checked(checked(settings)) == settings


class TestEnvironment:
    """What a child process finds."""

    def test_it_finds_the_same_settings(self):
        settings = Settings(http_server_port=80, aws_region="eu-west-1", start_timeout=0.5)
        assert Settings.read(environment(settings)) == settings

    def test_not_what_the_settings_have_replaced(self, monkeypatch):
        monkeypatch.setenv("AWS_DEFAULT_REGION", "of the environment")
        monkeypatch.setenv("PORT", "81")
        assert not {"AWS_DEFAULT_REGION", "AWS_REGION", "PORT"} & set(environment(Settings()))

    def test_what_else_dotenv_sets_and_the_environment_wins(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text("SSL_CERT_FILE=authority.pem\nHTTPS_PROXY=http://a\n")
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        monkeypatch.setenv("HTTPS_PROXY", "http://b")
        environ = environment(Settings())
        assert (environ["SSL_CERT_FILE"], environ["HTTPS_PROXY"]) == ("authority.pem", "http://b")


class TestDocumented:
    """One place for each fact: what is written elsewhere is what `config.py` says."""

    DOCS = runpy.run_path(str(ROOT / "docs" / "settings.py"))

    @pytest.mark.parametrize("name", [".env.example", "docs/settings.md"])
    def test_a_file_is_what_is_generated(self, name):
        text = (ROOT / name).read_text()
        assert text == self.DOCS["files"]()[ROOT / name], f"{name}: run python -m docs.settings"

    def test_the_generator_runs_by_its_command(self, tmp_path):
        (tmp_path / "docs").mkdir()
        for name in ("docs/settings.py", "docs/settings.md"):
            shutil.copy(ROOT / name, tmp_path / name)
        table = "| setting | default | allowed | meaning |\n|---|---|---|---|\n"
        page = tmp_path / "docs" / "settings.md"
        page.write_text(re.sub(r"^\| `.*\n", "", page.read_text(), flags=re.MULTILINE))
        assert f"{table}\n" in page.read_text()
        result = run("-m", "docs.settings", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        for name in (".env.example", "docs/settings.md"):
            assert (tmp_path / name).read_text() == (ROOT / name).read_text()

    def test_each_setting_says_what_it_means_and_what_is_allowed(self):
        for names, _, allowed, meaning in self.DOCS["_settings"]():
            assert re.fullmatch(r"[A-Z].+\.", meaning), names
            assert allowed, names

    def test_env_example(self):
        text = (ROOT / ".env.example").read_text()
        assert dict(re.findall(r"^#(\w+)=(.*)$", text, re.MULTILINE)) == DEFAULTS

    def test_env_example_uncommented_is_the_default(self, tmp_path):
        text = re.sub(r"^#(\w+=)", r"\1", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
        (tmp_path / ".env").write_text(text)
        show = "from mediastreams.config import *; assert load() == Settings()"
        assert run("-c", show, cwd=tmp_path, TRANSCRIBER="").stderr == ""

    def test_settings_md(self):
        text = (ROOT / "docs" / "settings.md").read_text()
        table = text.partition("| setting | default |")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| `(\w+)`[^|]* \| `?([^|`]*?)`? ?\|", table, re.MULTILINE)
        assert dict(rows) == DEFAULTS
