"""The settings: from the environment, else from a `.env` file in the current folder, else the default.

Each is declared once, in `Settings`. `python -m docs.settings` writes `.env.example` and the table of
`docs/settings.md` from it. This is the only module that reads the environment.

Not pydantic-settings, which takes 165 ms of CPU to import (the whole server 190 until it listens), nor
msgspec, whose conversion takes a port of 5000.0 and refuses one of 05.
"""

import base64
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from mediastreams.exceptions import MediaStreamsError

__version__ = "1.0.0.dev0"


class SettingError(MediaStreamsError):
    """A setting whose value cannot be used: its `name`, its `value`, and what is `allowed`."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        super().__init__(name, value, allowed)
        self.name = name
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.name}={self.value!r} cannot be used: it must be {self.allowed}"


@dataclass(frozen=True)
class _Kind:
    """Which values a setting may have: its text must match `pattern`; `convert` makes the value of it."""

    allowed: str
    pattern: str
    convert: Callable[[str], Any] = str
    is_allowed: Callable[[Any], bool] = lambda _: True

    def read(self, text: str) -> Any:
        """Return the value of a text. Raises `ValueError` where it is not allowed."""
        if not re.fullmatch(self.pattern, text) or not self.is_allowed(value := self.convert(text)):
            raise ValueError
        return value


def _whole(what: str, least: int, most: int) -> _Kind:
    return _Kind(f"{what} from {least} to {most}", "[0-9]+", int, lambda number: least <= number <= most)


def _one_of(*names: str) -> _Kind:
    convert = {name.lower(): name for name in names}
    return _Kind(f"one of {', '.join(names)}", f"(?ai){'|'.join(names)}", lambda text: convert[text.lower()])


def _token(what: str) -> _Kind:
    return _Kind(f"{what}, without spaces", "[!-~]+")


def _normalise(text: str) -> str:
    parts = urlsplit(text if "://" in text else f"wss://{text}")
    # It may be the address of a stream, as in the TwiML: the other routes are beside it.
    return f"wss://{parts.netloc}{re.sub('(/(media|echo))?/*$', '', parts.path)}"


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError where it is no port number
    return bool(parts.hostname) and "@" not in parts.netloc


def _is_safe_url(text: str) -> bool:
    """Return whether a secret may be sent there: with TLS, or on this machine."""
    parts = urlsplit(text)
    return _is_url(text) and (parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1"))


_TLS_OPTION = (
    "(ssl_(ca_certs|ca_path|certfile|keyfile)=[^&@]+|ssl_cert_reqs=(none|optional|required)"
    "|ssl_check_hostname=(true|false))"
)
_REDIS_QUERY = f"({_TLS_OPTION}(&{_TLS_OPTION})*)?"


def _are_redis_urls(urls: str) -> bool:
    parts = [urlsplit(url) for url in urls.split(",")]
    # Path and query would also be the rest of a password with a / or ?. `port` raises ValueError, too.
    return all(
        part.hostname
        and part.port != 0
        and re.fullmatch("/?[0-9]{0,5}", part.path)
        and re.fullmatch(_REDIS_QUERY if part.scheme == "rediss" else "", part.query)
        and not part.fragment
        for part in parts
    )


def _canonical(tag: str) -> str:
    """Return a BCP 47 tag in the case that RFC 5646 recommends (section 2.1.1), such as zh-Hant-HK."""
    language, *others = tag.split("-")
    return "-".join(
        [language.lower(), *(part.title() if len(part) == 4 else part.upper() for part in others)]
    )


_SECONDS = _Kind("seconds, more than 0 and at most 86400", ".+", float, lambda seconds: 0 < seconds <= 86400)
_FOLDER = _Kind("the name of a folder", ".+", os.path.expanduser, str.isprintable)
_PUBLIC_URL = _Kind(
    "an address such as https://example.ngrok.app", r"(?i)(https?|wss?):\S+|((?!://)\S)+", _normalise, _is_url
)
_NGROK_API = _Kind(
    "an address such as http://127.0.0.1:4040, or off",
    "(?i)http://.+|off",
    lambda text: "off" if text.lower() == "off" else text.rstrip("/"),
    lambda text: text == "off" or _is_url(text),
)
_REDIS_URLS = _Kind(
    "an address such as redis://user:password@localhost:6379/0 or rediss://..., several with commas, no "
    "blanks",
    "rediss?://[!-+.-~-]+(,rediss?://[!-+.-~-]+)*",
    is_allowed=_are_redis_urls,
)
_ENDPOINT = _Kind(
    "an address that begins with https://", "(?i)https?:.+", lambda url: url.rstrip("/"), _is_url
)

_API_URL = replace(_ENDPOINT, is_allowed=_is_safe_url)

# As it is: a slash at its end, or a token in its query, belongs to it.
_WEBHOOK = _Kind("an address such as https://example.com/calls", "(?i:https?)://[!-~]+", is_allowed=_is_url)


def _is_secret(text: str) -> bool:
    return len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) in range(24, 65)  # or ValueError


def _setting(
    kind: _Kind, default: Any = None, *, second_name: str | None = None, secret: bool = False
) -> Any:
    """Declare a setting. `second_name` is read where its own name is not set; a secret is never shown."""
    return field(default=default, repr=not secret, metadata={"kind": kind, "second_name": second_name})


@dataclass(frozen=True)
class Settings:
    """The settings of a server. None: not set.

    `public_url` begins with wss:// and has no slash at the end.
    """

    http_server_port: int = _setting(_whole("a port number", 0, 65535), 5000, second_name="PORT")
    """The port to listen on; 0 lets the system choose."""
    http_server_host: str = _setting(
        _Kind("a host name or an IP address of this machine", r"[\w.:%-]+"), "127.0.0.1"
    )
    """The address to listen on. ngrok runs on the same machine, so nobody else needs it."""
    log_level: str = _setting(_one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO")
    """The least severe level that is logged. Above INFO the console shows no transcripts and no
    level meter."""
    log_format: str = _setting(_one_of("text", "json"), "text")
    """How a line is logged; `json` is one object a line, see [Logs as JSON](deploy.md#logs-as-json)."""
    log_digits: str = _setting(_one_of("on", "off"), "on")
    """Whether the keys that callers press are shown in the log and in the JSON file of a recording. They may
    be PINs or card numbers: `off` hides them, see [Keys are secrets](deploy.md#keys-are-secrets)."""

    public_url: str | None = _setting(_PUBLIC_URL)
    """The address that Twilio uses, with or without `/media`. The served TwiML names it, and signatures are
    checked against it. Not set: that of the tunnel which `NGROK_API` tells, else the request's Host."""
    ngrok_api: str = _setting(_NGROK_API, "http://127.0.0.1:4040")
    """While `PUBLIC_URL` is not set: the address of the agent of ngrok, which is asked for the tunnel to this
    server, see [The tunnel](first-call.md#the-tunnel). `off`: nobody is asked."""
    dial_number: str | None = _setting(
        _Kind("a number in E.164, such as +15550123456", r"\+[1-9][0-9]{1,14}")
    )
    """The number that the served TwiML dials. Not set: the number in the file."""
    twilio_auth_token: str | None = _setting(_token("the token of the Twilio Console"), secret=True)
    """The auth token of your account: only handshakes and webhooks that Twilio has signed with it are
    accepted, others get 403. Not set: all are accepted."""
    twilio_account_sid: str | None = _setting(_Kind("AC and 32 hexadecimal digits", "AC[0-9a-fA-F]{32}"))
    """The SID of your account: a stream of another is closed with 1008. Not set: all are accepted."""
    twilio_api_key: str | None = _setting(_Kind("SK and 32 hexadecimal digits", "SK[0-9a-fA-F]{32}"))
    """The SID of an API key of your account, which the commands `number`, `dial` and `doctor` use in place of
    the auth token, see [The account](first-call.md#the-account)."""
    twilio_api_secret: str | None = _setting(
        _token("the secret of that key"), second_name="TWILIO_API_KEY_SECRET", secret=True
    )
    """The secret of that API key."""
    twilio_region: str | None = _setting(_Kind("the name of a region, such as ie1", "[a-z0-9-]+"))
    """The region of Twilio that the commands ask. Not set: that of the United States."""
    twilio_edge: str | None = _setting(_Kind("the name of an edge location, such as dublin", "[a-z0-9-]+"))
    """The edge location through which the commands reach that region. Not set: Twilio chooses."""
    twilio_api_url: str | None = _setting(_API_URL)
    """The address of the REST API that the commands ask. Not set: Twilio's, of region and edge."""

    page_token: str | None = _setting(
        _Kind(
            "16 to 256 letters, digits and -._~, or off",
            "(?i:off)|[A-Za-z0-9._~-]{16,256}",  # fit for a link as it is
            lambda text: "off" if text.lower() == "off" else text,
        ),
        secret=True,
    )
    """The token of [the live page](live-page.md). Not set: a new one at each start, shown on the console.
    `off`: there is no page."""
    page_viewers: int = _setting(_whole("a number", 1, 1000), 20)
    """The maximum of open live pages, of each worker; the next one gets 503."""

    max_streams: int = _setting(_whole("a number", 1, 1_000_000), 1000)
    """The maximum of live streams; the next handshake is refused with 503."""
    max_message_bytes: int = _setting(_whole("a number of bytes", 1024, 2**30), 65536)
    """Bytes of the longest message; the connection of a longer one is closed with 1009."""
    start_timeout: float = _setting(_SECONDS, 10)
    """Seconds for the handshake, else the connection ends, and then for the `start` message, else it is
    closed with 1008."""
    idle_timeout: float = _setting(_SECONDS, 30)
    """Seconds in which nothing is received: the connection is closed with 1001. Likewise seconds in which
    nothing is read of what is sent: the connection ends."""
    drain_timeout: float = _setting(_SECONDS, 30)
    """Seconds that live streams may continue when the server stops; then they are closed with 1001."""
    # Nothing is handled later than 45 ms after it came (p99), with a margin for the reads of a turn.
    gather_ms: int = _setting(_whole("milliseconds", 0, 1000), 44)
    """Milliseconds: with more than 16 live streams, each is read once in this time, which saves CPU. A stream
    to which the server also sends is read every 2 ms. 0 reads each message as it comes."""

    recordings_dir: str | None = _setting(_FOLDER)
    """The folder in which each stream is recorded, see [The recording](consumers.md#the-recording). Not set:
    none is."""
    recordings_days: int | None = _setting(_whole("days", 1, 36_500))
    """Days: recordings are removed so long after something was written to them last, with the files beside
    them, see [Remove old recordings](consumers.md#remove-old-recordings). Not set: they stay."""
    call_webhook: str | None = _setting(_WEBHOOK, secret=True)
    """The address to which the account of each stream is posted when it has ended, see
    [CALL_WEBHOOK](call-webhook.md). Not set: nothing is posted."""
    call_webhook_secret: str | None = _setting(
        _Kind("whsec_ and 24 to 64 bytes in base64", "whsec_[A-Za-z0-9+/]+={0,2}", is_allowed=_is_secret),
        secret=True,
    )
    """With `CALL_WEBHOOK`, which needs it: the secret that signs what is posted."""
    call_webhook_dir: str = _setting(_FOLDER, "call-webhook")
    """With `CALL_WEBHOOK`: the folder in which accounts wait until they are posted."""
    transcriber: str | None = _setting(_one_of("local", "google", "amazon", "watson", "off"))
    """The recogniser, see [Transcription](transcription.md). Not set: `local` if it is installed."""
    transcriber_language: str = _setting(
        _Kind(
            "the BCP 47 tag of a language, such as en-US",
            "(?ai)[a-z]{2,3}(-[a-z]{4})?(-([a-z]{2}|[0-9]{3}))?",
            _canonical,
        ),
        "en-US",
    )
    """The language that the recogniser hears, see [Languages](transcription.md#languages)."""
    google_speech_endpoint: str | None = _setting(_ENDPOINT)
    """With `TRANSCRIBER=google`: the address of the service. Not set: Google's own. The key is in the file
    that `GOOGLE_APPLICATION_CREDENTIALS` names."""
    aws_access_key_id: str | None = _setting(_token("the key of an AWS account"), secret=True)
    """With `TRANSCRIBER=amazon`: the access key."""
    aws_secret_access_key: str | None = _setting(_token("the secret of that key"), secret=True)
    """With `TRANSCRIBER=amazon`: the secret of the access key."""
    aws_session_token: str | None = _setting(_token("a token of AWS"), secret=True)
    """With `TRANSCRIBER=amazon`: the session token of a temporary access key."""
    aws_region: str | None = _setting(
        _Kind("the name of a region, such as us-east-1", r"[\w-]+"), second_name="AWS_DEFAULT_REGION"
    )
    """With `TRANSCRIBER=amazon`: the region."""
    aws_endpoint_url_transcribe_streaming: str | None = _setting(_ENDPOINT)
    """With `TRANSCRIBER=amazon`: the address of the service. Not set: that of the region."""
    speech_to_text_apikey: str | None = _setting(_token("the key of an IBM service"), secret=True)
    """With `TRANSCRIBER=watson`: the key of the service's credentials."""
    speech_to_text_url: str | None = _setting(_ENDPOINT)
    """With `TRANSCRIBER=watson`: the URL of the service's credentials."""
    speech_to_text_auth_url: str | None = _setting(_ENDPOINT)
    """With `TRANSCRIBER=watson`: the address that gives a token for the key. Not set: IBM's own."""

    redis_url: str | None = _setting(_REDIS_URLS, secret=True)
    """The Redis through which workers get the calls, see [Redis](redis.md); several are separated by commas.
    Not set: there is none."""
    redis_window: int = _setting(_whole("seconds", 10, 3600), 60)
    """Seconds of a call's audio that are kept: in Redis for workers while the call lasts, and in the server
    while Redis is away."""

    @classmethod
    def read(cls, *sources: Mapping[str, str]) -> Self:
        """Return the settings that the sources give; an earlier source wins, and an empty text is not set.

        Raises `SettingError` for the first setting whose value cannot be used.
        """
        values = {}
        for setting in fields(cls):
            name, text = next(_texts(setting, sources), ("", ""))
            if not text:
                continue
            kind: _Kind = setting.metadata["kind"]
            try:
                values[setting.name] = kind.read(text)
            except ValueError:
                raise SettingError(name, text if setting.repr else "(not shown)", kind.allowed) from None
        return cls(**values)


def names(setting: Field[Any]) -> list[str]:
    """Return the names of a setting in the environment; an earlier one wins."""
    return [name for name in (setting.name.upper(), setting.metadata["second_name"]) if name]


def _texts(setting: Field[Any], sources: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    for source in sources:
        for name in names(setting):
            if text := source.get(name, "").strip():
                yield name, text


def load() -> Settings:
    """Return the settings of the environment and `.env`.

    A setting that cannot be used ends the program with one line that names it, its value and what is allowed;
    so does a line of `.env` that is not NAME=VALUE.
    """
    return _read(os.environ, _dotenv())


def checked(settings: Settings) -> Settings:
    """Return `settings` that a program has made, each value read as its text in the environment would be.

    One that cannot be used ends the program, as it does in `load`.
    """
    return _read({setting.name.upper(): _text(settings, setting) for setting in fields(settings)})


def _read(*sources: Mapping[str, str]) -> Settings:
    try:
        return Settings.read(*sources)
    except SettingError as error:
        sys.exit(str(error))


def _text(settings: Settings, setting: Field[Any]) -> str:
    value = getattr(settings, setting.name)
    return "" if value is None else str(value)


def with_arguments(settings: Settings, arguments: Sequence[str] | None) -> Settings:
    """Return `settings` with what `arguments` say, `--host` and `--port`. None: those of the command line.

    `--help` and `--version` print and end the program; what it does not know ends it with 2 and its usage.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    if not arguments:
        return settings
    import argparse  # it takes 8 ms of CPU

    parser = argparse.ArgumentParser(
        description="Receives the audio of live phone calls from Twilio.",
        epilog="All settings, in the environment or in .env: see docs/settings.md.",
        allow_abbrev=False,
    )
    options = {"host": "http_server_host", "port": "http_server_port"}
    for option, name in options.items():
        now = str(getattr(settings, name)).replace("%", "%%")  # argparse formats it; fe80::1%eth0 has one
        help = f"as {name.upper()} ({now})"
        parser.add_argument(f"--{option}", metavar=option.upper(), help=help)
    parser.add_argument("--version", action="version", version=f"mediastreams {__version__}")
    given = parser.parse_args(arguments)
    changed = {}
    for option, name in options.items():
        if (text := getattr(given, option)) is None:
            continue
        kind: _Kind = Settings.__dataclass_fields__[name].metadata["kind"]
        try:
            changed[name] = kind.read(text)
        except ValueError:
            parser.error(f"--{option} {text}: it must be {kind.allowed}")
    return replace(settings, **changed)


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment for a child process: with `settings`, and with what else `.env` sets."""
    environ = {**_dotenv(), **os.environ}
    for setting in fields(settings):
        for name in names(setting):
            environ.pop(name, None)
        if (value := getattr(settings, setting.name)) != setting.default:
            environ[setting.name.upper()] = str(value)
    return environ


def random_page_token() -> str:
    """Return a token for the page of settings that have none: that of gunicorn's master, else a new one."""
    import secrets  # it takes 10 ms of CPU

    return os.environ.get("MEDIASTREAMS_PAGE_TOKEN") or secrets.token_urlsafe(16)


def has_folder_for_metrics() -> bool:
    """Return whether gunicorn's workers gather their metrics in a folder (`gunicorn.conf.py`)."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def folder_for_calls() -> Path | None:
    """Return where gunicorn's workers note how the streams of calls go; None: there is one process."""
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(shared, "calls") if shared else None


def has_dumb_terminal() -> bool:
    """Return whether the terminal only prints, such as an editor's, or the older one of Windows."""
    if sys.platform == "win32":
        return not (os.environ.get("WT_SESSION") or os.environ.get("TERM", "dumb") != "dumb")
    return os.environ.get("TERM") == "dumb"


def _dotenv() -> dict[str, str]:
    try:
        text = Path(".env").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f".env cannot be read: {error}")
    # Imported only where there is a file: they take 10 ms of CPU.
    import dotenv
    from dotenv.parser import parse_stream

    for line in parse_stream(io.StringIO(text)):
        if line.error or (line.key is not None and line.value is None):  # dotenv_values would pass over it
            sys.exit(f".env cannot be read: line {line.original.line} is not NAME=VALUE")
    values = dotenv.dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in values.items() if value is not None}
