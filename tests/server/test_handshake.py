"""The judgement of a handshake alone; what becomes of it on the wire is in test_handler."""

import pytest
from support.handshake import KEY
from support.server import TOKEN

from mediastreams.config import Settings
from mediastreams.protocol.signature import sign
from mediastreams.server import handshake

GOOD = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "a.example",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": KEY,
}


def check(settings=None, live=0, draining=False, **changes):
    settings = settings or Settings()
    return handshake.check({**GOOD, **changes}, "/media", settings, live=live, draining=draining)


def test_one_that_is_taken():
    assert check() is None


def test_the_key_of_rfc_6455():
    assert handshake.accept(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"REQUEST_METHOD": "POST"}, 405, "method"),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, 400, "malformed"),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "12"}, 426, "version"),
        ({"HTTP_SEC_WEBSOCKET_KEY": KEY[:-4]}, 400, "malformed"),
        ({"CONTENT_LENGTH": "1"}, 400, "malformed"),
        ({"live": 1000}, 503, "streams"),
        ({"draining": True}, 503, "draining"),
        ({"settings": Settings(twilio_auth_token=TOKEN)}, 403, "signature"),
    ],
)
def test_refusals(changes, status, reason):
    refused = check(**changes)
    assert (refused.status, refused.reason) == (status, reason)


def test_the_last_stream_is_taken():
    assert check(live=999) is None


def test_twilios_own_is_taken():
    settings = Settings(twilio_auth_token=TOKEN)
    assert check(settings, HTTP_X_TWILIO_SIGNATURE=sign(TOKEN, "wss://a.example/media")) is None


def test_the_log_is_told_more_than_the_peer():
    refused = check(Settings(twilio_auth_token=TOKEN))
    assert "wss://a.example/media" in refused.why
    assert "wss://" not in refused.text
