"""What the providers have in common: audio is kept until its words are final, and errors are tried again.

A provider ends a stream after some minutes, or the network does. What had no final words by then is sent
again to the next session, so that no word is lost between the two.
"""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from gevent.monkey import get_original

from mediastreams.audio.timeline import RATE
from mediastreams.transcription.base import Hear

LEAST = RATE // 10  # bytes: providers want 100 ms a message
MOST_KEPT = 30 * RATE
MOST_SENT_AGAIN = 10 * RATE
TRIES = 4
LATE = 4.0  # seconds after its end, in which a track may still get words
AT_ONCE = 0.5  # seconds: a session that has lasted so long has not simply been refused
FIRST_PAUSE = 0.5  # seconds; each is twice as long as the one before


class CloudError(Exception):
    """A session that a provider refused or ended; the sentence says which and why."""


class Ready(Protocol):
    """What a session waits for when there is nothing to send; `threading.Event` is one."""

    def set(self) -> None:
        """Let `wait` return."""

    def clear(self) -> None:
        """Let the next `wait` wait."""

    def wait(self) -> object:
        """Wait for `set`."""


class Backlog:
    """One track's audio, from the last final words on. Any thread may feed it, one sends it.

    `dropped` is how many samples were never sent, because nobody took them in time.
    """

    def __init__(self, hear: Hear, ready: Ready) -> None:
        self.dropped = 0
        self._hear = hear
        self._ready = ready
        self._lock = get_original("_thread", "allocate_lock")()
        self._kept = bytearray()
        self._begin = 0  # the place of the first sample that is kept
        self._sent = 0  # that of the first that the session has not
        self._session = 0  # that of the session's first
        self._until = 0.0  # monotonic seconds, when the session is to end
        self._sessions = 0  # how many there were
        self.has_ended = False
        self._ended_at = 0.0
        self.has_heard = False  # final words, in this session

    def feed(self, mulaw: bytes) -> None:
        """Keep audio to be sent; the oldest is dropped where there are more than 30 s."""
        with self._lock:
            self._kept += mulaw
            excess = len(self._kept) - MOST_KEPT
            if excess > 0:
                del self._kept[:excess]
                self._begin += excess
                self.dropped += max(self._begin - self._sent, 0)
                self._sent = max(self._sent, self._begin)
        self._ready.set()

    def finish(self) -> None:
        """Know that there is no more to come."""
        self._ended_at = time.monotonic()
        self.has_ended = True
        self._ready.set()

    @property
    def is_late(self) -> bool:
        """Whether nobody waits for words any more: the track has ended some seconds ago."""
        return self.has_ended and time.monotonic() - self._ended_at > LATE

    def wait_for_audio(self) -> bool:
        """Wait until there is audio that was not sent; say whether, or else the track has ended."""
        while not (there := self._sent < self._begin + len(self._kept)) and not self.has_ended:
            self._ready.clear()
            if self._sent == self._begin + len(self._kept) and not self.has_ended:
                self._ready.wait()
        return there

    def begin(self, seconds: float) -> None:
        """Begin a session of so many seconds, with what has no final words yet."""
        with self._lock:
            self._rewind()
            self._sessions += 1
            self._session = self._begin
            self._until = time.monotonic() + seconds
            self.has_heard = False

    def rewind(self) -> None:
        """Let what has no final words yet be sent again, its latest 10 s at the most."""
        with self._lock:
            self._rewind()

    def _rewind(self) -> None:
        excess = self._sent - self._begin - MOST_SENT_AGAIN
        if excess > 0:
            del self._kept[:excess]
            self._begin += excess
        self._sent = self._begin

    def chunks(self) -> Iterator[bytes]:
        """Return the session's audio as it comes, 100 ms at the least, until the session is to end."""
        return self._chunks(self._sessions)  # of this session, whenever somebody begins to iterate

    def _chunks(self, session: int) -> Iterator[bytes]:
        while time.monotonic() < self._until:
            self._ready.clear()
            with self._lock:
                if self._sessions != session:  # who asks has failed, in a thread that goes on (gRPC's do)
                    self._ready.set()
                    return
                chunk = bytes(self._kept[self._sent - self._begin :])
                ended = self.has_ended
                if len(chunk) < LEAST and not ended:
                    chunk = b""
                self._sent += len(chunk)
            if chunk:
                yield chunk
            elif ended:  # not only by now: what was fed before the end is still to be taken
                return
            else:
                self._ready.wait()

    def heard(self, text: str, final: bool, start: float, end: float) -> None:
        """Tell what the session has heard, in seconds of its own; forget audio whose words are final."""
        most = (self._sent - self._session) / RATE
        if not (isinstance(text, str) and 0 <= start <= end):  # also where one is not a number
            raise CloudError("a text without its time")
        end = min(end, most)
        start = min(start, end)
        before = self._session / RATE
        if final:
            self.has_heard = True
            with self._lock:
                place = min(self._session + int(end * RATE), self._sent)
                if place > self._begin:
                    del self._kept[: place - self._begin]
                    self._begin = place
        self._hear(text.strip(), final, before + start, before + end)


def recognise(
    backlog: Backlog,
    session: Callable[[Backlog], None],
    seconds: float,
    say: Callable[[str], None],
    pause: Callable[[float], object],
) -> None:
    """Hold one session after the other, of so many seconds each, until the audio ends.

    A `CloudError` is said once and tried again after a pause, up to 4 times without final words between; then
    no more.
    """
    failures = 0
    while backlog.wait_for_audio() and not backlog.is_late:
        backlog.begin(seconds)
        began = time.monotonic()
        try:
            session(backlog)
            if not (backlog.has_ended or backlog.has_heard) and time.monotonic() - began < AT_ONCE:
                raise CloudError("a session that ended at once")
        except CloudError as error:
            if backlog.is_late:
                return
            failures = 1 if backlog.has_heard else failures + 1
            if failures > TRIES:
                say(f"{error}: given up, no transcript from here")
                return
            if failures == 1:
                say(f"{error}: tried again")
            backlog.rewind()
            pause(FIRST_PAUSE * 2 ** (failures - 1))
        else:
            failures = 0
