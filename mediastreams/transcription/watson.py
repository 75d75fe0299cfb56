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

from mediastreams.track import RATE
from mediastreams.transcription.cloud import Backlog, CloudError
from mediastreams.transcription.dialogue import Dialogue, connect

MODEL = "en-US_Telephony"
IAM = "https://iam.cloud.ibm.com"
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
        super().__init__()
        self._apikey = apikey
        self._url = f"wss{url[len('https') :]}/v1/recognize?model={MODEL}"
        self._auth_url = auth_url or IAM
        self._token = ""
        self._token_until = 0.0

    def address(self) -> tuple[str, list[str]]:
        """Return the URL, and the token as a header."""
        if time.monotonic() > self._token_until:
            self._token = self._ask_for_token()
            self._token_until = time.monotonic() + _TOKEN_SECONDS
        return self._url, [f"Authorization: Bearer {self._token}"]

    def start(self, ws: Any) -> None:
        """Say what the audio is."""
        ws.send(json.dumps(_START))

    def audio(self, chunk: bytes) -> bytes:
        """Return the chunk as it is."""
        return chunk

    def end(self, ws: Any) -> None:
        """Ask for what is left to be told."""
        ws.send(json.dumps({"action": "stop"}))

    def take(self, message: bytes, backlog: Backlog, has_ended: bool) -> bool:
        """Take results, an error, or `listening`: after the end of the audio that says that all is told."""
        answer = json.loads(message)
        if "error" in answer:
            raise CloudError(str(answer["error"]))
        for result in answer.get("results", ()):
            best = result["alternatives"][0]
            words = best.get("timestamps") or [["", 0.0, 0.0]]
            backlog.heard(best["transcript"], bool(result["final"]), words[0][1], words[-1][2])
        return has_ended and answer.get("state") == "listening"

    def _ask_for_token(self) -> str:
        parts = urlsplit(self._auth_url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 443)
        connection.sock = connect(self._auth_url)
        try:
            connection.request(
                "POST",
                f"{parts.path}/identity/token",
                urlencode({"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": self._apikey}),
                {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            )
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            raise CloudError(f"no token ({type(error).__name__})") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise CloudError(f"no token, refused with {answer.status} {answer.reason}")
        return str(json.loads(body)["access_token"])
