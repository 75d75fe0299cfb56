"""The REST API, as it is asked, and as Twilio's own library asks it."""

import socket

import pytest
from support.rest import CALLS, KEY, LISTS, NUMBER, SECRET, SID, UPDATES
from support.server import TOKEN
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from mediastreams.config import Settings
from mediastreams.rest.api import Api, ApiError, base_url

OTHER = "+442071838750"


def api(rest, **changes):
    return Api(Settings.read({**rest.environ, **changes}))


class TestTheFake:
    """It is to Twilio's own library what Twilio is."""

    @pytest.fixture
    def client(self, rest):
        class Local(TwilioHttpClient):
            def request(self, method, url, *arguments, **options):
                return super().request(
                    method, url.replace("https://api.twilio.com", rest.url), *arguments, **options
                )

        local = Local(pool_connections=True)
        yield Client(SID, TOKEN, http_client=local)
        local.session.close()

    def test_a_number_has_the_fields_of_the_library(self, rest, client):
        added = rest.add()
        (number,) = client.incoming_phone_numbers.list(phone_number=NUMBER)
        fields = {name for name in vars(number) if not name.startswith("_")}
        assert added.keys() == fields
        assert number.capabilities["voice"] is True

    def test_a_call_has_the_fields_of_the_library(self, rest, client):
        rest.add()
        call = client.calls.create(to=OTHER, from_=NUMBER, url="https://a.example/")
        fields = {name for name in vars(call) if not name.startswith("_")}
        # The document has no stir_verstat; `from` is a word of Python.
        assert rest.calls[call.sid].keys() - {"from"} == fields - {"stir_verstat"}

    def test_an_account_has_the_fields_of_the_library(self, rest, client):
        account = client.api.accounts(SID).fetch()
        assert rest.of_account().keys() == {name for name in vars(account) if not name.startswith("_")}

    def test_pages(self, rest, client):
        rest.page_size = 2
        added = [rest.add(f"+1555010000{i}")["sid"] for i in range(5)]
        assert [number.sid for number in client.incoming_phone_numbers.list()] == added

    def test_an_error(self, rest, client):
        with pytest.raises(TwilioRestException) as caught:
            client.calls.create(to=OTHER, from_=OTHER, url="https://a.example/")
        assert (caught.value.code, caught.value.status) == (21210, 400)

    def test_the_parameters_are_those_of_the_library(self, rest, client):
        number = rest.add()
        names = (
            "voice_url voice_method voice_application_sid trunk_sid status_callback status_callback_method"
        )
        client.incoming_phone_numbers(number["sid"]).update(
            **{name: "POST" if "method" in name else "https://a.example" for name in names.split()}
        )
        client.calls.create(
            to=OTHER,
            from_=NUMBER,
            url="https://a.example/",
            method="POST",
            status_callback="https://a.example/",
            status_callback_method="POST",
            status_callback_event=["initiated", "completed"],
        )
        client.incoming_phone_numbers.list(phone_number=NUMBER, page_size=1000)
        (_, _, updated), (_, _, called), (_, _, listed) = rest.asked
        with api(rest) as ours:
            found = ours.numbers(NUMBER)[0]
            ours.change(found, {name: value for name, (value,) in updated.items()})
            call = ours.dial({name: value if len(value) > 1 else value[0] for name, value in called.items()})
        assert [parameters for _, _, parameters in rest.asked[3:]] == [listed, updated, called]
        assert rest.calls[call.sid]["to"] == OTHER
        for parameters, known in ((updated, UPDATES), (called, CALLS), (listed, LISTS)):
            assert parameters.keys() <= known


class TestAddress:
    @pytest.mark.parametrize("region", [None, "ie1", "us1"])
    @pytest.mark.parametrize("edge", [None, "dublin"])
    def test_region_and_edge_are_where_the_library_has_them(self, region, edge):
        settings = Settings(twilio_region=region, twilio_edge=edge)
        client = Client(SID, TOKEN, region=region, edge=edge)
        assert base_url(settings) == client.get_hostname("https://api.twilio.com")

    def test_another_host(self, rest):
        rest.add()
        with api(rest, TWILIO_REGION="ie1", TWILIO_EDGE="dublin") as asking:
            assert asking.url == rest.url
            assert [number.phone_number for number in asking.numbers()] == [NUMBER]


class TestCredentials:
    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"TWILIO_AUTH_TOKEN": "", "TWILIO_API_KEY": KEY, "TWILIO_API_SECRET": SECRET},
            {"TWILIO_AUTH_TOKEN": "wrong", "TWILIO_API_KEY": KEY, "TWILIO_API_KEY_SECRET": SECRET},
        ],
        ids=["token", "key", "key before token"],
    )
    def test_those_that_are_enough(self, rest, environ):
        added = rest.add()
        with api(rest, **environ) as asking:
            assert [number.sid for number in asking.numbers()] == [added["sid"]]

    @pytest.mark.parametrize(
        ("environ", "line"),
        [
            ({"TWILIO_ACCOUNT_SID": ""}, "TWILIO_ACCOUNT_SID is not set: "),
            ({"TWILIO_AUTH_TOKEN": ""}, "TWILIO_AUTH_TOKEN is not set, nor TWILIO_API_KEY: "),
            ({"TWILIO_API_KEY": KEY}, "TWILIO_API_SECRET is not set: TWILIO_API_KEY needs it"),
        ],
    )
    def test_those_that_are_missing(self, rest, environ, line):
        with pytest.raises(ApiError) as caught:
            api(rest, **environ)
        assert str(caught.value).startswith(line)
        assert rest.asked == []

    def test_those_that_are_wrong(self, rest):
        with api(rest, TWILIO_AUTH_TOKEN="wrong-and-secret") as asking, pytest.raises(ApiError) as caught:
            asking.account()
        assert caught.value.code == 20003
        assert str(caught.value) == (
            "Twilio answered 20003 Authenticate (HTTP 401): check TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, "
            "see https://www.twilio.com/docs/errors/20003"
        )


class TestNumbers:
    def test_all_pages(self, rest):
        rest.page_size = 2
        for i in range(5):
            rest.add(f"+1555010000{i}")
        with api(rest) as asking:
            assert [number.phone_number[-1] for number in asking.numbers()] == list("01234")

    def test_a_part_of_a_number_is_another_number(self, rest):
        rest.add(f"{NUMBER}7")
        with api(rest) as asking:
            assert asking.numbers(NUMBER) == []

    def test_another_host_is_not_asked_for_the_next_page(self, rest):
        rest.answer = 200, {"incoming_phone_numbers": [], "next_page_uri": "http://127.0.0.1:1/"}
        with api(rest) as asking, pytest.raises(ApiError, match="another host's page"):
            asking.numbers()
        assert len(rest.asked) == 1


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ((502, b"<html>Bad gateway"), "127.0.0.1 answered 502 Bad Gateway"),
        ((302, b""), "127.0.0.1 answered 302 Found"),
        (
            (429, {"code": 20429, "message": "Too Many Requests"}),
            "Twilio answered 20429 Too Many Requests (HTTP 429)",
        ),
        ((500, {"message": "a\x1b[2Jb"}), "Twilio answered a\\u001b[2Jb (HTTP 500)"),
        ((200, b"[]"), "did not answer as Twilio's REST API does: "),
        ((200, b""), "did not answer as Twilio's REST API does: "),
        ((200, b'{"status": "\xff"}'), "did not answer as Twilio's REST API does: "),
        ((200, b"[" * 200_000), "did not answer as Twilio's REST API does: "),
        ((500, b"[" * 200_000), "127.0.0.1 answered 500 Internal Server Error"),
        ((200, b" " * (2**24 + 1)), "Twilio has not answered: "),
    ],
)
def test_another_answer(rest, answer, line):
    rest.answer = answer
    with api(rest) as asking, pytest.raises(ApiError) as caught:
        asking.account()
    assert line in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://127.0.0.1:1", "Twilio cannot be asked: nothing listens on 127.0.0.1:1"),
        (
            "https://no-such-host.invalid",
            "Twilio cannot be asked: no address is known for no-such-host.invalid",
        ),
    ],
)
def test_nobody_answers(rest, url, line):
    with api(rest, TWILIO_API_URL=url) as asking, pytest.raises(ApiError) as caught:
        asking.account()
    assert str(caught.value).startswith(line)


def test_no_proxy_is_asked(rest, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with api(rest) as asking:
        assert asking.account().type == "Full"


def test_one_that_does_not_answer(rest, monkeypatch):
    monkeypatch.setattr("mediastreams.client.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            api(rest, TWILIO_API_URL=url) as asking,
            pytest.raises(ApiError, match=r"did not answer within 0 s$"),
        ):
            asking.account()


def test_one_that_does_not_come_to_an_end(rest, monkeypatch):
    """Each of its bytes comes in time."""
    monkeypatch.setattr("mediastreams.client.TIMEOUT", 0.3)
    rest.pause = 0.1
    with api(rest) as asking, pytest.raises(ApiError, match=r"Twilio has not answered: .* within 0 s$"):
        asking.account()


def test_a_change_whose_answer_is_lost_may_have_been_made(rest):
    rest.add()
    rest.pause = None
    with api(rest) as asking, pytest.raises(ApiError) as caught:
        asking.dial({"To": OTHER, "From": NUMBER, "Url": "https://a.example/"})
    assert len(rest.calls) == 1
    assert str(caught.value).startswith("Twilio has not answered: ")
    assert str(caught.value).endswith("; it may have done it all the same")


def test_a_page_that_is_the_next_one_of_itself(rest):
    path = f"/2010-04-01/Accounts/{SID}/IncomingPhoneNumbers.json?Page=1"
    rest.answer = 200, {"incoming_phone_numbers": [], "next_page_uri": path}
    with api(rest) as asking:
        assert asking.numbers() == []
    assert len(rest.asked) == 2
