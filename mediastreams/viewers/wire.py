"""What servers tell each other through Redis, so that the page of each shows the calls of all.

A server whose page somebody has open asks on the channel `ms:page:ask`: which calls its pages show. Each
server answers on `ms:page:tell` with what its own page would be told. All of it is MessagePack, and is
decoded with types: others may write to Redis, too.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from mediastreams.exceptions import MediaStreamsError
from mediastreams.viewers.messages import (
    MAX_SHOWN,
    Audio,
    Changed,
    Detail,
    Dtmf,
    Id,
    Levels,
    Line,
    Mark,
    Removed,
    Row,
    Snapshot,
    Transcript,
    Wave,
    Words,
)

ASK = "ms:page:ask"
TELL = "ms:page:tell"

_VERSION: Literal[1] = 1
_encode = msgspec.msgpack.Encoder().encode

T = TypeVar("T")
_MAX_IDS = 1000 * MAX_SHOWN  # of the pages of a server, at most 1,000 (PAGE_VIEWERS)
Ids = Annotated[frozenset[Id], Meta(max_length=_MAX_IDS)]
ServerName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,100}\Z")]


class WireError(MediaStreamsError):
    """A message that cannot be read: of another version, or of another program."""


class Interest(Struct, array_like=True, frozen=True):
    """The calls of which pages want to be told more than their rows, by id."""

    shown: Ids = frozenset()
    """Their levels and texts."""
    selected: Ids = frozenset()
    """All that happens."""
    listened: Ids = frozenset()
    """Their audio."""


class Ask(Struct, array_like=True):
    """What a server's pages want of all servers; it is sent every few seconds while one is open."""

    version: Literal[1]
    server: ServerName
    interest: Interest
    snapshots: Ids | None
    """The servers that are to send all their rows; None: each."""
    details: Ids
    """The calls of which a `Detail` is to be sent."""
    is_last: bool
    """Whether no page is open any more."""


class Told(Struct, array_like=True):
    """What a server tells. One is sent at least every few seconds while somebody asks."""

    version: Literal[1]
    server: ServerName
    number: int
    """Counts what a server sends: where one is missing, so are its messages."""
    messages: Raw


class Counts(Struct):
    """What has changed of a call."""

    id: str
    seconds: float | UnsetType = UNSET
    lost: int | UnsetType = UNSET
    late: int | UnsetType = UNSET
    bad: int | UnsetType = UNSET
    missing: float | UnsetType = UNSET
    words: Words | UnsetType | None = UNSET


class Rows(Struct, tag_field="event", tag="rows"):
    """`Changed`, with new calls and changes apart."""

    rows: Sequence[Row]
    counts: Sequence[Counts]


Message = Snapshot | Rows | Removed | Levels | Transcript | Line | Dtmf | Mark | Wave | Audio | Detail

_ask = msgspec.msgpack.Decoder(Ask)
_told = msgspec.msgpack.Decoder(Told)
_messages: msgspec.msgpack.Decoder[list[Message]] = msgspec.msgpack.Decoder(list[Message])


def encode_ask(
    server: str, interest: Interest, snapshots: Iterable[str] | None, details: Iterable[str], is_last: bool
) -> bytes:
    """Return the message for `ms:page:ask`."""
    wanted = None if snapshots is None else frozenset(snapshots)
    return _encode(Ask(_VERSION, server, interest, wanted, frozenset(details), is_last))


def decode_ask(data: bytes) -> Ask:
    """Return what a server asks. Raises `WireError`."""
    return _decode(_ask, data)


def encode_message(message: Changed | Message) -> bytes:
    """Return a message for `encode_told`."""
    if isinstance(message, Changed):
        rows = [call for call in message.calls if isinstance(call, Row)]
        counts = [call for call in message.calls if not isinstance(call, Row)]
        return _encode({"event": "rows", "rows": rows, "counts": counts})
    return _encode(message)


def encode_told(server: str, number: int, messages: Iterable[bytes]) -> bytes:
    """Return the message for `ms:page:tell`."""
    return _encode((_VERSION, server, number, [Raw(message) for message in messages]))


def decode_told(data: bytes) -> Told:
    """Return what a server tells; its messages are for `decode_messages`. Raises `WireError`."""
    return _decode(_told, data)


def decode_messages(told: Told) -> list[Message]:
    """Return the messages. Raises `WireError`."""
    return _decode(_messages, told.messages)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", data: bytes | Raw) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise WireError(str(error)) from None
