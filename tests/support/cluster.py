"""Calls on Redis as a server publishes them, worker programs, and what they consumed."""

import contextlib
import json
import os
import random
import re
import secrets
import signal
import threading
import time

from redis import Redis

from mediastreams.cluster import entries
from mediastreams.cluster.entries import Announced, encode, encode_entry, encode_item
from mediastreams.protocol.messages import Start, StartMetadata
from support.caller import call
from support.server import ROOT, SECONDS, Server

CHUNK = 160
RECORDING = ("recording", "--calls", "40")


def sid():
    return "MZ" + secrets.token_hex(16)


class PublishedCall:
    """A call that the test publishes, entry by entry; `sent` is the audio of each track."""

    def __init__(self, redis, stream_sid=None, tracks=("inbound",), server="server-1", idle_timeout=30.0):
        self.client = Redis.from_url(redis.url, protocol=2)
        self.sid = stream_sid or sid()
        self.id = secrets.token_hex(8)
        self.server = server
        self.tracks = tracks
        self.n = 0
        self.chunk = 0
        self.chance = random.Random(self.sid)
        self.sent = {track: bytearray() for track in tracks}
        metadata = StartMetadata("AC" + "1" * 32, self.sid, "CA" + "2" * 32, tracks)
        start = Start(1, metadata, self.sid)
        self.announced = Announced(self.id, server, time.time(), idle_timeout, start)

    def announce(self, at=None):
        """`at`: in seconds since 1970."""
        self.client.xadd(entries.CALLS, encode(self.announced), id="*" if at is None else int(at * 1000))
        return self

    def put(self, *items):
        """Publish an entry of these items."""
        self.n += 1
        self.client.xadd(
            entries.audio_key(self.sid), encode_entry(self.id, self.n, [encode_item(item) for item in items])
        )

    def media(self, chunks=10):
        """Publish an entry of so many chunks of each track."""
        items = []
        for _ in range(chunks):
            self.chunk += 1
            for track in self.tracks:
                payload = self.chance.randbytes(CHUNK)
                position = len(self.sent[track])
                self.sent[track] += payload
                items.append(("media", self.chunk, track, self.chunk, position // 8, payload, position))
        self.put(*items, self.state())

    def state(self):
        tracks = {
            track: (0, len(audio), len(audio) // CHUNK, len(audio), 0) for track, audio in self.sent.items()
        }
        return ("state", self.chunk, 0, 0, 0, tracks)

    def end(self, ending="stop"):
        self.put(("details", {}, {}, []), ("end", ending, time.time()))


def pending(redis, group):
    """Return the pending entries of a group, each with its owner."""
    with redis.client() as client:
        return {entry["message_id"]: entry["consumer"].decode() for entry in _pending(client, group)}


def _pending(client, group):
    return client.xpending_range(entries.CALLS, group, "-", "+", 10_000)


class Worker(Server):
    """A worker program."""

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait(SECONDS)

    def suspend(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def owned(self, redis, group):
        """Return how many calls of the group it has."""
        return sum(f"-{self.process.pid}-" in owner for owner in pending(redis, group).values())


@contextlib.contextmanager
def ended_at_exit(server):
    """End a program, with what it has started, as the block is left."""
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.stop(told=False)


@contextlib.contextmanager
def calling(url, *arguments):
    """Make calls beside the block, and wait for their end."""
    failures = []

    def run():
        try:
            call(url, *arguments)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(3 * SECONDS)
    assert not thread.is_alive()
    assert failures == []


def recordings(folder):
    """Return the bytes of each recording, and its account."""
    return {
        path.stem.rpartition("-")[2]: (path.read_bytes(), json.loads(path.with_suffix(".json").read_text()))
        for path in folder.glob("*.wav")
    }


def assert_same(folder, original):
    """Compare the recordings that workers have made with those of the server itself."""
    made, expected = recordings(folder), recordings(original)
    assert len(list(folder.glob("*.wav"))) == len(expected)
    assert made.keys() == expected.keys()
    for sid, (audio, account) in made.items():
        assert audio == expected[sid][0], sid
        for field in ("tracks", "ended", "duration", "messages", "media", "lost", "dtmf", "marks", "error"):
            assert account[field] == expected[sid][1][field], (sid, field)


def rights():
    """Return the rights that docs/redis.md lists, as words of ACL SETUSER."""
    text = (ROOT / "docs" / "redis.md").read_text()
    return re.search("^user mediastreams on >PASSWORD (.*)$", text, re.MULTILINE)[1].split()
