import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


class Multi(dict):
    """Form parameters as frameworks give them to the twilio package: `getall` returns all values of one."""

    def getall(self, name):
        return self[name]


@given(st.text(), st.text(), st.dictionaries(st.text(), st.lists(st.text(), min_size=1)))
def test_any_signature_is_twilios(token, url, parameters):
    signature = RequestValidator(token).compute_signature(url, Multi(parameters))
    assert sign(token, url, parameters) == signature
    single = {name: values[0] for name, values in parameters.items()}
    assert sign(token, url, single) == RequestValidator(token).compute_signature(url, single)


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

    @given(st.sampled_from(URLS), st.integers(0, 27), st.sampled_from(string.printable))
    def test_every_character_of_it_counts(self, url, place, character):
        right = sign("12345", url)
        wrong = right[:place] + character + right[place + 1 :]
        assert (fault("12345", self.URLS, wrong) == "") == (wrong == right)
        assert fault("12345", self.URLS, right[:place])
        assert fault("12345", self.URLS, right + character)

    def test_another_token(self):
        assert fault("12346", self.URLS, sign("12345", self.URLS[0]))

    def test_a_webhook(self):
        url = "https://example.com/status"
        signature = RequestValidator("12345").compute_signature(url, PARAMETERS)
        for each in (url, "https://example.com:443/status", "https://example.com:8443/status"):
            assert fault("12345", webhook_urls(each), signature, PARAMETERS) == ""
        assert fault("12345", webhook_urls(url), signature, {**PARAMETERS, "Digits": "1235"})

    def test_a_parameter_with_several_values(self):
        url = "https://example.com/"
        several = {"To": ["b", "a", "b"]}
        signature = RequestValidator("12345").compute_signature(url, Multi(several))
        assert sign("12345", url, several) == signature


HOSTS = st.sampled_from(["example.com", "a.X", "5000", "[::1]", "[fe80::5000]", "127.0.0.1"])
PORTS = st.none() | st.integers(0, 65535)
SEGMENTS = st.lists(st.text("aX.~-\u00fc", min_size=1, max_size=3), max_size=3)
SLASH = st.sampled_from(["", "/"])


def path_of(segments):
    return "".join(f"/{segment}" for segment in segments)


def netlocs(host, port):
    """Return a host as it is given, and all forms of it that may be signed."""
    given = host if port is None else f"{host}:{port}"
    return given, {host, given, f"{host}:443"}


@given(HOSTS, PORTS, SEGMENTS, st.sampled_from(["", "?a=b", "?a=b:1&c=/"]))
def test_a_webhook_is_signed_with_or_without_its_port(host, port, segments, query):
    netloc, expected = netlocs(host, port)
    path = path_of(segments)
    urls = webhook_urls(f"https://{netloc}{path}{query}")
    assert sorted(urls) == sorted(f"https://{each}{path}{query}" for each in expected)


class TestHandshakeUrls:
    @given(HOSTS, PORTS, SEGMENTS, SEGMENTS, SLASH, SLASH)
    def test_no_address_is_missing_and_none_is_too_many(self, host, port, before, own, slash, own_slash):
        """Else Twilio's calls are refused, or a signature for another path is taken."""
        netloc, hosts = netlocs(host, port)
        paths = {path_of(own), path_of(before + own)}
        if before[len(before) - len(own) :] == own:  # the base has the path already
            paths = {path_of(before)}
        urls = handshake_urls(
            f"wss://{netloc}{path_of(before)}{slash}", path_of(own) + (own_slash or "/" * (not own))
        )
        assert sorted(urls) == sorted(f"wss://{h}{p}{s}" for h in hosts for p in paths for s in ("", "/"))

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
