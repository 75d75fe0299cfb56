"""IBM Watson Speech to Text, over its WebSocket interface; mu-law goes as it is.

SPEECH_TO_TEXT_APIKEY and SPEECH_TO_TEXT_URL are those of the service's credentials, by the names that IBM's
libraries give them; SPEECH_TO_TEXT_AUTH_URL is where a key becomes a token.

Source: https://cloud.ibm.com/docs/speech-to-text?topic=speech-to-text-websockets
"""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import gevent
import gevent.socket

from mediastreams.audio.timeline import RATE
from mediastreams.transcription.session import Backlog, CloudError
from mediastreams.transcription.websocket_engine import MOST_BYTES, PATIENCE, Dialogue
from mediastreams.websocket_client import Client

MODEL = "en-US_Telephony"
IAM = "https://iam.cloud.ibm.com"
_GRANT = "urn:ibm:params:oauth:grant-type:apikey"
_TOKEN_SECONDS = 3000  # it is valid for an hour
_START = {
    "action": "start",
    "content-type": f"audio/mulaw;rate={RATE};channels=1",
    "interim_results": True,
    "timestamps": True,
    "inactivity_timeout": -1,
}


class Watson(Dialogue):
    """Watson's service at `url`, https://, with an API key that `auth_url` turns into a token."""

    name = "Watson"
    session_seconds = 3600.0

    def __init__(self, apikey: str, url: str, auth_url: str | None) -> None:
        super().__init__(apikey)
        self._apikey = apikey
        self._url = f"wss{url[len('https') :]}/v1/recognize?model={MODEL}"
        self._auth_url = auth_url or IAM
        self._token = ""
        self._token_until = 0.0

    def address(self) -> tuple[str, dict[str, str]]:
        """Return the URL, and the token as a header."""
        if time.monotonic() > self._token_until:
            self._token = self._ask_for_token()
            self._token_until = time.monotonic() + _TOKEN_SECONDS
            self.secrets = [self._apikey, self._token]
        return self._url, {"authorization": f"Bearer {self._token}"}

    def refused(self) -> None:
        """Ask for another token: it may be that."""
        self._token_until = 0.0

    def start(self, client: Client, receive: Any) -> None:
        """Say what the audio is, and wait until Watson listens."""
        client.send(json.dumps(_START))
        _answer(receive())

    def audio(self, chunk: bytes) -> bytes:
        """Return the chunk as it is."""
        return chunk

    def last(self) -> str:
        """Return what asks for the rest."""
        return json.dumps({"action": "stop"})

    def take(self, message: bytes, backlog: Backlog, has_ended: bool) -> bool:
        """Take results, an error, or `listening`: after the end of the audio that says that all is told."""
        answer = _answer(message)
        for result in answer.get("results", ()):
            best = result["alternatives"][0]
            words = best.get("timestamps") or [["", 0.0, 0.0]]
            backlog.heard(best["transcript"], bool(result["final"]), words[0][1], words[-1][2])
        return has_ended and answer.get("state") == "listening"

    def _ask_for_token(self) -> str:
        parts = urlsplit(self._auth_url)
        host, port = parts.hostname or "", parts.port or 443
        with gevent.Timeout(PATIENCE, CloudError("no token, nobody answers")):
            plain = gevent.socket.create_connection((host, port))
            connection = http.client.HTTPConnection(host, port)
            connection.sock = plain
            try:
                connection.sock = self.context.wrap_socket(plain, server_hostname=host)
                connection.request(
                    "POST",
                    f"{parts.path}/identity/token",
                    urlencode({"grant_type": _GRANT, "apikey": self._apikey}),
                    {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
                )
                answer = connection.getresponse()
                body = answer.read(MOST_BYTES)
            except http.client.HTTPException as error:
                raise CloudError(f"no token ({type(error).__name__})") from None
            finally:
                connection.close()
        if answer.status != 200:
            raise CloudError(f"no token, refused with {answer.status} {answer.reason}")
        return str(json.loads(body)["access_token"])


def _answer(message: str | bytes) -> dict[str, Any]:
    answer = json.loads(message)
    if not isinstance(answer, dict):
        raise ValueError("no object")
    if "error" in answer:
        raise CloudError(str(answer["error"]))
    return answer
