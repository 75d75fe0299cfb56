"""What is checked at Twilio, by its REST API."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from mediastreams import client
from mediastreams.caller.websocket import CallError
from mediastreams.config import Settings
from mediastreams.doctor import FaultError, SkippedError
from mediastreams.rest.api import Api, ApiError, base_url
from mediastreams.rest.public import document_at
from mediastreams.text import command

_MAX_APART = 60  # seconds; with Amazon's signatures 300 are too much
_BINS = "https://handler.twilio.com/"

_T = TypeVar("_T")


def check_clock(settings: Settings) -> str:
    """Check this machine's clock against the `Date` of Twilio's answers (RFC 9110, section 6.6.1)."""
    url = base_url(settings)
    try:
        answer = httpx.head(
            url, timeout=client.TIMEOUT, trust_env=False, verify=client.tls_context(), follow_redirects=False
        )
        apart = time.time() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:
        cause = next((each for each in client.causes(error) if isinstance(each, OSError)), error)
        raise FaultError(f"Twilio cannot be asked: {client.why_not_connected(cause, url)}") from None
    except (KeyError, ValueError):
        raise SkippedError(f"{urlsplit(url).hostname} does not say what the time is") from None
    if abs(apart) > _MAX_APART:
        which = "fast" if apart > 0 else "slow"
        raise FaultError(f"it is {abs(apart):.0f} s {which}: let the system set it (NTP)")
    return "it is right"


def check_account(settings: Settings) -> str:
    """Check that the token is that of the account, which is active; without a token, that the key opens it.

    Only a main key may ask for the account itself, so the key asks for the numbers.
    Source: https://www.twilio.com/docs/iam/api-keys/keys-in-console
    """
    _need_account(settings)
    if settings.twilio_auth_token is None:
        _ask(settings, Api.numbers)
        return "the API key opens it"
    account = _ask(replace(settings, twilio_api_key=None), Api.account)
    if account.status != "active":
        raise FaultError(f"the account is {account.status}: see the Twilio Console")
    trial = ", a trial: it calls only verified numbers" if account.type == "Trial" else ""
    return f"the account is active{trial}"


def check_number(settings: Settings, url: str, *, is_served: bool) -> str:
    """Check that the calls of a number go to the server at `url`.

    `is_served`: it serves documents, so those that its numbers name are asked for.
    """
    _need_account(settings)
    numbers = _ask(settings, Api.numbers)
    able = [number for number in numbers if number.capabilities is None or number.capabilities.voice]
    plain = [number for number in able if not (number.trunk_sid or number.voice_application_sid)]
    ours = {
        each.phone_number: each.voice_url or ""
        for each in plain
        if _leads_to(each.voice_url, f"{url}/twiml/")
    }
    if ours:
        if is_served:
            _check_documents(settings, ours)
        return f"the calls of {', '.join(ours)} come here"
    if bins := [each.phone_number for each in plain if _leads_to(each.voice_url, _BINS)]:
        raise SkippedError(f"{', '.join(bins)}: what is in a TwiML Bin is not known here")
    if not able:
        raise FaultError("the account has no number for calls: buy one in the Twilio Console")
    number = able[0].phone_number
    raise FaultError(f"the calls of no number come to {url}: `{command('number', number)}`")


def _check_documents(settings: Settings, addresses: Mapping[str, str]) -> None:
    """Check that Twilio would get a document from each number's address."""
    for url in dict.fromkeys(addresses.values()):
        try:
            document_at(url, settings)
        except CallError as error:
            numbers = ", ".join(number for number, address in addresses.items() if address == url)
            raise FaultError(f"for calls of {numbers} Twilio would report {error}") from None


def _leads_to(webhook: str | None, beginning: str) -> bool:
    """Return whether a number's webhook begins so; how a host is written does not matter."""
    return _plain(webhook or "").startswith(_plain(beginning))


def _plain(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts._replace(netloc=parts.netloc.lower().removesuffix(":443")).geturl()


def _ask(settings: Settings, what: Callable[[Api], _T]) -> _T:
    try:
        with Api(settings) as api:
            return what(api)
    except ApiError as error:
        raise FaultError(str(error)) from None


def _need_account(settings: Settings) -> None:
    if settings.twilio_account_sid is None:
        raise SkippedError("TWILIO_ACCOUNT_SID is not set")
    if settings.twilio_auth_token is None and settings.twilio_api_key is None:
        raise SkippedError("TWILIO_AUTH_TOKEN is not set, nor TWILIO_API_KEY")
