"""The command `number`, against a fake of Twilio's REST API."""

import shlex
import subprocess
import sys

import pytest
from support.markdown import Document
from support.ngrok import Agent
from support.rest import KEY, NUMBER, SECRET
from support.server import ROOT, SECONDS, TOKEN, environment, run_command
from support.tunnel import Tunnel

from mediastreams.text import command

FIRST_CALL = Document(ROOT / "docs" / "first-call.md")
PUBLIC = "https://example.ngrok.app"
OLD = {
    "voice_url": "https://old.example/a?b=c&d='e'",
    "voice_method": "GET",
    "status_callback": "https://old.example/status",
    "status_callback_method": "GET",
}


KEYS = {"TWILIO_AUTH_TOKEN": "", "TWILIO_API_KEY": KEY, "TWILIO_API_SECRET": SECRET}
WITH_TOKEN = {"TWILIO_AUTH_TOKEN": TOKEN, "TWILIO_API_KEY": "", "TWILIO_API_SECRET": ""}


def number(rest, *arguments, answer=None, **environ):
    """Run the command with an API key; type `answer`, None: nothing can be typed."""
    environ = {**rest.environ, **KEYS, "PUBLIC_URL": PUBLIC, **environ}
    if answer is None:
        result = run_command("number", *arguments, **environ)
    else:
        result = subprocess.run(
            [sys.executable, "-m", "mediastreams", "number", *arguments],
            cwd=ROOT,
            env={**environment(), **environ},
            input=answer,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    for secret in (TOKEN, SECRET, "nobody must show"):
        assert secret not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result


def set_of(number):
    return {name: number[name] or "" for name in [*OLD, "voice_application_sid", "trunk_sid"]}


class TestPoint:
    def test_a_number_that_was_set_to_nothing(self, rest):
        added = rest.add()
        result = number(rest, NUMBER, "--yes")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [
            NUMBER,
            f"  calls: nothing is set  ->  POST {PUBLIC}/twiml/start-stream",
            f"  status callback: nothing is set  ->  POST {PUBLIC}/call-status",
            f"To put it back: {command('number', NUMBER, '--voice-url', '', '--status-callback', '')}",
            f"{NUMBER} is changed",
        ]
        assert set_of(added) == {
            "voice_url": f"{PUBLIC}/twiml/start-stream",
            "voice_method": "POST",
            "voice_application_sid": "",
            "trunk_sid": "",
            "status_callback": f"{PUBLIC}/call-status",
            "status_callback_method": "POST",
        }

    @pytest.mark.parametrize(
        "old",
        [
            OLD,
            {},
            {"voice_application_sid": "AP" + "1" * 32, "voice_url": "https://unused.example"},
            {"trunk_sid": "TK" + "1" * 32, "voice_application_sid": "AP" + "1" * 32},
        ],
        ids=["webhook", "nothing", "application", "trunk"],
    )
    def test_the_command_that_puts_it_back(self, rest, old):
        added = rest.add(**old)
        before = set_of(added)
        printed = number(rest, NUMBER, "--yes").stdout
        assert set_of(added) != before
        assert not added["voice_application_sid"]
        assert not added["trunk_sid"]
        (shown,) = [line for line in printed.splitlines() if line.startswith("To put it back: ")]
        words = shlex.split(shown.partition(": ")[2])
        assert words[1:4] == ["-m", "mediastreams", "number"]
        assert number(rest, *words[4:], "--yes", PUBLIC_URL="", NGROK_API="off").returncode == 0
        assert set_of(added) == before

    @pytest.mark.parametrize("old", ["https://a.example/\u00a0", f"https://a.example/{'a' * 5000}"])
    def test_what_no_command_can_put_back(self, rest, old):
        rest.add(voice_url=old)
        printed = number(rest, NUMBER, "--yes").stdout
        assert (
            "To put it back: in the Twilio Console; a terminal does not show all of what was set" in printed
        )

    def test_where_calls_went(self, rest):
        rest.add(voice_application_sid="AP1", trunk_sid="TK1")
        assert "  calls: SIP trunk TK1  ->  POST https" in number(rest, NUMBER, "--yes").stdout
        rest.numbers[0].update(voice_application_sid="AP1")
        assert "  calls: application AP1  ->  POST https" in number(rest, NUMBER, "--yes").stdout

    def test_another_document(self, rest):
        added = rest.add()
        assert number(rest, NUMBER, "--yes", "--twiml", "both-tracks").returncode == 0
        assert added["voice_url"] == f"{PUBLIC}/twiml/both-tracks"

    def test_once_is_enough(self, rest):
        rest.add()
        number(rest, NUMBER, "--yes")
        asked = len(rest.asked)
        result = number(rest, NUMBER)
        assert result.stdout == f"{NUMBER} is set so already: POST {PUBLIC}/twiml/start-stream\n"
        assert len(rest.asked) == asked + 1

    def test_only_what_differs_is_sent(self, rest):
        rest.add(**{**OLD, "voice_method": "POST"})
        number(rest, NUMBER, "--yes")
        method, _, parameters = rest.asked[-1]
        assert (method, set(parameters)) == (
            "POST",
            {"VoiceUrl", "StatusCallback", "StatusCallbackMethod"},
        )

    def test_it_may_be_written_as_people_do(self, rest):
        rest.add()
        assert number(rest, "+1 (555) 012-3456", "--yes").returncode == 0


def test_it_is_as_the_document_shows(rest):
    (typed,), (shown,) = (FIRST_CALL.blocks("The number", language) for language in ("sh", ""))
    rest.add("+15550123457", voice_url="https://demo.twilio.com/welcome/voice/")
    result = number(rest, *typed.partition(" number ")[2].split(), answer="n\n")
    assert result.stdout.strip().replace(command(), ".venv/bin/python -m mediastreams") == shown


class TestAsking:
    @pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1), (None, 1)])
    def test_nothing_is_changed_without_a_yes(self, rest, answer, status):
        added = rest.add()
        result = number(rest, NUMBER, answer=answer)
        assert result.returncode == status
        assert "Change it? [y/N]: " in result.stdout
        assert bool(added["voice_url"]) == (status == 0)
        assert ("Nothing is changed\n" in result.stderr) == (status == 1)
        assert ("Nobody answers: --yes does not ask\n" in result.stderr) == (answer in ("", None))


class TestThePublicAddress:
    def test_the_tunnel_is_found(self, rest):
        added = rest.add()
        with Agent(("https://a.ngrok.app", "http://localhost:5000")) as agent:
            result = number(rest, NUMBER, "--yes", PUBLIC_URL="", NGROK_API=agent.url)
        assert result.returncode == 0
        assert added["voice_url"] == "https://a.ngrok.app/twiml/start-stream"

    def test_there_is_none(self, rest):
        rest.add()
        result = number(rest, NUMBER, "--yes", PUBLIC_URL="", NGROK_API="off")
        assert (result.returncode, result.stderr) == (
            1,
            "Failed: this server has no public address: run `ngrok http 5000`, or set PUBLIC_URL\n",
        )

    def test_what_twilio_would_get_there(self, rest, start_server, tmp_path):
        """With the token the document is asked for, as Twilio does: a mistake is seen before the call."""
        rest.add()
        server = start_server(TWILIO_AUTH_TOKEN=TOKEN)
        with Tunnel(server.port, tmp_path) as tunnel:
            server.stop()
            environ = {**tunnel.environ, **WITH_TOKEN, "PUBLIC_URL": tunnel.url}
            result = number(rest, NUMBER, "--yes", **environ)
            assert result.returncode == 0
            assert result.stderr.startswith("Warning: Twilio would report 112")
            result = number(rest, NUMBER, **environ)
            assert "is set so already" in result.stdout
            assert result.stderr.startswith("Warning: Twilio would report 112")
            again = start_server(TWILIO_AUTH_TOKEN=TOKEN, PUBLIC_URL=tunnel.url)
            tunnel.port = again.port
            result = number(rest, NUMBER, **environ)
            assert result.stderr == ""
            result = number(rest, NUMBER, "--twiml", "none", answer="n\n", **environ)
            assert result.stderr.startswith("Warning: Twilio would report 11200 HTTP retrieval failure: ")
            assert "There is no such TwiML document; there are: both-tracks, connect-stream" in result.stderr
            assert "Change it all the same? [y/N]: " in result.stdout
            assert rest.numbers[0]["voice_url"].endswith("/twiml/start-stream")


class TestList:
    def test_the_numbers(self, rest):
        rest.add()
        rest.add("+442071838750", voice_url="https://a.example/", voice_method="GET")
        rest.add("+442071838751", trunk_sid="TK1")
        result = number(rest)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [
            f"{NUMBER}  nothing is set",
            "+442071838750  GET https://a.example/",
            "+442071838751  SIP trunk TK1",
        ]

    def test_there_are_none(self, rest):
        assert number(rest).stdout.startswith("The account has no numbers: buy one in the Twilio Console")

    def test_a_terminals_escape_sequence(self, rest):
        rest.add(voice_url="https://a.example/\x1b[2J")
        assert "\x1b" not in number(rest).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["15550123456"], "15550123456 is not a number in E.164, such as +15550123456"),
        (["+1555\x1b[2J"], "is not a number in E.164"),
        ([NUMBER, "--twiml", "../a"], "../a is not that of a file in twiml/"),
        ([NUMBER, "--twiml", "a", "--voice-url", "https://a.example"], "--twiml is for this server"),
        (["--yes"], "which number?"),
        (["--voice-url", "https://a.example"], "which number?"),
        ([NUMBER, "--voice-method", "PUT"], "PUT"),
    ],
)
def test_a_command_line_that_cannot_be_used(rest, arguments, words):
    result = number(rest, *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert rest.asked == []


def test_a_number_of_somebody_else(rest):
    result = number(rest, NUMBER)
    assert (result.returncode, result.stderr) == (
        1,
        f"Failed: {NUMBER} is not a number of this account: without a number, all of them are listed\n",
    )


def test_an_error_of_twilio_is_one_line(rest):
    rest.add()
    result = number(rest, NUMBER, "--voice-url", "old.example", "--yes")
    assert (result.returncode, result.stderr) == (
        1,
        "Failed: Twilio answered 21502 VoiceUrl is not a valid URL (HTTP 400), see "
        "https://www.twilio.com/docs/errors/21502\n",
    )


def test_a_wrong_token_is_one_line(rest):
    result = run_command("number", **{**rest.environ, "TWILIO_AUTH_TOKEN": "wrong-and-secret"})
    assert result.returncode == 1
    assert result.stderr.startswith("Failed: Twilio answered 20003 Authenticate (HTTP 401): check TWILIO_ACC")
    assert result.stderr.count("\n") == 1
    assert "wrong-and-secret" not in result.stdout + result.stderr


def test_a_setting_that_cannot_be_used(rest):
    result = number(rest, TWILIO_API_URL="http://example.com")
    assert result.returncode == 1
    assert result.stderr.startswith("TWILIO_API_URL='http://example.com' cannot be used: it must be")
