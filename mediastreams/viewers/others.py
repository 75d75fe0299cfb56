"""The calls of other servers, as these tell of them."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import UNSET

from mediastreams.protocol.messages import Track
from mediastreams.viewers.answers import ASK_SECONDS, GONE_SECONDS
from mediastreams.viewers.call import Told
from mediastreams.viewers.calls import MAX_ENDED
from mediastreams.viewers.messages import Changed, Detail, Levels, Removed, Row, Snapshot
from mediastreams.viewers.wire import Counts, Message, Rows, decode_messages, decode_told

MAX_GONE = 10  # servers that are gone and whose calls are remembered
ENDING = "server lost"  # of the calls of a server that is gone
LEVELS_SECONDS = 1.0  # for which levels hold

_COUNTED = [name for name in Counts.__struct_fields__ if name != "id"]
# What changes of a row, and how the page calls it.
_CHANGING = {
    **{name: name for name in _COUNTED},
    "ending": "ending",
    "ended_at": "endedAt",
}


class Others:
    """The calls of all servers but one. For the server's thread."""

    def __init__(self, server: str, tell: Callable[[Changed | Removed | Told | Detail], None]) -> None:
        """`server` is the one whose messages are left out. `tell` gets what happens; levels it does not."""
        self._server = server
        self._tell = tell
        self._servers: dict[str, _Server] = {}
        self._all_asked_at = 0.0

    def take(self, data: bytes) -> bool:
        """Take a message of `ms:page:tell`; return whether it has levels. Raises `WireError`."""
        told = decode_told(data)
        if told.server == self._server:
            return False
        messages = decode_messages(told)
        server = self._servers.get(told.server)
        if server is None:
            server = self._servers[told.server] = _Server(told.server, self._all_asked_at)
        if server.is_gone or (server.number is not None and told.number != server.number + 1):
            server.is_known = server.is_gone = False
        server.number = told.number
        server.heard_at = time.monotonic()
        for message in messages:
            self._merge(server, message)
        return any(isinstance(message, Levels) for message in messages)

    def unknown(self) -> list[str]:
        """Return the servers that are to be asked for all they have, because something of them was missed.

        Those that were asked a moment ago may still answer, and are left out.
        """
        until = time.monotonic() - ASK_SECONDS / 2
        return [server.name for server in self._servers.values() if server.is_to_be_asked(until)]

    def note_asked(self, names: list[str] | None) -> None:
        """Note that these servers are asked for all they have; None: each, and what it told is not all."""
        now = time.monotonic()
        if names is None:
            self._all_asked_at = now
        for server in self._servers.values():
            if names is None or server.name in names:
                server.asked_at, server.is_known = now, False

    def count_known(self) -> int:
        """Return how many servers' calls are known."""
        return sum(server.is_known and not server.is_gone for server in self._servers.values())

    def expire(self) -> None:
        """End the calls of servers that are gone."""
        now = time.monotonic()
        for server in list(self._servers.values()):
            if not server.is_gone and now - server.heard_at > GONE_SECONDS:
                self._lose(server)

    def rows(self) -> list[Row]:
        """Return the rows of all calls, those that have ended, too."""
        return [row for server in self._servers.values() for row in server.rows.values()]

    def row(self, id: str) -> Row | None:
        """Return the row of a call; None where it is not known."""
        server = self._servers.get(id.rpartition("/")[0])
        return server.rows.get(id) if server else None

    def levels(self) -> dict[str, dict[Track, float | None]]:
        """Return the latest levels of all calls of which a server tells some."""
        until = time.monotonic() - LEVELS_SECONDS
        servers = [server for server in self._servers.values() if server.levels_at > until]
        return {id: each for server in servers for id, each in server.levels.items()}

    def _merge(self, server: "_Server", message: Message) -> None:
        if isinstance(message, Snapshot):
            self._replace(server, [*message.live, *message.ended])
        elif isinstance(message, Rows):
            changed: list[Row | dict[str, Any]] = [*server.put(message.rows), *server.count(message.counts)]
            if changed:
                self._tell(Changed(changed))
        elif isinstance(message, Removed):
            self._remove(server, message.ids)
        elif isinstance(message, Levels):
            server.levels = {id: each for id, each in message.levels.items() if id in server.rows}
            server.levels_at = server.heard_at
        elif message.id in server.rows:
            self._tell(message)

    def _replace(self, server: "_Server", rows: list[Row]) -> None:
        """Take the rows of a snapshot, and tell what is different."""
        server.is_known = True
        before = {**server.rows}
        # The newest is the first of a snapshot, and the last of what is kept.
        server.rows.clear()
        server.put(reversed(rows))
        changed: list[Row | dict[str, Any]] = []
        for id, row in server.rows.items():
            if id not in before:
                changed.append(row)
            elif changes := _changes(before[id], row):
                changed.append(changes)
        if changed:
            self._tell(Changed(changed))
        if removed := [id for id in before if id not in server.rows]:
            self._tell(Removed(removed))

    def _lose(self, server: "_Server") -> None:
        server.is_gone = True
        server.levels.clear()
        if lost := [row for row in server.rows.values() if row.ended_at is None]:
            for row in lost:
                row.ending, row.ended_at = ENDING, time.time()
            self._tell(Changed(lost))
        self._remove(server, [*server.rows][:-MAX_ENDED])
        # The others stay in the order in which they were lost.
        self._servers[server.name] = self._servers.pop(server.name)
        gone = [each for each in self._servers.values() if each.is_gone]
        for oldest in gone[:-MAX_GONE]:
            self._remove(oldest, [*oldest.rows])
            del self._servers[oldest.name]

    def _remove(self, server: "_Server", ids: Iterable[str]) -> None:
        if removed := [id for id in ids if server.rows.pop(id, None)]:
            self._tell(Removed(removed))


class _Server:
    """What is known of another server."""

    number: int | None = None
    """The number of its last message."""
    is_known = False
    """Whether its rows are all that it has."""
    is_gone = False
    heard_at = 0.0
    levels_at = 0.0

    def __init__(self, name: str, asked_at: float) -> None:
        self.name = name
        self.asked_at = asked_at
        self.rows: dict[str, Row] = {}
        self.levels: dict[str, dict[Track, float | None]] = {}

    def is_to_be_asked(self, until: float) -> bool:
        return not self.is_known and not self.is_gone and self.asked_at < until

    def put(self, rows: Iterable[Row]) -> list[Row]:
        """Keep rows of its calls; return them, without those that are none of them."""
        own = [row for row in rows if row.id.rpartition("/")[0] == self.name]
        self.rows.update((row.id, row) for row in own)
        return own

    def count(self, counts: Iterable[Counts]) -> list[dict[str, Any]]:
        """Note what has changed of its calls; return that of those that are known."""
        changed = []
        for each in counts:
            if (row := self.rows.get(each.id)) is None:
                continue
            changes = {name: value for name in _COUNTED if (value := getattr(each, name)) is not UNSET}
            for name, value in changes.items():
                setattr(row, name, value)
            changed.append({"id": each.id, **changes})
        return changed


def _changes(before: Row, now: Row) -> dict[str, Any]:
    """Return what the page gets of a row that has changed; nothing where it has not."""
    changes = {
        of_page: value
        for name, of_page in _CHANGING.items()
        if (value := getattr(now, name)) != getattr(before, name)
    }
    return {"id": now.id, **changes} if changes else {}
