"""The addresses of this server that Twilio is given."""

import asyncio
import re
import sys
from typing import NoReturn

import click

from mediastreams import ngrok
from mediastreams.caller import http
from mediastreams.caller.account import Account
from mediastreams.config import Settings
from mediastreams.text import printable
from mediastreams.web.addresses import web_url


def fail(sentence: object) -> NoReturn:
    """End the command with 1 and one line."""
    print(f"Failed: {sentence}", file=sys.stderr)
    sys.exit(1)


class Public:
    """The public address of the server of the settings."""

    url: str
    """https://, without a slash at the end."""

    def __init__(self, settings: Settings) -> None:
        """Ask ngrok's agent where PUBLIC_URL is not set. Without an address the command ends."""
        port = settings.http_server_port
        found = ngrok.with_tunnel(settings, port).public_url
        if found is None:
            fail(f"this server has no public address: run `ngrok http {port}`, or set PUBLIC_URL")
        self.url = web_url(found)
        self._settings = settings

    @property
    def call_status(self) -> str:
        """The address for the status of calls (Twilio's statusCallback)."""
        return f"{self.url}/call-status"

    def twiml(self, name: str) -> str:
        """Return the address of a TwiML document."""
        return f"{self.url}/twiml/{name}"

    def document(self, name: str) -> bytes | None:
        """Return a TwiML document as Twilio would get it. Raises `CallError`.

        None without TWILIO_AUTH_TOKEN: a server that has it answers only what is signed.
        """
        if self._settings.twilio_auth_token is None:
            return None
        return document_at(self.twiml(name), self._settings)


def document_at(url: str, settings: Settings) -> bytes:
    """Return the TwiML document at an address as Twilio would get it. Raises `CallError`."""
    account = Account(settings.twilio_account_sid or "", settings.twilio_auth_token)
    return asyncio.run(http.twiml(url, http.call_form(account.sid, "CA" + "0" * 32), account))


def phone_number(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return a number of the command line in E.164; spaces and punctuation in it are left out."""
    if value is None:
        return None
    number = re.sub(r"[ ()./-]", "", value)
    if not re.fullmatch(r"\+[1-9][0-9]{1,14}", number):
        raise click.BadParameter(f"{printable(value)} is not a number in E.164, such as +15550123456")
    return number


def document_name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the name of a TwiML document on the command line."""
    if value is not None and not re.fullmatch(r"[\w.-]+", value, re.ASCII):
        raise click.BadParameter(f"{printable(value)} is not that of a file in twiml/, such as start-stream")
    return value
