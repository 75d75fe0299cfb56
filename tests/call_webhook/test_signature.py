"""The signature, compared with that of another implementation."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError
from support.receiver import SECRET

from mediastreams.call_webhook.signature import headers, key_of


@given(st.text(max_size=100), st.text("abcMZ0123.-", min_size=1), st.integers(0, 2**33))
def test_it_is_that_of_standard_webhooks(body, id, at):
    signature = Webhook(SECRET).sign(id, datetime.fromtimestamp(at, UTC), body)
    assert headers(key_of(SECRET), id, at, body.encode()) == {
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
    }


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_what_was_changed_is_not_verified(changed):
    now = int(time.time())
    made = headers(key_of(SECRET), "a", now, b'{"a":1}')
    Webhook(SECRET).verify(b'{"a":1}', made)
    made |= {"webhook-id": {"webhook-id": "b"}, "webhook-timestamp": {"webhook-timestamp": str(now + 1)}}.get(
        changed, {}
    )
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b'{"a":2}' if changed == "body" else b'{"a":1}', made)
