import pytest
from twilio.request_validator import RequestValidator

from mediastreams.protocol.signature import fault, handshake_urls, sign, webhook_urls

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


class TestFault:
    URLS = ("wss://a/media", "wss://b/media")

    def test_any_of_the_addresses_will_do(self):
        for url in self.URLS:
            assert fault("12345", self.URLS, sign("12345", url)) == ""

    @pytest.mark.parametrize("signature", [None, "", "x", "\u00fc", "\udcff", sign("12345", "wss://c/media")])
    def test_nothing_else_will(self, signature):
        what = "the signature is not Twilio's" if signature else "no X-Twilio-Signature"
        assert fault("12345", self.URLS, signature) == f"{what}; tried wss://a/media, wss://b/media"
        assert fault("12345", [], signature) == f"{what}; tried no address"

    def test_another_token(self):
        assert fault("12346", self.URLS, sign("12345", self.URLS[0]))

    def test_a_webhook(self):
        url = "https://example.com/status"
        signature = RequestValidator("12345").compute_signature(url, PARAMETERS)
        for given in (url, "https://example.com:443/status", "https://example.com:8443/status"):
            assert fault("12345", webhook_urls(given), signature, PARAMETERS) == ""
        assert fault("12345", webhook_urls(url), signature, {**PARAMETERS, "Digits": "1235"})

    def test_a_parameter_with_several_values(self):
        url = "https://example.com/"
        several = {"To": ["b", "a", "b"]}

        class Multi(dict):
            def getall(self, name):
                return self[name]

        signature = RequestValidator("12345").compute_signature(url, Multi(several))
        assert sign("12345", url, several) == signature


class TestHandshakeUrls:
    @pytest.mark.parametrize(
        ("base", "signed"),
        [
            ("wss://example.com", "wss://example.com/media"),
            ("wss://example.com", "wss://example.com/media/"),
            ("wss://example.com", "wss://example.com:443/media"),
            ("wss://example.com:8443", "wss://example.com:8443/media"),
            ("wss://example.com:8443", "wss://example.com/media"),
            ("wss://example.com/media", "wss://example.com/media"),
            ("wss://example.com/twilio", "wss://example.com/twilio/media"),
            ("wss://example.com/twilio/media", "wss://example.com/twilio/media"),
            ("wss://[::1]:5000", "wss://[::1]:5000/media"),
            ("wss://[::1]", "wss://[::1]/media"),
        ],
    )
    def test_what_twilio_may_have_signed(self, base, signed):
        assert signed in handshake_urls(base, "/media")

    def test_each_once(self):
        urls = handshake_urls("wss://example.com", "/media")
        assert len(urls) == len(set(urls)) == 4

    def test_the_root(self):
        assert {"wss://example.com", "wss://example.com/"} <= set(handshake_urls("wss://example.com", "/"))
