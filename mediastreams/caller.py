"""A simulated Twilio: calls a Media Streams server, so that nobody needs a phone or an account.

    python -m mediastreams.caller                                   the server on this machine
    python -m mediastreams.caller wss://example.ngrok.app/media     through a tunnel, as Twilio would
    python -m mediastreams.caller --twiml twiml/start-stream.xml    as a TwiML document says

It sends what Twilio sends, at Twilio's pace, and reports what Twilio would: where the server refuses the
stream or ends it, the caller exits with 1 and one line that has Twilio's error code and the cause.

The sample is two voices of flite (slt, rms), 300-3400 Hz: the caller left, the callee right.
"""

import argparse
import contextlib
import math
import secrets
import signal
import sys
import time
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit, urlunsplit

import gevent

from mediastreams import audio, config, mulaw, twiml
from mediastreams.client import CallError, Client, twilio_headers
from mediastreams.messages import (
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
    printable,
)
from mediastreams.track import RATE

SAMPLE = Path(__file__).with_name("sample.wav")

CHUNK_MS = 20
CHUNK_BYTES = 160  # 20 ms of mu-law at 8 kHz
FIRST_TIMESTAMP = 155  # ms, as in a captured call; it is not 0
FIRST_DIGIT, DIGIT_EVERY = 25, 12  # chunks: keys are pressed from 0.5 s on, four a second
BUFFER_SECONDS = 600  # what Twilio buffers to play
LONGEST_SECONDS = 4 * 3600  # Twilio ends a call after 4 hours


@dataclass(frozen=True)
class Plan:
    """What to call, and what is said there.

    `tracks` has the mu-law of each track, all of one length, in whole chunks. `bidirectional` is what
    `<Connect>` makes a stream. `fast` sends without waiting; `drop` hangs up without `stop` or Close.
    `auth_token` signs the handshake, None does not; `account_sid` is whose call it is, None invents one.
    """

    url: str
    tracks: dict[Track, bytes]
    parameters: dict[str, str]
    bidirectional: bool
    digits: str = ""
    fast: bool = False
    drop: bool = False
    auth_token: str | None = None
    account_sid: str | None = None

    @property
    def chunks(self) -> int:
        """The number of chunks of each track."""
        return len(next(iter(self.tracks.values()))) // CHUNK_BYTES


class OptionError(Exception):
    """A command line that cannot be used; the sentence says why."""


class Playback:
    """What Twilio does with the messages of a server: plays its audio, in time only, and returns marks."""

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._played_at = 0.0  # on the monotonic clock: when what is buffered has been played
        self._marks: list[tuple[float, str]] = []
        self._warned: set[int] = set()

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
        now = time.monotonic()
        self._played_at = max(self._played_at, now)
        if isinstance(message, SendMedia):
            if self._played_at - now > BUFFER_SECONDS:
                return self._warn(31931, "more than 10 minutes of audio wait to be played; it is discarded")
            self._played_at += len(message.media.payload) / RATE
        elif isinstance(message, SendMark):
            self._marks.append((self._played_at, message.mark.name))
            if len(self._marks) == 1:
                gevent.spawn(self._return_marks)
        else:
            self._played_at = now
            marks = [name for _, name in self._marks]
            self._marks.clear()
            for name in marks:
                self._call.send_mark(name)

    def _return_marks(self) -> None:
        while self._marks:
            wait = self._marks[0][0] - time.monotonic()
            if wait > 0:
                gevent.sleep(min(wait, CHUNK_MS / 1000))  # in steps: a clear may empty the list meanwhile
            else:
                self._call.send_mark(self._marks.pop(0)[1])

    def _warn(self, code: int, text: str) -> None:
        if code not in self._warned:
            self._warned.add(code)
            self._call.say(f"Warning {code}: {text}")


class Call:
    """One simulated call; `run` makes it. `label` stands before each line that it prints."""

    def __init__(self, plan: Plan, label: str = "") -> None:
        self.plan = plan
        self.stream_sid = "MZ" + secrets.token_hex(16)
        self.sent = 0
        self._label = label
        self._account_sid = plan.account_sid or "AC" + secrets.token_hex(16)
        self._call_sid = "CA" + secrets.token_hex(16)
        self._sequence_number = 0
        self._hung_up = False
        self._stopped = False
        headers = twilio_headers(plan.url, plan.auth_token)
        self._client = Client(plan.url, headers, Playback(self).receive)

    def say(self, line: str) -> None:
        """Print one line of the call's progress."""
        _say(f"{self._label}{printable(line)}")

    def hang_up(self) -> None:
        """End the call early, with what Twilio sends when a person hangs up."""
        self._hung_up = True

    def run(self) -> None:
        """Call, speak and hang up. Raises `CallError` where Twilio would report an error."""
        self.say(f"Calling {self.plan.url}")
        self.say(f"Connected: {self._client.connect()}")
        self._send(Connected(protocol="Call", version="1.0.0"))
        start = StartMetadata(
            account_sid=self._account_sid,
            stream_sid=self.stream_sid,
            call_sid=self._call_sid,
            tracks=tuple(self.plan.tracks),
            custom_parameters=self.plan.parameters,
        )
        self._send(Start(self._next(), start, self.stream_sid))
        seconds = self.plan.chunks * CHUNK_MS / 1000
        self.say(f"Stream {self.stream_sid} started: {' and '.join(self.plan.tracks)}, {seconds:.2f} s")
        self._speak()
        if self.plan.drop:
            self._client.drop()
            self.say(f"Dropped: {self.sent} messages sent, no stop, no Close")
            return
        self._stopped = True
        self._send(Stop(self._next(), StopMetadata(self._account_sid, self._call_sid), self.stream_sid))
        self._client.close()
        self.say(f"Stopped: {self.sent} messages sent")

    def send_mark(self, name: str) -> None:
        """Return a mark to the server, while the stream lasts."""
        if self._stopped or self._client.closed:
            return
        with contextlib.suppress(CallError):  # the call itself will meet it, and say so
            self._send(Mark(self._next(), self.stream_sid, MarkMetadata(name)))

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
    try:
        plan = _plan(options)
    except (OptionError, audio.AudioError, twiml.TwimlError) as error:
        print(f"Failed: {printable(str(error))}", file=sys.stderr)
        return 1 if getattr(error, "code", None) else 2
    labels = [f"call {n}: " for n in range(1, options.calls + 1)] if options.calls > 1 else [""]
    calls = [Call(plan, label) for label in labels]
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
    except CallError as error:
        _say(f"{label}Failed: {error}", sys.stderr)
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mediastreams.caller",
        description="Calls a Media Streams server as Twilio does, without a phone.",
    )
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="ws:// or wss:// (default: the TwiML's, else the server here)")
    add("--twiml", metavar="FILE", help="take url, track and parameters from the <Stream> of this TwiML")
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
    add("--auth-token", metavar="TOKEN", help="sign the handshake (default: with TWILIO_AUTH_TOKEN, if set)")
    add("--drop", action="store_true", help="hang up rudely: no stop, no Close")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    """Turn the command line into a `Plan`. Raises `OptionError`, `AudioError` or `TwimlError`."""
    settings = config.load()
    noun = twiml.read(twiml.load(options.twiml), options.twiml) if options.twiml else None
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
    if options.calls < 1:
        raise OptionError(f"--calls {options.calls}: it must be 1 or more")
    if options.seconds is not None and not 0 < options.seconds <= LONGEST_SECONDS:
        raise OptionError(
            f"--seconds {options.seconds:g}: it must be more than 0, and {LONGEST_SECONDS} at most"
        )
    return Plan(
        url=_url(options.url, noun, settings),
        tracks=_tracks(track, audio.read(options.audio), options.seconds),
        parameters=parameters,
        bidirectional=bidirectional,
        digits=options.digits,
        fast=options.fast,
        drop=options.drop,
        auth_token=options.auth_token or settings.twilio_auth_token,
        account_sid=settings.twilio_account_sid,
    )


def _url(given: str | None, noun: twiml.StreamNoun | None, settings: config.Settings) -> str:
    """Return the address to dial: the given one, else the TwiML's, else that of this machine's server."""
    url = given or (noun.url if noun else _own_server(settings))
    plain = url.startswith("ws://")
    if plain and noun and not given and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
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
