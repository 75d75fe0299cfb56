"""Who may look at the live page: whoever knows its token, at an address of this server.

A tunnel forwards everybody to the loopback interface, so the peer's address proves nothing. The token is
posted once, and answered with a signed cookie. Host and Origin are checked besides: `Host`, because a foreign
site whose name suddenly resolves to 127.0.0.1 (DNS rebinding) is the same origin to a browser; `Origin`,
because SameSite ignores ports, and another program's page on this machine is the same site.
"""

import contextlib
import hashlib
import hmac
import re
import time
from collections import deque
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import itsdangerous
from werkzeug.http import parse_cookie

from mediastreams import config
from mediastreams.config import Settings
from mediastreams.server.handshake import Refusal

COOKIE_SECONDS = 12 * 60 * 60
MAX_FAILURES = 10  # logins in a minute
_MINUTE = 60.0  # seconds
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::([0-9]{1,5}))?")

_LOG_IN = Refusal(403, "page", "Log in at / first.", why="there is no valid cookie")


class Access:
    """Whom one server's page is shown to. For the server's thread."""

    settings: Settings
    """The settings; their hosts are those at which the page is shown."""
    token: str
    """The page's token: that of the settings, or a random one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.token = settings.page_token or config.random_page_token()
        # A key of the token: another token makes all cookies void.
        self._signer = itsdangerous.TimestampSigner(
            self.token, salt="mediastreams.page", key_derivation="hmac", digest_method=hashlib.sha256
        )
        self._failures: deque[float] = deque(maxlen=MAX_FAILURES)  # monotonic seconds

    def refusal(self, environ: Mapping[str, Any]) -> Refusal | None:
        """Return why a request is refused, a handshake or any other; None where its sender may look."""
        return self.address_refusal(environ) or (None if self.is_logged_in(environ) else _LOG_IN)

    def address_refusal(self, environ: Mapping[str, Any]) -> Refusal | None:
        """Return why a request is refused whoever sends it: for its Host or its Origin. None: it is not."""
        host = _host(environ)
        name = _name(host)
        if not name or name not in self._names():  # PUBLIC_URL may have none, too
            text = (
                "The page is not shown at this address. Open it at localhost, or set PUBLIC_URL or "
                "HTTP_SERVER_HOST to this address."
            )
            return Refusal(403, "page", text, why=f"Host {host!r} is none of PUBLIC_URL, HTTP_SERVER_HOST")
        origin = environ.get("HTTP_ORIGIN", "").lower()
        if origin and origin not in {f"http://{host}", f"https://{host}", self._public_origin()}:
            text = "The page is not shown to other sites."
            return Refusal(403, "page", text, why=f"Origin {origin!r} is another site than Host {host!r}")
        return None

    def is_logged_in(self, environ: Mapping[str, Any]) -> bool:
        """Return whether a request has a cookie of this server that is no older than `COOKIE_SECONDS`."""
        # Another program at another path may have set a cookie of the same name: each is looked at.
        # And any bytes: Werkzeug fails on those that are not UTF-8, and ours is ASCII.
        cookies = environ.get("HTTP_COOKIE", "").encode("ascii", "replace").decode()
        values = parse_cookie(cookies).getlist(_cookie_name(environ))
        return any(self._is_signed(value, _origin(environ)) for value in values)

    def wait_seconds(self) -> float:
        """Return in how many seconds a login is possible: 0 unless there were too many failures."""
        if len(self._failures) < MAX_FAILURES:
            return 0.0
        return max(self._failures[0] + _MINUTE - time.monotonic(), 0.0)

    def log_in(self, token: str) -> bool:
        """Return whether `token` is the page's, and count a failure."""
        is_right = hmac.compare_digest(token.encode(errors="surrogatepass"), self.token.encode())
        if not is_right:
            self._failures.append(time.monotonic())
        return is_right

    def cookie(self, environ: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cookie for who has logged in with this request, as `Response.set_cookie` takes it."""
        origin = _origin(environ)
        return {
            "key": _cookie_name(environ),
            # Signed for one origin: it is none at another port, and one of https is none over http.
            "value": self._signer.sign(origin).decode(),
            "max_age": COOKIE_SECONDS,
            "path": "/",
            "secure": origin.startswith("https:"),
            "httponly": True,
            "samesite": "Strict",
        }

    def _is_signed(self, value: str, origin: str) -> bool:
        try:
            signed, at = self._signer.unsign(value, return_timestamp=True)
        except itsdangerous.BadData:
            return False
        # Not `max_age`: the clock of the server that signed it may be a little ahead of this one's.
        age = self._signer.get_timestamp() - at.timestamp()
        return signed == origin.encode() and abs(age) <= COOKIE_SECONDS

    def _names(self) -> set[str]:
        """Return the hosts at which the page is shown, without ports, in lower case."""
        own = self.settings.http_server_host.lower().partition("%")[0]
        with contextlib.suppress(ValueError):  # it is a name
            own = str(ip_address(own))  # as browsers write it: an IPv6 address without the zeros in it
        names = {"localhost", "127.0.0.1", "[::1]", f"[{own}]" if ":" in own else own}
        if origin := self._public_origin():
            names.add(_name(origin.partition("://")[2]))
        return names

    def _public_origin(self) -> str | None:
        url = self.settings.public_url
        return None if url is None else f"https://{urlsplit(url).netloc.lower()}"


def _host(environ: Mapping[str, Any]) -> str:
    """Return the Host of a request, in lower case."""
    host: str = environ.get("HTTP_HOST", "")
    return host.strip().lower()


def _name(host: str) -> str:
    """Return a Host without its port; "" where it is none."""
    match = _HOST.fullmatch(host)
    return match[1] if match else ""


def _scheme(environ: Mapping[str, Any]) -> str:
    """Return the scheme that the browser uses: a tunnel or a proxy, which ends TLS, tells."""
    forwarded = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip().lower()
    # Some proxies write "wss" for a handshake.
    return "https" if "https" in (forwarded, environ["wsgi.url_scheme"]) or forwarded == "wss" else "http"


def _origin(environ: Mapping[str, Any]) -> str:
    return f"{_scheme(environ)}://{_host(environ)}"


def _cookie_name(environ: Mapping[str, Any]) -> str:
    """Return the name of the cookie. A browser sends a host's cookies to all its ports: each has its own."""
    match = _HOST.fullmatch(_host(environ))
    port = match and match[2]
    return f"mediastreams-{port or (443 if _scheme(environ) == 'https' else 80)}"
