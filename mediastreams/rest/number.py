"""The command `number`: points a number of the account at this server, by Twilio's REST API.

python -m mediastreams number                   the numbers of the account
python -m mediastreams number +15550123456      its calls come to this server
"""

import sys

import click

from mediastreams import config
from mediastreams.caller.websocket import CallError
from mediastreams.rest.api import Api, ApiError, Number
from mediastreams.rest.public import Public, document_name, fail, phone_number
from mediastreams.text import command, printable

# Twilio's name of each field that matters to where calls go, and that of its option.
_OPTIONS = {
    "VoiceUrl": "voice-url",
    "VoiceMethod": "voice-method",
    "VoiceApplicationSid": "voice-application-sid",
    "TrunkSid": "trunk-sid",
    "StatusCallback": "status-callback",
    "StatusCallbackMethod": "status-callback-method",
}
_METHOD = click.Choice(["GET", "POST"], case_sensitive=False)


@click.command()
@click.argument("number", required=False, callback=phone_number)
@click.option(
    "--twiml",
    metavar="NAME",
    callback=document_name,
    help="The document of twiml/ that answers the calls (default: start-stream).",
)
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option("--voice-url", metavar="URL", help="Another webhook, in place of this server's.")
@click.option("--voice-method", type=_METHOD)
@click.option("--voice-application-sid", metavar="AP...", help="An application, in place of the webhook.")
@click.option("--trunk-sid", metavar="TK...", help="A SIP trunk, in place of the webhook.")
@click.option("--status-callback", metavar="URL")
@click.option("--status-callback-method", type=_METHOD)
def number(number: str | None, twiml: str | None, yes: bool, **given: str | None) -> None:
    """Point a NUMBER of your Twilio account at this server.

    Without a NUMBER it lists those of the account. Sets the webhook of its calls, and the status callback.
    Shows first what was set, and the command that puts it back: that is what the options with Twilio's names
    are for. "" takes away what is set.

    Needs TWILIO_ACCOUNT_SID, and TWILIO_AUTH_TOKEN or an API key. The public address is that of ngrok's
    tunnel, or PUBLIC_URL.
    """
    fields = {name: given[_key(name)] for name in _OPTIONS}
    wanted = {name: value for name, value in fields.items() if value is not None}
    if number is None and (twiml or yes or wanted):
        raise click.UsageError("which number? Without options, all numbers are listed")
    if twiml and wanted:
        raise click.UsageError("--twiml is for this server: the other options are for another webhook")
    settings = config.load()
    try:
        with Api(settings) as api:
            if number is None:
                _list(api.numbers())
                return
            found = next(iter(api.numbers(number)), None)
            if found is None:
                fail(f"{number} is not a number of this account: without a number, all of them are listed")
            doubt = None
            if not wanted:
                public = Public(settings)
                name = twiml or "start-stream"
                doubt = _doubt(public, name)
                wanted = {
                    "VoiceUrl": public.twiml(name),
                    "VoiceMethod": "POST",
                    "VoiceApplicationSid": "",
                    "TrunkSid": "",
                    "StatusCallback": public.call_status,
                    "StatusCallbackMethod": "POST",
                }
            _change(api, found, wanted, doubt, ask=not yes)
    except ApiError as error:
        fail(error)


def _list(numbers: list[Number]) -> None:
    for each in numbers:
        print(printable(f"{each.phone_number}  {_calls(_set(each))}"))
    if not numbers:
        print("The account has no numbers: buy one in the Twilio Console, Phone Numbers, Buy a number")


def _doubt(public: Public, name: str) -> str | None:
    """Return what Twilio would report if a call came now; None where it would get the document."""
    try:
        public.document(name)
    except CallError as error:
        return f"Twilio would report {error}"
    return None


def _change(api: Api, number: Number, wanted: dict[str, str], doubt: str | None, *, ask: bool) -> None:
    """Show what speaks against it, what changes and how to undo it; ask, and change it."""
    before = _set(number)
    changes = {name: value for name, value in wanted.items() if value != before[name]}
    if doubt:
        print(f"Warning: {doubt}", file=sys.stderr)
    if not changes:
        print(f"{number.phone_number} is set so already: {printable(_calls(before))}")
        return
    after = {**before, **changes}
    print(f"{number.phone_number}")
    for what, show in (("calls", _calls), ("status callback", _status_callback)):
        if show(before) != show(after):
            print(printable(f"  {what}: {show(before)}  ->  {show(after)}"))
    print(f"To put it back: {_command(number, {name: before[name] for name in changes})}")
    if ask and not _agreed("Change it all the same?" if doubt else "Change it?"):
        sys.exit("Nothing is changed")
    changed = _set(api.change(number, changes))
    if missing := [name for name, value in changes.items() if changed[name] != value]:
        fail(f"Twilio has taken the change, but not {', '.join(missing)}")
    print(f"{number.phone_number} is changed")


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question)
    except click.Abort:  # Ctrl-C, or nobody is there to answer
        print()
        if not sys.stdin.isatty():
            print("Nobody answers: --yes does not ask", file=sys.stderr)
        return False


def _set(number: Number) -> dict[str, str]:
    """Return what is set of a number, by Twilio's names; "" is not."""
    fields = {name: getattr(number, _key(name)) or "" for name in _OPTIONS}
    for name in ("VoiceMethod", "StatusCallbackMethod"):
        fields[name] = fields[name] or "POST"  # Twilio's default
    return fields


def _calls(fields: dict[str, str]) -> str:
    """Return where the calls of a number go: to a trunk, else to an application, else to a webhook."""
    if trunk := fields["TrunkSid"]:
        return f"SIP trunk {trunk}"
    if application := fields["VoiceApplicationSid"]:
        return f"application {application}"
    return f"{fields['VoiceMethod']} {fields['VoiceUrl']}" if fields["VoiceUrl"] else "nothing is set"


def _status_callback(fields: dict[str, str]) -> str:
    url = fields["StatusCallback"]
    return f"{fields['StatusCallbackMethod']} {url}" if url else "nothing is set"


def _command(number: Number, fields: dict[str, str]) -> str:
    """Return the command that sets fields of a number, as the shell takes it, or what to do without one."""
    if any(printable(value) != value for value in fields.values()):
        return "in the Twilio Console; a terminal does not show all of what was set"
    words = [word for name, value in fields.items() for word in (f"--{_OPTIONS[name]}", value)]
    return command("number", number.phone_number, *words)


def _key(name: str) -> str:
    return _OPTIONS[name].replace("-", "_")


if __name__ == "__main__":
    number()
