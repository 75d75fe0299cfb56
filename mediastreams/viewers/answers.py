"""Tells the pages of other servers what happens in this server's calls, while any of them asks."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent

from mediastreams.viewers.call import Told
from mediastreams.viewers.calls import Calls
from mediastreams.viewers.messages import Audio, Changed, Detail, Levels, Removed, Transcript, Wave
from mediastreams.viewers.wire import Ask, Interest, encode_message, encode_told

ASK_SECONDS = 2.0  # from one question to the next, and at most from one answer to the next
MAX_ASKERS = 100  # servers
GONE_SECONDS = 3 * ASK_SECONDS  # without a word, until a server is taken for gone
MAX_WAITING = 2_000_000  # bytes of texts and rows
MAX_AUDIO = 500  # parts, each of 100 ms of a track
MAX_WAVES = 500
_GATHER_SECONDS = 0.02  # what comes in this time is sent together


class Answers:
    """What other servers ask of this one, and what is sent to all of them. For the server's thread.

    What waits is bounded: of audio and waves the oldest are dropped, levels are replaced by later ones. Where
    too many texts wait all are dropped, and a number is left out: who asks notices, and asks for all again.
    """

    def __init__(self, server: str, calls: Calls, publish: Callable[[bytes], int | None]) -> None:
        """`publish` sends to all that listen, waits for that, and returns None where nothing was sent."""
        self._server = server
        self._calls = calls
        self._publish = publish
        self._askers: dict[str, tuple[float, Interest]] = {}  # each with when it asked
        self.interest = Interest()
        self._snapshot_is_wanted = False
        self._details: set[str] = set()
        self._texts: list[bytes] = []
        self._text_bytes = 0
        self._levels: bytes | None = None
        self._waves: deque[bytes] = deque(maxlen=MAX_WAVES)
        self._audio: deque[bytes] = deque(maxlen=MAX_AUDIO)
        self._number = 0
        self._sent_at = 0.0
        self._is_due = False  # whether a message is to be sent though nothing waits
        self._sending: gevent.Greenlet[[], None] | None = None

    @property
    def are_wanted(self) -> bool:
        """Whether a server asks."""
        return bool(self._askers)

    def note(self, ask: Ask) -> None:
        """Note what another server asks. What it is to get at once is made a moment later."""
        if ask.is_last:
            self._askers.pop(ask.server, None)
        elif ask.server in self._askers or len(self._askers) < MAX_ASKERS:
            self._askers[ask.server] = time.monotonic(), ask.interest
        self._unite()
        if ask.snapshots is None or self._server in ask.snapshots:
            self._snapshot_is_wanted = True
        self._details |= {id for id in ask.details if id.startswith(f"{self._server}/")}
        self._send_soon()

    def tell(self, message: Changed | Removed | Levels | Told | Detail) -> None:
        """Send on what happens, if somebody has asked for it."""
        if not self._askers:
            return
        interest = self.interest
        if isinstance(message, Levels):
            if levels := {id: each for id, each in message.levels.items() if id in interest.shown}:
                self._levels = encode_message(Levels(levels))
        elif isinstance(message, Audio):
            if message.id in interest.listened:
                self._audio.append(encode_message(message))
        elif isinstance(message, Wave):
            if message.id in interest.selected:
                self._waves.append(encode_message(message))
        elif (
            isinstance(message, Changed | Removed)
            or message.id in interest.selected
            or (isinstance(message, Transcript) and message.id in interest.shown)
        ):
            self._put(encode_message(message))
        self._send_soon()

    def tick(self) -> bool:
        """Let the others know that this server is there, and forget who asks no more; return whether one."""
        now = time.monotonic()
        gone = [name for name, (asked_at, _) in self._askers.items() if now - asked_at > GONE_SECONDS]
        for name in gone:
            del self._askers[name]
        if gone:
            self._unite()
        if self._askers and now - self._sent_at > ASK_SECONDS:
            self._is_due = True
            self._send_soon()
        return bool(gone)

    def finish(self, seconds: float) -> None:
        """Wait at most so long until all that waits has been sent."""
        if self._sending:
            self._sending.join(seconds)

    def _unite(self) -> None:
        interests = [interest for _, interest in self._askers.values()]
        self.interest = Interest(
            frozenset().union(*(each.shown for each in interests)),
            frozenset().union(*(each.selected for each in interests)),
            frozenset().union(*(each.listened for each in interests)),
        )

    def _put(self, data: bytes) -> None:
        if self._text_bytes > MAX_WAITING:
            self._drop_texts()
        self._texts.append(data)
        self._text_bytes += len(data)

    def _drop_texts(self) -> None:
        self._texts.clear()
        self._text_bytes = 0
        self._number += 1

    def _send_soon(self) -> None:
        if not self._sending:
            self._sending = gevent.spawn(self._send)

    def _send(self) -> None:
        while True:
            gevent.sleep(_GATHER_SECONDS)
            messages = self._take()
            if not self._askers or not (messages or self._is_due):
                self._sending = None
                return
            self._is_due = False
            self._number += 1
            self._sent_at = time.monotonic()
            self._publish(encode_told(self._server, self._number, messages))

    def _take(self) -> list[bytes]:
        """Take all that waits: texts first, so that what is made now is newer than all of them."""
        wanted, self._details = self._details, set()
        # Before the texts are taken: what they have is told as a text as well.
        details = [encode_message(self._calls.detail(id) or Detail(id, [], [], [], [])) for id in wanted]
        messages: list[Any] = self._texts
        self._texts, self._text_bytes = [], 0
        if self._snapshot_is_wanted:
            self._snapshot_is_wanted = False
            messages.append(encode_message(self._calls.snapshot()))
        messages += details
        if self._levels is not None:
            messages.append(self._levels)
            self._levels = None
        messages += [*self._waves, *self._audio]
        self._waves.clear()
        self._audio.clear()
        return messages
