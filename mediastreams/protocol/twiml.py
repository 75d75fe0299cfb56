"""Reads a TwiML document as Twilio does, and fills in what this server serves.

Source: https://www.twilio.com/docs/voice/twiml/stream; the numbers are Twilio's error codes,
https://www.twilio.com/docs/api/errors.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol.messages import Track

# What `track` asks for, and what the messages then call it.
TRACKS: dict[str, tuple[Track, ...]] = {
    "inbound_track": ("inbound",),
    "outbound_track": ("outbound",),
    "both_tracks": ("inbound", "outbound"),
}
# Not documented: twilio-python has them since 9.12.0, of October 2026, without their values.
NEW = ("audioFormat", "sampleRate")
_ATTRIBUTES = {"url", "name", "track", "statusCallback", "statusCallbackMethod", "connectorName", *NEW}
DOCUMENTS = "/twiml/"
"""The path beneath which the server has its documents."""
RESUMES = "resumes"
"""The `<Parameter>` that names the stream before, where one broke."""
_MAX_PARAMETER = 499  # characters
_TAG = re.compile(r"\{\{\s*(\w+)\s*\}\}")
# What XML cannot have, not even escaped (https://www.w3.org/TR/xml/#charsets).
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class TwimlError(MediaStreamsError):
    """A document that starts no stream; the sentence says why."""

    code: int | None
    """The code that Twilio reports, None where it documents none."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return self.reason if self.code is None else f"{self.code} {self.reason}"


@dataclass(frozen=True)
class StreamNoun:
    """One `<Stream>`, with its attributes as they are written."""

    url: str
    track: str = "inbound_track"
    parameters: dict[str, str] = field(default_factory=dict)
    bidirectional: bool = False
    """Whether it is in `<Connect>`, not in `<Start>`."""
    name: str = ""
    """Its name; "" where Twilio uses the stream's SID."""
    status_callback: str = ""
    """Where Twilio reports what happens to the stream; "" where it does not report it."""
    status_callback_method: str = "POST"
    audio_format: str = ""
    sample_rate: str = ""


def load(path: str) -> bytes:
    """Return the document at `path`. Raises `TwimlError` where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TwimlError(None, f"{path} cannot be read: {error.strerror}") from None


def read(document: bytes, where: str) -> StreamNoun:
    """Return the first `<Stream>` of a document; `where` is the document's name in an error.

    Raises `TwimlError` where there is none, or where Twilio would refuse it.
    """
    response = _response(document, where)
    for verb in response:
        if verb.tag in ("Start", "Connect") and (stream := verb.find("Stream")) is not None:
            return _stream(stream, bidirectional=verb.tag == "Connect")
    raise TwimlError(None, f"{where} has no <Start><Stream> and no <Connect><Stream>")


def filled(document: bytes, where: str, values: Mapping[str, str]) -> bytes:
    """Return a document with a request's values in place of `{{From}}` and the like, as in a TwiML Bin.

    A field that the request does not have becomes empty. A document without `{{` is returned as it is; of
    another the comments are left out, and `TwimlError` is raised where it is not TwiML.
    Source: https://www.twilio.com/docs/serverless/twiml-bins
    """
    if b"{{" not in document:
        return document

    def fill(text: str) -> str:
        return _TAG.sub(lambda tag: _NO_XML.sub("", values.get(tag[1], "")), text)

    response = _response(document, where)
    for element in response.iter():
        element.text, element.tail = (text and fill(text) for text in (element.text, element.tail))
        for name, value in element.items():
            element.set(name, fill(value))
    return _written(response)


def address(document: bytes, where: str, base: str, number: str | None = None) -> bytes:
    """Return a document whose streams come to the server at `base`, and which dials `number`.

    `base` is `wss://host`, or `ws://host` for this machine, and may have a path; behind it comes the path of
    the `url` of each `<Stream>`, and with their queries those of its `statusCallback` and of a `<Redirect>`
    to a document of the server. `number` is in E.164; None keeps the document's.
    Comments are left out. Raises `TwimlError` where the document is not TwiML.
    """
    response = _response(document, where)
    web = f"http{base.removeprefix('ws')}"
    for stream in response.iter("Stream"):
        if url := stream.get("url"):
            stream.set("url", f"{base}/{_path(url).lstrip('/')}")
        if url := stream.get("statusCallback"):
            stream.set("statusCallback", f"{web}/{_path(url).lstrip('/')}{_query(url)}")
    for redirect in response.iter("Redirect"):
        url = (redirect.text or "").strip()
        if (path := _path(url)).startswith(DOCUMENTS):
            redirect.text = f"{web}{path}{_query(url)}"
    for dial in response.iter("Dial"):
        for element in (dial, *dial.iter("Number")):
            if number and (element.text or "").strip():
                element.text = number
    return _written(response)


def dialled(document: bytes, where: str) -> list[str]:
    """Return the numbers that a document dials, as they are written.

    Raises `TwimlError` where the document is not TwiML.
    """
    texts = [
        (element.text or "").strip()
        for dial in _response(document, where).iter("Dial")
        for element in (dial, *dial.iter("Number"))
    ]
    return [text for text in texts if text]


def resumes(document: bytes, where: str) -> bool:
    """Return whether a document lets its call ask how to go on: a `<Redirect>` to `/twiml/` with `resume=`.

    Raises `TwimlError` where the document is not TwiML.
    """
    return _resuming(_response(document, where)) is not None


def resumed(document: bytes, where: str, attempt: int, pause: int, stream_sid: str | None) -> bytes:
    """Return the document that resumes a stream that broke; its `<Redirect>` asks for the attempt after it.

    `pause`: seconds before the stream. Each `<Stream>` of `<Connect>` gets a `<Parameter>` with `stream_sid`,
    that of the stream that broke; None: it is not known, and there is no `<Parameter>`.
    """
    response = _response(document, where)
    redirect = _resuming(response)
    assert redirect is not None
    redirect.text = re.sub(r"\bresume=\d+", f"resume={attempt + 1}", redirect.text or "")
    for stream in response.iterfind("Connect/Stream"):
        if stream_sid is not None:
            ET.SubElement(stream, "Parameter", name=RESUMES, value=stream_sid)
    if pause:
        response.insert(0, ET.Element("Pause", length=str(pause)))
    return _written(response)


def rest(document: bytes, where: str) -> bytes:
    """Return what a document has behind its `<Redirect>`: how the call goes on when the stream is over."""
    response = _response(document, where)
    redirect = _resuming(response)
    assert redirect is not None
    for element in list(response)[: list(response).index(redirect) + 1]:
        response.remove(element)
    return _written(response)


def _written(response: ET.Element) -> bytes:
    written: bytes = ET.tostring(response, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _resuming(response: ET.Element) -> ET.Element | None:
    """Return the `<Redirect>` that asks how to go on."""
    for redirect in response.iterfind("Redirect"):
        if re.search(rf"{DOCUMENTS}[^?]*\?(.*&)?resume=\d+", redirect.text or ""):
            return redirect
    return None


def _response(document: bytes, where: str) -> ET.Element:
    try:
        response = ET.fromstring(document)
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two: an unknown encoding
        raise TwimlError(12100, f"{where} is not well-formed XML: {error}") from None
    if response.tag != "Response":
        raise TwimlError(None, f"{where} is not TwiML: its root must be <Response>, not <{response.tag}>")
    return response


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError as error:
        raise TwimlError(31923, f'malformed URL "{url}": {error}') from None


def _query(url: str) -> str:
    query = urlsplit(url).query
    return f"?{query}" if query else ""


def _stream(element: ET.Element, *, bidirectional: bool) -> StreamNoun:
    if unknown := set(element.attrib) - _ATTRIBUTES:
        raise TwimlError(12200, f"<Stream> has no attribute {', '.join(sorted(unknown))}")
    track = element.get("track", "inbound_track")
    if track not in TRACKS or (bidirectional and track != "inbound_track"):
        allowed = "inbound_track" if bidirectional else ", ".join(TRACKS)
        raise TwimlError(31941, f'invalid track "{track}": it must be {allowed}')
    parameters = {each.get("name", ""): each.get("value", "") for each in element.iter("Parameter")}
    for name, value in parameters.items():
        check_parameter(name, value)
    method = element.get("statusCallbackMethod", "POST")
    if method not in ("GET", "POST"):
        raise TwimlError(12200, f'invalid statusCallbackMethod "{method}": it must be GET or POST')
    return StreamNoun(
        url=element.get("url", ""),
        track=track,
        parameters=parameters,
        bidirectional=bidirectional,
        name=element.get("name", ""),
        status_callback=element.get("statusCallback", ""),
        status_callback_method=method,
        audio_format=element.get("audioFormat", ""),
        sample_rate=element.get("sampleRate", ""),
    )


def check_parameter(name: str, value: str) -> None:
    """Raise `TwimlError` where name and value of a `<Parameter>` have more than 499 characters together."""
    if len(name) + len(value) > _MAX_PARAMETER:
        raise TwimlError(None, f'parameter "{name}" is too long: name and value, {_MAX_PARAMETER} at most')


def check_url(url: str) -> None:
    """Raise `TwimlError` where Twilio would not dial `url`: it must be an absolute wss address."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no port
        (parts.hostname or "").encode("idna")  # as the name will be looked up
        url.encode()  # half of a surrogate pair is no character
    except ValueError as error:
        raise TwimlError(31923, f'malformed URL "{url}": {error}') from None
    if parts.scheme != "wss":
        raise TwimlError(31922, f'the URL must begin with wss://, not "{url}"')
    if not parts.hostname or "@" in parts.netloc:
        raise TwimlError(31923, f'malformed URL "{url}": no host, or more than that')
