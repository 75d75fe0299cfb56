"""The simulated caller, and what a server has heard of it."""

from support.server import run_caller


def call(url, *arguments):
    """Make a call that goes through; return what the caller printed."""
    result = run_caller(url, *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def events(messages):
    return [message["event"] for message in messages]
