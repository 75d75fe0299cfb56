"""ngrok's agent on this machine: asks it for the public address of a port.

Source: https://ngrok.com/docs/agent/api/#list-tunnels
"""

import http.client
import io
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from mediastreams.config import SettingError, Settings
from mediastreams.exceptions import MediaStreamsError

SECONDS = 1.0  # for each of: the connection, the whole answer
_MAX_BYTES = 65536  # of an answer; a tunnel has about 500
_HERE = ("localhost", "127.0.0.1", "::1")


class NgrokError(MediaStreamsError):
    """There is no agent that tells its tunnels; the sentence says why."""


class _Config(msgspec.Struct):
    addr: str = ""


class Tunnel(msgspec.Struct):
    """One of an agent's tunnels."""

    public_url: str = ""
    """Its address, such as https://example.ngrok.app."""
    config: _Config = msgspec.field(default_factory=_Config)

    @property
    def port(self) -> int | None:
        """The port to which it forwards plain HTTP; None where it does not."""
        try:
            return (self._to.port or 80) if self._to.scheme == "http" else None
        except ValueError:
            return None

    @property
    def host(self) -> str | None:
        """The host to which it forwards; None where that is not known."""
        try:
            return self._to.hostname
        except ValueError:
            return None

    @property
    def _to(self) -> SplitResult:
        address = self.config.addr
        if address.isascii() and address.isdigit():
            address = f"localhost:{address}"
        return urlsplit(address if "://" in address else f"http://{address}")

    @property
    def wss_url(self) -> str | None:
        """The address as `Settings.public_url` has it; None where it is not one of https."""
        if not self.public_url.startswith("https://"):
            return None
        try:
            return Settings.read({"PUBLIC_URL": self.public_url}).public_url
        except SettingError:
            return None


class _Answer(msgspec.Struct):
    tunnels: list[Tunnel]


class _Reader(io.RawIOBase):
    """Reads a socket for `SECONDS` in all: a socket's own timeout is one of each read."""

    def __init__(self, connected: Any) -> None:
        self._socket = connected
        self._until = time.monotonic() + SECONDS

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file from which `http.client` reads."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        read: int = self._socket.recv_into(buffer)
        return read


def tunnels(api: str, connect: Callable[..., Any] = socket.create_connection) -> list[Tunnel]:
    """Return the tunnels of the agent at `api`, such as http://127.0.0.1:4040.

    `connect` makes the socket, from its address and its timeout. Raises `TimeoutError`, or `NgrokError`.
    """
    parts = urlsplit(api)
    host, port = parts.hostname or "", parts.port or 80
    headers = {"Accept": "application/json", "Connection": "close"}
    connection = None
    try:
        connection = http.client.HTTPConnection(host, port)
        connection.sock = connect((host, port), SECONDS)
        connection.request("GET", f"{parts.path}/api/tunnels", headers=headers)
        response = http.client.HTTPResponse(_Reader(connection.sock))  # type: ignore[arg-type]
        response.begin()
        return msgspec.json.decode(response.read(_MAX_BYTES), type=_Answer).tunnels
    except TimeoutError:
        raise
    except ConnectionRefusedError:
        raise NgrokError(f"no ngrok runs at {api}") from None
    except OSError as error:
        raise NgrokError(f"{api} cannot be asked: {error.strerror or error}") from None
    except (http.client.HTTPException, msgspec.MsgspecError, UnicodeError, RecursionError):
        raise NgrokError(f"what runs at {api} is not ngrok's agent") from None
    finally:
        if connection is not None:
            connection.close()


def urls(tunnels: list[Tunnel], port: int) -> list[str]:
    """Return the wss:// addresses of the tunnels to `port`, those to this machine first.

    The agent lists its tunnels in any order. In this one all programs choose the same.
    """
    found = [(tunnel.host not in _HERE, tunnel.wss_url) for tunnel in tunnels if tunnel.port == port]
    return [url for _, url in sorted((is_elsewhere, url) for is_elsewhere, url in found if url)]


def with_tunnel(settings: Settings, port: int) -> Settings:
    """Return `settings`; where they have no `public_url`, with that of the tunnel to `port`, if there is one.

    For programs beside the server: it waits for the agent.
    """
    if settings.public_url is not None or settings.ngrok_api == "off":
        return settings
    try:
        found = urls(tunnels(settings.ngrok_api), port)
    except (NgrokError, TimeoutError):
        return settings
    return replace(settings, public_url=found[0]) if found else settings
