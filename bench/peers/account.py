"""What the Python peers share: what `app.py` and its stream do with each message of a call."""

import asyncio
import atexit
import binascii
import json
import logging
import os
import signal
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

logging.basicConfig(level="INFO", format="[%(asctime)s] %(levelname)s in %(module)s: %(message)s")
logger = logging.getLogger(__name__)

LATENESS = os.environ.get("BENCH_LATENESS")  # the file that bench/lateness.py describes
handled: dict[str, array] = {}


def announce(port: int) -> None:
    """Print where the server listens."""
    if LATENESS:
        atexit.register(_write, Path(LATENESS).absolute())
    print(f"Server listening on: http://localhost:{port}", flush=True)


async def terminated() -> None:
    """Wait for SIGTERM."""
    event = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, event.set)
    await event.wait()


def _write(path: Path) -> None:
    path.write_text(json.dumps({sid: list(times) for sid, times in handled.items()}))


def _dumps(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


class Account:
    """One call's account: chunks and bytes of each track, and the messages lost.

    Where it `echoes`, `answers` holds the messages to send after each that was received, as
    `mediastreams/echo.py` sends them.
    """

    answers: Sequence[Any] = ()

    def __init__(
        self,
        echoes: bool,
        loads: Callable[[Any], Any] = json.loads,
        dumps: Callable[[Any], Any] = _dumps,
    ) -> None:
        self._echoes = echoes
        self._loads = loads
        self._dumps = dumps
        self._received = 0
        self._lost = 0
        self._next = 1
        self._tracks: dict[str, list[int]] = {}
        self._times: array | None = None
        logger.info("Connection accepted")

    def receive(self, data: Any) -> bool:
        """Account for a message; return False where it is the last."""
        self._received += 1
        message = self._loads(data)
        event = message["event"]
        if event == "media":
            media = message["media"]
            payload = binascii.a2b_base64(media["payload"])
            number = self._count(message)
            track = self._tracks.get(media["track"])
            if track is None:
                track = self._tracks[media["track"]] = [0, 0]
                logger.info("Media message: %d bytes", len(payload))
            track[0] += 1
            track[1] += len(payload)
            if self._echoes:
                self.answers = (self._media(message["streamSid"], payload),)
            if self._times is not None:
                self._times[number] = time.monotonic_ns()
            return True
        if event == "start":
            start = message["start"]
            if LATENESS:
                self._times = array("q", bytes(8 * (int(start["customParameters"]["messages"]) + 1)))
                handled[start["callSid"]] = self._times
            if self._echoes:
                sid = message["streamSid"]
                mark = {"event": "mark", "streamSid": sid, "mark": {"name": "echo begins"}}
                self.answers = self._media(sid, b"\xff" * 8000), self._dumps(mark)
        else:
            self.answers = ()
        if event != "connected":
            self._count(message)
        logger.info("%s Message received: %s", event.capitalize(), message)
        return event != "stop"

    def close(self) -> None:
        """Log the closing summary."""
        tracks = [f"{name} {chunks} chunks, {size} bytes" for name, (chunks, size) in self._tracks.items()]
        logger.info("Connection closed. Received a total of %d messages", self._received)
        logger.info("Stream: %s; %d messages lost", "; ".join(tracks), self._lost)

    def _media(self, sid: str, payload: bytes) -> Any:
        encoded = binascii.b2a_base64(payload, newline=False).decode()
        return self._dumps({"event": "media", "streamSid": sid, "media": {"payload": encoded}})

    def _count(self, message: dict[str, Any]) -> int:
        number = int(message["sequenceNumber"])
        if number != self._next:
            self._lost += number - self._next
        self._next = number + 1
        return number
