"""`X-Twilio-Signature`: how Twilio signs its requests.

Source: https://www.twilio.com/docs/usage/webhooks/webhooks-security
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping


def sign(auth_token: str, url: str, parameters: Mapping[str, str] | None = None) -> str:
    """Return the signature, in base64, of a request to `url` with these form parameters.

    The handshake of a Media Stream is a GET without parameters, and its `url` the `wss://` address as
    it is written in the TwiML.
    """
    signed = url + "".join(name + value for name, value in sorted((parameters or {}).items()))
    digest = hmac.digest(auth_token.encode(), signed.encode(), hashlib.sha1)
    return base64.b64encode(digest).decode()
