"""What Twilio does with the messages of a server: plays its audio to the caller, and returns its marks."""

import time
from collections.abc import Awaitable, Callable

from mediastreams.audio import mulaw
from mediastreams.audio.wav import WavFile
from mediastreams.caller.plan import OptionError, Plan
from mediastreams.caller.playout_buffer import Buffer
from mediastreams.protocol.messages import MessageError, SendMark, SendMedia, parse_sent


class Phone:
    """The phone of one call: `pick_up` begins, `receive` gets each message, `hang_up` ends.

    `play` is called every 20 ms meanwhile. `say` prints a line, `return_mark` returns a mark to the server.
    """

    def __init__(
        self,
        plan: Plan,
        stream_sid: str,
        say: Callable[[str], None],
        return_mark: Callable[[str], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._stream_sid = stream_sid
        self._say = say
        self._return_mark = return_mark
        self._began = time.monotonic()
        self._rate = plan.media_format.sample_rate
        self._buffer = Buffer(self._save_heard, self._rate)
        self._file: WavFile | None = None
        self._saved_to = 0  # the position behind what is in the file
        self._warned: set[int] = set()

    def pick_up(self) -> None:
        """Start the clock, and the file for --save-heard. Raises `OptionError` when it cannot be written."""
        self._began = time.monotonic()
        path = self._plan.options.save_heard
        if path is None:
            return
        try:
            path.unlink(missing_ok=True)
            self._file = WavFile(path, 1, self._rate)
        except OSError as error:
            raise OptionError(f"--save-heard {path}: {error.strerror}") from None
        self._save_heard(0, mulaw.SILENCE)  # a file begins with its first sample: the call's

    def hang_up(self) -> None:
        """Play no more, and close the file."""
        file = self._file
        if file is None:
            return
        now = self._now()
        self._buffer.play(now)
        self._save_heard(self._saved_to, mulaw.SILENCE * (round(now * self._rate) - self._saved_to))
        self._write(file.close)
        if self._file is not None:
            self._say(f"Heard: {file.samples / self._rate:.2f} s, saved in {self._plan.options.save_heard}")
            self._file = None

    async def receive(self, data: str | bytes) -> None:
        """Act on one message of the server, or warn of it once a code, as Twilio does."""
        if not self._plan.stream.bidirectional:
            return self._warn(31924, "the server sends on a unidirectional stream (<Start>)")
        if isinstance(data, bytes):
            return self._warn(31950, "the server sent a binary message; Twilio takes text only")
        try:
            message = parse_sent(data)
        except MessageError as error:
            return self._warn(31951, f"invalid message: {error}")
        if message.stream_sid != self._stream_sid:
            return self._warn(31951, f"invalid message: $.streamSid: not this stream's, {message.stream_sid}")
        now = self._now()
        if isinstance(message, SendMedia):
            if self._buffer.media(message.media.payload, now):
                self._warn(31931, "more than 10 minutes of audio wait to be played; it is discarded")
        elif isinstance(message, SendMark):
            self._buffer.mark(message.mark.name, now)
        else:
            self._buffer.clear(now)
        await self.play()

    async def play(self) -> None:
        """Play what is due, and return the marks behind it."""
        for name in self._buffer.play(self._now()):
            await self._return_mark(name)

    def _save_heard(self, position: int, mulaw: bytes) -> None:
        if self._file is not None:
            self._saved_to = position + len(mulaw)
            self._write(self._file.put, 0, position, mulaw)

    def _write(self, write: Callable[..., None], *arguments: object) -> None:
        try:
            write(*arguments)
        except OSError as error:
            self._file = None
            self._say(f"Warning: {self._plan.options.save_heard} cannot be written: {error.strerror}")

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _warn(self, code: int, text: str) -> None:
        if code not in self._warned:
            self._warned.add(code)
            self._say(f"Warning {code}: {text}")
