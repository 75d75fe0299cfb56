"""What goes to Redis and when, with a sender in this process and a Redis that fails in many ways."""

import time

import pytest
from redis.exceptions import ResponseError
from support.published import announced, entries
from support.server import wait_until
from support.streams import SID, FakeConnection, start, warnings

from mediastreams.cluster import connection, sender
from mediastreams.cluster.connection import AwayError, Shard
from mediastreams.cluster.entries import CALLS, Announced, audio_key, encode, encode_item
from mediastreams.cluster.outbox import Outbox
from mediastreams.cluster.sender import Sender
from mediastreams.config import Settings
from mediastreams.streams.stream import Stream

OTHER = "MZ" + "f" * 32
KEY = audio_key(SID)


def make_outbox(sid=SID, call="c", window=10.0):
    stream = Stream(FakeConnection(), Settings())
    stream.receive(start(sid=sid).to_json())
    outbox = Outbox(stream, sid, call, window)
    outbox.announcement = encode(Announced(call, "s", 1.5, 30.0, start(sid=sid)))
    return outbox


def chunk(seconds=0.02):
    return encode_item(("media", 1, "inbound", 1, 0, bytes(int(8000 * seconds)), 0))


def end(outbox):
    outbox.put_last([encode_item(("end", "stop", 1.5))])


class Sending:
    """A sender whose ticks are the test's."""

    def __init__(self, url, window=10.0):
        self.done, self.figures = [], []
        self.shard = Shard(url)
        self.sender = Sender(self.shard, window, self.done.append, self.figures.append)
        self.add = self.sender.add

    def tick(self):
        """Send what there is of all calls, each of which is in one group."""
        for _ in range(sender._GROUPS):
            self.sender._tick(time.monotonic())

    def tick_until(self, condition):
        def is_so():
            self.tick()
            return condition()

        wait_until(is_so)


@pytest.fixture
def sending(redis_server):
    return Sending(redis_server.url)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.3)


def numbers(client, sid=SID):
    return [entry.n for entry in entries(client, sid)]


class TestSending:
    def test_a_call(self, sending, redis_client):
        outbox = make_outbox()
        sending.add(outbox)
        sending.tick()
        assert [call.call for call in announced(redis_client)] == ["c"]
        assert redis_client.exists(KEY) == 0
        outbox.put([chunk()])
        outbox.put([chunk()])
        sending.tick()
        assert numbers(redis_client) == [1, 2]
        assert not sending.done
        end(outbox)
        sending.tick()
        assert numbers(redis_client) == [1, 2, 3]
        assert sending.done == [outbox]
        assert sending.sender.is_idle
        sending.tick()
        assert len(announced(redis_client)) == 1
        assert numbers(redis_client) == [1, 2, 3]

    def test_the_announcement_is_there_before_the_first_entry(self, sending, redis_client):
        outbox = make_outbox()
        outbox.put([chunk()])
        sending.add(outbox)
        sending.tick()
        ((announced_at, _),) = redis_client.xrange(CALLS)
        ((entered_at, _),) = redis_client.xrange(KEY)
        assert announced_at <= entered_at

    def test_what_waits_leaves_four_times_as_fast(self, sending, redis_client):
        outbox = make_outbox()
        for _ in range(10):
            outbox.put([chunk()])
        sending.add(outbox)
        for expected in (4, 8, 10):
            sending.tick()
            assert len(numbers(redis_client)) == expected

    def test_hundreds_of_calls(self, sending, redis_client):
        sids = [f"MZ{n:032x}" for n in range(600)]
        for sid in sids:
            outbox = make_outbox(sid, sid)
            outbox.put([chunk()])
            end(outbox)
            sending.add(outbox)
        sending.tick()
        assert [call.call for call in announced(redis_client)] == sids
        assert all(numbers(redis_client, sid) == [1, 2] for sid in sids)
        assert len(sending.done) == 600

    def test_it_expires(self, sending, redis_client):
        outbox = make_outbox()
        outbox.put([chunk()])
        sending.add(outbox)
        sending.tick()
        assert redis_client.ttl(KEY) == 3610
        redis_client.expire(KEY, 100)
        outbox.put([chunk()])
        sending.tick()
        assert redis_client.ttl(KEY) == 100  # not each time
        outbox.expires_at = 0
        outbox.put([chunk()])
        sending.tick()
        assert redis_client.ttl(KEY) == 3610
        end(outbox)
        sending.tick()
        assert redis_client.ttl(KEY) == 3600

    def test_it_expires_also_where_its_first_entry_comes_later(self, sending, redis_client):
        """Nobody else would delete it where the server is killed."""
        outbox = make_outbox()
        sending.add(outbox)
        sending.tick()
        assert redis_client.exists(KEY) == 0
        outbox.put([chunk()])
        sending.tick()
        assert redis_client.ttl(KEY) == 3610

    def test_a_worker_that_has_finished_before_the_end_lets_it_go(self, sending, redis_client):
        outbox = make_outbox()
        outbox.put([chunk()])
        sending.add(outbox)
        sending.tick()
        outbox.has_stopped = True
        outbox.put([chunk()])
        sending.tick()
        assert redis_client.ttl(KEY) == 3600
        redis_client.expire(KEY, 60)
        end(outbox)
        sending.tick()
        assert numbers(redis_client) == [1, 2, 3]
        assert redis_client.ttl(KEY) == 60
        assert sending.done == [outbox]

    def test_nothing_is_left_to_be_sent_of_a_call_that_has_ended(self, sending, redis_client):
        outbox = make_outbox()
        outbox.has_stopped = True
        outbox.put([chunk()])
        sending.add(outbox)
        sending.tick()
        outbox.has_ended = True  # its last entry was taken a moment before
        sending.tick()
        assert sending.done == [outbox]

    def test_what_is_older_than_the_window_goes(self, redis_server, redis_client):
        sending = Sending(redis_server.url, window=0.5)
        outbox = make_outbox()
        sending.add(outbox)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            outbox.put([chunk(0.5)])  # Redis deletes nodes of 4 kB, which are one entry here
            sending.tick()
        at = [int(id.split(b"-")[0]) for id, _ in redis_client.xrange(KEY)]
        assert 400 < at[-1] - at[0] < 1000

    def test_an_hour_after_its_end_a_call_is_announced_no_more(self, sending, redis_client, monkeypatch):
        monkeypatch.setattr(sender, "KEPT_SECONDS", 1)
        for sid in (SID, OTHER):
            outbox = make_outbox(sid, sid)
            sending.add(outbox)
            if sid == SID:
                end(outbox)
        sending.tick()
        assert len(announced(redis_client)) == 2
        sending.tick_until(lambda: len(announced(redis_client)) == 1)
        assert announced(redis_client)[0].call == OTHER
        assert redis_client.ttl(KEY) <= 1

    def test_what_a_server_that_died_has_left_goes_after_a_day(self, sending, redis_client):
        for hours in (30, 20):
            redis_client.xadd(CALLS, {"a": bytes(5000)}, id=int((time.time() - hours * 3600) * 1000))
        sending.add(make_outbox())
        sending.tick()
        (id, _), _ = redis_client.xrange(CALLS)
        assert int(id.split(b"-")[0]) > (time.time() - 21 * 3600) * 1000


class TestAway:
    def test_nothing_is_lost(self, sending, redis_server, redis_client):
        outbox = make_outbox()
        sending.add(outbox)
        outbox.put([chunk()])
        sending.tick()
        redis_server.kill()
        for _ in range(5):
            outbox.put([chunk()])
            sending.tick()
        assert sending.shard.is_away
        end(outbox)
        assert not sending.sender.is_idle
        assert sending.sender.unsent() == pytest.approx(5 * 0.02)
        redis_server.start()
        sending.tick_until(lambda: sending.done)
        assert numbers(redis_client) == [1, 2, 3, 4, 5, 6, 7]
        assert len(announced(redis_client)) == 1
        assert outbox.dropped == 0

    def test_what_was_there_before_stays_for_a_while(self, redis_server, redis_client, monkeypatch):
        """For workers, which come back later."""
        monkeypatch.setattr(sender, "_GRACE", 60.0)
        sending = Sending(redis_server.url, window=0.2)
        outbox = make_outbox()
        sending.add(outbox)
        outbox.put([chunk(0.5)])
        sending.tick()
        redis_server.kill()
        sending.tick()
        redis_server.start()
        wait_until(lambda: not sending.tick() and not sending.shard.is_away)
        for _ in range(3):
            outbox.put([chunk(0.5)])
            sending.tick()
        assert numbers(redis_client)[0] == 1
        sending.sender._keep_until = time.monotonic()  # the while is over

        def is_trimmed():
            outbox.put([chunk(0.5)])
            sending.tick()
            return numbers(redis_client)[0] > 1

        wait_until(is_trimmed)

    def test_a_connection_that_is_lost_in_the_middle(self, sending, redis_server, redis_client, caplog):
        """Redis has got the commands, but nobody knows: an entry comes again, an announcement does not."""
        sending.tick()
        outboxes = [make_outbox(sid, sid) for sid in (SID, OTHER)]
        redis_server.suspend()
        for outbox in outboxes:
            sending.add(outbox)
            outbox.put([chunk()])
        sending.tick()
        assert sending.shard.is_away
        assert all(outbox.is_doubtful for outbox in outboxes)
        redis_server.resume()
        for outbox in outboxes:
            outbox.put([chunk()])
            end(outbox)
        sending.tick_until(lambda: len(sending.done) == 2)
        assert [call.call for call in announced(redis_client)] == [SID, OTHER]
        assert redis_client.xlen(KEY) == 4
        assert numbers(redis_client) == numbers(redis_client, OTHER) == [1, 2, 3]
        assert [line.partition(" is ")[2][:4] for line in warnings(caplog)] == ["away", "back"]

    def test_an_announcement_that_was_lost_on_the_way(self, sending, redis_server, redis_client):
        redis_client.xadd(CALLS, {"a": "b"})
        sending.tick()
        outbox = make_outbox()
        sending.add(outbox)
        redis_server.kill()
        sending.tick()
        assert outbox.is_doubtful
        redis_server.start()
        sending.tick_until(lambda: outbox.announced)
        assert not outbox.is_doubtful
        redis_client.xtrim(CALLS, maxlen=1, approximate=False)
        assert [call.call for call in announced(redis_client)] == ["c"]

    def test_a_call_of_which_nothing_is_left(self, redis_server, figures, caplog):
        redis_server.kill()
        sending = Sending(redis_server.url)
        outbox = make_outbox(window=0.2)
        sending.add(outbox)
        outbox.put([chunk()])
        end(outbox)
        sending.tick_until(lambda: sending.done)
        assert sending.sender.is_idle
        assert warnings(caplog)[1:] == [
            f"Stream {SID}: 0.0 s of its audio were not published, "
            f"Redis {sending.shard.name} was away or slow for too long"
        ]

    def test_a_call_that_was_announced_still_ends(self, sending, redis_server, redis_client, caplog):
        outbox = make_outbox(window=0.3)
        sending.add(outbox)
        outbox.put([chunk(0.2)])
        sending.tick()
        redis_server.kill()
        for _ in range(3):
            outbox.put([chunk(0.2)])
        end(outbox)
        sending.tick_until(lambda: outbox.dropped)
        redis_server.start()
        sending.tick_until(lambda: sending.done)
        assert numbers(redis_client) == [1, 5]
        assert f"Stream {SID}: 0.6 s of its audio were not published" in caplog.text


class TestRefusals:
    def test_no_room(self, sending, redis_client, caplog, monkeypatch):
        monkeypatch.setattr(connection, "_BACK_SECONDS", 0.3)
        monkeypatch.setattr(sender, "_FIGURES_EVERY", 0.1)
        outbox = make_outbox()
        sending.add(outbox)
        outbox.put([chunk()])
        sending.tick()
        redis_client.config_set("maxmemory", 1)
        for _ in range(3):
            outbox.put([chunk()])
            sending.tick()
        assert sending.shard.is_away
        redis_client.config_set("maxmemory", 0)
        end(outbox)
        sending.tick_until(lambda: sending.done and not sending.shard.is_away)
        assert redis_client.xlen(KEY) == 5
        assert numbers(redis_client) == [1, 2, 3, 4, 5]
        away, back = warnings(caplog)
        assert "is away: command not allowed when used memory" in away
        assert "is back after" in back

    def test_what_succeeded_beside_a_refusal_is_not_sent_again(self, sending, redis_client):
        redis_client.execute_command("ACL", "SETUSER", "default", "-@all", "+@all", "resetkeys", "~ms:{*")
        outbox = make_outbox()
        sending.add(outbox)
        outbox.put([chunk()])
        sending.tick()
        assert sending.shard.is_away
        assert outbox.is_empty
        redis_client.execute_command("ACL", "SETUSER", "default", "allkeys")
        sending.tick_until(lambda: outbox.announced)
        assert redis_client.xlen(KEY) == 1
        assert len(announced(redis_client)) == 1

    def test_one_call_that_redis_does_not_take(self, sending, redis_client, caplog):
        redis_client.set(KEY, "text")
        bad, good = make_outbox(), make_outbox(OTHER, "d")
        for outbox in (bad, good):
            sending.add(outbox)
            outbox.put([chunk()])
        sending.tick()
        bad.put([chunk()])
        end(bad)
        end(good)
        sending.tick()
        assert sending.done == [bad, good]
        assert numbers(redis_client, OTHER) == [1, 2]
        assert not sending.shard.is_away
        (line,) = warnings(caplog)
        assert line.startswith(f"Stream {SID}: not published any more: Redis {sending.shard.name} answers ")
        assert line.endswith("Operation against a key holding the wrong kind of value")

    def test_a_list_of_calls_that_is_none(self, sending, redis_client, caplog):
        redis_client.set(CALLS, "text")
        outbox = make_outbox()
        sending.add(outbox)
        sending.tick()
        assert sending.done == [outbox]
        (line,) = warnings(caplog)
        assert line.startswith(f"Stream {SID}: not published any more: ")

    def test_a_user_with_what_is_needed_and_no_more(self, redis_server, redis_client, caplog):
        allowed = "~ms:* +xadd +expire +xdel +xtrim"
        redis_client.execute_command("ACL", "SETUSER", "bob", "on", ">pass", *allowed.split())
        sending = Sending(f"redis://bob:pass@127.0.0.1:{redis_server.port}/0")
        outbox = make_outbox()
        sending.add(outbox)
        end(outbox)
        sending.tick()
        assert sending.done == [outbox]
        assert sending.figures[0].groups == {}
        assert warnings(caplog) == []


class TestFigures:
    def test_they_are_told(self, sending, redis_client):
        outbox = make_outbox(window=0.3)
        sending.add(outbox)
        outbox.put([chunk()])
        redis_client.xgroup_create(CALLS, "recording", "0", mkstream=True)
        sending.tick()
        (told,) = sending.figures
        assert told == (sending.shard.name, True, 1, 0.0, {"recording": (1, 0, 0)})
        sending.tick()
        assert len(sending.figures) == 1
        outbox.put([chunk(0.2)])
        sending.sender._figures_at = 0
        sending.tick()
        assert sending.figures[1][1:4] == (True, 1, 0.0)

    def test_what_was_dropped(self, sending, redis_server):
        outbox = make_outbox(window=0.3)
        sending.add(outbox)
        redis_server.kill()
        outbox.put([chunk(0.2)])
        sending.tick()
        assert sending.figures[0][1:] == (False, 0, 0.0, {})
        wait_until(lambda: outbox.drop_old() or outbox.dropped)
        sending.sender._figures_at = 0
        sending.tick()
        assert sending.figures[1][1:] == (False, 0, 0.2, {})
        end(outbox)
        sending.tick_until(lambda: sending.done)
        sending.sender._figures_at = 0
        sending.tick()
        assert sending.figures[2][1:] == (False, 0, 0.0, {})


class TestThread:
    def test_what_breaks_inside_is_shown_once_and_it_goes_on(
        self, sending, monkeypatch, caplog, redis_client
    ):
        failures = []

        def fail(*_):
            failures.append(1)
            raise KeyError("a fault")

        monkeypatch.setattr(sender, "pipeline", fail)
        outbox = make_outbox()
        outbox.put([chunk()])
        sending.add(outbox)
        sending.sender.start()
        sending.sender.start()
        wait_until(lambda: len(failures) >= 2)
        monkeypatch.undo()
        end(outbox)
        wait_until(lambda: sending.done)
        sending.sender.end()
        assert numbers(redis_client) == [1, 2]
        assert caplog.text.count("Traceback") == 1
        assert warnings(caplog) == [f"Redis {sending.shard.name}: calls could not be published"]


def test_a_shard_raises_what_a_command_cannot(sending, redis_client):
    redis_client.set("a", "text")
    with pytest.raises(ResponseError):
        sending.shard.run(lambda client: client.xlen("a"))
    with pytest.raises(AwayError):
        Sending("redis://127.0.0.1:1/0").shard.run(lambda client: client.ping())
