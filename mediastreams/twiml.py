"""The `<Stream>` of a TwiML document, read as Twilio reads it.

Source: https://www.twilio.com/docs/voice/twiml/stream; the numbers are Twilio's error codes,
https://www.twilio.com/docs/api/errors.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mediastreams.messages import Track

# What `track` asks for, and what the messages then call it.
TRACKS: dict[str, tuple[Track, ...]] = {
    "inbound_track": ("inbound",),
    "outbound_track": ("outbound",),
    "both_tracks": ("inbound", "outbound"),
}
_ATTRIBUTES = {"url", "name", "track", "statusCallback", "statusCallbackMethod", "connectorName"}
_MOST_OF_A_PARAMETER = 499


class TwimlError(Exception):
    """A document that starts no stream: the sentence says why.

    `code` is the one that Twilio reports, None where it documents none.
    """

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return self.reason if self.code is None else f"{self.code} {self.reason}"


@dataclass(frozen=True)
class StreamNoun:
    """One `<Stream>`: `url` as it is written; `bidirectional` inside `<Connect>`, not inside `<Start>`."""

    url: str
    track: str = "inbound_track"
    parameters: dict[str, str] = field(default_factory=dict)
    bidirectional: bool = False


def read(path: str) -> StreamNoun:
    """Return the first `<Stream>` that the document at `path` starts.

    Raises `TwimlError` where there is none, or where Twilio would refuse it.
    """
    try:
        response = ET.parse(path).getroot()
    except OSError as error:
        raise TwimlError(None, f"{path} cannot be read: {error.strerror}") from None
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two: an encoding it cannot read
        raise TwimlError(12100, f"{path} is not well-formed XML: {error}") from None
    if response.tag != "Response":
        raise TwimlError(None, f"{path} is not TwiML: its root must be <Response>, not <{response.tag}>")
    for verb in ("Start", "Connect"):
        stream = response.find(f"{verb}/Stream")
        if stream is not None:
            return _stream(stream, bidirectional=verb == "Connect")
    raise TwimlError(None, f"{path} has no <Start><Stream> and no <Connect><Stream>")


def _stream(element: ET.Element, *, bidirectional: bool) -> StreamNoun:
    if unknown := set(element.attrib) - _ATTRIBUTES:
        raise TwimlError(12200, f"<Stream> has no attribute {', '.join(sorted(unknown))}")
    track = element.get("track", "inbound_track")
    if track not in TRACKS or (bidirectional and track != "inbound_track"):
        allowed = "inbound_track" if bidirectional else ", ".join(TRACKS)
        raise TwimlError(31941, f'invalid track "{track}": it must be {allowed}')
    parameters = {}
    for parameter in element.iter("Parameter"):
        name, value = parameter.get("name", ""), parameter.get("value", "")
        check_parameter(name, value)
        parameters[name] = value
    return StreamNoun(element.get("url", ""), track, parameters, bidirectional)


def check_parameter(name: str, value: str) -> None:
    """Raise `TwimlError` where name and value of a `<Parameter>` have more than 499 characters together."""
    if len(name) + len(value) > _MOST_OF_A_PARAMETER:
        raise TwimlError(
            None, f'parameter "{name}" is too long: name and value, {_MOST_OF_A_PARAMETER} at most'
        )


def check_url(url: str) -> None:
    """Raise `TwimlError` where Twilio would not dial `url`: it must be an absolute wss address."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("idna")  # as the name will be looked up
    except ValueError as error:
        raise TwimlError(31923, f'malformed URL "{url}": {error}') from None
    if parts.scheme != "wss":
        raise TwimlError(31922, f'the URL must begin with wss://, not "{url}"')
    if not parts.hostname or "@" in parts.netloc:
        raise TwimlError(31923, f'malformed URL "{url}": no host, or more than that')
