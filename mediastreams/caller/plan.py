"""What to call and what is said: the command line, and the TwiML that it names, as one `Plan`."""

import math
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mediastreams import config
from mediastreams.audio import mulaw
from mediastreams.audio.timeline import RATE
from mediastreams.caller import http, sound_file
from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol import twiml
from mediastreams.protocol.messages import Track
from mediastreams.text import printable

CHUNK_MS = 20
CHUNK_BYTES = 160  # 20 ms of mu-law at 8 kHz
FROM, TO = "+15550100001", "+15550100002"  # numbers of fiction
LOCAL = ("localhost", "127.0.0.1", "::1")
MAX_SECONDS = 4 * 3600  # Twilio ends a call after 4 hours


@dataclass(frozen=True)
class Options:
    """The command line as it was given; None and () are what was not."""

    url: str | None
    twiml: str | None
    audio: str
    seconds: float | None
    track: str | None
    parameter: tuple[str, ...]
    digits: str
    calls: int
    fast: bool
    save_heard: str | None
    auth_token: str | None
    drop: bool


@dataclass(frozen=True)
class Callback:
    """The `statusCallback` of a stream: its `url`, the one that is signed, and its method."""

    url: str
    signed_url: str
    method: str


@dataclass(frozen=True)
class Plan:
    """What to call, and what is said there.

    `tracks` has the mu-law of each track, all of one length, in whole chunks. `bidirectional` is what
    `<Connect>` makes a stream. `fast` sends without waiting; `drop` hangs up without `stop` or Close.
    `auth_token` signs the requests, None does not: the handshake for `signed_url`. `account_sid` is whose
    call it is. `name` is the stream's, "" for its SID. `status_callback` is told how it goes, None where
    nobody is. `save_heard` is the WAV file of what the server has sent, None for none.
    """

    url: str
    signed_url: str
    tracks: dict[Track, bytes]
    parameters: dict[str, str]
    bidirectional: bool
    account_sid: str
    name: str = ""
    status_callback: Callback | None = None
    digits: str = ""
    fast: bool = False
    drop: bool = False
    save_heard: Path | None = None
    auth_token: str | None = None

    @property
    def chunks(self) -> int:
        """The number of chunks of each track."""
        return len(next(iter(self.tracks.values()))) // CHUNK_BYTES


class OptionError(MediaStreamsError):
    """A command line that cannot be used; the sentence says why."""


async def make_plan(options: Options, call_sids: list[str], say: Callable[[str], None]) -> Plan:
    """Return what the command line asks for; TwiML at a URL is asked for with the SID of the first call.

    `say` prints a line. Raises `OptionError`, `AudioError`, `TwimlError` or `CallError`.
    """
    if not call_sids:
        raise OptionError(f"--calls {options.calls}: it must be 1 or more")
    settings = config.load()
    auth_token = options.auth_token or settings.twilio_auth_token
    account_sid = settings.twilio_account_sid or "AC" + secrets.token_hex(16)
    noun = None
    if options.twiml:
        if options.twiml.lower().startswith(("http://", "https://")):
            form = _form(account_sid, call_sids[0])
            document = await _ask_for_twiml(options.twiml, form, auth_token, settings, say)
        else:
            document = twiml.load(options.twiml)
        noun = twiml.read(document, options.twiml)
    parameters = dict(noun.parameters) if noun else {}
    for parameter in options.parameter:
        name, equals, value = parameter.partition("=")
        if not name or not equals or not parameter.isprintable():
            raise OptionError(f"--parameter {parameter}: it must be NAME=VALUE, in text")
        twiml.check_parameter(name, value)
        parameters[name] = value
    track = options.track or (noun.track if noun else "inbound_track")
    # Only <Start> streams another track than inbound_track.
    bidirectional = noun.bidirectional if noun else track == "inbound_track"
    if set(options.digits) - set("0123456789*#ABCD"):
        raise OptionError(f"--digits {options.digits}: keys are 0-9, *, # and A-D")
    if options.digits and not bidirectional:
        raise OptionError("--digits: Twilio sends them on a bidirectional stream only, <Connect><Stream>")
    if bidirectional and track != "inbound_track":
        raise twiml.TwimlError(31941, f'invalid track "{track}": <Connect> streams inbound_track only')
    if options.seconds is not None and not 0 < options.seconds <= MAX_SECONDS:
        raise OptionError(f"--seconds {options.seconds:g}: it must be more than 0, and {MAX_SECONDS} at most")
    url = _url(options.url, noun, settings)
    return Plan(
        url=url,
        signed_url=_public(url, settings),
        tracks=_tracks(track, sound_file.read(options.audio), options.seconds),
        parameters=parameters,
        bidirectional=bidirectional,
        account_sid=account_sid,
        name=noun.name if noun else "",
        status_callback=_callback(noun, options.url, settings) if noun else None,
        digits=options.digits,
        fast=options.fast,
        drop=options.drop,
        save_heard=_save_heard(options, bidirectional),
        auth_token=auth_token,
    )


def _form(account_sid: str, call_sid: str) -> dict[str, str]:
    """Return what Twilio tells of a call where it asks for TwiML."""
    return {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "CallSid": call_sid,
        "CallStatus": "ringing",
        "Called": TO,
        "Caller": FROM,
        "Direction": "inbound",
        "From": FROM,
        "To": TO,
    }


async def _ask_for_twiml(
    url: str,
    form: dict[str, str],
    auth_token: str | None,
    settings: config.Settings,
    say: Callable[[str], None],
) -> bytes:
    """Return the TwiML that a server answers with when it is asked as Twilio would."""
    try:
        signed_url = _public(url, settings)
    except ValueError as error:
        raise OptionError(f"--twiml {url}: {error}") from None
    say(f"Asking {url} for TwiML")
    return await http.twiml(url, form, auth_token, signed_url)


def _save_heard(options: Options, bidirectional: bool) -> Path | None:
    if not options.save_heard:
        return None
    path = Path(options.save_heard)
    if not bidirectional:
        raise OptionError(
            "--save-heard: only on a bidirectional stream, <Connect><Stream>, anything is heard"
        )
    if options.calls > 1:
        raise OptionError("--save-heard: it is for one call")
    if path.exists() and (not path.is_file() or path.samefile(options.audio)):
        raise OptionError(f"--save-heard {path}: it must be a new file, or one to write over")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"--save-heard {path}: there is no such folder")
    return path


def _callback(noun: twiml.StreamNoun, given: str | None, settings: config.Settings) -> Callback | None:
    """Return the document's `statusCallback`, None without one.

    Where the stream goes to a given address instead of the document's, and its server was to be told, that of
    the given address is.
    """
    url = noun.status_callback
    if not url:
        return None
    try:
        parts, stream = urlsplit(url), urlsplit(noun.url)
    except ValueError as error:
        raise twiml.TwimlError(None, f'malformed statusCallback "{url}": {error}') from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise twiml.TwimlError(None, f'invalid statusCallback "{url}": it must begin with https://')
    if given and parts.netloc == stream.netloc:
        other = urlsplit(given)
        url = urlunsplit(parts._replace(scheme=f"http{other.scheme[2:]}", netloc=other.netloc))
    return Callback(url, _public(url, settings), noun.status_callback_method)


def _public(url: str, settings: config.Settings) -> str:
    """Return the address by which Twilio knows `url`: where it is this machine's, PUBLIC_URL's."""
    parts = urlsplit(url)
    if settings.public_url is None or parts.hostname not in LOCAL:
        return url
    public = urlsplit(settings.public_url)
    scheme = "https" if parts.scheme.startswith("http") else "wss"
    return urlunsplit(parts._replace(scheme=scheme, netloc=public.netloc, path=public.path + parts.path))


def _url(given: str | None, noun: twiml.StreamNoun | None, settings: config.Settings) -> str:
    """Return the address to dial: the given one, else the TwiML's, else that of this machine's server."""
    url = given or (noun.url if noun else _own_server(settings))
    plain = url.startswith("ws://")
    if plain and noun and not given and urlsplit(url).hostname not in LOCAL:
        twiml.check_url(url)
    # Without a tunnel the server has no TLS: to a person, though not to Twilio, ws:// is an address.
    twiml.check_url(f"wss{url[2:]}" if plain else url)
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        print(f"Warning: Twilio drops the query string of {printable(url)}; use <Parameter>", file=sys.stderr)
    return urlunsplit(parts._replace(query="", fragment="", path=parts.path or "/"))


def _own_server(settings: config.Settings) -> str:
    if settings.http_server_port == 0:
        raise OptionError("HTTP_SERVER_PORT=0 does not tell where the server listens: say its URL")
    # By its address: on macOS "localhost" may reach the AirPlay Receiver, on the same port of ::1.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_server_host, settings.http_server_host)
    return f"ws://{f'[{host}]' if ':' in host else host}:{settings.http_server_port}/media"


def _tracks(track: str, channels: list[bytes], seconds: float | None) -> dict[Track, bytes]:
    """Return what each track says, in whole chunks: the left channel inbound, the right one outbound.

    A mono file is what the only track says, or the inbound one of two; the other is silent.
    """
    length = len(channels[0]) if seconds is None else math.ceil(seconds * RATE)
    size = math.ceil(length / CHUNK_BYTES) * CHUNK_BYTES
    tracks: dict[Track, bytes] = {}
    for name in twiml.TRACKS[track]:
        if name == "outbound" and len(channels) == 2:
            said = channels[1]
        elif name == "outbound" and track == "both_tracks":
            said = b""
        else:
            said = channels[0]
        repeated = said * math.ceil(length / len(said)) if said else b""
        tracks[name] = repeated[:length].ljust(size, mulaw.SILENCE)
    return tracks
