"""The command `dial`: places a call whose audio comes to this server, by Twilio's REST API.

python -m mediastreams dial +15550123456
python -m mediastreams dial --hang-up CA0a3d8d16fa2fe2d9ad16a8c5a3a3f2c4
"""

import re

import click

from mediastreams import config
from mediastreams.caller.websocket import CallError
from mediastreams.protocol import twiml as documents
from mediastreams.protocol.twiml import TwimlError
from mediastreams.rest.api import Api, ApiError
from mediastreams.rest.public import Public, document_name, fail, phone_number
from mediastreams.text import command, printable

_EVENTS = ["initiated", "ringing", "answered", "completed"]


@click.command()
@click.argument("number", required=False, callback=phone_number)
@click.option(
    "--from",
    "caller",
    metavar="NUMBER",
    callback=phone_number,
    help="The number that calls (default: that of the account, if it has one).",
)
@click.option(
    "--twiml",
    metavar="NAME",
    callback=document_name,
    help="The document of twiml/ that the call follows (default: connect-stream, an echo).",
)
@click.option("--hang-up", metavar="CA...", help="End this call, in place of placing one.")
def dial(number: str | None, caller: str | None, twiml: str | None, hang_up: str | None) -> None:
    """Call a NUMBER from your Twilio account.

    Who answers is connected to this server, which logs how the call goes. Twilio charges for it. The default
    document plays the voice of who answers back; start-stream connects them with DIAL_NUMBER, which then must
    be another number.

    Needs TWILIO_ACCOUNT_SID, and TWILIO_AUTH_TOKEN or an API key. The public address is that of ngrok's
    tunnel, or PUBLIC_URL.
    """
    if (number is None) == (hang_up is None):
        raise click.UsageError("say a number to call, or --hang-up and the SID of a call")
    if hang_up is not None and (caller or twiml):
        raise click.UsageError("--hang-up takes no other option")
    if hang_up is not None and not re.fullmatch("CA[0-9a-fA-F]{32}", hang_up):
        raise click.UsageError(f"--hang-up {printable(hang_up)}: it must be CA and 32 hexadecimal digits")
    settings = config.load()
    try:
        with Api(settings) as api:
            if hang_up is not None:
                print(printable(f"Call {hang_up}: {api.hang_up(hang_up).status}"))
                return
            public = Public(settings)
            caller = caller or _caller(api)
            name = twiml or "connect-stream"
            _check(public, name, {number, caller})
            call = api.dial(
                {
                    "To": number,
                    "From": caller,
                    "Url": public.twiml(name),
                    "Method": "POST",
                    "StatusCallback": public.call_status,
                    "StatusCallbackMethod": "POST",
                    "StatusCallbackEvent": _EVENTS,
                }
            )
    except ApiError as error:
        fail(error)
    print(printable(f"Calling {number} from {caller}: {call.sid} is {call.status}"))
    print(f"To hang up: {command('dial', '--hang-up', call.sid)}")


def _check(public: Public, name: str, numbers: set[str | None]) -> None:
    """End the command where the document would end the call, or connect one of its numbers with itself."""
    try:
        document = public.document(name)
        dialled = [] if document is None else documents.dialled(document, name)
    except (CallError, TwimlError) as error:
        fail(f"Twilio would end the call, and report {error}")
    if itself := next((each for each in dialled if each in numbers), None):
        fail(f"{name} dials {itself}, which is in the call already: give the server another DIAL_NUMBER")


def _caller(api: Api) -> str:
    """Return the number of the account that can call; with several of them the command ends."""
    able = [each.phone_number for each in api.numbers() if each.capabilities and each.capabilities.voice]
    if not able:
        fail("the account has no number that can call: buy one, or use --from with a verified caller ID")
    if len(able) > 1:
        fail(printable(f"--from must say which number calls: {', '.join(able)}"))
    return able[0]


if __name__ == "__main__":
    dial()
