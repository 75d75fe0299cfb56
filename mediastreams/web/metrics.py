"""What `GET /metrics` says, for Prometheus: counts of this process, or with gunicorn of all its workers.

Streams count for themselves; here the counts are gathered, every few seconds and when one ends, so that a
message costs nothing more. All of it happens in the server's own thread.

Source: https://prometheus.github.io/client_python/multiprocess/. That takes a folder, which
`gunicorn.conf.py` makes; without one the counts are those of the process.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from weakref import WeakKeyDictionary

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from mediastreams import config
from mediastreams.consumers.base import Consumer
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_live = Gauge("mediastreams_streams_live", "Streams that are live now", multiprocess_mode="livesum")
_ended = Counter("mediastreams_streams", "Streams that have ended, by how they did", ["ending"])
_messages = Counter("mediastreams_messages", "Messages received, by event", ["event"])
_bytes = Counter("mediastreams_media_bytes", "Bytes of audio received, by track", ["track"])
_lost = Counter("mediastreams_messages_lost", "Messages that were missing when a later one came")
_late = Counter("mediastreams_messages_late", "Messages that came after a later one, or for a second time")
_bad = Counter("mediastreams_messages_bad", "Messages that could not be used")
_refused = Counter("mediastreams_refusals", "Requests that were refused, by reason", ["reason"])
_lateness = Histogram(
    "mediastreams_handling_lateness_seconds",
    "How much later than the earliest of the last minutes a media message was handled; of each 64th",
    buckets=(0.01, 0.02, 0.03, 0.045, 0.06, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
_lag = Histogram(
    "mediastreams_transcription_lag_seconds",
    "How long after its last word a final text was there",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
_unheard = Counter("mediastreams_transcription_dropped_seconds", "Audio that no recogniser has heard")
_missed = Counter(
    "mediastreams_consumer_dropped_messages", "Messages that a consumer was too slow for", ["consumer"]
)

ENDINGS = ("stop", "peer closed", "server closed", "dropped", "timed out", "drained", "failed")
EVENTS = ("connected", "start", "media", "dtmf", "mark", "stop", "unknown", "invalid")
# Of what is answered without a reason of its own, the status tells it.
_REASONS = {400: "malformed", 404: "path", 405: "method", 426: "upgrade", 501: "upgrade"}
REASONS = (
    *("descriptors", "draining", "malformed", "method", "path", "signature", "streams"),
    *("timeout", "too large", "upgrade", "version", "other"),
)

# A series that is there from the beginning: its first increase is seen.
for _counter, _labels in ((_ended, ENDINGS), (_messages, EVENTS), (_refused, REASONS)):
    for _label in _labels:
        _counter.labels(_label)

# A counter, its label ("" for none), and a number.
_Counts = dict[tuple[Counter, str], float]

# What threads have to say, for the server's to count.
_samples: "deque[Callable[[], None]]" = deque()

# What of each stream is counted already.
_counted: "WeakKeyDictionary[Stream, _Counts]" = WeakKeyDictionary()


def live(streams: int) -> None:
    """Set how many streams are live."""
    _live.set(streams)


def refused(reason: str, status: int = 400) -> None:
    """Count a request that was refused with this status; `reason` is one of `REASONS`, or ""."""
    _refused.labels(reason or _REASONS.get(status, "other")).inc()


def missed(consumer: str, messages: int) -> None:
    """Count messages that a consumer did not get."""
    _missed.labels(consumer).inc(messages)


def handled(lateness: float) -> None:
    """Count how many seconds late a message was handled."""
    _lateness.observe(lateness)


def unheard(seconds: float) -> None:
    """Count seconds of audio that no recogniser has heard. Any thread may call it."""
    _samples.append(partial(_unheard.inc, seconds))


class TranscriptionLag(Consumer):
    """Counts how late the final texts of its stream are."""

    def transcript(self, transcript: Transcript) -> None:
        """Count one."""
        if transcript.final and transcript.text:
            _samples.append(partial(_lag.observe, transcript.lag))


def count(streams: Iterable[Stream]) -> None:
    """Count what of these streams is not counted yet."""
    sums: _Counts = {}
    for stream in streams:
        before = _counted.get(stream, {})
        now = _counted[stream] = _counts(stream)
        for key, number in now.items():
            # One that was lost and came late was counted; a counter never goes back.
            now[key] = max(number, before.get(key, 0))
            sums[key] = sums.get(key, 0) + now[key] - before.get(key, 0)
    while _samples:
        _samples.popleft()()
    for (counter, label), number in sums.items():
        if number:
            (counter.labels(label) if label else counter).inc(number)


def ended(stream: Stream) -> None:
    """Count a stream that has ended, and what of it is not counted yet."""
    count([stream])
    _ended.labels(re.sub(r" \d+$", "", stream.ending)).inc()


def page() -> bytes:
    """Return the page, of type `CONTENT_TYPE`."""
    registry = prometheus_client.REGISTRY
    if config.has_folder_for_metrics():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return prometheus_client.generate_latest(registry)


def _counts(stream: Stream) -> _Counts:
    return {
        **{(_messages, event): number for event, number in stream.events.items()},
        **{(_bytes, name): track.bytes for name, track in stream.tracks.items()},
        (_lost, ""): stream.lost,
        (_late, ""): stream.late,
        (_bad, ""): stream.bad,
    }
