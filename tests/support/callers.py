"""Calls in a thread of their own, to be told how each went."""

import asyncio
import contextlib
import secrets
import threading
import time

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from mediastreams.protocol.messages import (
    Connected,
    Media,
    MediaMetadata,
    Start,
    StartMetadata,
    Stop,
    StopMetadata,
)
from support.server import SECONDS


class Callers:
    """Calls in a thread of their own: each speaks at a call's pace and hangs up; `outcomes` has how it went.

    That is its name, the seconds to its 101, and "stop" where it went through, else what it met. A message
    has 100 ms of audio: of 20 ms, 50 calls with TLS would need a core for themselves.
    """

    def __init__(self, url, **options):
        """Make them for a URL, with options of `websockets`, such as `ssl`."""
        self.outcomes = []
        self._url = url
        self._options = {"compression": None, "proxy": None, **options}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._calls = []
        self._answered = 0  # or refused
        self._changed = threading.Condition()

    def call(self, number, seconds, every=0.0, name=""):
        """Begin so many calls, one each so many seconds; return when the last one is answered."""
        for _ in range(number):
            self._calls.append(asyncio.run_coroutine_threadsafe(self._call(name, seconds), self._loop))
            time.sleep(every)  # their rate
        with self._changed:
            assert self._changed.wait_for(lambda: self._answered == len(self._calls), SECONDS)

    @contextlib.contextmanager
    def calling(self, seconds, every):
        """Begin a call each so many seconds while the block runs."""
        ending = threading.Event()

        def keep_calling():
            while not ending.wait(every):
                self._calls.append(asyncio.run_coroutine_threadsafe(self._call("", seconds), self._loop))

        thread = threading.Thread(target=keep_calling)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def finish(self):
        """Wait until all calls have ended."""
        for call in self._calls:
            call.result(2 * SECONDS)

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    async def _call(self, name, seconds):
        began = time.monotonic()
        answered = None
        try:
            async with connect(self._url, **self._options) as ws:
                answered = time.monotonic() - began
                self._note_answer()
                sid = f"MZ{secrets.token_hex(16)}"
                await ws.send(Connected("Call", "1.0.0").to_json())
                await ws.send(Start(1, StartMetadata("AC1", sid, sid), sid).to_json())
                for n in range(round(seconds * 10)):
                    media = MediaMetadata(chunk=n, timestamp=100 * n, payload=bytes(800))
                    await ws.send(Media(n + 2, media, sid).to_json())
                    await asyncio.sleep(max(began + (n + 1) / 10 - time.monotonic(), 0))
                await ws.send(Stop(n + 3, StopMetadata("AC1", sid), sid).to_json())
                await ws.close()
            self.outcomes.append((name, answered, "stop"))
        except (OSError, WebSocketException) as error:
            if answered is None:
                self._note_answer()
            self.outcomes.append((name, answered, repr(error)))

    def _note_answer(self):
        with self._changed:
            self._answered += 1
            self._changed.notify()
