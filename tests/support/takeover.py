"""A call as a server publishes it, and workers that record it, of which one takes over from another."""

import random
from datetime import UTC, datetime

import msgspec

from mediastreams.cluster.entries import (
    Announced,
    DtmfItem,
    EndItem,
    MarkItem,
    MediaItem,
    StateItem,
    TrackState,
    TranscriptItem,
    decode_items,
)
from mediastreams.cluster.stream import RemoteStream
from mediastreams.consumers.recording import Recording
from mediastreams.protocol.messages import MediaFormat
from support.streams import SID, start

STARTED = datetime(2026, 11, 22, 18, 0, 0, 123_000, UTC).timestamp()
NAME = f"20261122T180000.123Z-{SID}"
RAW = MediaFormat("audio/l16", 16000)


def sound(track, position, size):
    """Return the audio of a track at a position; at another one, or of another track, it is another."""
    return random.Random(f"{track} {position}").randbytes(size)


class Call:
    """The entries of a call."""

    def __init__(self, *tracks, media_format=None):
        self.tracks = tracks
        self.start = start(tracks=tracks, media_format=media_format or MediaFormat())
        self.announced = Announced("1", "server", STARTED, 30.0, self.start)
        self.is_raw = not self.start.start.media_format.is_decodable
        self.entries = []
        self.numbers = {}  # of each track, what `TrackState` has
        self.known = msgspec.msgpack.encode(())  # of the stream, at the last checkpoint

    def entry(self, *items):
        """Add an entry: of chunks as (track, position, size), and of other items."""
        media = [self._chunk(*item) if isinstance(item, tuple) else item for item in items]
        self.entries.append([*media, self._state()])

    def say(self, begin, end, *items, tracks=None, step=160):
        """Add an entry with the audio of tracks between two positions, all of them as a rule."""
        places = range(begin, end, step)
        chunks = [
            (track, place, min(step, end - place)) for place in places for track in tracks or self.tracks
        ]
        self.entry(*chunks, *items)

    def end(self):
        """Add the last entry."""
        self.entries.append([self._state(), EndItem("stop", STARTED + 60)])

    def _chunk(self, track, position, size):
        payload = sound(track, position, size)
        first, end, chunks, total, missing = self.numbers.get(track, (position, position, 0, 0, 0))
        ends = position if self.is_raw else position + size
        self.numbers[track] = (min(first, position), max(end, ends), chunks + 1, total + size, missing)
        timestamp = position if self.is_raw else position // 8
        return MediaItem(1, track, 1, timestamp, payload, None if self.is_raw else position)

    def _state(self):
        tracks = {track: TrackState(*numbers) for track, numbers in self.numbers.items()}
        return StateItem(1 + len(self.entries), 0, 0, 0, tracks)


def key(digit):
    return DtmfItem(1, "inbound", digit, False)


def mark(name):
    return MarkItem(1, name)


def text(words, begin, end, track="inbound"):
    return TranscriptItem(track, words, True, begin, end, 0.1)


class Worker:
    """A worker that records a call; `state`, where it takes over, is a checkpoint's."""

    def __init__(self, call, folder, *state):
        self.stream = RemoteStream(call.announced)
        self.recording = Recording(self.stream, str(folder))
        self.call = call
        if state:
            self.stream.recall(decode_items(call.known))
            self.recording.resume(call.start, *state)
        else:
            self.recording.start(call.start)

    def take(self, *entries):
        """Hand entries over."""
        for entry in entries:
            for item in entry:
                self.stream.feed(item, self.recording)
            self.recording.flush()

    def checkpoint(self):
        """Return the state as another worker reads it."""
        checkpoint = self.recording.checkpoint()
        assert checkpoint.position is None
        self.call.known = msgspec.msgpack.encode(self.stream.known())
        return msgspec.msgpack.decode(msgspec.msgpack.encode(checkpoint.state))

    def finish(self, *entries):
        """Take what is left, and stop."""
        self.take(*entries)
        self.recording.stop()

    def die(self):
        """Let the system close its files."""
        for file in self.recording._files.audio:
            file._file.close()


def record(call, folder):
    """Record a call in one go; return the files."""
    Worker(call, folder).finish(*call.entries)
    return files(folder)


def take_over(call, folder, n, other=None):
    """Record the first `n` entries, and let another worker, as a rule in the same folder, record the rest."""
    first = Worker(call, folder)
    first.take(*call.entries[:n])
    state = first.checkpoint()
    first.die()
    Worker(call, other or folder, state).finish(*call.entries[n:])


def files(folder):
    """Return the names and the contents of the files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
