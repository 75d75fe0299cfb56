"""Which address a request is signed for."""

import pytest
from support.server import TOKEN
from twilio.request_validator import RequestValidator

from mediastreams.caller.account import Account

HEADER = "X-Twilio-Signature"


@pytest.mark.parametrize(
    ("url", "signed", "public_url"),
    [
        ("ws://127.0.0.1:5000/media", "wss://127.0.0.1:5000/media", None),
        ("http://127.0.0.1:5000/twiml/a?b=c", "http://127.0.0.1:5000/twiml/a?b=c", None),
        ("wss://a.example/media", "wss://a.example/media", "wss://b.example"),
        ("https://a.example/x?", "https://a.example/x?", "wss://b.example"),
        ("ws://localhost:5000/media", "wss://b.example/media", "wss://b.example"),
        ("ws://[::1]:5000/media", "wss://b.example:8443/in/media", "wss://b.example:8443/in"),
        ("http://127.0.0.1:5000/twiml/a?b=c", "https://b.example/twiml/a?b=c", "wss://b.example"),
    ],
)
def test_it_is_the_one_that_twilio_knows(url, signed, public_url):
    account = Account("AC1", TOKEN, public_url)
    assert account.signature(url) == {HEADER: RequestValidator(TOKEN).compute_signature(signed, {})}


def test_a_form_is_signed_too():
    form = {"CallSid": "CA1", "From": "+1"}
    signature = Account("AC1", TOKEN).signature("https://a.example/", form)[HEADER]
    assert RequestValidator(TOKEN).validate("https://a.example/", form, signature)


def test_without_a_token_nothing_is_signed():
    assert Account("AC1").signature("wss://a.example/media") == {}


def test_the_token_is_not_shown():
    assert TOKEN not in repr(Account("AC1", TOKEN))
