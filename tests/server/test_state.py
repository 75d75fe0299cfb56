"""What the connections of a process share, and its drain."""

import gevent
import pytest
from support.handshake import KEY

from mediastreams.config import Settings
from mediastreams.server.state import ServerState

HANDSHAKE = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": KEY,
}


class Connection:
    awaits_turn = None

    def __init__(self, state, leaves):
        self.closed_with = None
        self._state = state
        self._leaves = leaves

    def look(self, now):
        pass

    def drain(self, code, reason):
        self.closed_with = code
        if self._leaves:
            self._state.leave(self)


@pytest.fixture
def counts():
    return []


@pytest.fixture
def state(counts):
    return ServerState(
        Settings(drain_timeout=0.3),
        finish=lambda seconds: counts.append(("finish", seconds)),
        count_live=lambda number: counts.append(("live", number)),
    )


def test_each_change_is_counted(state, counts):
    connection = Connection(state, leaves=True)
    state.join(connection)
    state.leave(connection)
    assert counts == [("live", 1), ("live", 0)]


def test_a_server_without_a_token_says_so_once(caplog):
    ServerState(Settings()).open()
    ServerState(Settings(twilio_auth_token="secret")).open()
    (record,) = caplog.records
    assert record.getMessage().startswith("TWILIO_AUTH_TOKEN is not set")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({}, None), ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, "version"), ({"REQUEST_METHOD": "POST"}, "method")],
)
def test_a_stream_is_admitted_or_refused(state, changes, reason):
    refused = state.refusal({**HANDSHAKE, **changes}, "/media")
    assert (refused and refused.reason) == reason


def test_what_a_stream_may(state):
    assert (state.max_message_bytes, state.idle_seconds) == (65536, 30)


def test_where_it_drains_or_is_full_no_stream_is_admitted():
    state = ServerState(Settings(max_streams=1))
    state.join(Connection(state, leaves=True))
    assert state.refusal(HANDSHAKE, "/media").reason == "streams"
    state.live.draining = True
    assert state.refusal(HANDSHAKE, "/media").reason == "draining"


class TestDrain:
    def test_pages_are_closed_before_anything_else(self, state, counts):
        connection = Connection(state, leaves=True)
        state.join(connection)
        state.close_pages = lambda: counts.append(("pages", state.live.draining, connection.closed_with))
        state.drain()
        assert counts[1] == ("pages", True, None)
        assert connection.closed_with == 1001

    def test_without_streams_it_only_finishes(self, state, counts, caplog):
        state.drain()
        assert state.live.draining
        assert counts == [("finish", 1.0)]  # at least a second
        assert caplog.records == []

    def test_a_stream_that_ends_by_itself_is_not_closed(self, state, counts, caplog):
        caplog.set_level("INFO")
        connection = Connection(state, leaves=True)
        state.join(connection)
        gevent.spawn(state.leave, connection)
        state.drain()
        assert connection.closed_with is None
        assert [record.getMessage() for record in caplog.records] == [
            "Draining: waiting up to 0.3 s for 1 live streams"
        ]

    def test_one_that_does_not_is_closed_with_1001(self, state, counts, caplog):
        connection = Connection(state, leaves=True)
        state.join(connection)
        state.drain()
        assert connection.closed_with == 1001
        assert [record.getMessage() for record in caplog.records] == ["Closing 1 streams that are still live"]
        assert counts[-1] == ("finish", 1.0)

    def test_what_is_left_of_the_time_is_for_what_the_streams_have_begun(self, counts):
        state = ServerState(Settings(drain_timeout=20), finish=counts.append)
        state.drain()
        assert counts == [pytest.approx(20, abs=1)]
