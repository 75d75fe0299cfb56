"""The command `work`: consumers in a program of their own, for the calls of all servers on a Redis.

python -m mediastreams work recording
python -m mediastreams work transcription --calls 12
python -m mediastreams work app:Loudest
"""

import contextlib
import importlib.util
import logging
import os
import signal
import sys
import threading
from types import FrameType

import click

from mediastreams import config
from mediastreams.log.configure import configure

CALLS = 100  # at a time
_FLUSH_SECONDS = 1.0
_TRANSCRIBED_PER_CORE = 6  # calls: the local engine takes a core for six to eight


@click.command()
@click.argument("consumers", nargs=-1, required=True, metavar="recording|transcription|MODULE:CLASS ...")
@click.option(
    "--calls",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help=f"How many calls at a time, for each consumer (default: {CALLS}; transcription: "
    f"{_TRANSCRIBED_PER_CORE} a core).",
)
@click.option(
    "--group",
    metavar="NAME",
    help="The consumer group, which gets every call once (default: the consumer's name).",
)
def work(consumers: tuple[str, ...], calls: int | None, group: str | None) -> None:
    """Consume the calls that servers publish on REDIS_URL.

    It goes on until SIGTERM. Each call is one worker's at a time. Where that one dies, another goes on within
    6 seconds.
    """
    if group is not None and len(consumers) > 1:
        raise click.UsageError("--group is for one consumer: start a worker for each")
    if len(set(consumers)) < len(consumers):
        raise click.UsageError("a consumer is named twice")
    settings = config.load()
    if settings.redis_url is None:
        sys.exit("REDIS_URL is not set: a worker needs the Redis on which servers publish their calls")
    if importlib.util.find_spec("redis") is None:
        sys.exit("`work` needs pip install -r requirements-redis.txt")
    from mediastreams.cluster.connection import Shards
    from mediastreams.cluster.kinds import kind_of
    from mediastreams.cluster.worker import Worker

    configure(settings, None)
    webhook = None
    if settings.call_webhook is not None and "recording" in consumers:
        from mediastreams.call_webhook.poster import CallWebhook  # httpx takes 100 ms of CPU

        webhook = CallWebhook.of(settings)
    on_account = webhook.put if webhook else None
    kinds = [
        (kind_of(name, settings, on_account), group or name, calls or _calls(name)) for name in consumers
    ]
    worker = Worker(Shards(settings.redis_url), kinds)
    stopping, hurry = threading.Event(), threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        (hurry if stopping.is_set() else stopping).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if webhook:
        webhook.start()
    worker.start()
    stopping.wait()
    worker.stop(settings.drain_timeout, hurry)
    if webhook:
        webhook.finish(settings.drain_timeout)
    logging.shutdown()
    _flush_output()
    os._exit(0)  # a consumer that does not return must not hold the process


def _flush_output() -> None:
    """Write what consumers have printed; not longer than a second, where nobody reads it."""

    def flush() -> None:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or closed, or full
            sys.stdout.flush()

    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    thread.join(_FLUSH_SECONDS)


def _calls(name: str) -> int:
    return _TRANSCRIBED_PER_CORE * (os.cpu_count() or 1) if name == "transcription" else CALLS


if __name__ == "__main__":
    work()
