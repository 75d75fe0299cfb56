"""Signs what is posted as the specification Standard Webhooks says, for which many languages have a library.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac


def key_of(secret: str) -> bytes:
    """Return the key that a secret is: `whsec_` and the key in base64."""
    return base64.b64decode(secret.removeprefix("whsec_"))


def headers(key: bytes, id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers of a POST. `at`: when it is sent, in seconds since 1970."""
    digest = hmac.digest(key, b"%b.%d.%b" % (id.encode(), at, body), hashlib.sha256)
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": signature}
