"""The settings: from the environment, else from a `.env` file in the current folder, else the default.

This is the only module that reads the environment. A setting that is empty counts as not set.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import dotenv
from dotenv.parser import parse_stream

from mediastreams.exceptions import MediaStreamsError


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
    """What values a setting takes: `read` turns the text into the value or raises `ValueError`."""

    allowed: str
    read: Callable[[str], Any]
    secret: bool = False


def _whole(what: str, least: int, most: int) -> _Kind:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return _Kind(f"{what} from {least} to {most}", read)


def _one_of(*names: str) -> _Kind:
    def read(text: str) -> str:
        return {name.lower(): name for name in names}[text.lower()]

    return _Kind(f"one of {', '.join(names)}", read)


def _read_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 86400:
        raise ValueError
    return seconds


def _read_host(text: str) -> str:
    if not text.isprintable() or any(c in text for c in " /"):
        raise ValueError
    return text


def _read_public_url(text: str) -> str:
    parts = urlsplit(text if "://" in text else f"wss://{text}")
    if parts.scheme not in ("https", "http", "wss", "ws") or not parts.hostname or "@" in parts.netloc:
        raise ValueError
    _ = parts.port  # raises ValueError where it is no port number
    # It may be the address of a stream, as it stands in the TwiML; others stand beside it.
    return f"wss://{parts.netloc}{re.sub('(/(media|echo))?/*$', '', parts.path)}"


def _read_number(text: str) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{1,14}", text):
        raise ValueError
    return text


def _read_account_sid(text: str) -> str:
    if not re.fullmatch("AC[0-9a-fA-F]{32}", text):
        raise ValueError
    return text


def _read_token(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError
    return text


def _read_folder(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return os.path.expanduser(text)


def _read_endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise ValueError
    _ = parts.port  # raises ValueError where it is no port number
    return text.rstrip("/")


_ENDPOINT = _Kind("an address that begins with https://", _read_endpoint)
_SECONDS = _Kind("seconds, more than 0 and at most 86400", _read_seconds)

_KINDS = {
    "http_server_port": _whole("a port number", 0, 65535),
    "http_server_host": _Kind("a host name or an IP address of this machine", _read_host),
    "log_level": _one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    "log_format": _one_of("text", "json"),
    "public_url": _Kind("an address such as https://example.ngrok.app", _read_public_url),
    "dial_number": _Kind("a number in E.164, such as +15550123456", _read_number),
    "twilio_auth_token": _Kind("the token of the Twilio Console, without spaces", _read_token, secret=True),
    "twilio_account_sid": _Kind("AC and 32 hexadecimal digits", _read_account_sid),
    "max_streams": _whole("a number", 1, 1_000_000),
    "max_message_bytes": _whole("a number of bytes", 1024, 2**30),
    "start_timeout": _SECONDS,
    "idle_timeout": _SECONDS,
    "drain_timeout": _SECONDS,
    "gather_ms": _whole("milliseconds", 0, 1000),
    "recordings_dir": _Kind("the name of a folder", _read_folder),
    "transcriber": _one_of("local", "google", "amazon", "watson", "off"),
    "google_speech_endpoint": _ENDPOINT,
    "aws_access_key_id": _Kind("the key of an AWS account, without spaces", _read_token),
    "aws_secret_access_key": _Kind("the secret of that key, without spaces", _read_token, secret=True),
    "aws_session_token": _Kind("a token of AWS, without spaces", _read_token, secret=True),
    "aws_region": _Kind("the name of a region, such as us-east-1", _read_host),
    "aws_endpoint_url_transcribe_streaming": _ENDPOINT,
    "speech_to_text_apikey": _Kind("the key of an IBM service, without spaces", _read_token, secret=True),
    "speech_to_text_url": _ENDPOINT,
    "speech_to_text_auth_url": _ENDPOINT,
}

# Where a platform has a name of its own (Heroku, Cloud Run and Render set PORT), or a provider a second.
_ELSE = {"http_server_port": "PORT", "aws_region": "AWS_DEFAULT_REGION"}


@dataclass(frozen=True)
class Settings:
    """One attribute a setting, in lower case; the defaults are those of a bare checkout.

    `http_server_port`: the port to listen on; 0 lets the system choose. `http_server_host`: the address
    to listen on. `log_level`: the least severe level that is logged, by its name. `log_format`: `text`, or
    `json` for one object a line.

    `public_url`: the address that Twilio uses, as wss:// without a slash at the end; None takes the
    request's Host. `dial_number`: the number in the TwiML that is served, in E.164; None leaves that of the
    file. `twilio_auth_token`: every handshake and webhook must be signed with it; None lets all in.
    `twilio_account_sid`: whose streams are taken; None takes everybody's.

    `max_streams`: WebSockets at once. `max_message_bytes`: of one message. `start_timeout`: seconds for a
    handshake, and then for `start`. `idle_timeout`: seconds in which nothing is received, or taken.
    `drain_timeout`: seconds that live streams are given when the server is told to end. `gather_ms`: how
    many milliseconds of messages are read at once when many streams are live; 0 reads each as it comes.

    `recordings_dir`: the folder in which each stream is recorded; None records none. `transcriber`: which
    engine transcribes; None is the local one if it is installed. What follows it are the providers' keys and
    addresses, by the names that their own libraries give them; an address that is None is the usual one.
    """

    http_server_port: int = 5000
    http_server_host: str = "127.0.0.1"
    log_level: str = "INFO"
    log_format: str = "text"
    public_url: str | None = None
    dial_number: str | None = None
    twilio_auth_token: str | None = field(default=None, repr=False)
    twilio_account_sid: str | None = None
    max_streams: int = 1000
    max_message_bytes: int = 65536
    start_timeout: float = 10
    idle_timeout: float = 30
    drain_timeout: float = 30
    # Nothing is handled later than 45 ms after it came (p99), with a margin for the reads of a turn.
    gather_ms: int = 44
    recordings_dir: str | None = None
    transcriber: str | None = None
    google_speech_endpoint: str | None = None
    aws_access_key_id: str | None = field(default=None, repr=False)
    aws_secret_access_key: str | None = field(default=None, repr=False)
    aws_session_token: str | None = field(default=None, repr=False)
    aws_region: str | None = None
    aws_endpoint_url_transcribe_streaming: str | None = None
    speech_to_text_apikey: str | None = field(default=None, repr=False)
    speech_to_text_url: str | None = None
    speech_to_text_auth_url: str | None = None

    @classmethod
    def read(cls, *sources: Mapping[str, str | None]) -> Self:
        """Return the settings that the sources give, the first of them first.

        Raises `SettingError` for the first that cannot be used.
        """
        values = {}
        for setting, kind in _KINDS.items():
            for name, text in _given(setting, sources):
                try:
                    values[setting] = kind.read(text)
                except (ValueError, KeyError):
                    shown = "(not shown)" if kind.secret else text
                    raise SettingError(name, shown, kind.allowed) from None
                break
        return cls(**values)


def _given(setting: str, sources: Iterable[Mapping[str, str | None]]) -> Iterator[tuple[str, str]]:
    for source in sources:
        for name in filter(None, (setting.upper(), _ELSE.get(setting))):
            if text := (source.get(name) or "").strip():
                yield name, text


def load() -> Settings:
    """Return the settings of the environment and `.env`; one that cannot be used ends the program.

    The program then exits with one line that names the setting, its value and what is allowed.
    """
    try:
        return Settings.read(os.environ, _dotenv())
    except SettingError as error:
        sys.exit(str(error))


def environment() -> dict[str, str]:
    """Return the environment with what `.env` adds to it, for a process of ours."""
    return {**{name: value for name, value in _dotenv().items() if value is not None}, **os.environ}


def has_folder_for_metrics() -> bool:
    """Say whether the workers of gunicorn gather their metrics in a folder (`gunicorn.conf.py`)."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def has_dumb_terminal() -> bool:
    """Say whether the terminal announces itself as one that only prints, such as that of an editor."""
    return os.environ.get("TERM") == "dumb"


def _dotenv() -> Mapping[str, str | None]:
    try:
        text = Path(".env").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f".env cannot be read: {error}")
    for line in parse_stream(io.StringIO(text)):
        if line.error:  # dotenv_values would pass over it
            sys.exit(f".env cannot be read: line {line.original.line} is not NAME=VALUE")
    return dotenv.dotenv_values(stream=io.StringIO(text))
