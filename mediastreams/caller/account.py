"""The account that a simulated call belongs to, which signs Twilio's requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mediastreams.protocol.signature import sign

LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Account:
    """Twilio's account of a person who runs the caller."""

    sid: str
    auth_token: str | None = field(default=None, repr=False)
    """The token that signs the requests; None sends no signature."""
    public_url: str | None = None
    """The address by which Twilio knows this machine, wss://; None: there is no other."""

    def signature(self, url: str, form: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the signature header of a request, empty without a token. Raises `ValueError` for no URL."""
        if self.auth_token is None:
            return {}
        return {"X-Twilio-Signature": sign(self.auth_token, self._public(url), form)}

    def _public(self, url: str) -> str:
        """Return the URL by which Twilio knows `url`."""
        parts = urlsplit(url)
        scheme = "wss" if parts.scheme == "ws" else parts.scheme  # Twilio speaks wss only
        if self.public_url is None or parts.hostname not in LOCAL:
            return scheme + url[len(parts.scheme) :]
        public = urlsplit(self.public_url)
        scheme = "https" if scheme == "http" else scheme
        return parts._replace(scheme=scheme, netloc=public.netloc, path=public.path + parts.path).geturl()
