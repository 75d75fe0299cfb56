"""`python -m mediastreams`: its commands, each loaded when it is asked for."""

import pytest
from support.server import run


def test_call_is_the_simulated_caller(server):
    result = run("-m", "mediastreams", "call", server.url, "--fast", "--seconds", "0.1")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Calling {server.url}\n")


def test_the_commands_are_listed():
    result = run("-m", "mediastreams", "--help")
    assert result.returncode == 0
    assert "  call    Call a Media Streams server as Twilio does, without a phone.\n" in result.stdout


def test_what_the_terminal_cannot_show_is_escaped():
    """Here a folder that `doctor` names."""
    environ = {"PYTHONIOENCODING": "ascii", "NGROK_API": "off", "HTTP_SERVER_PORT": "1"}
    environ |= {"TWILIO_API_URL": "http://127.0.0.1:1", "RECORDINGS_DIR": "/proc/\xe9"}
    result = run("-m", "mediastreams", "doctor", **environ)
    assert (result.returncode, result.stderr) == (1, "")
    assert "RECORDINGS_DIR='/proc/\\xe9' " in result.stdout
    assert "engine" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["nope"], ["call", "--nope"]])
def test_what_there_is_not(arguments):
    result = run("-m", "mediastreams", *arguments)
    assert result.returncode == 2
    assert "nope" in result.stderr.splitlines()[-1]


def test_a_command_is_loaded_when_it_is_asked_for():
    show = (
        "import sys, mediastreams.__main__\n"
        "print('mediastreams.caller' in sys.modules)\n"
        "mediastreams.__main__.main.get_command(None, 'call')\n"
        "print('mediastreams.caller' in sys.modules)"
    )
    assert run("-c", show).stdout == "False\nTrue\n"
