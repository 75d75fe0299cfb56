"""One simulated call, from the handshake to `stop`, at the pace of a call."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from mediastreams.caller import http
from mediastreams.caller.phone import Phone
from mediastreams.caller.plan import CHUNK_BYTES, CHUNK_MS, Callback, Plan
from mediastreams.caller.websocket import CallError, WebSocket, dial
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
    Start,
    StartMetadata,
    Stop,
    StopMetadata,
)

FIRST_TIMESTAMP = 155  # ms, as in a captured call; it is not 0
FIRST_DIGIT, DIGIT_EVERY = 25, 12  # chunks: keys are pressed from 0.5 s on, four a second
CHUNKS_PER_SECOND = 1000 // CHUNK_MS


class Call:
    """One simulated call; `run` makes it, in the task that calls it.

    `say` prints a line of the call's progress. `shows_seconds` also shows each second on a terminal.
    """

    def __init__(
        self, plan: Plan, call_sid: str, say: Callable[[str], None], *, shows_seconds: bool = False
    ) -> None:
        self._plan = plan
        self._call_sid = call_sid
        self._stream_sid = "MZ" + secrets.token_hex(16)
        self._say = say
        self._shows_seconds = shows_seconds
        self._sent = 0
        self._sequence_number = 0
        self._hung_up = False
        self._stopped = False
        self._phone = Phone(plan, self._stream_sid, say, self._return_mark)
        self._told: asyncio.Task[None] | None = None
        self._websocket: WebSocket

    def hang_up(self) -> None:
        """End the call early, with what Twilio sends when a person hangs up."""
        self._hung_up = True

    async def run(self) -> None:
        """Call, speak and hang up. Raises `CallError` where Twilio would report an error.

        The `statusCallback` is told in any case.
        """
        self._say(f"Calling {self._plan.url}")
        try:
            self._websocket = await dial(self._plan.url, self._plan.signed_url, self._plan.auth_token)
            await self._converse()
        except CallError as error:
            self._tell("stream-error", error.code)
            raise
        finally:
            self._phone.hang_up()
            if self._told is not None:
                await self._told

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
        await self._send(Connected(protocol="Call", version="1.0.0"))
        start = StartMetadata(
            account_sid=plan.account_sid,
            stream_sid=self._stream_sid,
            call_sid=self._call_sid,
            tracks=tuple(plan.tracks),
            custom_parameters=plan.parameters,
        )
        self._phone.pick_up()
        await self._send(Start(self._next(), start, self._stream_sid))
        self._tell("stream-started")
        seconds = plan.chunks * CHUNK_MS / 1000
        self._say(f"Stream {self._stream_sid} started: {' and '.join(plan.tracks)}, {seconds:.2f} s")
        await self._speak()
        if plan.drop:
            await self._websocket.drop()
            self._say(f"Dropped: {self._sent} messages sent, no stop, no Close")
            self._tell("stream-error", 31903)
            return
        self._stopped = True
        await self._send(Stop(self._next(), StopMetadata(plan.account_sid, self._call_sid), self._stream_sid))
        await self._websocket.close()
        self._tell("stream-stopped")
        self._say(f"Stopped: {self._sent} messages sent")

    async def _speak(self) -> None:
        digits = list(self._plan.digits)
        began = time.monotonic()
        chunk = 0
        for i in range(self._plan.chunks):
            # Let the other tasks run in any case.
            due = 0.0 if self._plan.fast else began + i * CHUNK_MS / 1000
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self._hung_up:
                return
            if self._shows_seconds and not self._plan.fast and i % CHUNKS_PER_SECOND == 0:
                print(f"\r{i // CHUNKS_PER_SECOND} s, {self._sent} messages", end="\r", flush=True)
            for track, track_audio in self._plan.tracks.items():
                chunk += 1
                media = MediaMetadata(
                    track=track,
                    chunk=chunk,
                    timestamp=FIRST_TIMESTAMP + i * CHUNK_MS,
                    payload=track_audio[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES],
                )
                await self._send(Media(self._next(), media, self._stream_sid))
            if digits and i >= FIRST_DIGIT and (i - FIRST_DIGIT) % DIGIT_EVERY == 0:
                await self._press(digits.pop(0))
        for digit in digits:  # the call is too short for a person's pace
            await self._press(digit)

    async def _press(self, digit: str) -> None:
        await self._send(Dtmf(self._stream_sid, self._next(), DtmfMetadata(digit=digit)))
        self._say(f"Pressed {digit}")

    async def _return_mark(self, name: str) -> None:
        """Return a mark to the server, while the stream lasts."""
        if self._stopped or self._websocket.closed:
            return
        with contextlib.suppress(CallError):  # the call itself will meet it, and say so
            await self._send(Mark(self._next(), self._stream_sid, MarkMetadata(name)))

    def _next(self) -> int:
        self._sequence_number += 1
        return self._sequence_number

    async def _send(self, message: Message) -> None:
        await self._websocket.send(message.to_json())
        self._sent += 1

    def _tell(self, event: str, error: int | None = None) -> None:
        """Tell the `statusCallback` of an event, after what it was told before, while the call goes on."""
        callback = self._plan.status_callback
        if callback is None:
            return
        nanoseconds = time.time_ns()
        second = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
        form = {
            "AccountSid": self._plan.account_sid,
            "CallSid": self._call_sid,
            "StreamSid": self._stream_sid,
            "StreamName": self._plan.name or self._stream_sid,
            "StreamEvent": event,
            "Timestamp": f"{second:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09}Z",
        }
        if error is not None:
            form["StreamError"] = ERRORS[error].title
        self._told = asyncio.create_task(self._ask(callback, form, self._told))

    async def _ask(
        self, callback: Callback, form: dict[str, str], before: "asyncio.Task[None] | None"
    ) -> None:
        if before is not None:
            await before
        try:
            await http.ask(callback.method, callback.url, form, self._plan.auth_token, callback.signed_url)
        except CallError as error:
            self._say(f"Warning {error} (statusCallback, {form['StreamEvent']})")
