"""What goes through Redis: the keys, and what an entry holds; docs/redis.md has it for other programs.

A field `m` is MessagePack, `v` the version of the format. What comes for each chunk is an array, and is
encoded from a tuple, one by one as it comes: 10 chunks take a quarter of what they take as objects, or later
when they have left the processor's cache.
"""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol.messages import Number, Start, Track

VERSION = b"1"
CALLS = "ms:calls"
GROUPS = "ms:groups"
TAKEOVERS = "ms:takeovers"
"""A hash: how many calls each group has taken over from workers that had died or stopped."""
KEPT_SECONDS = 3600
"""For so long the entries of a call that has ended are kept, for workers that are behind."""

_encode = msgspec.msgpack.Encoder().encode

# Whoever can write to this Redis can write anything: no infinity, and no day beyond the calendar.
Time = Annotated[float, Meta(ge=0, le=253_402_300_799)]
"""Seconds since 1970."""
Seconds = Annotated[float, Meta(ge=0, le=10_000_000)]


def audio_key(stream_sid: str) -> str:
    """Return the key of a call's entries."""
    return f"ms:{{{stream_sid}}}:audio"


def group_key(announced: "Announced", group: str) -> str:
    """Return the key of what a group knows of a call: its fencing token and its checkpoint."""
    return f"ms:{{{announced.start.stream_sid}}}:{announced.call}:{group}"


def done_key(announced: "Announced") -> str:
    """Return the key of the groups that have finished with a call."""
    return f"ms:{{{announced.start.stream_sid}}}:{announced.call}"


def words_key(server: str) -> str:
    """Return the key of what was heard in a server's calls."""
    return f"ms:words:{server}"


class EntryError(MediaStreamsError):
    """An entry that cannot be read: of another version, or not written by a server."""


class Announced(Struct, rename="camel"):
    """An entry of `ms:calls`: a call that has started."""

    call: str
    """Identifies the call; a peer may use a `streamSid` twice."""
    server: str
    """The server that has the call."""
    started_at: Time
    """When `start` came, in seconds since 1970."""
    idle_timeout: Seconds
    """Seconds without an entry after which the server is lost."""
    start: Start
    """The `start` message."""


class MediaItem(Struct, array_like=True, tag="media"):
    """A chunk."""

    sequence_number: Number
    track: Track
    chunk: Number
    timestamp: Number
    payload: bytes
    position: int | list[tuple[int, bytes]] | None
    """Where its audio begins. Of a chunk that overlaps: the parts for which no audio came before. None: its
    format is not decodable."""


class DtmfItem(Struct, array_like=True, tag="dtmf"):
    """A key that was pressed."""

    sequence_number: Number
    track: str
    digit: str
    is_secret: bool
    """Whether logs and accounts must not show it."""


class MarkItem(Struct, array_like=True, tag="mark"):
    """A mark that Twilio returned."""

    sequence_number: Number
    name: str


class TranscriptItem(Struct, array_like=True, tag="transcript"):
    """A text of the recogniser; the fields are those of `Transcript`."""

    track: Track
    text: str
    final: bool
    start: Seconds
    end: Seconds
    lag: Seconds


class TrackState(Struct, array_like=True):
    """The numbers of a track's timeline."""

    first: int
    end: int
    chunks: int
    bytes: int
    missing: int


class StateItem(Struct, array_like=True, tag="state"):
    """The numbers of a stream after the items before this one."""

    received: int
    lost: int
    late: int
    bad: int
    tracks: dict[Track, TrackState]


class DetailsItem(Struct, array_like=True, tag="details"):
    """What of a stream changes rarely: sent when it has changed, not more often than every few seconds."""

    events: dict[str, int]
    """How many messages of each event came."""
    gaps: dict[Track, list[tuple[int, int]]]
    """Of each track the latest gaps, each from position to position."""
    losses: list[tuple[int, int, int]]
    """The latest losses: from which `sequenceNumber` to which, and the position."""


class PausesItem(Struct, array_like=True, tag="pauses"):
    """When the recording is paused: first in each entry from the first pause on.

    Also where none is left: one in which nothing came is none. So a worker knows it before it gets the audio,
    also one that takes over, or that has missed entries.
    """

    pauses: list[tuple[int, int | None]]
    """The pauses so far, each from position to position; None: it goes on."""


class StopItem(Struct, array_like=True, tag="stop"):
    """No audio follows: a recogniser may finish. Only its words, and the end, come after this."""


class EndItem(Struct, array_like=True, tag="end"):
    """The stream has ended: nothing follows."""

    ending: str
    ended_at: Time
    """In seconds since 1970."""


Item = (
    MediaItem
    | DtmfItem
    | MarkItem
    | TranscriptItem
    | StateItem
    | DetailsItem
    | PausesItem
    | StopItem
    | EndItem
)


class Entry(NamedTuple):
    """An entry of a call."""

    call: str
    n: int
    """Counts a call's entries from 1: one that comes again is a repeat, one that is missing was dropped."""
    items: list[Item]


class Begun(Struct, array_like=True, tag="begun"):
    """A worker transcribes the call."""

    call: str


class Heard(Struct, array_like=True, tag="heard"):
    """A text; the fields are those of `Transcript`."""

    call: str
    track: Track
    text: str
    final: bool
    start: Seconds
    end: Seconds
    lag: Seconds


class Done(Struct, array_like=True, tag="done"):
    """The last text of a call has been sent."""

    call: str
    unheard: Seconds
    """How many seconds of audio were not recognised."""


Words = Begun | Heard | Done

T = TypeVar("T")
Fields = dict[bytes, bytes]

_announced = msgspec.msgpack.Decoder(Announced)
_entry: msgspec.msgpack.Decoder[tuple[str, int, list[Item]]] = msgspec.msgpack.Decoder(
    tuple[str, int, list[Item]]
)
_items: msgspec.msgpack.Decoder[list[Item]] = msgspec.msgpack.Decoder(list[Item])
_words: msgspec.msgpack.Decoder[Words] = msgspec.msgpack.Decoder(Words)


def encode_item(item: Any) -> bytes:
    """Return an item as it is in an entry: of a tuple that begins with its tag, or of one of `Item`.

    Raises `UnicodeEncodeError` or `OverflowError` where it has what cannot be encoded.
    """
    return _encode(item)


def encode_entry(call: str, n: int, items: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a call's entry, of items that are encoded: 65,535 at most.

    Their array is put together by hand, so that nothing is encoded twice.
    Source: https://github.com/msgpack/msgpack/blob/master/spec.md#array-format-family
    """
    head = b"\x93%b%b\xdc%b" % (_encode(call), _encode(n), len(items).to_bytes(2, "big"))
    return {b"v": VERSION, b"m": b"".join((head, *items))}


def encode(message: Announced | Words) -> dict[bytes, bytes]:
    """Return the fields of an entry that announces a call, or of words."""
    return {b"v": VERSION, b"m": _encode(message)}


def decode_announced(fields: Fields) -> Announced:
    """Return the call that an entry announces. Raises `EntryError`."""
    return _decode(_announced, fields)


def decode_entry(fields: Fields) -> Entry:
    """Return an entry of a call. Raises `EntryError`."""
    return Entry(*_decode(_entry, fields))


def decode_items(data: bytes) -> list[Item]:
    """Return items that were encoded as a list. Raises `msgspec.DecodeError` or `UnicodeError`."""
    return _items.decode(data)


def decode_words(fields: Fields) -> Words:
    """Return what a worker has to say of a call. Raises `EntryError`."""
    return _decode(_words, fields)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", fields: Fields) -> T:
    version = fields.get(b"v", b"")
    if version != VERSION:
        raise EntryError(f"version {version[:20]!r}, this program reads {VERSION!r}")
    try:
        return decoder.decode(fields.get(b"m", b""))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EntryError(str(error)) from None
