"""The settings: from the environment, else from a `.env` file in the current folder, else the default.

This is the only module that reads the environment. A setting that is empty counts as not set.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import dotenv


class SettingError(Exception):
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


def _number(least: int, most: int, what: str) -> _Kind:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return _Kind(f"{what} from {least} to {most}", read)


def _one_of(*names: str) -> _Kind:
    def read(text: str) -> str:
        return names[names.index(text.upper())]

    return _Kind(f"one of {', '.join(names)}", read)


def _host(text: str) -> str:
    if not text.isprintable() or any(c in text for c in " /"):
        raise ValueError
    return text


_KINDS = {
    "http_server_port": _number(0, 65535, "a port number"),
    "http_server_host": _Kind("a host name or an IP address of this machine", _host),
    "log_level": _one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
}

# Where platforms set a name of their own (Heroku, Cloud Run and Render set PORT).
_ELSE = {"http_server_port": "PORT"}


@dataclass(frozen=True)
class Settings:
    """One attribute a setting, in lower case; the defaults are those of a bare checkout.

    `http_server_port`: the port to listen on; 0 lets the system choose. `http_server_host`: the address
    to listen on. `log_level`: the least severe level that is logged, by its name.
    """

    http_server_port: int = 5000
    http_server_host: str = "127.0.0.1"
    log_level: str = "INFO"

    @classmethod
    def read(cls, environ: Mapping[str, str | None]) -> Self:
        """Return the settings that `environ` gives. Raises `SettingError` for the first it cannot use."""
        values = {}
        for setting in (field.name for field in fields(cls)):
            for name in filter(None, (setting.upper(), _ELSE.get(setting))):
                if text := (environ.get(name) or "").strip():
                    values[setting] = _read(name, text, _KINDS[setting])
                    break
        return cls(**values)


def _read(name: str, text: str, kind: _Kind) -> Any:
    try:
        return kind.read(text)
    except ValueError:
        raise SettingError(name, text, kind.allowed) from None


def load() -> Settings:
    """Return the settings of the environment and `.env`; one that cannot be used ends the program.

    The program then exits with one line that names the setting, its value and what is allowed.
    """
    try:
        return Settings.read({**_dotenv(), **os.environ})
    except SettingError as error:
        sys.exit(str(error))


def _dotenv() -> Mapping[str, str | None]:
    try:
        return dotenv.dotenv_values(".env")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f".env cannot be read: {error}")
