"""What this project asks of Twilio's REST API.

Sources: https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource,
https://www.twilio.com/docs/voice/api/call-resource, https://www.twilio.com/docs/iam/api/account and
https://www.twilio.com/docs/global-infrastructure/understanding-edge-locations.
"""

import time
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import httpx
import msgspec

from mediastreams import client
from mediastreams.config import Settings, __version__
from mediastreams.exceptions import MediaStreamsError
from mediastreams.text import printable

_PAGE_SIZE = 1000  # the most that Twilio gives at once
_MAX_BYTES = 2**24  # of an answer; a number has about 1,500
_AUTHENTICATE = 20003  # Twilio's code for a SID and a secret that do not belong together

_T = TypeVar("_T")


class ApiError(MediaStreamsError):
    """What Twilio refuses, or why it cannot be asked, in one line. `code` is Twilio's, None without one."""

    def __init__(self, sentence: str, code: int | None = None) -> None:
        super().__init__(printable(sentence))
        self.code = code


class Capabilities(msgspec.Struct):
    """What a number can do."""

    voice: bool = False


class Number(msgspec.Struct):
    """A number of the account, an `IncomingPhoneNumber`. None or "": not set."""

    sid: str
    phone_number: str
    friendly_name: str | None = None
    capabilities: Capabilities | None = None
    voice_url: str | None = None
    voice_method: str | None = None
    voice_application_sid: str | None = None
    """An application, whose webhooks are used instead of the number's."""
    trunk_sid: str | None = None
    """A SIP trunk, which gets the calls instead."""
    status_callback: str | None = None
    status_callback_method: str | None = None


class PlacedCall(msgspec.Struct):
    """A call of the account."""

    sid: str
    status: str


class Account(msgspec.Struct):
    """The account."""

    status: str
    """`active`, `suspended` or `closed`."""
    type: str
    """`Trial` or `Full`."""


class _Numbers(msgspec.Struct):
    incoming_phone_numbers: list[Number]
    next_page_uri: str | None = None


class _Error(msgspec.Struct):
    message: str
    code: int | None = None
    more_info: str = ""


class Api:
    """Twilio's REST API, for the account of the settings. A context manager.

    Its methods raise `ApiError`, and so does making one without SID and secret. The certificate is verified,
    no redirect is followed and no proxy used (`client`).
    """

    def __init__(self, settings: Settings) -> None:
        sid, key = settings.twilio_account_sid, settings.twilio_api_key
        if sid is None:
            raise ApiError("TWILIO_ACCOUNT_SID is not set: it is in the Twilio Console, Account Info")
        if key is not None and settings.twilio_api_secret is None:
            raise ApiError("TWILIO_API_SECRET is not set: TWILIO_API_KEY needs it")
        secret = settings.twilio_auth_token if key is None else settings.twilio_api_secret
        self._credentials = (
            "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"
            if key is None
            else "TWILIO_API_KEY and TWILIO_API_SECRET"
        )
        if secret is None:
            raise ApiError(
                "TWILIO_AUTH_TOKEN is not set, nor TWILIO_API_KEY: the token is in the Twilio Console, "
                "Account Info"
            )
        self.url = base_url(settings)
        """The address of the API."""
        self._account = f"/2010-04-01/Accounts/{sid}"
        self._client = httpx.Client(
            auth=(key or sid, secret),
            headers={
                "User-Agent": f"mediastreams/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # so that the bound is one of what is held in memory too
            },
            verify=client.tls_context(),
            timeout=client.TIMEOUT,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def account(self) -> Account:
        """Return the account."""
        return self._ask("GET", f"{self._account}.json", Account)

    def numbers(self, phone_number: str | None = None) -> list[Number]:
        """Return the account's numbers; with a number in E.164 that one alone, if it is the account's."""
        path: str | None = f"{self._account}/IncomingPhoneNumbers.json"
        query: dict[str, Any] = {"PageSize": _PAGE_SIZE}
        if phone_number is not None:
            query["PhoneNumber"] = phone_number
        found: list[Number] = []
        asked = set()
        while path and path not in asked:
            asked.add(path)
            page = self._ask("GET", path, _Numbers, query)
            found += page.incoming_phone_numbers
            path, query = page.next_page_uri, {}
        # Twilio also finds parts of numbers.
        return [number for number in found if phone_number in (None, number.phone_number)]

    def change(self, number: Number, fields: Mapping[str, str]) -> Number:
        """Set fields of a number, by Twilio's names such as `VoiceUrl`; return it as it is then."""
        return self._ask("POST", f"{self._account}/IncomingPhoneNumbers/{number.sid}.json", Number, fields)

    def dial(self, fields: Mapping[str, Any]) -> PlacedCall:
        """Place a call; the fields have Twilio's names such as `To`."""
        return self._ask("POST", f"{self._account}/Calls.json", PlacedCall, fields)

    def hang_up(self, call_sid: str) -> PlacedCall:
        """End a call."""
        return self._ask(
            "POST", f"{self._account}/Calls/{call_sid}.json", PlacedCall, {"Status": "completed"}
        )

    def _ask(self, method: str, path: str, kind: type[_T], fields: Mapping[str, Any] | None = None) -> _T:
        form = {"params" if method == "GET" else "data": fields or None}
        if not path.startswith("/"):
            raise ApiError(f"{self.url} answered with another host's page, {path}")
        try:
            with self._client.stream(method, self.url + path, **form) as answer:  # type: ignore[arg-type]
                content = _read(answer)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, UnicodeError) as error:
            raise ApiError(f"Twilio cannot be asked: {_why(error, self.url)}") from None
        except (httpx.HTTPError, OSError) as error:
            done = "; it may have done it all the same" if method == "POST" else ""
            raise ApiError(f"Twilio has not answered: {_why(error, self.url)}{done}") from None
        if not answer.is_success:
            raise self._refusal(answer, content)
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ApiError(f"{self.url} did not answer as Twilio's REST API does: {error}") from None

    def _refusal(self, answer: httpx.Response, content: bytes) -> ApiError:
        try:
            error = msgspec.json.decode(content, type=_Error)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return ApiError(f"{answer.url.host} answered {answer.status_code} {answer.reason_phrase}")
        number = f"{error.code} " if error.code is not None else ""
        check = f": check {self._credentials}" if error.code == _AUTHENTICATE else ""
        page = f", see {error.more_info}" if error.more_info else ""
        text = f"Twilio answered {number}{error.message} (HTTP {answer.status_code}){check}{page}"
        return ApiError(text, error.code)


def base_url(settings: Settings) -> str:
    """Return the address of the REST API, which depends on region and edge unless TWILIO_API_URL is set.

    Source: https://www.twilio.com/docs/global-infrastructure/using-the-twilio-rest-api-in-a-non-us-region
    """
    if settings.twilio_api_url is not None:
        return settings.twilio_api_url
    region = settings.twilio_region or (settings.twilio_edge and "us1")
    return f"https://{'.'.join(filter(None, ('api', settings.twilio_edge, region, 'twilio.com')))}"


def _read(answer: httpx.Response) -> bytes:
    """Return the body of an answer, within bounds of size and time: httpx bounds each read alone."""
    until = time.monotonic() + client.TIMEOUT
    body = b""
    for part in answer.iter_raw():
        body += part
        if len(body) > _MAX_BYTES:
            raise httpx.ReadError(f"the answer has more than {_MAX_BYTES} bytes")
        if time.monotonic() > until:
            raise httpx.ReadTimeout("")
    return body


def _why(error: BaseException, url: str) -> str:
    if isinstance(error, httpx.TimeoutException):
        return client.why_not_connected(TimeoutError(), url)
    for cause in client.causes(error):
        if isinstance(cause, OSError):
            return client.why_not_connected(cause, url)
    return f"{url}: {error}"
