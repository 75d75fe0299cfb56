"""One simulated call, from the handshake to `stop`, at the pace of a call."""

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from mediastreams.caller import http
from mediastreams.caller.phone import Phone
from mediastreams.caller.plan import CHUNK_MS, Plan
from mediastreams.caller.websocket import CallError, WebSocket, dial
from mediastreams.protocol import messages
from mediastreams.protocol.error_codes import ERRORS

FIRST_TIMESTAMP = 155  # ms, as in a captured call; it is not 0
FIRST_DIGIT, DIGIT_EVERY = 25, 12  # chunks: keys are pressed from 0.5 s on, four a second
CHUNKS_PER_SECOND = 1000 // CHUNK_MS


class Call:
    """One simulated call; `run` makes it, in the task that calls it.

    `say` prints a line of the call's progress. A terminal also shows the seconds of a single call.
    """

    def __init__(self, plan: Plan, call_sid: str, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._call_sid = call_sid
        self._stream_sid = "MZ" + secrets.token_hex(16)
        self._say = say
        options = plan.options
        has_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: it was closed before the start
        self._shows_seconds = options.calls == 1 and not options.fast and has_terminal
        self._sent = 0
        self._sequence_number = 0
        self._hung_up = False
        self._stopped = False
        self._phone = Phone(plan, self._stream_sid, say, self._return_mark)
        self._reports: list[asyncio.Task[None]] = []
        self._reporting = asyncio.Lock()
        self._websocket: WebSocket

    def hang_up(self) -> None:
        """End the call early, with what Twilio sends when a person hangs up."""
        self._hung_up = True

    async def run(self) -> None:
        """Call, speak and hang up. Raises `CallError` when Twilio would report an error.

        Returns after the `statusCallback` has got its reports, also of an error.
        """
        url = self._plan.stream.url
        self._say(f"Calling {url}")
        try:
            self._websocket = await dial(url, self._plan.account.signature(url))
            await self._converse()
        except CallError as error:
            self._report("stream-error", error.code)
            raise
        finally:
            self._phone.hang_up()
            await asyncio.gather(*self._reports)

    async def _converse(self) -> None:
        self._say(f"Connected: {self._websocket.status}")
        listening = asyncio.create_task(self._listen())
        try:
            await self._stream()
        finally:
            self._websocket.abandon()
            await listening  # it ends with the connection

    async def _listen(self) -> None:
        async for message in self._websocket:
            await self._phone.receive(message)

    async def _stream(self) -> None:
        plan = self._plan
        await self._send(messages.Connected(protocol="Call", version="1.0.0"))
        start = messages.StartMetadata(
            account_sid=plan.account.sid,
            stream_sid=self._stream_sid,
            call_sid=self._call_sid,
            tracks=tuple(plan.tracks),
            media_format=plan.media_format,
            custom_parameters=plan.stream.parameters,
        )
        self._phone.pick_up()
        await self._send(messages.Start(self._next(), start, self._stream_sid))
        self._report("stream-started")
        seconds = plan.chunks * CHUNK_MS / 1000
        self._say(f"Stream {self._stream_sid} started: {' and '.join(plan.tracks)}, {seconds:.2f} s")
        await self._speak()
        if plan.options.drop:
            await self._websocket.drop()
            self._say(f"Dropped: {self._sent} messages sent, no stop, no Close")
            self._report("stream-error", 31903)
            return
        self._stopped = True
        stop = messages.StopMetadata(plan.account.sid, self._call_sid)
        await self._send(messages.Stop(self._next(), stop, self._stream_sid))
        self._say(f"Stopped: {self._sent} messages sent")
        self._phone.hang_up()  # not after the Close: the server may answer it late
        await self._websocket.close()
        self._report("stream-stopped")

    async def _speak(self) -> None:
        digits = list(self._plan.options.digits)
        began = time.monotonic()
        chunk = 0
        for i in range(self._plan.chunks):
            # Let the other tasks run in any case.
            due = 0.0 if self._plan.options.fast else began + i * CHUNK_MS / 1000
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self._hung_up:
                return
            await self._phone.play()
            if self._shows_seconds and i % CHUNKS_PER_SECOND == 0:
                with contextlib.suppress(OSError):  # the terminal is gone; the call goes on
                    print(f"\r{i // CHUNKS_PER_SECOND} s, {self._sent} messages", end="\r", flush=True)
            for track in self._plan.tracks:
                chunk += 1
                media = messages.MediaMetadata(
                    track=track,
                    chunk=chunk,
                    timestamp=FIRST_TIMESTAMP + i * CHUNK_MS,
                    payload=self._plan.payload(track, i),
                )
                await self._send(messages.Media(self._next(), media, self._stream_sid))
            if digits and i >= FIRST_DIGIT and (i - FIRST_DIGIT) % DIGIT_EVERY == 0:
                await self._press(digits.pop(0))
        for digit in digits:  # the call is too short for a person's pace
            await self._press(digit)

    async def _press(self, digit: str) -> None:
        key = messages.DtmfMetadata(digit=digit)
        await self._send(messages.Dtmf(self._stream_sid, self._next(), key))
        self._say(f"Pressed {digit}")

    async def _return_mark(self, name: str) -> None:
        """Return a mark to the server, while the stream lasts."""
        if not self._stopped:
            with contextlib.suppress(CallError):  # the call itself meets and reports it
                await self._send(messages.Mark(self._next(), self._stream_sid, messages.MarkMetadata(name)))

    def _next(self) -> int:
        self._sequence_number += 1
        return self._sequence_number

    async def _send(self, message: messages.Message) -> None:
        await self._websocket.send(message.to_json())
        self._sent += 1

    def _report(self, event: str, error: int | None = None) -> None:
        """Report an event to the `statusCallback`, after the earlier ones, while the call goes on."""
        stream = self._plan.stream
        if not stream.status_callback:
            return
        form = {
            "AccountSid": self._plan.account.sid,
            "CallSid": self._call_sid,
            "StreamSid": self._stream_sid,
            "StreamName": stream.name or self._stream_sid,
            "StreamEvent": event,
            "Timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z",
        }
        if error is not None:
            form["StreamError"] = ERRORS[error].title
        self._reports.append(asyncio.create_task(self._send_report(form)))

    async def _send_report(self, form: dict[str, str]) -> None:
        stream = self._plan.stream
        try:
            async with self._reporting:
                await http.ask(
                    stream.status_callback_method, stream.status_callback, form, self._plan.account
                )
        except CallError as error:
            self._say(f"Warning {error} (statusCallback, {form['StreamEvent']})")
