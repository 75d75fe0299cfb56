"""A simulated Twilio: calls a Media Streams server, so that nobody needs a phone or an account.

    python -m mediastreams.caller                                   the server on this machine
    python -m mediastreams.caller wss://example.ngrok.app/media     through a tunnel, as Twilio would
    python -m mediastreams.caller --twiml twiml/start-stream.xml    as a TwiML document says, or one that is
    python -m mediastreams.caller --twiml https://example.ngrok.app/twiml/start-stream      served

It sends what Twilio sends, at Twilio's pace, and reports what Twilio would: when the server refuses the
stream or ends it, the caller exits with 1 and one line with Twilio's error code and the cause. On a
bidirectional stream it plays what the server sends, to a file with --save-heard. A statusCallback gets its
reports.

The sample is two voices of flite (slt, rms), 300-3400 Hz: the caller left, the callee right.
"""

import asyncio
import functools
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

import click

from mediastreams.caller import SAMPLE, sound_file
from mediastreams.caller.call import Call
from mediastreams.caller.plan import OptionError, Options, make_plan
from mediastreams.caller.websocket import CallError
from mediastreams.protocol import twiml
from mediastreams.text import escape_unknown, printable


@click.command()
@click.argument("url", required=False)
@click.option(
    "--twiml",
    metavar="FILE|URL",
    help="Follow the <Stream> of this TwiML. A URL is requested as Twilio requests it.",
)
@click.option(
    "--audio",
    metavar="FILE.wav",
    default=str(SAMPLE),
    help="What is said (default: a sample): the left channel is inbound, the right one outbound; "
    "mono is the only track, or the inbound one of both.",
)
@click.option(
    "--seconds", type=float, metavar="N", help="Length of the call; the audio repeats (default: once)."
)
@click.option(
    "--track", type=click.Choice(list(twiml.TRACKS)), help="Default: the TwiML's, else inbound_track."
)
@click.option(
    "--sample-rate", type=int, metavar="N", help="Samples a second (default: the TwiML's, else 8000)."
)
@click.option(
    "--encoding",
    metavar="NAME",
    help="What `start` announces (default: audio/x-mulaw). Another one needs --audio, whose bytes are sent "
    "as they are, in chunks of 20 ms at two bytes a sample.",
)
@click.option("--parameter", multiple=True, metavar="NAME=VALUE", help="A custom parameter; may be repeated.")
@click.option(
    "--digits",
    default="",
    metavar="12#",
    help="Keys to press, on a bidirectional stream; one without --twiml counts as that.",
)
@click.option("--calls", type=int, default=1, metavar="N", help="So many calls at once.")
@click.option("--fast", is_flag=True, help="Send without waiting, not in real time.")
@click.option(
    "--save-heard",
    type=Path,
    metavar="FILE.wav",
    help="Save what the server sends, as the caller hears it, on a bidirectional stream.",
)
@click.option(
    "--auth-token", metavar="TOKEN", help="Sign the requests (default: with TWILIO_AUTH_TOKEN, if set)."
)
@click.option("--drop", is_flag=True, help="Hang up rudely: no stop, no Close.")
@click.pass_context
def call(context: click.Context, /, **options: Any) -> None:
    """Call a Media Streams server as Twilio does, without a phone.

    URL begins with ws:// or wss:// (default: the TwiML's, else that of the server on this machine).

    The exit status is 0 when every call went through, 1 when a call failed, 2 when the command line cannot
    be used. Ctrl-C hangs up, a second one ends the program.
    """
    escape_unknown()
    context.exit(asyncio.run(_call(Options(**options))))


async def _call(options: Options) -> int:
    """Make the calls that the command line asks for; return the exit status."""
    call_sids = ["CA" + secrets.token_hex(16) for _ in range(options.calls)]
    try:
        plan = await make_plan(options, call_sids, _say)
    except (OptionError, sound_file.AudioError, twiml.TwimlError, CallError) as error:
        _say(f"Failed: {error}", file=sys.stderr)
        return 1 if getattr(error, "code", None) else 2
    labels = [f"call {n}: " for n in range(1, options.calls + 1)] if options.calls > 1 else [""]
    calls = [
        Call(plan, call_sid, functools.partial(_say, label=label))
        for call_sid, label in zip(call_sids, labels, strict=True)
    ]
    signal.signal(signal.SIGINT, lambda *_: _hang_up(calls))
    went_through = await asyncio.gather(*map(_run, calls, labels))
    failed = went_through.count(False)
    if options.calls > 1:
        _say(f"{options.calls - failed} calls went through, {failed} failed")
    return 1 if failed else 0


def _hang_up(calls: list[Call]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for each in calls:
        each.hang_up()


async def _run(call: Call, label: str) -> bool:
    """Make one call; return whether it went through."""
    try:
        await call.run()
    except (CallError, OptionError) as error:
        _say(f"Failed: {error}", label=label, file=sys.stderr)
        return False
    return True


def _say(line: str, *, label: str = "", file: TextIO | None = None) -> None:
    file = file or sys.stdout
    try:
        print(f"{label}{printable(line)}", file=file, flush=True)
    except OSError:  # nobody reads, or the disk is full; the calls go on, and the exit flushes what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


if __name__ == "__main__":
    call()
