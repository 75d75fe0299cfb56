"""IBM Watson Speech to Text, over its WebSocket interface, which accepts mu-law.

SPEECH_TO_TEXT_APIKEY and SPEECH_TO_TEXT_URL are those of the service's credentials, by the names that IBM's
libraries give them; SPEECH_TO_TEXT_AUTH_URL is where a key is exchanged for a token.

Source: https://cloud.ibm.com/docs/speech-to-text?topic=speech-to-text-websockets
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from mediastreams.client import causes, read_at_most, tls_context, why_not_connected
from mediastreams.transcription.provider import PATIENCE, Provider
from mediastreams.transcription.session import Backlog, SessionError
from mediastreams.transcription.websocket_session import (
    MAX_BYTES,
    NotConnectedError,
    converse,
    open_websocket,
)

IAM = "https://iam.cloud.ibm.com"
_GRANT = "urn:ibm:params:oauth:grant-type:apikey"
_TOKEN_SECONDS = 3000  # it is valid for an hour
_START = {
    "action": "start",
    "interim_results": True,
    "timestamps": True,
    "inactivity_timeout": -1,
}


class Watson(Provider):
    """Watson's service, with the key and the addresses, https://, of the environment.

    The key is exchanged for a token. `model` is the name of a model, which knows one language.
    """

    name = "Watson"
    session_seconds = 3600.0

    def __init__(self, environ: Mapping[str, str], model: str = "en-US_Telephony") -> None:
        self._apikey = environ["SPEECH_TO_TEXT_APIKEY"]
        super().__init__((self._apikey,))
        url, auth_url = environ["SPEECH_TO_TEXT_URL"], environ.get("SPEECH_TO_TEXT_AUTH_URL", IAM)
        self._url = f"wss://{_without_scheme(url)}/v1/recognize?model={model}"
        self._token_url = f"https://{_without_scheme(auth_url)}/identity/token"
        self._token = ""
        self._token_until = 0.0  # monotonic seconds

    async def session(self, backlog: Backlog) -> None:
        """Send the chunks and add the texts, until Watson has sent the last."""

        def read(message: str | bytes, has_sent_all: bool) -> bool:
            answer = _answer(message)
            for result in answer.get("results", ()):
                best = result["alternatives"][0]
                words = best.get("timestamps") or [["", 0.0, 0.0]]
                backlog.add_text(best["transcript"], bool(result["final"]), words[0][1], words[-1][2])
            return has_sent_all and answer.get("state") == "listening"

        if time.monotonic() > self._token_until:
            self._token = await self._request_token()
            self._token_until = time.monotonic() + _TOKEN_SECONDS
            self.secrets = [self._apikey, self._token]
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            async with open_websocket(self._url, headers) as websocket:
                await websocket.send(
                    json.dumps({**_START, "content-type": f"audio/mulaw;rate={backlog.rate};channels=1"})
                )
                async with asyncio.timeout(PATIENCE):
                    _answer(await websocket.recv())
                await converse(websocket, _messages(backlog), read)
        except NotConnectedError:
            self._token_until = 0.0  # another token may be accepted
            raise

    async def _request_token(self) -> str:
        try:
            async with (
                asyncio.timeout(PATIENCE),
                # By default it follows no redirect.
                httpx.AsyncClient(verify=tls_context(), trust_env=False, timeout=None) as client,
                client.stream(
                    "POST",
                    self._token_url,
                    data={"grant_type": _GRANT, "apikey": self._apikey},
                    headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                ) as response,
            ):
                body = await read_at_most(MAX_BYTES, response.aiter_raw())
        except TimeoutError:
            raise SessionError("no token, nobody answers") from None
        except httpx.ConnectError as error:
            cause = [error, *(each for each in causes(error) if isinstance(each, OSError))][-1]
            raise SessionError(f"no token, {why_not_connected(cause, self._token_url)}") from None
        except httpx.HTTPError as error:
            raise SessionError(f"no token ({type(error).__name__})") from None
        if len(body) > MAX_BYTES:
            raise SessionError("no token, the answer is too long")
        if response.status_code != 200:
            raise SessionError(f"no token, refused with {response.status_code} {response.reason_phrase}")
        return str(json.loads(body)["access_token"])


connect = Watson


async def _messages(backlog: Backlog) -> AsyncIterator[str | bytes]:
    async for chunk in backlog.chunks():
        yield chunk
    yield json.dumps({"action": "stop"})


def _answer(message: str | bytes) -> dict[str, Any]:
    answer = json.loads(message)
    if not isinstance(answer, dict):
        raise ValueError("no object")
    if "error" in answer:
        raise SessionError(str(answer["error"]))
    return answer


def _without_scheme(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc + parts.path
