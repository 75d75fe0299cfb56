"""The calls of all servers that have the same REDIS_URL, as a source for the page."""

import logging
from collections.abc import Callable, Set

import gevent
from gevent.event import Event

from mediastreams.cluster.connection import Shard
from mediastreams.protocol.messages import Track
from mediastreams.viewers.answers import ASK_SECONDS, Answers
from mediastreams.viewers.call import Told
from mediastreams.viewers.calls import LiveCalls, Watcher
from mediastreams.viewers.channels import Channels, Listening
from mediastreams.viewers.messages import Changed, Detail, Levels, Removed, Snapshot
from mediastreams.viewers.others import Others
from mediastreams.viewers.wire import ASK, TELL, Interest, WireError, decode_ask, encode_ask

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
_TICK_SECONDS = 0.1
_FINISH_SECONDS = 1.0
_PAUSE = 0.05  # seconds between two questions


class AllCalls:
    """The calls of this server and of all others (`Calls`), and what the others' pages get of this one's.

    While no server has a page open, it only listens whether one asks. For the server's thread.
    """

    is_alone = False
    """Whether a page is open, and Redis is away."""

    def __init__(self, own: LiveCalls, name: Callable[[], str], shard: Shard) -> None:
        """`own` has the calls of this process. `name` returns the name of the server, when it starts."""
        self._own = own
        self._name = name
        self._shard = shard
        self._server: str
        self._channels: Channels
        self._answers: Answers
        self._others: Others
        self._is_open = False  # whether `own` is
        self._ticking: gevent.Greenlet[[], None] | None = None
        self._complained: set[str] = set()  # of which channels
        # Of the pages of this server:
        self._watcher: Watcher | None = None
        self._interest = Interest()
        self._listening: Listening | None = None
        self._levels: dict[str, dict[Track, float | None]] = {}  # of this server's calls
        self._has_levels = False  # whether some are to be told
        self._is_to_ask = Event()
        self._asks_all = False
        self._has_asked = False
        self._is_heard = True  # whether Redis took the last question
        self._details: set[str] = set()  # that are to be asked for
        self._servers: int | None = None  # how many others there are; None: not known yet
        self._is_settled = Event()

    def start(self) -> None:
        """Answer other servers from now on; for the process that serves."""
        self._server = self._own.server = self._name()
        self._channels = Channels(self._shard)
        self._answers = Answers(self._server, self._own, lambda data: self._channels.publish(TELL, data))
        self._others = Others(self._server, self._tell_watcher)
        self._channels.listen(ASK, self._take_ask)
        gevent.spawn(self._ask_again)

    def finish(self) -> None:
        """Send other servers what waits, a second at most: the process is about to end."""
        self._answers.finish(_FINISH_SECONDS)

    def open(self, watcher: Watcher) -> None:
        """Tell `watcher` from now on."""
        self._watcher = watcher
        self._others = Others(self._server, self._tell_watcher)
        self._servers = None
        self._is_settled.clear()
        self._listening = self._channels.listen(TELL, self._take_told, self._note_listening)
        self._update()

    def close(self) -> None:
        """Undo `open`."""
        self._watcher = None
        self.is_alone = False
        if self._listening is not None:
            self._listening.close()
        self._is_to_ask.set()  # for the last time
        self._update()

    def settle(self) -> None:
        """Wait until all servers have told of their calls, a second at most."""
        self._is_settled.wait(SETTLE_SECONDS)

    def snapshot(self) -> Snapshot:
        """Return the calls of all servers, newest first."""
        own, others = self._own.snapshot(), self._others.rows()
        live = [*own.live, *(row for row in others if row.ended_at is None)]
        ended = [*own.ended, *(row for row in others if row.ended_at is not None)]
        live.sort(key=lambda row: row.started_at, reverse=True)
        ended.sort(key=lambda row: row.ended_at or 0.0, reverse=True)
        return Snapshot(live, ended)

    def detail(self, id: str) -> Detail | None:
        """Return what there is of a call of this server; ask for that of another's, which is told later."""
        if self._others.row(id) is not None:
            self._details.add(id)
            self._is_to_ask.set()
        return self._own.detail(id)

    def rate(self, id: str) -> int | None:
        """Return the sample rate of a call; None where it is not live, or not decodable."""
        row = self._others.row(id)
        if row is None:
            return self._own.rate(id)
        return row.rate if row.decodable and row.ended_at is None else None

    def watch(self, shown: Set[str], selected: Set[str], listened: Set[str]) -> None:
        """Tell more of these calls, see `Calls.watch`."""
        interest = Interest(frozenset(shown), frozenset(selected), frozenset(listened))
        if interest != self._interest:
            self._interest = interest
            self._is_to_ask.set()
        self._update()

    def tell(self, message: Changed | Removed | Levels | Told | Detail) -> None:
        """Take what has happened in this process, for its pages and those of other servers."""
        self._answers.tell(message)
        if isinstance(message, Levels):
            self._levels, self._has_levels = message.levels, True
        else:
            self._tell_watcher(message)

    def greet(self) -> None:
        """Do nothing: in this process all stays as it is."""

    def _update(self) -> None:
        """Let `own` tell what the pages of all servers want."""
        is_wanted = self._watcher is not None or self._answers.are_wanted
        if is_wanted and not self._is_open:
            self._own.open(self)
            self._ticking = self._ticking or gevent.spawn(self._tick)
        elif self._is_open and not is_wanted:
            self._own.close()
        self._is_open = is_wanted
        if is_wanted:
            ours, theirs = self._interest, self._answers.interest
            self._own.watch(
                ours.shown | theirs.shown, ours.selected | theirs.selected, ours.listened | theirs.listened
            )

    def _tick(self) -> None:
        while self._is_open:
            gevent.sleep(_TICK_SECONDS)
            if self._answers.tick():
                self._update()
            if self._watcher is None:
                continue
            self._others.expire()
            if self._others.unknown():
                self._is_to_ask.set()
            if self._has_levels:
                # In one message: a page takes a call of which it has none for a silent one.
                self._has_levels = False
                # Of what has ended none come any more, and the last ones stay.
                own = {id: each for id, each in self._levels.items() if self._own.rate(id) is not None}
                self._watcher.tell(Levels({**self._others.levels(), **own}))
        self._ticking = None

    def _ask_again(self) -> None:
        """Ask every other server every 2 s, and when something else is to be asked."""
        while True:
            self._is_to_ask.wait(ASK_SECONDS if self._watcher else None)
            self._is_to_ask.clear()
            if self._watcher is None:
                if self._has_asked:
                    self._has_asked = False
                    self._ask(is_last=True)
            elif self._listening is not None and self._listening.is_up:
                self._has_asked = True
                self._ask()
            gevent.sleep(_PAUSE)

    def _ask(self, is_last: bool = False) -> None:
        snapshots = None if self._asks_all else self._others.unknown()
        self._others.note_asked(snapshots)
        details, self._details = self._details, set()
        for id in self._interest.selected:  # lines of it may have been missed
            if snapshots is None or id.rpartition("/")[0] in snapshots:
                details.add(id)
        self._asks_all = False
        question = encode_ask(self._server, self._interest, snapshots, details, is_last)
        receivers = self._channels.publish(ASK, question)
        self._is_heard = receivers is not None
        if receivers is None:
            self._asks_all = True
        else:
            self._servers = receivers - 1  # this one listens as well
        self._look()

    def _take_ask(self, data: bytes) -> None:
        try:
            ask = decode_ask(data)
        except WireError as error:
            self._complain(ASK, error)
            return
        if ask.server != self._server:
            self._answers.note(ask)
            self._update()

    def _take_told(self, data: bytes) -> None:
        try:
            self._has_levels |= self._others.take(data)
        except WireError as error:
            self._complain(TELL, error)
            return
        self._look()

    def _note_listening(self, is_up: bool) -> None:
        if is_up:
            self._asks_all = True
            self._is_to_ask.set()
        self._look()

    def _look(self) -> None:
        """See whether all servers have told of their calls, and whether Redis is away."""
        if self._watcher is None or self._listening is None:
            return
        is_alone = not self._is_heard or self._listening.is_up is False
        if is_alone or (self._servers is not None and self._others.count_known() >= self._servers):
            self._is_settled.set()
        if is_alone is not self.is_alone:
            self.is_alone = is_alone
            self._watcher.greet()

    def _tell_watcher(self, message: Changed | Removed | Told | Detail) -> None:
        if self._watcher is not None:
            self._watcher.tell(message)

    def _complain(self, channel: str, error: WireError) -> None:
        if channel not in self._complained:
            self._complained.add(channel)
            logger.warning("Redis's channel %s has a message that is not of a server: %s", channel, error)
