"""Workers as programs, with a redis-server; calls are published by the test, entry by entry."""

import os
import time

import pytest
from support.cluster import PublishedCall, pending
from support.receiver import receiving, settings
from support.recogniser import WORKER
from support.server import SECONDS, wait_until

from mediastreams.cluster import entries
from mediastreams.cluster import worker as module
from mediastreams.cluster.connection import Shard
from mediastreams.cluster.entries import Begun, Done, audio_key, decode_words, group_key
from mediastreams.cluster.group import LEASE_SECONDS, MAX_ATTEMPTS, Group
from mediastreams.cluster.job import Job, Kind
from mediastreams.cluster.worker import Loop, Slots
from mediastreams.consumers.base import Consumer

NOTING = "support.noting:Noting"
PRINTING = """
from mediastreams import Consumer

class Printing(Consumer):
    def stop(self):
        print(self.stream.name, "has ended")
"""


def chunks(lines):
    """Return the numbers of the chunks that a consumer got."""
    return [int(line.split()[2]) for line in lines if line.startswith("media")]


def has_stopped(lines):
    """Return whether a consumer was stopped."""
    return bool(lines) and lines[-1].startswith("stop")


def heard(lines, track="inbound"):
    """Return the audio of a track that a consumer got."""
    audio = bytearray()
    for line in lines:
        if line.startswith(f"audio {track} "):
            _, _, position, payload = line.split()
            payload = bytes.fromhex(payload)
            audio[int(position) : int(position) + len(payload)] = payload
    return audio


def test_a_call_from_its_start_to_its_end(redis_server, start_worker, notes):
    start_worker(NOTING)
    call = PublishedCall(redis_server, tracks=("inbound", "outbound")).announce()
    call.media()
    call.put(
        ("dtmf", 7, "inbound_track", "5", False), ("dtmf", 8, "inbound_track", "6", True), ("mark", 9, "m")
    )
    call.put(("transcript", "outbound", "Hello.", True, 1.0, 2.0, 0.5))
    call.media()
    call.put(("stop",))
    call.end()
    wait_until(lambda: any(line.startswith("stop") for line in notes(call)))
    lines = notes(call)
    assert lines[0] == "start CA" + "2" * 32
    assert chunks(lines) == [number for number in range(1, 21) for _ in call.tracks]
    assert {track: heard(lines, track) for track in call.tracks} == call.sent
    assert [line for line in lines if line.startswith(("dtmf", "mark", "transcript"))] == [
        "dtmf 5 5",
        "dtmf 6 (not shown)",
        "mark m",
        "transcript Transcript(track='outbound', text='Hello.', final=True, start=1.0, end=2.0, lag=0.5)",
    ]
    assert lines[-1] == "stop stop 20 0 0 0"
    wait_until(lambda: not pending(redis_server, NOTING))


def test_what_a_dead_worker_had_is_taken_over(redis_server, start_worker, notes):
    first = start_worker(NOTING)
    call = PublishedCall(redis_server).announce()
    call.media()
    wait_until(lambda: len(chunks(notes(call))) == 10)
    second = start_worker(NOTING)
    first.kill()
    killed_at = time.monotonic()
    call.media()
    wait_until(lambda: second.owned(redis_server, NOTING))
    assert LEASE_SECONDS - 1.5 < time.monotonic() - killed_at < SECONDS
    call.end()
    wait_until(lambda: notes(call)[-1].startswith("stop"))
    assert heard(notes(call)) == call.sent["inbound"]
    assert set(chunks(notes(call))) == set(range(1, 21))
    with redis_server.client() as client:
        assert client.hgetall(entries.TAKEOVERS) == {NOTING.encode(): b"1"}


def test_a_suspended_worker_finds_out_that_the_call_is_anothers(redis_server, start_worker, notes):
    first = start_worker(NOTING)
    call = PublishedCall(redis_server).announce()
    call.media()
    wait_until(lambda: len(chunks(notes(call))) == 10)
    second = start_worker(NOTING)
    first.suspend()
    call.media()
    wait_until(lambda: heard(notes(call)) == call.sent["inbound"])
    before = len(notes(call))
    first.resume()
    first.wait_for("is another worker's now")
    assert len(notes(call)) == before
    call.media()
    call.end()
    wait_until(lambda: notes(call)[-1].startswith("stop"))
    assert sum(line.startswith("stop") for line in notes(call)) == 1
    assert chunks(notes(call))[-10:] == list(range(21, 31))
    assert "Traceback" not in first.stop() + second.stop()


def test_sigterm_lets_calls_end(redis_server, start_worker, notes):
    worker = start_worker(NOTING, DRAIN_TIMEOUT="30")
    call = PublishedCall(redis_server).announce()
    call.media()
    wait_until(lambda: chunks(notes(call)))
    worker.process.terminate()
    worker.wait_for("Draining: waiting up to 30 s for 1 calls")
    later = PublishedCall(redis_server).announce()
    call.media()
    call.end()
    output = worker.stop(told=False)
    assert worker.process.returncode == 0
    assert "handed over" not in output
    assert notes(call)[-1] == "stop stop 20 0 0 0"
    assert not notes(later)


def test_sigterm_hands_calls_over(redis_server, start_worker, notes):
    first = start_worker(NOTING, DRAIN_TIMEOUT="0.1")
    call = PublishedCall(redis_server).announce()
    call.media()
    wait_until(lambda: chunks(notes(call)))
    first.process.terminate()
    output = first.stop(told=False)
    stopped_at = time.monotonic()
    assert first.process.returncode == 0
    assert "handed over" not in output
    second = start_worker(NOTING, wait=False)
    second.wait_for("is taken over")
    assert time.monotonic() - stopped_at < LEASE_SECONDS - 1
    call.media()
    call.end()
    wait_until(lambda: notes(call)[-1].startswith("stop"))
    assert chunks(notes(call)) == list(range(1, 21))  # the checkpoint is from the hand-over: nothing twice


def test_keys_are_hidden_where_the_server_shows_them(redis_server, start_worker, notes):
    start_worker(NOTING, LOG_DIGITS="off")
    call = PublishedCall(redis_server).announce()
    call.put(("dtmf", 7, "inbound_track", "5", False))
    wait_until(lambda: len(notes(call)) == 2)
    assert notes(call)[1] == "dtmf 5 (not shown)"


def test_what_a_consumer_prints_is_there_at_the_end(redis_server, start_worker, tmp_path):
    """Also where it is a file or a pipe, whose output waits in the process."""
    (tmp_path / "printing.py").write_text(PRINTING)
    worker = start_worker("printing:Printing", PYTHONUNBUFFERED="")
    call = PublishedCall(redis_server).announce()
    call.media()
    call.end()
    worker.wait_for("is taken")
    wait_until(lambda: not pending(redis_server, "printing:Printing"))
    assert f"{call.sid} has ended" in worker.stop().splitlines()


def test_each_call_is_one_workers(redis_server, start_worker, notes):
    workers = [start_worker(NOTING, "--calls", "2") for _ in range(2)]
    calls = [PublishedCall(redis_server).announce() for _ in range(5)]
    for call in calls:
        call.media()
    wait_until(lambda: sum(bool(notes(call)) for call in calls) == 4)
    assert all(worker.owned(redis_server, NOTING) for worker in workers)
    assert len(pending(redis_server, NOTING)) == 4
    next(call for call in calls if notes(call)).end()
    wait_until(lambda: all(notes(call) for call in calls))
    for call in calls:
        assert sum(line.startswith("start") for line in notes(call)) == 1


def test_groups_get_each_call_once_at_their_own_speed(redis_server, start_worker, notes, tmp_path):
    start_worker("support.noting:Slow", NOTES=str(tmp_path / "slow"))
    start_worker(NOTING)
    (tmp_path / "slow").mkdir()
    call = PublishedCall(redis_server).announce()
    for _ in range(3):
        call.media()
    call.end()
    wait_until(lambda: notes(call) and notes(call)[-1].startswith("stop"))
    slow = tmp_path / "slow" / call.sid
    noted = slow.read_text() if slow.exists() else ""  # the slow one may not have begun
    assert len(chunks(noted.splitlines())) < 30
    wait_until(lambda: slow.exists() and "stop stop" in slow.read_text())
    assert chunks(slow.read_text().splitlines()) == list(range(1, 31))


def test_a_group_of_another_name(redis_server, start_worker, notes):
    start_worker(NOTING)
    start_worker(NOTING, "--group", "second")
    call = PublishedCall(redis_server).announce()
    call.media()
    call.end()
    wait_until(lambda: sum(line.startswith("stop") for line in notes(call)) == 2)


def test_a_new_group_begins_with_the_live_calls(redis_server, start_worker, notes):
    live, ended = (PublishedCall(redis_server).announce() for _ in range(2))
    live.media()
    ended.media()
    ended.end()
    start_worker(NOTING)
    wait_until(lambda: chunks(notes(live)) == list(range(1, 11)))
    wait_until(lambda: len(pending(redis_server, NOTING)) == 1)
    assert not notes(ended)


def test_what_ended_while_no_worker_was_there_is_consumed(redis_server, start_worker, notes):
    start_worker(NOTING).kill()
    call = PublishedCall(redis_server).announce()
    call.media()
    call.end()
    start_worker(NOTING)
    wait_until(lambda: notes(call) and notes(call)[-1] == "stop stop 10 0 0 0")


def test_a_consumer_that_raises(redis_server, start_worker, notes):
    worker = start_worker("support.noting:Raising", NOTING)
    call = PublishedCall(redis_server).announce()
    call.media()
    worker.wait_for(f"Stream {call.sid}: support.noting:Raising failed and gets nothing more")
    worker.wait_for("ValueError: the third chunk")
    call.media()
    call.end()
    wait_until(lambda: any(line.startswith("stop") for line in notes(call)))
    wait_until(lambda: not pending(redis_server, "support.noting:Raising"))
    assert worker.stop().count("Traceback") == 1


def test_a_consumer_that_does_not_return(redis_server, start_worker, notes, tmp_path):
    """It is said once, holds its call, and no other call's consumer waits for it."""
    program = """
from mediastreams.cluster import job
from mediastreams.__main__ import main
job._STUCK_SECONDS = 0.5
main()
"""
    worker = start_worker("support.noting:Stuck", NOTING, program=("-c", program))
    call = PublishedCall(redis_server).announce()
    call.media()
    worker.wait_for(f"Stream {call.sid}: support.noting:Stuck has not returned for 0.5 s, and holds its call")
    wait_until(lambda: chunks(notes(call)))  # of the other consumer
    call.end()
    wait_until(lambda: has_stopped(notes(call)))
    assert pending(redis_server, "support.noting:Stuck")
    (tmp_path / "notes" / "go on").touch()
    wait_until(lambda: not pending(redis_server, "support.noting:Stuck"))
    assert worker.stop().count("has not returned") == 1


def test_a_consumer_that_ends_its_process_is_given_up(redis_server, start_worker, notes):
    consumer = "support.noting:Deadly"
    call = PublishedCall(redis_server).announce()
    call.media()
    for n in range(MAX_ATTEMPTS):
        start_worker(consumer, wait=False).process.wait(SECONDS)
        assert chunks(notes(call)) == [1, 2, 3] * (n + 1)
        hand_back(redis_server, consumer)
    worker = start_worker(consumer, wait=False)
    worker.wait_for(f"Stream {call.sid}: {consumer} has ended {MAX_ATTEMPTS} workers, and is given up")
    wait_until(lambda: not pending(redis_server, consumer))
    other = PublishedCall(redis_server).announce()
    other.media(2)
    wait_until(lambda: chunks(notes(other)) == [1, 2])


def hand_back(redis, group):
    """Let the leases of a group end at once."""
    with redis.client() as client:
        for id in pending(redis, group):
            client.xclaim(entries.CALLS, group, "nobody", 0, [id], idle=10_000, justid=True)


def test_poisoned_entries(redis_server, start_worker, notes):
    worker = start_worker(NOTING)
    with redis_server.client() as client:
        client.xadd(entries.CALLS, {"m": b"\xc1", "v": "1"})
        client.xadd(entries.CALLS, {"other": "fields"})
        call = PublishedCall(redis_server).announce()
        call.media()
        client.xadd(entries.audio_key(call.sid), {"m": b"\xc1", "v": "1"})
        client.xadd(entries.audio_key(call.sid), {"v": "2"})
    call.media()
    call.end()
    wait_until(lambda: notes(call) and notes(call)[-1].startswith("stop"))
    assert chunks(notes(call)) == list(range(1, 21))
    wait_until(lambda: not pending(redis_server, NOTING))
    output = worker.stop()
    assert output.count("of ms:calls cannot be used: ") == 2
    assert output.count("it cannot be used: ") == 2
    assert "Traceback" not in output


def test_repeats_come_once_and_missing_entries_are_said(redis_server, start_worker, notes):
    worker = start_worker(NOTING)
    call = PublishedCall(redis_server).announce()
    call.media()
    call.n -= 1
    call.media()  # its number was there
    call.n += 2
    call.media()
    call.end()
    wait_until(lambda: notes(call) and notes(call)[-1].startswith("stop"))
    assert chunks(notes(call)) == [*range(1, 11), *range(21, 31)]
    worker.wait_for(f"Stream {call.sid}: {NOTING} missed 2 entries")


def test_another_call_of_the_same_sid(redis_server, start_worker, notes):
    first = PublishedCall(redis_server)
    first.media()
    start_worker(NOTING)
    second = PublishedCall(redis_server, stream_sid=first.sid).announce()
    second.media(3)
    second.end()
    wait_until(lambda: notes(second) and notes(second)[-1].startswith("stop"))
    assert heard(notes(second)) == second.sent["inbound"]


def test_a_lost_server(redis_server, start_worker, notes):
    worker = start_worker(NOTING)
    call = PublishedCall(redis_server, idle_timeout=0.5).announce()
    call.media()
    worker.wait_for(f"Stream {call.sid}: {NOTING}: its server server-1 is lost")
    wait_until(lambda: notes(call)[-1] == "stop server lost 10 0 0 0")
    wait_until(lambda: not pending(redis_server, NOTING))


def test_redis_away(redis_server, start_worker, notes):
    worker = start_worker(NOTING)
    call = PublishedCall(redis_server, idle_timeout=1.0).announce()
    call.media()
    wait_until(lambda: len(chunks(notes(call))) == 10)
    redis_server.kill()
    worker.wait_for(f"Redis 127.0.0.1:{redis_server.port} is away: ")
    time.sleep(3.2)  # longer than the server may be silent: the time in which Redis is away does not count
    redis_server.start()
    call.media()
    worker.wait_for(f"Redis 127.0.0.1:{redis_server.port} is back after ")
    call.media()
    call.end()
    wait_until(lambda: notes(call)[-1].startswith("stop"))
    assert notes(call)[-1] == "stop stop 30 0 0 0"
    assert set(chunks(notes(call))) == set(range(1, 31))
    output = worker.stop()
    assert (output.count("is away"), output.count("is back"), output.count("Traceback")) == (1, 1, 0)


def test_redis_that_has_lost_its_data(redis_server, start_worker, notes):
    start_worker(NOTING)
    with redis_server.client() as client:
        wait_until(lambda: client.exists(entries.GROUPS))
        client.flushall()
    call = PublishedCall(redis_server).announce()
    call.media()
    wait_until(lambda: len(chunks(notes(call))) == 10)


def test_a_wrong_password(start_redis, start_worker):
    redis = start_redis("--requirepass", "right")
    worker = start_worker(NOTING, wait=False, REDIS_URL=f"redis://:wrong-secret@127.0.0.1:{redis.port}")
    worker.wait_for("is away: the user or the password in REDIS_URL is wrong")
    assert "wrong-secret" not in worker.stop()


@pytest.mark.parametrize(
    "url", ["redis://:right@127.0.0.1:{port}", "redis://default:right@127.0.0.1:{port}/0"]
)
def test_a_password(start_redis, start_worker, notes, url):
    redis = start_redis("--requirepass", "right")
    redis.url = url.format(port=redis.port)
    start_worker(NOTING, REDIS_URL=redis.url)
    call = PublishedCall(redis).announce()
    call.media()
    wait_until(lambda: notes(call))


def test_calls_on_several_shards(start_redis, start_worker, notes):
    shards = [start_redis(), start_redis()]
    start_worker(NOTING, "--calls", "3", REDIS_URL=",".join(shard.url for shard in shards))
    calls = [PublishedCall(shard).announce() for shard in shards for _ in range(2)]
    for call in calls:
        call.media()
    wait_until(lambda: sum(bool(notes(call)) for call in calls) == 3)
    for call in calls:
        call.end()
    wait_until(lambda: all(notes(call) and notes(call)[-1].startswith("stop") for call in calls))


class TestPoison:
    """What somebody else has written to this Redis is one call's matter."""

    def poisoned(self, redis_server, what):
        call = PublishedCall(redis_server)
        with redis_server.client() as client:
            if what == "key":
                client.set(audio_key(call.sid), "text")
            elif what == "cursor":
                client.hset(group_key(call.announced, NOTING), "cursor", "abc")
            elif what == "group":
                client.set(group_key(call.announced, NOTING), "text")
            elif what == "state":
                client.hset(group_key(call.announced, NOTING), mapping={"cursor": "1-1", "state": b"\xc1"})
            else:
                call.announced.started_at = 1e300
        return call.announce()

    @pytest.mark.parametrize("what", ["key", "cursor", "group", "state", "time"])
    def test_it_ends_no_other_call(self, redis_server, start_worker, notes, what):
        worker = start_worker(NOTING)
        bad = self.poisoned(redis_server, what)
        good = PublishedCall(redis_server).announce()
        for call in (good, bad):
            if call is good or what != "key":
                call.media()
                call.end()
        wait_until(lambda: has_stopped(notes(good)))
        wait_until(lambda: not pending(redis_server, NOTING))
        assert "Traceback" not in worker.stop()

    def test_words_for_a_key_of_another_type(self, redis_server, start_worker):
        worker = start_worker("transcription", program=("-c", WORKER))
        with redis_server.client() as client:
            client.set("ms:words:bad", "text")
        for server in ("bad", "good"):
            call = PublishedCall(redis_server, server=server).announce()
            call.media(100)
            call.end()
        with redis_server.client() as client:

            def words():
                return [decode_words(fields) for _, fields in client.xrange("ms:words:good")]

            wait_until(lambda: words() and isinstance(words()[-1], Done))
            assert isinstance(words()[0], Begun)
        wait_until(lambda: not pending(redis_server, "transcription"))
        output = worker.stop()
        assert output.count("words for ms:words:bad: WRONGTYPE") >= 1
        assert "XADD" not in output
        assert "Traceback" not in output

    def test_a_time_of_the_group_that_is_none(self, redis_server, start_worker, notes):
        with redis_server.client() as client:
            client.hset("ms:groups", NOTING, "abc")
        worker = start_worker(NOTING)
        call = PublishedCall(redis_server).announce()
        call.media()
        call.end()
        wait_until(lambda: has_stopped(notes(call)))
        assert "Traceback" not in worker.stop()


def test_two_live_calls_with_one_sid(redis_server, start_worker, notes):
    """As of two servers: each of their consumers gets what is its call's."""
    start_worker(NOTING)
    first = PublishedCall(redis_server).announce()
    first.media(10)
    wait_until(lambda: len(notes(first)) > 10)
    second = PublishedCall(redis_server, stream_sid=first.sid).announce()
    second.media(10)
    first.media(10)
    first.end()
    second.end()
    wait_until(lambda: sum(line.startswith("stop") for line in notes(first)) == 2)
    assert sum(line.startswith("media") for line in notes(first)) == 30


def make_loop(redis_server, slots):
    """Return a loop whose turns are the test's."""
    kind = Kind("noting", lambda stream, _publish, _unheard: Consumer(stream))
    return Loop(kind, Shard(redis_server.url), "noting", "worker", slots)


def test_while_a_redis_does_not_answer_calls_of_another_are_taken(redis_server):
    slots = Slots(5, 2)
    loop = make_loop(redis_server, slots)
    for _ in range(3):
        PublishedCall(redis_server).announce()
    assert slots.take() == 3  # as the other's loop does, which waits
    loop._turn()
    assert len(loop.jobs) == 1
    loop._take_at = 0
    loop._turn()
    assert len(loop.jobs) == 2
    assert slots.take() == 0


def test_with_many_calls_a_turn_reads_less_of_each(redis_server, monkeypatch):
    """The leases would end meanwhile."""
    monkeypatch.setattr(module, "_MAX_READ", 8)
    loop = make_loop(redis_server, Slots(4, 1))
    for _ in range(4):
        call = PublishedCall(redis_server).announce()
        for _ in range(5):
            call.media(1)
    read = []
    monkeypatch.setattr(
        Job, "add", lambda self, id, entry: read.append(entry.n) or setattr(self, "cursor", id)
    )
    loop._turn()
    assert sorted(read) == [1] * 4 + [2] * 4
    loop._turn()
    loop._turn()
    assert sorted(read) == [n for n in range(1, 6) for _ in range(4)]


def test_a_call_that_is_taken_out_of_the_group_is_not_lost(redis_server, monkeypatch, caplog):
    """Its lease is renewed while it is taken out."""
    loop = make_loop(redis_server, Slots(1, 1))
    loop._turn()  # the group is there
    loop._take_at = 0
    call = PublishedCall(redis_server).announce()
    call.media()
    call.end()
    loop._turn()
    (job,) = loop.jobs.values()
    make_room = Group._make_room

    def renew(self, *arguments):
        monkeypatch.setattr(Group, "_make_room", make_room)
        loop._renew(time.monotonic())
        make_room(self, *arguments)

    monkeypatch.setattr(Group, "_make_room", renew)
    job.run()
    assert job.is_over
    assert not pending(redis_server, "noting")
    assert "another worker's" not in caplog.text


def test_a_redis_that_is_full_is_away(redis_server, start_worker, notes):
    """Nothing new can come then, and no server is lost for it."""
    worker = start_worker(NOTING)
    call = PublishedCall(redis_server, idle_timeout=1.0).announce()
    call.media()
    wait_until(lambda: len(notes(call)) > 10)
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        worker.wait_for("is away: command not allowed when used memory")
        time.sleep(4)  # longer than IDLE_TIMEOUT and what a worker adds
        client.config_set("maxmemory", 0)
    worker.wait_for("is back after")
    call.media()
    call.end()
    wait_until(lambda: not pending(redis_server, NOTING))
    assert "is lost" not in worker.stop()
    assert sum(line.startswith("media") for line in notes(call)) == 20


def test_one_that_records_removes_old_recordings(start_worker, tmp_path):
    path = tmp_path / f"20200102T030405.678Z-MZ{32 * '1'}.wav"
    path.touch()
    os.utime(path, (0, 0))
    worker = start_worker("recording", wait=False, RECORDINGS_DIR=str(tmp_path), RECORDINGS_DAYS="30")
    worker.wait_for("Recordings older than 30 days removed from ")
    assert not path.exists()


def test_one_that_records_posts_the_accounts(start_worker, redis_server, tmp_path):
    """A worker is killed, and the one that goes on posts, once."""
    with receiving() as receiver:
        environ = {"RECORDINGS_DIR": str(tmp_path / "recordings"), **settings(receiver, tmp_path / "spool")}
        first = start_worker("recording", **environ)
        call = PublishedCall(redis_server).announce()
        call.media(50)
        wait_until(lambda: first.owned(redis_server, "recording"))
        second = start_worker("recording", **environ)
        first.kill()
        second.wait_for("is taken over")
        call.media(50)
        call.put(("dtmf", 1, "inbound", "5", False), ("transcript", "inbound", "Hello", True, 0.5, 1.0, 0.1))
        call.end()
        (account,) = receiver.accounts(1)
        wait_until(lambda: not pending(redis_server, "recording"))
        assert "Traceback" not in second.stop()
        receiver.accounts(1)
    assert account["recording"] == f"{receiver.ids[0]}.wav"
    assert (account["streamSid"], account["duration"]) == (call.sid, 2.0)
    assert [each["digit"] for each in account["dtmf"]] == ["5"]
    assert [each["text"] for each in account["transcripts"]] == ["Hello"]
