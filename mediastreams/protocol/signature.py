"""Computes and checks `X-Twilio-Signature`, with which Twilio signs its requests.

Sources: https://www.twilio.com/docs/usage/webhooks/webhooks-security, and for the trailing slash of
WebSocket handshakes the notes of https://www.twilio.com/docs/usage/security.

The twilio package's RequestValidator is not enough here: it knows neither that slash nor `:443` for wss,
fails on a header that is absent, and does not compare in constant time.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

Parameters = Mapping[str, str | Iterable[str]]

REFUSED = "The signature is not that of Twilio for this address."
"""The answer to a request that Twilio has not signed, with 403."""


def sign(auth_token: str, url: str, parameters: Parameters | None = None) -> str:
    """Return the signature, in base64, of a request to `url` with these form parameters.

    A repeated parameter has an iterable of its values. The handshake of a Media Stream is a GET without
    parameters; its `url` is the `wss://` address as in the TwiML.
    """
    signed = url
    for name, value in sorted((parameters or {}).items()):
        signed += "".join(name + each for each in ([value] if isinstance(value, str) else sorted(set(value))))
    digest = hmac.digest(auth_token.encode(), signed.encode(), hashlib.sha1)
    return base64.b64encode(digest).decode()


def fault(
    auth_token: str, urls: Sequence[str], signature: str | None, parameters: Parameters | None = None
) -> str:
    """Return what is wrong with a signature, in words for the log; "" where it is that of one of `urls`.

    `signature` is the header, None where it is absent. Takes the same time whichever address it is, and
    however much of it is right.
    """
    given = (signature or "").encode(errors="backslashreplace")
    # A list, not any(): all are compared.
    if True in [hmac.compare_digest(sign(auth_token, url, parameters).encode(), given) for url in urls]:
        return ""
    what = "the signature is not Twilio's" if signature else "no X-Twilio-Signature"
    return f"{what}; tried {', '.join(urls) or 'no address'}"


def handshake_urls(base: str, path: str) -> list[str]:
    """Return the addresses that Twilio may have signed for a handshake at `path`.

    `base` is where Twilio finds this server: `wss://host`, with or without a port and a path (the stream's
    own, or one that a proxy removes). Twilio signs the address of the TwiML; its documentation leaves open
    whether with port and final slash. None can be signed without the token, so any is accepted.
    """
    parts = urlsplit(base)
    prefix = parts.path.rstrip("/")
    paths = [prefix] if prefix.endswith(path.rstrip("/")) else [prefix + path, path]
    return [
        f"wss://{host}{each.rstrip('/')}{slash}"
        for host in _hosts(parts.netloc)
        for each in dict.fromkeys(paths)
        for slash in ("", "/")
    ]


def webhook_urls(url: str) -> list[str]:
    """Return the addresses that Twilio may have signed for a webhook at `url`, with or without its port."""
    parts = urlsplit(url)
    return [parts._replace(netloc=host).geturl() for host in _hosts(parts.netloc)]


def _hosts(netloc: str) -> list[str]:
    """Return a host without its port, as it was given, and with that of TLS."""
    name, colon, port = netloc.rpartition(":")
    bare = name if colon and port.isdigit() else netloc
    return list(dict.fromkeys((bare, netloc, f"{bare}:443")))
