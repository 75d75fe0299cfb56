"""The judgement of a handshake alone; what becomes of it on the wire is in test_handler."""

import re
from dataclasses import replace

import pytest
from support.handshake import KEY
from support.server import TOKEN

from mediastreams.config import Settings
from mediastreams.protocol.signature import sign
from mediastreams.server import handshake
from mediastreams.server.handshake import Refusal

GOOD = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "a.example",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": KEY,
}


SIGNED = Settings(twilio_auth_token=TOKEN)


def not_twilios(what, tried):
    """Return the refusal of a signature: the log is told more than the peer."""
    return Refusal(
        403,
        "signature",
        "The signature is not that of Twilio for this address.",
        why=f"{what}; tried {tried}. PUBLIC_URL must be the address in the TwiML",
    )


def check(settings=None, path="/media", live=0, draining=False, **changes):
    """Check a handshake with other values in its environment; None takes one away."""
    environ = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return handshake.check(environ, path, settings or Settings(), live=live, draining=draining)


def test_one_that_is_taken():
    assert check() is None


def test_the_key_of_rfc_6455():
    assert handshake.accept(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


VERSION = Refusal(
    426,
    "version",
    "This server speaks version 13 of the WebSocket protocol (RFC 6455) only.",
    {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
)
NO_KEY = Refusal(400, "malformed", "Sec-WebSocket-Key must be 16 bytes in base64.")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        (
            {"REQUEST_METHOD": "POST"},
            Refusal(405, "method", "A WebSocket handshake is a GET.", {"Allow": "GET"}),
        ),
        (
            {"SERVER_PROTOCOL": "HTTP/1.0"},
            Refusal(400, "malformed", "A WebSocket handshake needs HTTP/1.1, this is HTTP/1.0."),
        ),
        *(({"HTTP_SEC_WEBSOCKET_VERSION": version}, VERSION) for version in ("12", "", None)),
        *(
            ({"HTTP_SEC_WEBSOCKET_KEY": key}, NO_KEY)
            for key in (
                KEY[:-4],
                KEY + "AAAA",
                KEY[:-1],
                f"*{KEY}",
                f"{KEY[:4]} {KEY[4:]}",
                "\u00fc",
                "",
                None,
            )
        ),
        ({"CONTENT_LENGTH": "1"}, Refusal(400, "malformed", "A WebSocket handshake has no body.")),
        ({"live": 1000}, Refusal(503, "streams", "1000 streams are live (MAX_STREAMS).")),
        (
            {"draining": True},
            Refusal(503, "draining", "The server is draining and takes no more streams."),
        ),
        ({"settings": SIGNED}, not_twilios("no X-Twilio-Signature", "wss://a.example/media")),
        ({"settings": SIGNED, "HTTP_HOST": None}, not_twilios("no X-Twilio-Signature", "wss:///media")),
        ({"settings": SIGNED, "HTTP_HOST": "["}, not_twilios("no X-Twilio-Signature", "no address")),
        (
            {"settings": SIGNED, "HTTP_X_TWILIO_SIGNATURE": sign(TOKEN, "wss://a.example/echo")},
            not_twilios("the signature is not Twilio's", "wss://a.example/media"),
        ),
    ],
)
def test_refusals(changes, refusal):
    refused = check(**changes)
    # Of the addresses that were tried the first will do.
    assert replace(refused, why=re.sub(r", wss.*(?=\. )", "", refused.why)) == refusal


def test_the_last_stream_is_taken():
    assert check(live=999) is None


def test_twilios_own_is_taken():
    signature = sign(TOKEN, "wss://a.example/media")
    assert check(SIGNED, HTTP_X_TWILIO_SIGNATURE=signature) is None
    assert check(SIGNED, path="/media?a=b", HTTP_X_TWILIO_SIGNATURE=signature) is None
    elsewhere = replace(SIGNED, public_url="wss://b.example/twilio")
    assert check(elsewhere, HTTP_X_TWILIO_SIGNATURE=signature)
    signature = sign(TOKEN, "wss://b.example/twilio/media")
    assert check(elsewhere, HTTP_X_TWILIO_SIGNATURE=signature) is None


def test_white_space_around_a_header_does_not_count():
    assert check(HTTP_SEC_WEBSOCKET_VERSION=" 13 ", HTTP_SEC_WEBSOCKET_KEY=f" {KEY} ") is None
    assert handshake.accept(f" {KEY} ") == handshake.accept(KEY)
