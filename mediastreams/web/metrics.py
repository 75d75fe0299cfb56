"""The metrics of `GET /metrics`, for Prometheus: of this process, or under gunicorn of all workers.

A stream counts its messages itself; `StreamMetrics` adds its counts to the metrics every few seconds and at
its end, so that a message costs nothing more. The functions are for the server's thread.

Source: https://prometheus.github.io/client_python/multiprocess/. Workers share their metrics in a folder that
`gunicorn.conf.py` makes.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import gevent
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from mediastreams import config
from mediastreams.consumers.base import Consumer
from mediastreams.streams.stream import Stream
from mediastreams.streams.transcript import Transcript

COUNT_SECONDS = 5.0  # how old a worker's counts are at most when another worker is asked
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_live = Gauge("mediastreams_streams_live", "Live streams", multiprocess_mode="livesum")
_max = Gauge(
    "mediastreams_streams_max", "Streams that may be live (MAX_STREAMS)", multiprocess_mode="livesum"
)
_ended = Counter("mediastreams_streams", "Streams that have ended, by how they ended", ["ending"])
_messages = Counter("mediastreams_messages", "Messages received, by event", ["event"])
_bytes = Counter("mediastreams_media_bytes", "Bytes of audio received, by track", ["track"])
_lost = Counter("mediastreams_messages_lost", "Messages that were missing when a later one came")
_late = Counter("mediastreams_messages_late", "Messages that came after a later one, or for a second time")
_bad = Counter("mediastreams_messages_bad", "Messages that could not be used")
_refused = Counter("mediastreams_refusals", "Requests refused, by reason", ["reason"])
_lateness = Histogram(
    "mediastreams_handling_lateness_seconds",
    "How late a media message was handled, by the earliest of the last minutes; one message in 64",
    buckets=(0.01, 0.02, 0.03, 0.045, 0.06, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
_lag = Histogram(
    "mediastreams_transcription_lag_seconds",
    "Time from the last word of a final text to the text",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
_unheard = Counter("mediastreams_transcription_dropped_seconds", "Seconds of audio that no recogniser heard")
_missed = Counter(
    "mediastreams_consumer_dropped_messages", "Messages dropped because a consumer was too slow", ["consumer"]
)
_unrecorded = Counter(
    "mediastreams_recordings_failed", "Recordings that ended before their stream, or never began"
)
_unposted = Counter(
    "mediastreams_accounts_given_up", "Accounts that CALL_WEBHOOK did not take, or that were lost here"
)
_redis_entries = Counter("mediastreams_redis_entries", "Entries of calls sent to Redis", ["shard"])
_redis_dropped = Counter(
    "mediastreams_redis_dropped_seconds", "Seconds of audio not sent, Redis was away too long", ["shard"]
)
# What each worker of a gunicorn knows: the latest value is the one.
_redis_up = Gauge(
    "mediastreams_redis_up", "Whether Redis takes calls", ["shard"], multiprocess_mode="livemostrecent"
)
_redis_waiting = Gauge(
    "mediastreams_redis_calls_waiting",
    "Calls that no worker of a group has taken",
    ["shard", "group"],
    multiprocess_mode="livemostrecent",
)
_redis_pending = Gauge(
    "mediastreams_redis_calls_pending",
    "Calls that workers of a group have",
    ["shard", "group"],
    multiprocess_mode="livemostrecent",
)
_redis_takeovers = Gauge(
    "mediastreams_redis_takeovers",
    "Calls that were ever taken over from a worker of a group that had died or stopped",
    ["shard", "group"],
    multiprocess_mode="livemostrecent",
)

ENDINGS = ("stop", "peer closed", "server closed", "dropped", "timed out", "drained", "failed")
EVENTS = ("connected", "start", "media", "dtmf", "mark", "stop", "unknown", "invalid")
REASONS = (
    *("descriptors", "draining", "malformed", "method", "path", "signature", "streams"),
    *("page", "timeout", "too large", "upgrade", "version", "other"),
)
# The reason of a refusal that gives none, by its status.
_REASONS = {400: "malformed", 404: "path", 405: "method", 426: "upgrade", 501: "upgrade"}

# Prometheus sees the first increase of a series only if the series was there before.
for _counter, _labels in ((_ended, ENDINGS), (_messages, EVENTS), (_refused, REASONS)):
    for _label in _labels:
        _counter.labels(_label)

# The values of a stream, each by its counter and its label ("" for none).
_Counts = dict[tuple[Counter, str], float]


class StreamMetrics:
    """Adds the counts of the streams of one `MediaStreams` to the metrics.

    For the server's thread, but for those methods that say that any thread may call them.
    """

    def __init__(self) -> None:
        self._counted: dict[Stream, _Counts] = {}  # of each live stream, what the metrics have
        self._counting: gevent.Greenlet[[], None] | None = None
        self._is_kept = False
        # From other threads. Under gunicorn prometheus_client's locks are gevent's: other threads take none.
        self._waiting: deque[Callable[[], None]] = deque()

    def begin(self, stream: Stream) -> None:
        """Count a stream from now on."""
        self._counted[stream] = {}
        if not self._counting:
            self._counting = gevent.spawn(self._count_regularly)

    def end(self, stream: Stream) -> None:
        """Count a stream, which need not have begun, for the last time, and how it ended."""
        self._counted.setdefault(stream, {})
        self._count([stream])
        del self._counted[stream]
        _ended.labels(re.sub(r" \d+$", "", stream.ending)).inc()

    def count(self) -> None:
        """Bring the metrics up to date."""
        self._count(self._counted)

    def unheard(self, seconds: float) -> None:
        """Count seconds of audio that no recogniser heard. Any thread may call it."""
        self._waiting.append(partial(_unheard.inc, seconds))

    def lag(self, seconds: float) -> None:
        """Count how many seconds late a final text was. Any thread may call it."""
        self._waiting.append(partial(_lag.observe, seconds))

    def recording_failed(self) -> None:
        """Count a recording that failed. Any thread may call it."""
        self._waiting.append(_unrecorded.inc)

    def account_given_up(self) -> None:
        """Count an account that is not posted any more. Any thread may call it."""
        self._waiting.append(_unposted.inc)

    def redis(
        self,
        shard: str,
        is_up: bool,
        sent: int,
        dropped: float,
        groups: Mapping[str, tuple[int, int, int]],
    ) -> None:
        """Count entries sent and seconds dropped of one Redis, and set what is true of it now.

        `groups`: of each group of workers how many calls wait for it, how many it has, and how many of its
        calls were taken over. Any thread may call it.
        """
        self._waiting.append(partial(_count_redis, shard, is_up, sent, dropped, groups))

    def keep_counting(self) -> None:
        """Bring the metrics up to date also while there are no streams."""
        self._is_kept = True
        if not self._counting:
            self._counting = gevent.spawn(self._count_regularly)

    def _count_regularly(self) -> None:
        while self._counted or self._is_kept:
            gevent.sleep(COUNT_SECONDS)
            self.count()
        self._counting = None

    def _count(self, streams: Iterable[Stream]) -> None:
        while self._waiting:
            self._waiting.popleft()()
        sums: _Counts = {}
        for stream in streams:
            before, now = self._counted[stream], _counts(stream)
            for key, number in now.items():
                # A lost message that comes late is lost no more, but a counter never goes back.
                now[key] = max(number, before.get(key, 0))
                sums[key] = sums.get(key, 0) + now[key] - before.get(key, 0)
            self._counted[stream] = now
        for (counter, label), number in sums.items():
            if number:
                (counter.labels(label) if label else counter).inc(number)


class TranscriptionLag(Consumer):
    """Passes how late the final texts of its stream are, in seconds, to `on_lag`."""

    def __init__(self, stream: Stream, on_lag: Callable[[float], None]) -> None:
        super().__init__(stream)
        self._on_lag = on_lag

    def transcript(self, transcript: Transcript) -> None:
        """Pass the lag of a final text."""
        if transcript.final and transcript.text:
            self._on_lag(transcript.lag)


def room(max_streams: int) -> None:
    """Set how many streams may be live."""
    _max.set(max_streams)


def live(streams: int) -> None:
    """Set how many streams are live."""
    _live.set(streams)


def refused(reason: str, status: int = 400) -> None:
    """Count a refused request. `reason` is one of `REASONS`; "" takes the reason from the HTTP status."""
    _refused.labels(reason or _REASONS.get(status, "other")).inc()


def missed(consumer: str, messages: int) -> None:
    """Count messages that a consumer did not get."""
    _missed.labels(consumer).inc(messages)


def handled(lateness: float) -> None:
    """Count how many seconds late a message was handled."""
    _lateness.observe(lateness)


def page() -> bytes:
    """Return the page of all metrics, of type `CONTENT_TYPE`."""
    registry = prometheus_client.REGISTRY
    if config.has_folder_for_metrics():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return prometheus_client.generate_latest(registry)


_redis_groups: dict[str, set[str]] = {}  # of each Redis those that it has, or had: a gauge cannot be removed


def _count_redis(
    shard: str, is_up: bool, sent: int, dropped: float, groups: Mapping[str, tuple[int, int, int]]
) -> None:
    _redis_entries.labels(shard).inc(sent)
    _redis_dropped.labels(shard).inc(dropped)
    _redis_up.labels(shard).set(is_up)
    known = _redis_groups.setdefault(shard, set())
    known.update(groups)
    gone = known - groups.keys() if is_up else set()
    for group, values in (*groups.items(), *((group, (0, 0, 0)) for group in gone)):
        for gauge, value in zip((_redis_waiting, _redis_pending, _redis_takeovers), values, strict=True):
            gauge.labels(shard, group).set(value)


def _counts(stream: Stream) -> _Counts:
    return {
        **{(_messages, event): number for event, number in stream.events.items()},
        **{(_bytes, name): track.bytes for name, track in stream.tracks.items()},
        (_lost, ""): stream.lost,
        (_late, ""): stream.late,
        (_bad, ""): stream.bad,
    }
