"""A simulated Twilio: calls a Media Streams server, so that nobody needs a phone or an account.

    python -m mediastreams.caller                                   the server on this machine
    python -m mediastreams.caller wss://example.ngrok.app/media     through a tunnel, as Twilio would
    python -m mediastreams.caller --twiml twiml/start-stream.xml    as a TwiML document says, or one that is
    python -m mediastreams.caller --twiml https://example.ngrok.app/twiml/start-stream      served

It sends what Twilio sends, at Twilio's pace, and reports what Twilio would: where the server refuses the
stream or ends it, the caller exits with 1 and one line that has Twilio's error code and the cause. On a
bidirectional stream it plays what the server sends, to a file with --save-heard. A statusCallback is told.

The sample is two voices of flite (slt, rms), 300-3400 Hz: the caller left, the callee right.
"""

import argparse
import contextlib
import math
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit, urlunsplit

import gevent

from mediastreams import config
from mediastreams.audio import mulaw
from mediastreams.audio.timeline import RATE
from mediastreams.audio.wav import WavFile
from mediastreams.caller import http, sound_file
from mediastreams.caller.playout_buffer import Buffer
from mediastreams.protocol import twiml
from mediastreams.protocol.error_codes import ERRORS
from mediastreams.protocol.messages import (
    Connected,
    Dtmf,
    DtmfMetadata,
    Mark,
    MarkMetadata,
    Media,
    MediaMetadata,
    Message,
    MessageError,
    SendMark,
    SendMedia,
    Start,
    StartMetadata,
    Stop,
    StopMetadata,
    Track,
    parse_sent,
)
from mediastreams.text import printable
from mediastreams.websocket_client import CallError, Client, twilio_headers

SAMPLE = Path(__file__).with_name("sample.wav")

CHUNK_MS = 20
CHUNK_BYTES = 160  # 20 ms of mu-law at 8 kHz
FIRST_TIMESTAMP = 155  # ms, as in a captured call; it is not 0
FIRST_DIGIT, DIGIT_EVERY = 25, 12  # chunks: keys are pressed from 0.5 s on, four a second
FROM, TO = "+15550100001", "+15550100002"  # numbers of fiction
LOCAL = ("localhost", "127.0.0.1", "::1")
LONGEST_SECONDS = 4 * 3600  # Twilio ends a call after 4 hours


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


class OptionError(Exception):
    """A command line that cannot be used; the sentence says why."""


class Phone:
    """What Twilio does with the messages of a server: plays its audio to the caller, and returns its marks.

    `hang_up` ends it.
    """

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._began = time.monotonic()
        self._buffer = Buffer(self._hear)
        self._playing: gevent.Greenlet[[], None] | None = None
        self._heard: WavFile | None = None
        self._heard_to = 0
        self._warned: set[int] = set()

    def pick_up(self) -> None:
        """Begin to count the time, and to save what is heard. Raises `OptionError` where that cannot be."""
        self._began = time.monotonic()
        path = self._call.plan.save_heard
        if path is None:
            return
        try:
            path.unlink(missing_ok=True)
            self._heard = WavFile(path, 1)
        except OSError as error:
            raise OptionError(f"--save-heard {path}: {error.strerror}") from None
        self._hear(0, mulaw.SILENCE)  # a file begins with its first sample: the call's

    def hang_up(self) -> None:
        """Play no more."""
        if self._playing is not None:
            self._playing.kill()
        heard = self._heard
        if heard is None:
            return
        self._return(self._buffer.play(self._now()))
        self._hear(self._heard_to, mulaw.SILENCE * (round(self._now() * RATE) - self._heard_to))
        self._save(heard.close)
        if self._heard is not None:
            self._call.say(f"Heard: {heard.samples / RATE:.2f} s, saved in {self._call.plan.save_heard}")
            self._heard = None

    def receive(self, data: str | bytes) -> None:
        """Act on one message of the server, or warn of it once a code, as Twilio does."""
        if not self._call.plan.bidirectional:
            return self._warn(31924, "the server sends on a unidirectional stream (<Start>)")
        if isinstance(data, bytes):
            return self._warn(31950, "the server sent a binary message; Twilio takes text only")
        try:
            message = parse_sent(data)
        except MessageError as error:
            return self._warn(31951, f"invalid message: {error}")
        if message.stream_sid != self._call.stream_sid:
            return self._warn(31951, f"invalid message: $.streamSid: not this stream's, {message.stream_sid}")
        now = self._now()
        if isinstance(message, SendMedia):
            if self._buffer.media(message.media.payload, now):
                self._warn(31931, "more than 10 minutes of audio wait to be played; it is discarded")
        elif isinstance(message, SendMark):
            self._buffer.mark(message.mark.name, now)
        else:
            self._buffer.clear(now)
        self._return(self._buffer.play(now))
        if not self._buffer.is_empty and not self._playing:
            self._playing = gevent.spawn(self._play)
        return None

    def _play(self) -> None:
        while not self._buffer.is_empty:
            gevent.sleep(CHUNK_MS / 1000)
            self._return(self._buffer.play(self._now()))
        self._playing = None

    def _return(self, marks: list[str]) -> None:
        for name in marks:
            self._call.send_mark(name)

    def _hear(self, place: int, mulaw: bytes) -> None:
        if self._heard is not None:
            self._heard_to = place + len(mulaw)
            self._save(self._heard.put, 0, place, mulaw)

    def _save(self, write: Callable[..., None], *arguments: object) -> None:
        try:
            write(*arguments)
        except OSError as error:
            self._heard = None
            self._call.say(f"Warning: {self._call.plan.save_heard} cannot be written: {error.strerror}")

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _warn(self, code: int, text: str) -> None:
        if code not in self._warned:
            self._warned.add(code)
            self._call.say(f"Warning {code}: {text}")


class Call:
    """One simulated call; `run` makes it. `label` stands before each line that it prints."""

    def __init__(self, plan: Plan, call_sid: str, label: str = "") -> None:
        self.plan = plan
        self.stream_sid = "MZ" + secrets.token_hex(16)
        self.sent = 0
        self._label = label
        self._account_sid = plan.account_sid
        self._call_sid = call_sid
        self._sequence_number = 0
        self._hung_up = False
        self._stopped = False
        self._phone = Phone(self)
        self._told: gevent.Greenlet[..., None] | None = None
        headers = twilio_headers(plan.signed_url, plan.auth_token)
        self._client = Client(plan.url, headers, self._phone.receive)

    def say(self, line: str) -> None:
        """Print one line of the call's progress."""
        _say(f"{self._label}{printable(line)}")

    def hang_up(self) -> None:
        """End the call early, with what Twilio sends when a person hangs up."""
        self._hung_up = True

    def run(self) -> None:
        """Call, speak and hang up. Raises `CallError` where Twilio would report an error.

        The `statusCallback` is told in any case.
        """
        self.say(f"Calling {self.plan.url}")
        try:
            self._call()
        except CallError as error:
            self._tell("stream-error", error.code)
            raise
        finally:
            self._phone.hang_up()
            if self._told is not None:
                self._told.join()

    def _call(self) -> None:
        self.say(f"Connected: {self._client.connect()}")
        self._send(Connected(protocol="Call", version="1.0.0"))
        start = StartMetadata(
            account_sid=self._account_sid,
            stream_sid=self.stream_sid,
            call_sid=self._call_sid,
            tracks=tuple(self.plan.tracks),
            custom_parameters=self.plan.parameters,
        )
        self._phone.pick_up()
        self._send(Start(self._next(), start, self.stream_sid))
        self._tell("stream-started")
        seconds = self.plan.chunks * CHUNK_MS / 1000
        self.say(f"Stream {self.stream_sid} started: {' and '.join(self.plan.tracks)}, {seconds:.2f} s")
        self._speak()
        if self.plan.drop:
            self._client.drop()
            self.say(f"Dropped: {self.sent} messages sent, no stop, no Close")
            self._tell("stream-error", 31903)
            return
        self._stopped = True
        self._send(Stop(self._next(), StopMetadata(self._account_sid, self._call_sid), self.stream_sid))
        self._client.close()
        self._tell("stream-stopped")
        self.say(f"Stopped: {self.sent} messages sent")

    def send_mark(self, name: str) -> None:
        """Return a mark to the server, while the stream lasts."""
        if self._stopped or self._client.closed:
            return
        with contextlib.suppress(CallError):  # the call itself will meet it, and say so
            self._send(Mark(self._next(), self.stream_sid, MarkMetadata(name)))

    def _tell(self, event: str, error: int | None = None) -> None:
        """Tell the `statusCallback` of an event, after what it was told before, while the call goes on."""
        callback = self.plan.status_callback
        if callback is None:
            return
        nanoseconds = time.time_ns()
        second = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
        form = {
            "AccountSid": self._account_sid,
            "CallSid": self._call_sid,
            "StreamSid": self.stream_sid,
            "StreamName": self.plan.name or self.stream_sid,
            "StreamEvent": event,
            "Timestamp": f"{second:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09}Z",
        }
        if error is not None:
            form["StreamError"] = ERRORS[error].title
        self._told = gevent.spawn(self._ask, callback, form, self._told)

    def _ask(
        self, callback: Callback, form: dict[str, str], before: "gevent.Greenlet[..., None] | None"
    ) -> None:
        if before is not None:
            before.join()
        try:
            http.ask(callback.method, callback.url, form, self.plan.auth_token, callback.signed_url)
        except CallError as error:
            self.say(f"Warning {error} (statusCallback, {form['StreamEvent']})")

    def _speak(self) -> None:
        digits = list(self.plan.digits)
        began = time.monotonic()
        chunk = 0
        for i in range(self.plan.chunks):
            self._wait_until(began, i)
            if self._hung_up:
                return
            for track, track_audio in self.plan.tracks.items():
                chunk += 1
                media = MediaMetadata(
                    track=track,
                    chunk=chunk,
                    timestamp=FIRST_TIMESTAMP + i * CHUNK_MS,
                    payload=track_audio[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES],
                )
                self._send(Media(self._next(), media, self.stream_sid))
            if digits and i >= FIRST_DIGIT and (i - FIRST_DIGIT) % DIGIT_EVERY == 0:
                self._press(digits.pop(0))
        for digit in digits:  # the call is too short for a person's pace
            self._press(digit)

    def _wait_until(self, began: float, i: int) -> None:
        """Sleep until the chunk `i` is due; let the other greenlets run in any case."""
        if self.plan.fast:
            if i % 50 == 0:
                gevent.sleep(0)
            return
        gevent.sleep(max(0.0, began + i * CHUNK_MS / 1000 - time.monotonic()))
        if i % 50 == 0 and sys.stdout.isatty() and not self._label:
            print(f"\r{i // 50} s, {self.sent} messages", end="\r", flush=True)

    def _press(self, digit: str) -> None:
        self._send(Dtmf(self.stream_sid, self._next(), DtmfMetadata(digit=digit)))
        self.say(f"Pressed {digit}")

    def _next(self) -> int:
        self._sequence_number += 1
        return self._sequence_number

    def _send(self, message: Message) -> None:
        self._client.send(message.to_json())
        self.sent += 1


def main(arguments: list[str] | None = None) -> int:
    """Make the calls that the command line asks for; return the exit status.

    0: every call went through; 1: a call failed, and a line on stderr says why; 2: the command line
    cannot be used, and a line says why. Ctrl-C hangs up, a second one ends the program.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer characters
    options = _parser().parse_args(arguments)
    call_sids = ["CA" + secrets.token_hex(16) for _ in range(options.calls)]
    try:
        plan = _plan(options, call_sids)
    except (OptionError, sound_file.AudioError, twiml.TwimlError, CallError) as error:
        print(f"Failed: {printable(str(error))}", file=sys.stderr)
        return 1 if getattr(error, "code", None) else 2
    labels = [f"call {n}: " for n in range(1, options.calls + 1)] if options.calls > 1 else [""]
    calls = [Call(plan, *each) for each in zip(call_sids, labels, strict=True)]
    running = [gevent.spawn(_run, call, label) for call, label in zip(calls, labels, strict=True)]
    interrupt = gevent.signal_handler(signal.SIGINT, lambda: _hang_up(calls, interrupt))
    gevent.joinall(running)
    failed = sum(not call.value for call in running)
    if options.calls > 1:
        _say(f"{options.calls - failed} calls went through, {failed} failed")
    return 1 if failed else 0


def _hang_up(calls: list[Call], interrupt: Any) -> None:
    interrupt.cancel()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for call in calls:
        call.hang_up()


def _say(line: str, file: TextIO | None = None) -> None:
    with contextlib.suppress(BrokenPipeError):  # the calls go on where nobody reads of them
        print(line, file=file or sys.stdout, flush=True)


def _run(call: Call, label: str) -> bool:
    try:
        call.run()
    except (CallError, OptionError) as error:
        _say(f"{label}Failed: {printable(str(error))}", sys.stderr)
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mediastreams.caller",
        description="Calls a Media Streams server as Twilio does, without a phone.",
    )
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="ws:// or wss:// (default: the TwiML's, else the server here)")
    add(
        "--twiml",
        metavar="FILE|URL",
        help="do what the <Stream> of this TwiML says; a URL is asked for it as Twilio would",
    )
    add(
        "--audio",
        metavar="FILE.wav",
        default=str(SAMPLE),
        help="what is said (default: a sample): the left channel is inbound, the right one outbound; "
        "mono is the only track, or the inbound one of both",
    )
    add("--seconds", type=float, metavar="N", help="length of the call; the audio repeats (default: once)")
    add("--track", choices=tuple(twiml.TRACKS), help="default: the TwiML's, else inbound_track")
    add("--parameter", action="append", default=[], metavar="NAME=VALUE", help="a custom parameter")
    add("--digits", default="", metavar="12#", help="keys to press, on a bidirectional stream")
    add("--calls", type=int, default=1, metavar="N", help="so many calls at once")
    add("--fast", action="store_true", help="send without waiting, not in real time")
    add(
        "--save-heard",
        metavar="FILE.wav",
        help="save what the server sends, as the caller hears it, on a bidirectional stream",
    )
    add("--auth-token", metavar="TOKEN", help="sign the requests (default: with TWILIO_AUTH_TOKEN, if set)")
    add("--drop", action="store_true", help="hang up rudely: no stop, no Close")
    return parser


def _plan(options: argparse.Namespace, call_sids: list[str]) -> Plan:
    """Turn the command line into a `Plan`; the TwiML is asked for with the SID of the first call.

    Raises `OptionError`, `AudioError`, `TwimlError` or `CallError`.
    """
    if not call_sids:
        raise OptionError(f"--calls {options.calls}: it must be 1 or more")
    settings = config.load()
    auth_token = options.auth_token or settings.twilio_auth_token
    account_sid = settings.twilio_account_sid or "AC" + secrets.token_hex(16)
    noun = None
    if options.twiml:
        document = _document(options.twiml, settings, auth_token, account_sid, call_sids[0])
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
    if options.seconds is not None and not 0 < options.seconds <= LONGEST_SECONDS:
        raise OptionError(
            f"--seconds {options.seconds:g}: it must be more than 0, and {LONGEST_SECONDS} at most"
        )
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
        save_heard=_save_heard(options, bidirectional) if options.save_heard else None,
        auth_token=auth_token,
    )


def _document(
    place: str, settings: config.Settings, auth_token: str | None, account_sid: str, call_sid: str
) -> bytes:
    """Return the TwiML of a file, or that which a server answers with when it is asked as Twilio would."""
    if not place.lower().startswith(("http://", "https://")):
        return twiml.load(place)
    try:
        signed_url = _public(place, settings)
    except ValueError as error:
        raise OptionError(f"--twiml {place}: {error}") from None
    form = {
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
    _say(f"Asking {printable(place)} for TwiML")
    return http.twiml(place, form, auth_token, signed_url)


def _save_heard(options: argparse.Namespace, bidirectional: bool) -> Path:
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


if __name__ == "__main__":
    sys.exit(main())
