"""What is checked on this machine. Each check returns what is right, or raises."""

import asyncio
import importlib.util
import shutil
import sys

import httpx
import msgspec

from mediastreams import ngrok
from mediastreams.audio.files import nearest, unusable
from mediastreams.client import read_at_most
from mediastreams.config import Settings
from mediastreams.doctor import FaultError, SkippedError
from mediastreams.server.descriptors import lack
from mediastreams.transcription import select
from mediastreams.web.addresses import web_url

_SECONDS = 5.0  # for an answer of the server
_MAX_BYTES = 65536  # of it; it has about 30
_LEAST_FREE = 100_000_000  # bytes
_BYTES_AN_HOUR = 2 * 8000 * 3600  # of a call with both tracks, recorded


class _Health(msgspec.Struct):
    status: str
    streams: int


def check_settings(settings: Settings) -> str:
    """Check what belongs together; a value that cannot be used was refused before."""
    if settings.twilio_api_key is not None and settings.twilio_api_secret is None:
        raise FaultError("TWILIO_API_KEY needs TWILIO_API_SECRET")
    if settings.call_webhook is not None:
        if settings.call_webhook_secret is None:
            raise FaultError("CALL_WEBHOOK needs CALL_WEBHOOK_SECRET")
        if why := unusable(settings.call_webhook_dir):
            raise FaultError(f"CALL_WEBHOOK_DIR={settings.call_webhook_dir!r} cannot be used: {why}")
    if settings.redis_url is not None and importlib.util.find_spec("redis") is None:
        raise FaultError("REDIS_URL needs pip install -r requirements-redis.txt")
    if settings.twilio_auth_token is None:
        return "they can be used, but TWILIO_AUTH_TOKEN is not set: anybody can send a stream"
    return "they can be used"


def check_port(settings: Settings) -> str:
    """Check that the server answers on its port."""
    port = settings.http_server_port
    if port == 0:
        raise FaultError("HTTP_SERVER_PORT=0 does not tell where the server listens: set another")
    # By its address: on macOS "localhost" may reach the AirPlay Receiver, on the same port of ::1.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_server_host, settings.http_server_host)
    at = f"{f'[{host}]' if ':' in host else host}:{port}"
    try:
        health = msgspec.json.decode(asyncio.run(_get(f"http://{at}/healthz")), type=_Health)
    except httpx.ConnectError:
        raise FaultError(f"nothing listens on {at}: start `python app.py`") from None
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, msgspec.MsgspecError):
        raise FaultError(
            f"another program listens on {at}: stop it, or set another HTTP_SERVER_PORT"
        ) from None
    if health.status != "ok":
        raise FaultError(f"the server on {at} is {health.status}: start it again")
    return f"the server answers on {at}, live streams: {health.streams}"


async def _get(url: str) -> bytes:
    """Return what is at an address, of an answer that is whole within `_SECONDS`: httpx bounds each read."""
    async with (
        asyncio.timeout(_SECONDS),
        httpx.AsyncClient(trust_env=False, timeout=None) as client,
        client.stream("GET", url) as answer,
    ):
        return await read_at_most(_MAX_BYTES, answer.aiter_bytes())


def find_address(settings: Settings) -> str:
    """Return the public address, https://, and check that no tunnel of ngrok contradicts it."""
    port, public = settings.http_server_port, settings.public_url
    run = f"run `ngrok http {port}`, or set PUBLIC_URL"
    tunnels: list[ngrok.Tunnel] = []
    why = "there is no tunnel"
    try:
        if settings.ngrok_api != "off":
            tunnels = ngrok.tunnels(settings.ngrok_api)
    except ngrok.NgrokError as error:
        why = str(error)
    except TimeoutError:
        why = f"{settings.ngrok_api} does not answer"
    found = ngrok.urls(tunnels, port)
    elsewhere = {each.wss_url: each.config.addr for each in tunnels if each.wss_url and each.port != port}
    url = public or next(iter(found or elsewhere), None)
    if url is None:
        raise FaultError(f"{why}: {run}")
    if url in elsewhere and url not in found:
        where = f"{web_url(url)} leads to {elsewhere[url]}"
        raise FaultError(f"the tunnel {where}, not to port {port}: run `ngrok http {port}`")
    if found and url not in found:
        raise FaultError(
            f"PUBLIC_URL is {web_url(url)}, but the tunnel to port {port} is {web_url(found[0])}: "
            "change PUBLIC_URL, or remove it and restart the server"
        )
    return web_url(url)


def check_descriptors(settings: Settings) -> str:
    """Check that the system allows as many connections as MAX_STREAMS needs, from the same shell."""
    if sys.platform == "win32":
        raise SkippedError("Windows does not limit them")
    if why := lack(settings):
        raise FaultError(why)
    return f"there are enough for {settings.max_streams} streams"


def check_recordings(settings: Settings) -> str:
    """Check that recordings can be made, and the room on the disk."""
    folder = settings.recordings_dir
    if folder is None:
        raise SkippedError("RECORDINGS_DIR is not set: calls are not recorded")
    if why := unusable(folder):
        raise FaultError(f"RECORDINGS_DIR={folder!r} cannot be used: {why}")
    free = shutil.disk_usage(nearest(folder)).free
    if free < _LEAST_FREE:
        raise FaultError(f"RECORDINGS_DIR={folder!r} has only {free // 1_000_000} MB left")
    return f"{folder} has room for {free // _BYTES_AN_HOUR} hours of calls"


def check_engine(settings: Settings) -> str:
    """Check that the recogniser is installed and has its keys; it is not started."""
    if settings.transcriber == "off":
        raise SkippedError("TRANSCRIBER is off: there are no transcripts")
    if settings.transcriber is None and settings.redis_url is not None:
        raise SkippedError("with REDIS_URL a worker transcribes")
    try:
        engine = select.choose(settings)
    except SystemExit as error:
        raise FaultError(str(error)) from None
    if engine is not None:
        return f"{settings.transcriber or 'local'} is installed and set"
    why = f"there are no transcripts: {select.obstacle(settings) or 'nobody reads them with this LOG_LEVEL'}"
    raise SkippedError(why) if settings.transcriber is None else FaultError(why)
