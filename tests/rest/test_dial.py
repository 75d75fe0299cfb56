"""The command `dial`, against a fake of Twilio's REST API."""

import re

import pytest
from support.markdown import Document
from support.rest import KEY, NUMBER, SECRET
from support.server import ROOT, TOKEN, run_command
from support.tunnel import Tunnel

from mediastreams.text import command

PUBLIC = "https://example.ngrok.app"
OTHER = "+442071838750"
KEYS = {"TWILIO_AUTH_TOKEN": "", "TWILIO_API_KEY": KEY, "TWILIO_API_SECRET": SECRET}
WITH_TOKEN = {"TWILIO_AUTH_TOKEN": TOKEN, "TWILIO_API_KEY": "", "TWILIO_API_SECRET": ""}


def dial(rest, *arguments, **environ):
    environ = {**rest.environ, **KEYS, "PUBLIC_URL": PUBLIC, **environ}
    result = run_command("dial", *arguments, **environ)
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stdout + result.stderr
    return result


def test_a_call(rest):
    rest.add()
    result = dial(rest, OTHER)
    (sid,) = rest.calls
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"Calling {OTHER} from {NUMBER}: {sid} is queued",
        f"To hang up: {command('dial', '--hang-up', sid)}",
    ]
    assert rest.asked[-1][2] == {
        "To": [OTHER],
        "From": [NUMBER],
        "Url": [f"{PUBLIC}/twiml/connect-stream"],
        "Method": ["POST"],
        "StatusCallback": [f"{PUBLIC}/call-status"],
        "StatusCallbackMethod": ["POST"],
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
    }


def test_it_is_as_the_document_shows(rest):
    document = Document(ROOT / "docs" / "first-call.md")
    (typed,), (shown,) = (document.blocks("A call to your phone", language) for language in ("sh", ""))
    rest.add("+15550123457")
    result = dial(rest, *typed.partition(" dial ")[2].split())
    printed = result.stdout.replace(command(), ".venv/bin/python -m mediastreams")
    assert re.sub("CA[0-9a-f]{32}", "CA", printed) == re.sub("CA[0-9a-f]{32}", "CA", f"{shown}\n")


def test_another_document(rest):
    rest.add()
    assert dial(rest, OTHER, "--twiml", "start-stream").returncode == 0
    assert rest.asked[-1][2]["Url"] == [f"{PUBLIC}/twiml/start-stream"]


class TestDocument:
    """With the token the document is asked for, as Twilio does: a mistake is seen before it costs a call."""

    @pytest.fixture
    def place(self, rest, start_server, tmp_path):
        """A function that dials, with a server for the calls, whose number to dial is OTHER."""
        rest.add()
        # The address is known only when the tunnel listens, whose port to pass on to only with the server.
        with Tunnel(0, tmp_path) as tunnel:
            tunnel.port = start_server(TWILIO_AUTH_TOKEN=TOKEN, PUBLIC_URL=tunnel.url, DIAL_NUMBER=OTHER).port
            environ = {**tunnel.environ, **WITH_TOKEN, "PUBLIC_URL": tunnel.url}
            yield lambda *arguments: dial(rest, *arguments, **environ)

    def test_one_that_there_is(self, rest, place):
        result = place("+442071838751", "--twiml", "both-tracks")
        assert (result.returncode, result.stderr) == (0, "")
        assert len(rest.calls) == 1

    def test_one_that_there_is_not(self, rest, place):
        result = place(OTHER, "--twiml", "none")
        assert result.returncode == 1
        assert result.stderr.startswith(
            "Failed: Twilio would end the call, and report 11200 HTTP retrieval failure: "
        )
        assert "There is no such TwiML document; there are: both-tracks, connect-stream" in result.stderr
        assert rest.calls == {}

    @pytest.mark.parametrize("numbers", [(OTHER,), ("+442071838751", "--from", OTHER)])
    def test_one_that_connects_a_number_with_itself(self, rest, place, numbers):
        rest.add(OTHER)
        result = place(
            *numbers, *(() if "--from" in numbers else ("--from", NUMBER)), "--twiml", "start-stream"
        )
        assert (result.returncode, result.stderr) == (
            1,
            f"Failed: start-stream dials {OTHER}, which is in the call already: "
            "give the server another DIAL_NUMBER\n",
        )
        assert rest.calls == {}


def test_hang_up(rest):
    rest.add()
    dial(rest, OTHER)
    (sid,) = rest.calls
    result = dial(rest, "--hang-up", sid)
    assert (result.returncode, result.stdout) == (0, f"Call {sid}: completed\n")
    assert rest.calls[sid]["status"] == "completed"


def test_hang_up_needs_no_public_address(rest):
    rest.add()
    dial(rest, OTHER)
    (sid,) = rest.calls
    assert dial(rest, "--hang-up", sid, PUBLIC_URL="", NGROK_API="off").returncode == 0


class TestFrom:
    def test_one_of_several(self, rest):
        rest.add()
        rest.add("+15550123457")
        result = dial(rest, OTHER)
        assert (result.returncode, result.stderr) == (
            1,
            f"Failed: --from must say which number calls: {NUMBER}, +15550123457\n",
        )
        assert dial(rest, OTHER, "--from", "+1 555 0123457").returncode == 0
        assert [call["from"] for call in rest.calls.values()] == ["+15550123457"]

    def test_only_one_can_call(self, rest):
        rest.add("+15550123457", capabilities={"voice": False, "sms": True})
        rest.add("+15550123458", capabilities=None)
        rest.add()
        assert dial(rest, OTHER).returncode == 0

    def test_none(self, rest):
        result = dial(rest, OTHER)
        assert result.returncode == 1
        assert result.stderr.startswith("Failed: the account has no number that can call: ")

    def test_one_that_is_not_the_accounts_is_twilios_to_judge(self, rest):
        result = dial(rest, OTHER, "--from", OTHER)
        assert result.returncode == 1
        assert result.stderr.startswith(f"Failed: Twilio answered 21210 'From' number {OTHER}")
        assert result.stderr.endswith("see https://www.twilio.com/docs/errors/21210\n")


def test_a_call_that_there_is_not(rest):
    result = dial(rest, "--hang-up", "CA" + "1" * 32)
    assert result.returncode == 1
    assert "20404" in result.stderr


def test_no_public_address(rest):
    result = dial(rest, OTHER, PUBLIC_URL="", NGROK_API="off", HTTP_SERVER_PORT="8000")
    assert result.stderr == (
        "Failed: this server has no public address: run `ngrok http 8000`, or set PUBLIC_URL\n"
    )
    assert rest.asked == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say a number to call, or --hang-up"),
        ([OTHER, "--hang-up", "CA" + "1" * 32], "say a number to call, or --hang-up"),
        (["--hang-up", "../Calls"], "it must be CA and 32 hexadecimal digits"),
        (["--hang-up", "CA" + "1" * 32, "--twiml", "a"], "--hang-up takes no other option"),
        (["0123"], "is not a number in E.164"),
    ],
)
def test_a_command_line_that_cannot_be_used(rest, arguments, words):
    result = dial(rest, *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert rest.asked == []


def test_what_is_missing(rest):
    result = run_command("dial", OTHER, TWILIO_AUTH_TOKEN=TOKEN)
    assert result.returncode == 1
    assert result.stderr.startswith("Failed: TWILIO_ACCOUNT_SID is not set")
