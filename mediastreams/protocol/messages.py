"""Twilio's Media Streams messages as types: `parse` what arrives, `to_json` what is sent.

Every message is one JSON object in one WebSocket text message; `event` says which it is. The classes carry
Twilio's own words, in snake case: `sequenceNumber` is `sequence_number`. Numbers that Twilio sends as strings
(`sequenceNumber`, `chunk`, `timestamp`) are ints here; the base64 `payload` is bytes, one mu-law sample at
8 kHz each unless `mediaFormat` says otherwise. A printed message is its JSON with the payload elided: what
was said on a phone call does not belong in a log, nor do keys that are secret.

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages

msgspec decodes JSON, types and base64 in one call: 1.2 us a message; json and b64decode take 4.7, unchecked.
"""

import re
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct, field

from mediastreams.exceptions import MediaStreamsError
from mediastreams.text import elide, printable

Track = Literal["inbound", "outbound"]

# Twilio counts from 0 or 1; 64 bits keep what a peer invents within what a file format can hold.
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]

STREAM_SID = re.compile("MZ[0-9a-fA-F]{32}")
"""A `streamSid` of Twilio's: where it names a file or a key, a peer's own is not taken."""

_encode = msgspec.json.Encoder().encode
_NUMBERS_AS_STRINGS = ("sequenceNumber", "chunk", "timestamp")
_MAX_EVENT = 64
_SECRET = "(not shown)"

MULAW = "audio/x-mulaw"
SAMPLE_RATES = range(1_000, 48_001)  # that are taken for one


class MessageError(MediaStreamsError):
    """A text that is not one of Twilio's messages."""

    path: str
    """The JSON path of the fault, such as `$.media.payload`; `$` is the whole message."""
    reason: str
    """What is wrong there."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.reason}")


class Message(Struct, gc=False, rename="camel", tag_field="event"):
    """What all messages share: their JSON, whole for the wire and elided for the log.

    `gc=False`: a message never refers to another, so the garbage collector need not look at them.
    """

    def _fields(self) -> dict[str, object]:
        fields: dict[str, object] = msgspec.to_builtins(self)
        for level in (fields, fields.get("media")):
            if isinstance(level, dict):
                level.update({k: str(level[k]) for k in _NUMBERS_AS_STRINGS if k in level})
        return fields

    def to_json(self) -> str:
        """Return the message as the JSON text that goes over the WebSocket, as Twilio writes it."""
        return msgspec.json.encode(self._fields()).decode()

    def __str__(self) -> str:
        fields = self._fields()
        media, dtmf = fields.get("media"), fields.get("dtmf")
        if isinstance(media, dict):
            media["payload"] = elide(self.media.payload)  # type: ignore[attr-defined]
        if isinstance(dtmf, dict):
            dtmf["digit"] = self.dtmf.shown  # type: ignore[attr-defined]
        return printable(msgspec.json.encode(fields).decode())

    __repr__ = __str__


class Metadata(Struct, gc=False, rename="camel"):
    """The object inside a message that carries its content, under the event's own name."""


# Received from Twilio


class Connected(Message, tag="connected"):
    """The first message: which protocol follows. It alone has no `sequenceNumber` and no `streamSid`."""

    event: ClassVar[Literal["connected"]] = "connected"
    protocol: str
    version: str


class MediaFormat(Metadata):
    """The format of every payload; Twilio documents these values as the only ones.

    Others may come: since October 2026 a `<Stream>` has `audioFormat` and `sampleRate`.
    """

    encoding: str = MULAW
    sample_rate: int = 8000
    """Samples a second."""
    channels: int = 1

    @property
    def is_decodable(self) -> bool:
        """Whether each byte of a payload is one sample: mu-law, one channel, at 1,000 to 48,000 Hz.

        Nothing else is decoded. How two channels would share a payload is documented nowhere.
        """
        return self.encoding == MULAW and self.channels == 1 and self.sample_rate in SAMPLE_RATES

    def __str__(self) -> str:
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        return printable(f"{self.encoding} at {self.sample_rate} Hz, {channels}")


class StartMetadata(Metadata):
    """What the stream is: whose call, which tracks, and the `<Parameter>`s of its TwiML."""

    account_sid: str
    stream_sid: str
    call_sid: str
    tracks: tuple[Track, ...] = ("inbound",)
    media_format: MediaFormat = field(default_factory=MediaFormat)
    custom_parameters: dict[str, str] = field(default_factory=dict)


class Start(Message, tag="start"):
    """Sent once, directly after `connected`."""

    event: ClassVar[Literal["start"]] = "start"
    sequence_number: Number
    start: StartMetadata
    stream_sid: str


class MediaMetadata(Metadata, kw_only=True):
    """One chunk of one track's audio, 20 ms (160 bytes) as a rule.

    `timestamp` is in milliseconds from the start of the stream; the first is seldom 0. Whether `chunk` counts
    per track or for all is not documented, so nothing here relies on it.
    """

    # The first captures of 2019 have no track; what they carry is the caller's voice.
    track: Track = "inbound"
    chunk: Number
    timestamp: Number
    payload: bytes


class Media(Message, tag="media"):
    """Audio."""

    event: ClassVar[Literal["media"]] = "media"
    sequence_number: Number
    media: MediaMetadata
    stream_sid: str


class DtmfMetadata(Metadata, kw_only=True):
    """The key that was pressed; `track` is `inbound_track`, in another vocabulary than a media track."""

    track: str = "inbound_track"
    digit: str

    @property
    def shown(self) -> str:
        """The key as log and recording show it: `(not shown)` where it is secret."""
        return self.digit

    @property
    def is_secret(self) -> bool:
        """Whether logs and accounts must not show the key."""
        return False

    def as_secret(self) -> "DtmfMetadata":
        """Return the same key, not shown."""
        return _SecretDtmfMetadata(track=self.track, digit=self.digit)


class _SecretDtmfMetadata(DtmfMetadata):
    """A key that may be part of a PIN. `digit` and `to_json` have it, what is printed does not."""

    @property
    def shown(self) -> str:
        return _SECRET

    @property
    def is_secret(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"DtmfMetadata(track={self.track!r}, digit={_SECRET!r})"


class Dtmf(Message, tag="dtmf"):
    """A key was pressed. Only on bidirectional streams (`<Connect><Stream>`)."""

    event: ClassVar[Literal["dtmf"]] = "dtmf"
    stream_sid: str
    sequence_number: Number
    dtmf: DtmfMetadata


class MarkMetadata(Metadata):
    """The name that the server gave its mark."""

    name: str


class Mark(Message, tag="mark"):
    """Audio up to the server's mark was played, or cleared. Only on bidirectional streams."""

    event: ClassVar[Literal["mark"]] = "mark"
    sequence_number: Number
    stream_sid: str
    mark: MarkMetadata


class StopMetadata(Metadata):
    """Whose call it was."""

    account_sid: str
    call_sid: str


class Stop(Message, tag="stop"):
    """The stream was stopped or the call has ended. A dropped connection sends none."""

    event: ClassVar[Literal["stop"]] = "stop"
    sequence_number: Number
    stop: StopMetadata
    stream_sid: str


class Unknown(Struct):
    """A message of an event that is none of the above, `name`: Twilio may add some."""

    event: ClassVar[Literal["unknown"]] = "unknown"
    name: str

    def __str__(self) -> str:
        return printable(self.name if len(self.name) <= _MAX_EVENT else f"{self.name[:_MAX_EVENT]}...")


Received = Connected | Start | Media | Dtmf | Mark | Stop | Unknown


# Sent to Twilio, on bidirectional streams only. Twilio refuses extra fields (warning 31951) and binary
# WebSocket messages (31950).


class SendMediaMetadata(Metadata, forbid_unknown_fields=True):
    """Mu-law at 8 kHz of any length, without a file header."""

    payload: bytes


class SentMessage(Message):
    """What the messages to Twilio share: they have no numbers to write as strings."""

    def to_json(self) -> str:
        """Return the message as the JSON text that goes over the WebSocket."""
        return _encode(self).decode()


class SendMedia(SentMessage, tag="media", forbid_unknown_fields=True):
    """Audio to play, after what Twilio has buffered already (at most 10 minutes)."""

    stream_sid: str
    media: SendMediaMetadata


class SendMarkMetadata(Metadata, forbid_unknown_fields=True):
    """Any name; Twilio returns it in its own `mark`."""

    name: str


class SendMark(SentMessage, tag="mark", forbid_unknown_fields=True):
    """Asks for a `mark` when the audio sent before it was played or cleared."""

    stream_sid: str
    mark: SendMarkMetadata


class SendClear(SentMessage, tag="clear", forbid_unknown_fields=True):
    """Empties the buffer; Twilio returns the marks that wait in it."""

    stream_sid: str


Sent = SendMedia | SendMark | SendClear


class _Event(Struct):
    event: str


# Not strict: a number may be a JSON string, as Twilio has it, or a JSON number.
_received: msgspec.json.Decoder[Received] = msgspec.json.Decoder(
    Connected | Start | Media | Dtmf | Mark | Stop, strict=False
)
_sent: msgspec.json.Decoder[Sent] = msgspec.json.Decoder(Sent)
_event = msgspec.json.Decoder(_Event)


def parse(data: str | bytes) -> Received:
    """Return the message that `data`, JSON as text or UTF-8 bytes, holds.

    Fields that Twilio has not documented are ignored; an event that it has not documented is `Unknown`.
    Raises `MessageError`, and nothing else, where `data` is no such message.
    """
    try:
        return _received.decode(data)
    except _DECODER_RAISES as error:
        fault = _fault(error)
    if fault.path != "$.event":
        raise fault
    try:
        return Unknown(_event.decode(data).event)
    except _DECODER_RAISES as error:
        raise _fault(error) from None


def parse_sent(data: str | bytes) -> Sent:
    """Return the message that a server sent, by Twilio's rules: exactly the documented fields.

    Raises `MessageError` where Twilio would warn with 31951.
    """
    try:
        return _sent.decode(data)
    except _DECODER_RAISES as error:
        raise _fault(error) from None


_DECODER_RAISES = (msgspec.DecodeError, UnicodeError, RecursionError)
# msgspec's sentence, "Expected `int`, got `str` - at `$.sequenceNumber`": the path is only in there, at the
# end. A peer's own words may stand before it, but not in it.
_SENTENCE = re.compile(r"(?P<reason>.*) - at `(?:key in )?(?P<path>\$[\w.\[\]]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>\w+)`")


def _fault(error: Exception) -> MessageError:
    if isinstance(error, UnicodeError):
        return MessageError("$", "not UTF-8")
    if isinstance(error, RecursionError):
        return MessageError("$", "nested too deeply")
    sentence = str(error)
    parts = _SENTENCE.fullmatch(sentence)
    path, reason = (parts["path"], parts["reason"]) if parts else ("$", sentence)
    if missing := _MISSING.fullmatch(reason):
        return MessageError(f"{path}.{missing['field']}", "missing")
    return MessageError(path, reason)
