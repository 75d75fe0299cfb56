"""Amazon Transcribe, over its WebSocket interface: a signed URL, event-stream frames, PCM.

The keys are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION, by AWS's own names.

Sources: https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html (WebSocket, event stream)
and https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html (the signature of a query).
Of our own, in 90 lines: Amazon's library for this is no longer maintained, and keeps a core busy.
"""

import binascii
import hashlib
import hmac
import json
import struct
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial
from urllib.parse import quote, urlencode, urlsplit

from mediastreams.audio import mulaw
from mediastreams.transcription.provider import Provider
from mediastreams.transcription.session import Backlog, SessionError
from mediastreams.transcription.websocket_session import converse, open_websocket

_PATH = "/stream-transcription-websocket"
_PRELUDE = struct.Struct(">III")  # total length, length of the headers, checksum of both
_STRING = 7  # the type of a header's value
_SERVICE = "transcribe"
_VALID_SECONDS = 300
_AUDIO_EVENT = {
    b":content-type": b"application/octet-stream",
    b":event-type": b"AudioEvent",
    b":message-type": b"event",
}


class Amazon(Provider):
    """Transcribe, with the keys and the region of the environment. `language` is one of Amazon's codes."""

    name = "Amazon"
    session_seconds = 4 * 3600.0 - 60  # Amazon ends a stream after 4 hours

    def __init__(self, environ: Mapping[str, str], language: str = "en-US") -> None:
        self._keys = (
            environ["AWS_ACCESS_KEY_ID"],
            environ["AWS_SECRET_ACCESS_KEY"],
            environ.get("AWS_SESSION_TOKEN"),  # belongs to temporary keys
        )
        super().__init__(self._keys)
        self._region = environ["AWS_REGION"]
        self._language = language
        endpoint = environ.get("AWS_ENDPOINT_URL_TRANSCRIBE_STREAMING")
        self._endpoint = endpoint or f"https://transcribestreaming.{self._region}.amazonaws.com:8443"

    async def session(self, backlog: Backlog) -> None:
        """Send the chunks as audio events and read the texts, until Amazon ends the connection."""
        query = {"language-code": self._language, "media-encoding": "pcm", "sample-rate": str(backlog.rate)}
        url = presign(self._endpoint, query, *self._keys, self._region, datetime.now(UTC))
        async with open_websocket(url, {}) as websocket:
            await converse(websocket, _audio_events(backlog), partial(_read_event, backlog))


connect = Amazon


async def _audio_events(backlog: Backlog) -> AsyncIterator[bytes]:
    async for chunk in backlog.chunks():
        yield encode_event(mulaw.decode(chunk))  # Transcribe accepts no mu-law
    yield encode_event(b"")  # the end of the audio


def _read_event(backlog: Backlog, message: str | bytes, has_sent_all: bool) -> bool:
    """Read a transcript event or an exception. Returns False: Amazon ends the connection after the last."""
    if isinstance(message, str):
        raise ValueError("a text message")
    headers, payload = decode_event(message)
    answer = json.loads(payload)
    if headers.get(":message-type") != "event":
        raise SessionError(f"{headers.get(':exception-type', 'error')}, {answer['Message']}")
    for result in answer["Transcript"]["Results"]:
        if result["Alternatives"]:
            text = result["Alternatives"][0]["Transcript"]
            backlog.add_text(text, not result["IsPartial"], result["StartTime"], result["EndTime"])
    return False


def presign(
    endpoint: str,
    query: dict[str, str],
    access_key: str,
    secret_key: str,
    session_token: str | None,
    region: str,
    now: datetime,
) -> str:
    """Return the wss:// URL of a session with its signature in the query (Signature Version 4)."""
    host = urlsplit(endpoint).netloc
    date, time = f"{now:%Y%m%d}", f"{now:%Y%m%dT%H%M%SZ}"
    scope = f"{date}/{region}/{_SERVICE}/aws4_request"
    signed = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{access_key}/{scope}",
        "X-Amz-Date": time,
        "X-Amz-Expires": str(_VALID_SECONDS),
        "X-Amz-SignedHeaders": "host",
        **query,
    }
    if session_token is not None:
        signed["X-Amz-Security-Token"] = session_token
    text = urlencode(sorted(signed.items()), quote_via=quote, safe="-_.~")
    request = f"GET\n{_PATH}\n{text}\nhost:{host}\n\nhost\n{hashlib.sha256(b'').hexdigest()}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, _SERVICE, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}".encode(), "sha256").hex()
    return f"wss://{host}{_PATH}?{text}&X-Amz-Signature={signature}"


def encode_event(payload: bytes) -> bytes:
    """Return an audio event as an event-stream frame."""
    headers = b"".join(
        struct.pack(">B", len(name)) + name + struct.pack(">BH", _STRING, len(value)) + value
        for name, value in _AUDIO_EVENT.items()
    )
    lengths = struct.pack(">II", _PRELUDE.size + len(headers) + len(payload) + 4, len(headers))
    frame = lengths + struct.pack(">I", binascii.crc32(lengths)) + headers + payload
    return frame + struct.pack(">I", binascii.crc32(frame))


def decode_event(frame: bytes) -> tuple[dict[str, str], bytes]:
    """Return the headers and the payload of an event-stream frame. Raises `ValueError` for anything else."""
    if len(frame) < _PRELUDE.size + 4:
        raise ValueError("an event-stream frame has at least 16 bytes")
    total, size, checksum = _PRELUDE.unpack_from(frame)
    end = _PRELUDE.size + size
    if total != len(frame) or end + 4 > total or checksum != binascii.crc32(frame[:8]):
        raise ValueError("its lengths or their checksum are wrong")
    if struct.unpack(">I", frame[-4:])[0] != binascii.crc32(frame[:-4]):
        raise ValueError("its checksum is wrong")
    headers, rest = {}, frame[_PRELUDE.size : end]
    while rest:
        name, rest = rest[1 : 1 + rest[0]].decode(), rest[1 + rest[0] :]
        kind, length = struct.unpack_from(">BH", rest)
        if kind != _STRING or 3 + length > len(rest):
            raise ValueError("a header is no string")
        headers[name], rest = rest[3 : 3 + length].decode(), rest[3 + length :]
    return headers, frame[end:-4]
