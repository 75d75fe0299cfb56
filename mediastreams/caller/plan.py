"""What to call and what is said: the command line, and the TwiML that it names, as one `Plan`."""

import contextlib
import math
import re
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from mediastreams import config, ngrok
from mediastreams.audio import mulaw
from mediastreams.audio.timeline import RATE
from mediastreams.caller import SAMPLE, http, sound_file
from mediastreams.caller.account import LOCAL, Account
from mediastreams.exceptions import MediaStreamsError
from mediastreams.protocol import twiml
from mediastreams.protocol.messages import MULAW, SAMPLE_RATES, MediaFormat, Track
from mediastreams.protocol.twiml import StreamNoun
from mediastreams.text import printable

CHUNK_MS = 20
_MAX_SECONDS = 4 * 3600  # Twilio ends a call after 4 hours


@dataclass(frozen=True)
class Options:
    """The command line as it was given; None, "" or () stand for what was not given."""

    url: str | None
    twiml: str | None
    audio: str
    seconds: float | None
    track: str | None
    sample_rate: int | None
    encoding: str | None
    parameter: tuple[str, ...]
    digits: str
    calls: int
    fast: bool
    save_heard: Path | None
    auth_token: str | None
    drop: bool


@dataclass(frozen=True)
class Plan:
    """What to call, and what is said there."""

    options: Options
    account: Account
    stream: StreamNoun
    """The `<Stream>` of the TwiML, with what the command line says instead; its `url` is dialled."""
    media_format: MediaFormat
    """What `start` announces."""
    tracks: dict[Track, bytes]
    """The audio of each track, all of one length: mu-law in whole chunks, or the bytes of a raw file."""

    @property
    def chunks(self) -> int:
        """The number of chunks of each track."""
        return _chunks(len(next(iter(self.tracks.values()))), self.media_format)

    def payload(self, track: Track, i: int) -> bytes:
        """Return chunk number `i` of a track, from 0 on."""
        return self.tracks[track][_size(i, self.media_format) : _size(i + 1, self.media_format)]


class OptionError(MediaStreamsError):
    """A command line that cannot be used; the sentence says why."""


async def make_plan(options: Options, call_sids: list[str], say: Callable[[str], None]) -> Plan:
    """Return what the command line asks for; TwiML at a URL is requested with the SID of the first call.

    `say` prints a line. Raises `OptionError`, `AudioError`, `TwimlError` or `CallError`.
    """
    if not call_sids:
        raise OptionError(f"--calls {options.calls}: it must be 1 or more")
    if options.auth_token and not (options.auth_token.isascii() and options.auth_token.isprintable()):
        raise OptionError("--auth-token: it must be ASCII, as Twilio's are")
    settings = config.load()
    if options.auth_token or settings.twilio_auth_token:  # what is signed is the address of the tunnel
        settings = ngrok.with_tunnel(settings, _own_port(options, settings))
    account = Account(
        settings.twilio_account_sid or "AC" + secrets.token_hex(16),
        options.auth_token or settings.twilio_auth_token,
        settings.public_url,
    )
    stream = await _stream(options, settings, account, call_sids[0], say)
    if set(options.digits) - set("0123456789*#ABCD"):
        raise OptionError(f"--digits {options.digits}: keys are 0-9, *, # and A-D")
    if options.digits and not stream.bidirectional:
        hint = ": leave out --track" if options.track and options.twiml is None else ""
        raise OptionError(
            f"--digits: Twilio sends them on a bidirectional stream only, <Connect><Stream>{hint}"
        )
    if options.seconds is not None and not 0 < options.seconds <= _MAX_SECONDS:
        raise OptionError(
            f"--seconds {options.seconds:g}: it must be more than 0, and {_MAX_SECONDS} at most"
        )
    stream = replace(stream, url=_url(options, stream), status_callback=_status_callback(options, stream))
    media_format = _media_format(options, stream, say)
    tracks = _tracks(options, stream.track, media_format)
    _check_save_heard(options, stream, media_format)
    return Plan(options, account, stream, media_format, tracks)


async def _stream(
    options: Options,
    settings: config.Settings,
    account: Account,
    call_sid: str,
    say: Callable[[str], None],
) -> StreamNoun:
    """Return the `<Stream>` of the TwiML, or a plain one, with the options' track and parameters."""
    if options.twiml:
        stream = twiml.read(await _document(options.twiml, account, call_sid, say), options.twiml)
        track = options.track or stream.track
    else:
        track = options.track or "inbound_track"
        # Only <Start> streams another track than inbound_track.
        stream = StreamNoun(options.url or _own_server(settings), bidirectional=track == "inbound_track")
    parameters = dict(stream.parameters)
    for parameter in options.parameter:
        name, equals, value = parameter.partition("=")
        if not name or not equals or not parameter.isprintable():
            raise OptionError(f"--parameter {parameter}: it must be NAME=VALUE, in text")
        twiml.check_parameter(name, value)
        parameters[name] = value
    if stream.bidirectional and track != "inbound_track":
        raise twiml.TwimlError(31941, f'invalid track "{track}": <Connect> streams inbound_track only')
    return replace(stream, track=track, parameters=parameters)


def _media_format(options: Options, stream: StreamNoun, say: Callable[[str], None]) -> MediaFormat:
    """Return the options' format, else the TwiML's where its values are understood, else Twilio's."""
    encoding, rate = options.encoding, options.sample_rate
    if encoding is not None and not (encoding and encoding.isascii() and encoding.isprintable()):
        raise OptionError(f"--encoding {encoding}: it must be a name in ASCII, such as {MULAW}")
    if encoding not in (None, MULAW) and options.audio == str(SAMPLE):
        raise OptionError(f"--encoding {encoding}: it needs --audio FILE, whose bytes are sent as they are")
    if rate is not None and rate not in SAMPLE_RATES:
        raise OptionError(
            f"--sample-rate {rate}: it must be {SAMPLE_RATES[0]} or more, and {SAMPLE_RATES[-1]} at most"
        )
    written = stream.sample_rate
    if rate is None and re.fullmatch("[0-9]{1,6}", written) and int(written) in SAMPLE_RATES:
        rate = int(written)
    media_format = MediaFormat(encoding or MULAW, rate or RATE)
    new = {"audioFormat": stream.audio_format, "sampleRate": stream.sample_rate}
    if attributes := " and ".join(f'{name}="{value}"' for name, value in new.items() if value):
        say(f"New on <Stream>, their values are not documented: {attributes}; this stream is {media_format}")
    return media_format


async def _document(source: str, account: Account, call_sid: str, say: Callable[[str], None]) -> bytes:
    """Return the TwiML at a path, filled in as that of a TwiML Bin is, or at a URL."""
    form = http.call_form(account.sid, call_sid)
    if not source.lower().startswith(("http://", "https://")):
        return twiml.filled(twiml.load(source), source, form)
    try:
        urlsplit(source)
    except ValueError as error:
        raise OptionError(f"--twiml {source}: {error}") from None
    say(f"Asking {source} for TwiML")
    return await http.twiml(source, form, account)


def _check_save_heard(options: Options, stream: StreamNoun, media_format: MediaFormat) -> None:
    path = options.save_heard
    if path is None:
        return
    if not stream.bidirectional:
        raise OptionError(
            "--save-heard: only on a bidirectional stream, <Connect><Stream>, anything is heard"
        )
    if media_format.encoding != MULAW:
        raise OptionError("--save-heard: it saves mu-law only")
    if options.calls > 1:
        raise OptionError("--save-heard: it is for one call")
    try:
        if path.exists() and (not path.is_file() or path.samefile(options.audio)):
            raise OptionError(f"--save-heard {path}: it must be a new file, or one to write over")
        if not path.absolute().parent.is_dir():
            raise OptionError(f"--save-heard {path}: there is no such folder")
    except OSError as error:
        raise OptionError(f"--save-heard {path}: {error.strerror}") from None


def _status_callback(options: Options, stream: StreamNoun) -> str:
    """Return the address of the `statusCallback`, "" without one.

    When a URL is given, a callback to the server that it replaces goes to the given server too.
    """
    url = stream.status_callback
    if not url:
        return ""
    try:
        parts, replaced = urlsplit(url), urlsplit(stream.url)
    except ValueError as error:
        raise twiml.TwimlError(None, f'malformed statusCallback "{url}": {error}') from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise twiml.TwimlError(None, f'invalid statusCallback "{url}": it must begin with https://')
    if options.url and parts.netloc == replaced.netloc:
        given = urlsplit(options.url)
        return parts._replace(scheme=f"http{given.scheme[2:]}", netloc=given.netloc).geturl()
    return url


def _url(options: Options, stream: StreamNoun) -> str:
    """Return the address to dial, as Twilio would: without its query string."""
    url = options.url or stream.url
    is_plain = url.startswith("ws://")
    if is_plain and options.twiml and not options.url and urlsplit(url).hostname not in LOCAL:
        twiml.check_url(url)
    # Without a tunnel the server has no TLS: to a person, though not to Twilio, ws:// is an address.
    twiml.check_url(f"wss{url[2:]}" if is_plain else url)
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        print(f"Warning: Twilio drops the query string of {printable(url)}; use <Parameter>", file=sys.stderr)
    return parts._replace(query="", fragment="", path=parts.path or "/").geturl()


def _own_port(options: Options, settings: config.Settings) -> int:
    """Return the port of the server on this machine: that of a local address on the command line, if any."""
    for url in (options.url, options.twiml):
        with contextlib.suppress(ValueError):
            parts = urlsplit(url or "")
            if parts.hostname in LOCAL and parts.port:
                return parts.port
    return settings.http_server_port


def _own_server(settings: config.Settings) -> str:
    if settings.http_server_port == 0:
        raise OptionError("HTTP_SERVER_PORT=0 does not tell where the server listens: say its URL")
    # By its address: on macOS "localhost" may reach the AirPlay Receiver, on the same port of ::1.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_server_host, settings.http_server_host)
    return f"ws://{f'[{host}]' if ':' in host else host}:{settings.http_server_port}/media"


def _size(chunks: int, media_format: MediaFormat) -> int:
    """Return how many bytes so many chunks have."""
    return chunks * CHUNK_MS * media_format.sample_rate // 1000 * _bytes_a_sample(media_format)


def _chunks(size: int, media_format: MediaFormat) -> int:
    """Return how many chunks so many bytes need."""
    return math.ceil(size * 1000 / (CHUNK_MS * media_format.sample_rate * _bytes_a_sample(media_format)))


def _bytes_a_sample(media_format: MediaFormat) -> int:
    """Return 1 for mu-law, and else 2, as linear PCM has: it only decides how large a chunk is."""
    return 1 if media_format.encoding == MULAW else 2


def _tracks(options: Options, track: str, media_format: MediaFormat) -> dict[Track, bytes]:
    """Return the audio of each track: the left channel inbound, the right one outbound.

    A mono file is the audio of the only track, or of the inbound one of two; the other is silent. Mu-law is
    in whole chunks. Of another encoding nobody knows what silence is: each track has the file's bytes.
    """
    if media_format.encoding == MULAW:
        inbound, *right = sound_file.read(options.audio, media_format.sample_rate)
        outbound = right[0] if right else b"" if track == "both_tracks" else inbound
    else:
        inbound = outbound = sound_file.read_raw(options.audio)
    length = len(inbound)
    if options.seconds is not None:
        length = math.ceil(options.seconds * media_format.sample_rate) * _bytes_a_sample(media_format)
    size = _size(_chunks(length, media_format), media_format) if media_format.encoding == MULAW else length
    times = math.ceil(length / len(inbound))
    audio: dict[Track, bytes] = {"inbound": inbound, "outbound": outbound}
    return {name: (audio[name] * times)[:length].ljust(size, mulaw.SILENCE) for name in twiml.TRACKS[track]}
