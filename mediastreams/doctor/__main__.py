"""The command `doctor`: one line for each check, and what to mend.

python -m mediastreams doctor
"""

import sys
from collections.abc import Callable
from functools import partial

import click

from mediastreams import config
from mediastreams.doctor import FaultError, SkippedError, machine, road, twilio
from mediastreams.rest.public import document_name
from mediastreams.text import printable


@click.command()
@click.option(
    "--twiml",
    metavar="NAME",
    default="start-stream",
    callback=document_name,
    help="The document of twiml/ that the calls follow (default: start-stream).",
)
def doctor(twiml: str) -> None:
    """Check the road from this machine to Twilio, and say what to mend.

    Run it beside the server, in the same folder: it calls the server through its public address, 2 s long,
    as Twilio would, without a phone. One line a check: ok, FAIL, or - for what is not checked. The exit
    status is 1 if a check fails.
    """
    report = _Report()
    try:
        settings = config.load()
    except SystemExit as error:
        report.fails("settings", str(error))
        sys.exit(1)
    report.check("settings", partial(machine.check_settings, settings))
    is_there = report.check("port", partial(machine.check_port, settings))
    url = report.check("tunnel", partial(machine.find_address, settings))
    is_served = False
    if is_there and url:
        way = road.Road(settings, url, twiml)
        is_served = bool(report.check("TwiML", way.check_twiml))
        if report.check("handshake", way.check_handshake):
            report.check("signature", way.check_signature)
            report.check("call", way.check_call)
    else:
        report.skips("call", "it needs the server and its public address")
    report.check("clock", partial(twilio.check_clock, settings))
    if report.check("account", partial(twilio.check_account, settings)) and url:
        report.check("number", partial(twilio.check_number, settings, url, is_served=is_served))
    else:
        report.skips("number", "it needs the account and the public address")
    report.check("descriptors", partial(machine.check_descriptors, settings))
    report.check("recordings", partial(machine.check_recordings, settings))
    report.check("engine", partial(machine.check_engine, settings))
    sys.exit(1 if report.has_failed else 0)


class _Report:
    """Prints one line for each check."""

    has_failed = False
    """Whether a check has failed."""

    def check(self, name: str, function: Callable[[], str]) -> str:
        """Run a check and print its line. Return what it returns; "" where it fails or is left out."""
        try:
            text = function()
        except FaultError as fault:
            self.fails(name, str(fault))
        except SkippedError as why:
            self.skips(name, str(why))
        else:
            self._print("ok", name, text)
            return text
        return ""

    def fails(self, name: str, text: str) -> None:
        """Print that something is wrong."""
        self.has_failed = True
        self._print("FAIL", name, text)

    def skips(self, name: str, text: str) -> None:
        """Print that something is not checked."""
        self._print("-", name, text)

    @staticmethod
    def _print(mark: str, name: str, text: str) -> None:
        print(printable(f"{mark:4} {name:11} {text}"), flush=True)


if __name__ == "__main__":
    doctor()
