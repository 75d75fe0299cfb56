"""What `doctor` finds at Twilio: clock, account, number."""

import re

import pytest
from support.rest import KEY, NUMBER, SECRET, Rest

from mediastreams.config import Settings
from mediastreams.doctor import FaultError, twilio
from mediastreams.text import command

KEYS = {"TWILIO_API_KEY": KEY, "TWILIO_API_SECRET": SECRET}


class TestBroken:
    """Each thing that is broken on purpose is the only fault that is found; the line says what to mend."""

    @pytest.mark.parametrize(("seconds", "which"), [(3600, "slow"), (-3600, "fast")])
    def test_the_clock_is_wrong(self, world, seconds, which):
        world.start()
        world.rest.skew = seconds
        name, text = world.fault()
        assert name == "clock"
        assert re.fullmatch(rf"it is 3(599|600|60\d) s {which}: let the system set it \(NTP\)", text)

    def test_twilio_cannot_be_reached(self, world):
        world.start()
        status, lines = world.examine(TWILIO_API_URL="http://127.0.0.1:1")
        why = "Twilio cannot be asked: nothing listens on 127.0.0.1:1 (is the server running?)"
        assert status == 1
        assert lines["clock"] == lines["account"] == ("FAIL", why)

    def test_the_token_is_not_that_of_the_account(self, world):
        """It was replaced in the Console: server and doctor agree, and Twilio does not."""
        world.start(TWILIO_AUTH_TOKEN="another-token-0123456789")
        assert world.fault(TWILIO_AUTH_TOKEN="another-token-0123456789") == (
            "account",
            "Twilio answered 20003 Authenticate (HTTP 401): check TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, "
            "see https://www.twilio.com/docs/errors/20003",
        )

    def test_the_token_is_not_that_of_the_account_though_the_key_is(self, world):
        world.start(TWILIO_AUTH_TOKEN="another-token-0123456789")
        name, text = world.fault(TWILIO_AUTH_TOKEN="another-token-0123456789", **KEYS)
        assert name == "account"
        assert "20003 Authenticate" in text

    def test_the_key_was_deleted(self, world):
        world.start()
        name, text = world.fault(**{**KEYS, "TWILIO_API_SECRET": "another-secret"})
        assert name == "number"
        assert "20003 Authenticate (HTTP 401): check TWILIO_API_KEY and TWILIO_API_SECRET, see" in text

    def test_the_account_is_suspended(self, world):
        world.start()
        world.rest.account["status"] = "suspended"
        assert world.fault() == ("account", "the account is suspended: see the Twilio Console")

    def test_the_number_leads_elsewhere(self, world):
        world.start()
        world.number["voice_url"] = "https://old.ngrok.app/twiml/start-stream"
        assert world.fault() == (
            "number",
            f"the calls of no number come to {world.url}: `{command('number', NUMBER)}`",
        )

    def test_the_number_names_no_document(self, world):
        world.start()
        address = world.number["voice_url"] = f"{world.url}/twiml/start-steam"
        name, text = world.fault()
        assert name == "number"
        assert text.startswith(f"for calls of {NUMBER} Twilio would report 11200 HTTP retrieval failure: ")
        assert f"{address} was answered with 404" in text

    def test_an_application_has_the_number(self, world):
        world.start()
        world.number["voice_application_sid"] = "AP" + "1" * 32
        assert world.fault()[0] == "number"

    def test_there_is_no_number(self, world):
        world.start()
        world.rest.numbers.clear()
        assert world.fault() == (
            "number",
            "the account has no number for calls: buy one in the Twilio Console",
        )

    def test_the_number_is_not_for_calls(self, world):
        world.start()
        world.number["capabilities"] = {"voice": False, "sms": True}
        assert world.fault()[1].startswith("the account has no number for calls: ")


class TestLeftOut:
    def test_with_a_key_alone(self, world):
        world.start(TWILIO_AUTH_TOKEN="")
        status, lines = world.examine(TWILIO_AUTH_TOKEN="", **KEYS)
        assert status == 0
        assert lines["account"] == ("ok", "the API key opens it")
        assert lines["number"] == ("ok", f"the calls of {NUMBER} come here")

    def test_a_twiml_bin(self, world):
        world.start()
        world.number["voice_url"] = "https://handler.twilio.com/twiml/EH" + "1" * 32
        status, lines = world.examine()
        assert status == 0
        assert lines["number"] == ("-", f"{NUMBER}: what is in a TwiML Bin is not known here")


@pytest.mark.parametrize(
    ("voice_url", "comes_here"),
    [
        ("https://EXAMPLE.ngrok.app/twiml/start-stream", True),
        ("https://example.ngrok.app:443/twiml/start-stream", True),
        ("https://example.ngrok.app:444/twiml/start-stream", False),
        ("https://example.ngrok.app/TwiML/start-stream", False),
        ("https://[x", False),
        (None, False),
    ],
)
def test_how_a_webhook_is_written(voice_url, comes_here):
    with Rest() as rest:
        rest.add(voice_url=voice_url)
        settings = Settings.read(rest.environ)
        if comes_here:
            assert "come here" in twilio.check_number(settings, "https://Example.ngrok.app", is_served=False)
        else:
            with pytest.raises(FaultError, match="the calls of no number come to"):
                twilio.check_number(settings, "https://Example.ngrok.app", is_served=False)


def test_a_trial_account():
    with Rest() as rest:
        rest.account["type"] = "Trial"
        text = twilio.check_account(Settings.read(rest.environ))
    assert text == "the account is active, a trial: it calls only verified numbers"
