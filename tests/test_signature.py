import pytest
from twilio.request_validator import RequestValidator

from mediastreams.signature import sign

PARAMETERS = {"CallSid": "CA1", "Caller": "+15550123456", "Digits": "1234", "From": "+15550123456"}


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("wss://example.ngrok.app/media", None),
        ("wss://example.ngrok.app/media/", {}),
        ("wss://example.com:8443/media", None),
        ("https://example.com/twiml?foo=1", PARAMETERS),
        ("https://example.com/\u00fc", {"\u00e9": "\u4e2d"}),
    ],
)
def test_the_signature_is_twilios(url, parameters):
    assert sign("12345", url, parameters) == RequestValidator("12345").compute_signature(
        url, parameters or {}
    )
