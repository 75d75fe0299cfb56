"""What is checked through the public address, from outside, as Twilio comes in."""

import asyncio
import secrets

from mediastreams.caller import SAMPLE, http
from mediastreams.caller.account import Account
from mediastreams.caller.call import Call
from mediastreams.caller.plan import OptionError, Options, make_plan
from mediastreams.caller.websocket import CallError, dial
from mediastreams.config import Settings
from mediastreams.doctor import FaultError, SkippedError
from mediastreams.protocol import signature, twiml
from mediastreams.protocol.twiml import StreamNoun, TwimlError

CALL_SECONDS = 2.0


class Road:
    """The road to the server at `url`, https://, and the document `name` that its calls follow."""

    def __init__(self, settings: Settings, url: str, name: str) -> None:
        self._settings = settings
        self._base = url
        self._twiml = f"{url}/twiml/{name}"
        self._account = Account(settings.twilio_account_sid or "AC" + "0" * 32, settings.twilio_auth_token)
        self._stream: StreamNoun | None = None

    def check_twiml(self) -> str:
        """Check that the document is served, and that its stream leads to this address."""
        form = http.call_form(self._account.sid, _sid())
        try:
            document = asyncio.run(http.twiml(self._twiml, form, self._account))
            stream = twiml.read(document, self._twiml)
        except (CallError, TwimlError) as error:
            if signature.REFUSED in str(error):
                raise FaultError(
                    "the server refuses what these settings sign: it runs with another TWILIO_AUTH_TOKEN, or "
                    "for another address, restart it"
                ) from None
            raise FaultError(f"Twilio would report {error}") from None
        if not stream.url.startswith(f"wss{self._base.removeprefix('https')}/"):
            raise FaultError(
                f"the document names {stream.url}, not this address: the server has another PUBLIC_URL, "
                "restart it"
            )
        self._stream = stream
        return f"{self._twiml} is served"

    def check_handshake(self) -> str:
        """Check that a signed handshake is accepted."""
        stream = self._need_stream()
        try:
            status = asyncio.run(_shake_hands(stream.url, self._account.signature(stream.url)))
        except CallError as error:
            raise FaultError(f"Twilio would report {error}") from None
        return f"{stream.url} answers {status}"

    def check_signature(self) -> str:
        """Check that a handshake without Twilio's signature is refused."""
        stream = self._need_stream()
        if self._settings.twilio_auth_token is None:
            raise SkippedError("TWILIO_AUTH_TOKEN is not set")
        try:
            asyncio.run(_shake_hands(stream.url, {}))
        except CallError as error:
            if " 403 " in str(error):
                return "a handshake that Twilio has not signed is refused"
            raise FaultError(f"Twilio would report {error}") from None
        raise FaultError(
            "the server accepts handshakes that Twilio has not signed: it runs without TWILIO_AUTH_TOKEN, "
            "restart it"
        )

    def check_call(self) -> str:
        """Check that a short call goes through."""
        self._need_stream()
        options = Options(
            url=None,
            twiml=self._twiml,
            audio=str(SAMPLE),
            seconds=CALL_SECONDS,
            track=None,
            sample_rate=None,
            encoding=None,
            parameter=(),
            digits="",
            calls=1,
            fast=False,
            save_heard=None,
            auth_token=self._settings.twilio_auth_token,
            drop=False,
        )
        said: list[str] = []
        try:
            asyncio.run(_call(options, said))
        except (CallError, TwimlError, OptionError) as error:
            raise FaultError(f"Twilio would report {error}") from None
        if warnings := [line for line in said if line.startswith("Warning ")]:
            raise FaultError(f"the call went through, but {warnings[0]}")
        return f"a call of {CALL_SECONDS:g} s went through"

    def _need_stream(self) -> StreamNoun:
        if self._stream is None:
            raise SkippedError("it needs the TwiML")
        return self._stream


def _sid() -> str:
    return "CA" + secrets.token_hex(16)


async def _shake_hands(url: str, headers: dict[str, str]) -> str:
    websocket = await dial(url, headers)
    await websocket.close()
    return websocket.status


async def _call(options: Options, said: list[str]) -> None:
    call_sid = _sid()
    await Call(await make_plan(options, [call_sid], said.append), call_sid, said.append).run()
