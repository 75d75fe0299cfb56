"""The command `doctor`: its lines with everything in order, and its exit status."""

import re

from support.markdown import Document
from support.rest import NUMBER
from support.server import ROOT


def test_everything_is_in_order(world):
    world.start()
    status, lines = world.examine()
    recordings = lines["recordings"][1]
    assert re.fullmatch(rf"{world.environ['RECORDINGS_DIR']} has room for \d+ hours of calls", recordings)
    assert (status, lines) == (
        0,
        {
            "settings": ("ok", "they can be used"),
            "port": ("ok", f"the server answers on 127.0.0.1:{world.port}, live streams: 0"),
            "tunnel": ("ok", world.url),
            "TwiML": ("ok", f"{world.url}/twiml/start-stream is served"),
            "handshake": ("ok", f"wss{world.url[5:]}/media answers 101 Switching Protocols"),
            "signature": ("ok", "a handshake that Twilio has not signed is refused"),
            "call": ("ok", "a call of 2 s went through"),
            "clock": ("ok", "it is right"),
            "account": ("ok", "the account is active"),
            "number": ("ok", f"the calls of {NUMBER} come here"),
            "descriptors": ("ok", "there are enough for 1000 streams"),
            "recordings": ("ok", recordings),
            "engine": ("-", "TRANSCRIBER is off: there are no transcripts"),
        },
    )
    world.server.wait_for(r"2\.00 s; inbound 100 chunks")


def test_the_document_shows_what_it_prints(world):
    (shown,) = Document(ROOT / "docs" / "first-call.md").blocks("When it does not work", "")
    world.start()
    _, lines = world.examine()
    names = [re.fullmatch(r"(ok|FAIL|-) +(\w+) +.+", line)[2] for line in shown.splitlines()]
    assert names == list(lines)


def test_a_two_way_document(world):
    world.start()
    world.number["voice_url"] = f"{world.url}/twiml/connect-stream"
    status, lines = world.examine("--twiml", "connect-stream")
    assert (status, lines["call"][0]) == (0, "ok")
    world.server.wait_for("its caller hears an echo")


class TestBroken:
    """Each thing that is broken on purpose is the only fault that is found; the line says what to mend."""

    def test_a_setting_that_cannot_be_used(self, world):
        status, lines = world.examine(MAX_STREAMS="many")
        assert (status, lines) == (
            1,
            {
                "settings": (
                    "FAIL",
                    "MAX_STREAMS='many' cannot be used: it must be a number from 1 to 1000000",
                )
            },
        )


class TestLeftOut:
    def test_without_an_account(self, world):
        world.start(TWILIO_ACCOUNT_SID="")
        status, lines = world.examine(TWILIO_ACCOUNT_SID="")
        assert status == 0
        assert lines["account"] == ("-", "TWILIO_ACCOUNT_SID is not set")
        assert lines["number"] == ("-", "it needs the account and the public address")

    def test_without_a_token(self, world):
        world.start(TWILIO_AUTH_TOKEN="")
        status, lines = world.examine(TWILIO_AUTH_TOKEN="")
        assert status == 0
        assert "anybody can send a stream" in lines["settings"][1]
        assert lines["signature"] == ("-", "TWILIO_AUTH_TOKEN is not set")
        assert lines["account"] == ("-", "TWILIO_AUTH_TOKEN is not set, nor TWILIO_API_KEY")
