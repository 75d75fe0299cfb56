"""The messages of `/page/live`, in both directions, and a call's row.

Each is a JSON object; `event` says which it is. `id` is that of a call in this process: a peer chooses its
SIDs, and may choose the same twice. What a peer chose is cut and legible (`text.legible`).

To the page: `Hello`, then `Snapshot`, then what happens. A call's audio is binary: see `audio_frame`.
"""

import struct
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from mediastreams.protocol.messages import Track

MAX_SHOWN = 100  # calls that a page may show at once
Id = Annotated[str, Meta(max_length=200)]
"""The id of a call, as a page or another server may send it."""
PEAKS_PER_SECOND = 50

_HEADER = struct.Struct("<BBHI")
_TRACKS: dict[Track, int] = {"inbound": 0, "outbound": 1}

encode = msgspec.json.Encoder().encode


class _Message(Struct, rename="camel", tag_field="event"):
    """A message to the page."""


class Words(Struct, gc=False):
    """What was said last."""

    speaker: str
    text: str


class Row(Struct, rename="camel"):
    """A call as the page lists it."""

    id: str
    stream_sid: str
    call_sid: str
    parameters: dict[str, str]
    tracks: list[Track]
    started_at: float
    """Seconds since 1970, as all times here that are no times of the call."""
    format: str
    """Encoding and sample rate."""
    decodable: bool
    """Whether there are levels, waves and audio of it."""
    two_way: bool
    seconds: float = 0.0
    lost: int = 0
    late: int = 0
    bad: int = 0
    missing: float = 0.0
    """Seconds of audio that did not come, of all tracks."""
    words: Words | None = None
    ending: str = ""
    ended_at: float | None = None
    rate: int = 0
    """Samples a second of what one can listen to."""


class Said(Struct, gc=False):
    """A text of the recogniser; its times are seconds from the stream's first audio."""

    track: Track
    speaker: str
    text: str
    final: bool
    start: float
    end: float


class Logged(Struct, gc=False):
    """A line of the log, with its traceback."""

    at: float
    level: str
    text: str


class Pressed(Struct, gc=False):
    """A key; `at` is seconds of the call."""

    digit: str
    at: float


class Returned(Struct, gc=False):
    """A mark that came back; `at` is seconds of the call."""

    name: str
    at: float


# To the page


class Hello(_Message, tag="hello", omit_defaults=True):
    """The first message; it is sent again when something of it has changed."""

    workers: int
    """How many processes serve whose calls the page may not see: it sees those of one."""
    recordings: bool
    """Whether calls are recorded."""
    recogniser: bool
    """Whether calls are transcribed."""
    caller: str = ""
    """The command of the simulated caller, for a shell in the server's folder; the page adds the address."""
    alone: bool = False
    """Whether the page sees the calls of one server only, because Redis is away."""


class Snapshot(_Message, tag="calls"):
    """All calls, newest first."""

    live: list[Row]
    ended: list[Row]


class Changed(_Message, tag="changed"):
    """New calls, and what has changed of others: each with its `id`."""

    calls: Sequence[Row | dict[str, Any]]


class Removed(_Message, tag="removed"):
    """Ended calls that are forgotten."""

    ids: list[str]


class Transcript(_Message, Said, tag="transcript"):
    """A text, of a call that the page shows or has selected."""

    id: str


class Levels(_Message, tag="levels"):
    """The levels of the calls that the page shows, in dBFS by track; None: silence, or nothing came."""

    levels: dict[str, dict[Track, float | None]]


class Detail(_Message, tag="call"):
    """The answer to `Select`: what there is of the call so far."""

    id: str
    transcripts: list[Said]
    lines: list[Logged]
    digits: list[Pressed]
    marks: list[Returned]


class Line(_Message, Logged, tag="line"):
    """A line of the log, of the selected call."""

    id: str


class Dtmf(_Message, Pressed, tag="dtmf"):
    """A key, of the selected call."""

    id: str


class Mark(_Message, Returned, tag="mark"):
    """A mark, of the selected call."""

    id: str


class Wave(_Message, tag="wave"):
    """Peaks of the selected call: percent of full scale, linear, each of 20 ms. A gap is not sent."""

    id: str
    track: Track
    start: int
    """The index of the first peak, counted from the stream's first audio."""
    peaks: list[int]


class Listening(_Message, tag="listening"):
    """The answer to `Listen`."""

    id: str | None
    """None: to nobody, because the page asked so, or the call has ended or is not decodable."""
    number: int
    """That of the audio frames from now on."""
    rate: int
    """Samples a second."""


class Alive(_Message, tag="alive"):
    """Sent with each Ping, which a page does not see: one that gets nothing takes the server for gone."""


class Draining(_Message, tag="draining"):
    """The server ends; a Close follows."""


class Audio(_Message, tag="audio"):
    """Audio of a call, mu-law, for those who listen."""

    id: str
    track: Track
    position: int
    """That of the first sample, from the start of the stream."""
    payload: bytes


def audio_frame(audio: Audio, number: int) -> bytes:
    """Return the binary message: track, 0, `number` of the `Listening`, position modulo 2**32; mu-law."""
    return _HEADER.pack(_TRACKS[audio.track], 0, number, audio.position % 2**32) + audio.payload


# From the page


class _Request(Struct, tag_field="event", forbid_unknown_fields=True):
    """A message from the page."""


class Show(_Request, tag="show"):
    """Asks for levels and texts of these calls, and of no others."""

    ids: Annotated[list[Id], Meta(max_length=MAX_SHOWN)]


class Select(_Request, tag="select"):
    """Asks for all of this call; None: of none."""

    id: Id | None


class Listen(_Request, tag="listen"):
    """Asks for the audio of this call; None: of none."""

    id: Id | None


Request = Show | Select | Listen

decode = msgspec.json.Decoder[Request](Request).decode
