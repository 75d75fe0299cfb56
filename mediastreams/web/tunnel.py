"""The tunnel to this server: ngrok's is found and watched; for another one PUBLIC_URL's value is printed."""

import ipaddress
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import gevent
from gevent.socket import create_connection

from mediastreams import ngrok
from mediastreams.config import Settings
from mediastreams.text import command
from mediastreams.web.addresses import to_paste, web_url

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
LOOK_SECONDS = 1.0  # for the whole answer of the agent
_NAME = re.compile(r"(?=.{4,253}(:|$))([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}(:[0-9]{1,5})?")


class Watch:
    """Finds the tunnel that ngrok has to one port of this machine, and sees when it changes.

    Whenever it does, `use` is called with its wss:// address, None where there is none. For the server's
    thread, which is free while the agent answers.
    """

    def __init__(self, settings: Settings, use: Callable[[str | None], None]) -> None:
        self._settings = settings
        self._use = use
        self._url: str | None = None

    def look(self, port: int) -> None:
        """Ask the agent once; of an agent that does not answer in time, nothing is learnt."""
        api = self._settings.ngrok_api
        try:
            with gevent.Timeout(LOOK_SECONDS, TimeoutError()):
                found = ngrok.urls(ngrok.tunnels(api, create_connection), port)
        except TimeoutError:
            return
        except ngrok.NgrokError:
            found = []
        # The agent lists its tunnels in any order: the one that is in use stays.
        if self._url in found or (self._url is None and not found):
            return
        self._url = found[0] if found else None
        self._use(self._url)

    def start(self, port: int) -> None:
        """Ask now and every `EVERY_SECONDS`, and log what has changed."""
        gevent.spawn(self._watch, port)

    def _watch(self, port: int) -> None:
        while True:
            before = self._url
            self.look(port)
            if self._url != before:
                self._log_change(before, port)
            gevent.sleep(EVERY_SECONDS)

    def _log_change(self, before: str | None, port: int) -> None:
        if self._url is None:
            assert before is not None
            line = "The tunnel %s has ended: no call reaches this server until `ngrok http %d` runs again"
            logger.warning(line, web_url(before), port)
        elif before is not None:
            new = web_url(self._url)
            line = (
                "The tunnel %s is now %s: the number's webhook must be %s/twiml/start-stream, and "
                "`%s` sets it"
            )
            logger.warning(line, web_url(before), new, new, command("number"))
        else:
            for line in to_paste(replace(self._settings, public_url=self._url), port):
                logger.info("%s", line)


class ForwardedHost:
    """The WSGI application in front: says once through which address requests come from elsewhere.

    It is for tunnels that cannot be asked: what PUBLIC_URL should be is in the first request. Nothing is said
    while `public_url` returns an address.
    """

    def __init__(self, wsgi_app: "WSGIApplication", public_url: Callable[[], str | None]) -> None:
        self._wsgi_app = wsgi_app
        self._public_url = public_url
        self._is_told = False

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Look at a request, and let the application answer it."""
        if not self._is_told and (host := _forwarded_host(environ)) and self._public_url() is None:
            self._is_told = True
            line = (
                "A request came through a tunnel or a proxy, as https://%s: if that is yours, "
                "set PUBLIC_URL=https://%s and restart"
            )
            logger.info(line, host, host)
        return self._wsgi_app(environ, start_response)


def _forwarded_host(environ: "WSGIEnvironment") -> str:
    """Return the public name by which a request was sent to a tunnel or a proxy; "" where it was not."""
    proto = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip().lower()
    if proto not in ("https", "wss"):
        return ""
    hosts = environ.get("HTTP_X_FORWARDED_HOST") or environ.get("HTTP_HOST", "")
    host: str = hosts.partition(",")[0].strip().lower()
    return host if _NAME.fullmatch(host) and not _is_address(host.partition(":")[0]) else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
