"""Measure what Redis costs: the server with and without REDIS_URL, and a worker that consumes the calls.

    python bench/cluster.py
    python bench/cluster.py --calls 1000 --rounds 3 --no-worker
    python bench/cluster.py --worker recording
    python bench/cluster.py --calls 20 --takeover

It starts a redis-server, which must be on PATH. The server has one core; calls, Redis and the worker another.
What the numbers mean, and how they are taken, is in bench/README.md.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Self

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import calls  # noqa: E402

from mediastreams.consumers.base import Consumer  # noqa: E402

FLUSHES_PER_SECOND = 5
TAKEOVER_SECONDS = 10  # of speech after a worker was killed
GROUP = "cluster:Noting"
_THIS = str(Path(__file__).resolve())


@dataclass(frozen=True)
class Run:
    """What one run measured."""

    server: float
    """The server's share of a core."""
    redis: float
    """That of Redis."""
    worker: float
    """That of the worker."""
    late: calls.Lateness
    """How late the server has handled the messages, in ms."""
    available: list[float]
    """How long after it was sent a worker's consumer had each message, in ms, in order of size."""
    missing: int
    """How many messages the worker's consumer has not got."""


class Noting(Consumer):
    """Notes when it gets each message, as `lateness.py` does for the server."""

    handled: dict[str, array] = {}  # noqa: RUF012

    def start(self, message):
        """Make room for as many messages as the call will have."""
        count = int(message.start.custom_parameters["messages"]) + 1
        self.times = self.handled[message.start.call_sid] = array("q", bytes(8 * count))

    def media(self, message):
        """Note the time."""
        self.times[message.sequence_number] = time.monotonic_ns()


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line asks; return the exit status."""
    if arguments is None and sys.argv[1:] == ["--serve"]:
        _serve()
        return 0
    if arguments is None and sys.argv[1:2] == ["--work"]:
        _work(sys.argv[2])
        return 0
    options = _parser().parse_args(arguments)
    if shutil.which("redis-server") is None:
        print("redis-server is not on PATH", file=sys.stderr)
        return 1
    cores = calls.Cores.take()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    if options.takeover:
        try:
            return _print_takeover(measure_takeover(cores, options.calls))
        except calls.ServerError as error:
            print(f"Failed: {error}", file=sys.stderr)
            return 1
        finally:
            os.sched_setaffinity(0, before)
    runs: dict[str, list[Run]] = {"without Redis": [], "with Redis": []}
    print(f"{options.calls} calls, {options.seconds:g} s, median of {options.rounds} rounds\n")
    try:
        for n in range(options.rounds):
            for name, done in runs.items():
                worker = options.worker if name == "with Redis" else None
                run = measure(cores, options.calls, options.seconds, name == "with Redis", worker)
                done.append(run)
                print(
                    f"round {n + 1}  {name:13} server {run.server:6.2%}  Redis {run.redis:6.2%}  worker "
                    f"{run.worker:6.2%} of a core  handled after {run.late.p99:.2f} ms (p99)",
                    flush=True,
                )
                for fault in run.late.faults:
                    print(f"  {fault}", flush=True)
    except calls.ServerError as error:
        print(f"Failed: {error}", file=sys.stderr)
        return 1
    finally:
        os.sched_setaffinity(0, before)
    _summarise(options.calls, *runs.values())
    return 0


def _summarise(count: int, without: list[Run], published: list[Run]) -> None:
    above = statistics.median(run.server for run in published) - statistics.median(
        run.server for run in without
    )
    print(f"\npublishing: {above * 1e6 / FLUSHES_PER_SECOND / count:.1f} us a flush, {above:.2%} of a core")
    for name, done in (("without", without), ("with", published)):
        print(f"handled {name} Redis: {statistics.median(run.late.p99 for run in done):.2f} ms (p99)")
    for name in ("Redis", "worker"):
        share = statistics.median(getattr(run, name.lower()) for run in published)
        print(f"{name}: {share * 1e6 / count:.0f} us a second of a call, {share:.2%} of a core")
    if not any(run.available for run in published):
        return
    available = sorted(itertools.chain.from_iterable(run.available for run in published))
    print(
        f"audio at a worker's consumer {calls.percentile(available, 0.5):.0f} ms (p50), "
        f"{calls.percentile(available, 0.99):.0f} ms (p99) after it was sent; "
        f"{sum(run.missing for run in published)} of {len(available)} messages missing"
    )


def measure(cores: calls.Cores, count: int, seconds: float, is_published: bool, consumer: str | None) -> Run:
    """Run a server under so many calls, with Redis and a worker or without. Raises `ServerError`."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(_Redis()) if is_published else None
        environ = _environ(count, redis)
        process = stack.enter_context(
            calls.Process((sys.executable, _THIS, "--serve"), {cores.server}, environ)
        )
        worker = stack.enter_context(_worker(cores, environ, consumer)) if consumer else None
        load = calls.Load(process.url(), count, seconds)
        load.settle()
        began = time.monotonic_ns()
        before = _cpu(process, redis, worker)
        load.speak()
        wall = time.monotonic_ns() - began
        shares = [(now - then) / wall for now, then in zip(_cpu(process, redis, worker), before, strict=True)]
        load.hang_up()
        process.stop()
        handled = _read(process, "handled.json")
        available = {}
        if worker is not None and consumer == GROUP:
            time.sleep(1)  # for the last entries
            worker.stop()
            available = _read(worker, "available.json")
    faults = []
    if (late_ms := load.late_ms()) > calls.TRUSTED_MS:
        faults.append(f"the load itself was {late_ms:.1f} ms late at p99: this run is not to be trusted")
    late, _ = _delays(load, handled)
    lateness = calls.Lateness(*(calls.percentile(late, part) for part in (0.5, 0.99, 1)), faults)
    delays, missing = _delays(load, available) if available else ([], 0)
    return Run(*shares, lateness, delays, missing)


def measure_takeover(cores: calls.Cores, count: int) -> list[float]:
    """Kill one of two workers; return after how many seconds the other one had each of its calls.

    That is when its consumer got the first message. Raises `ServerError`.
    """
    with contextlib.ExitStack() as stack:
        environ = _environ(count, stack.enter_context(_Redis()))
        process = stack.enter_context(
            calls.Process((sys.executable, _THIS, "--serve"), {cores.server}, environ)
        )
        first, second = (stack.enter_context(_worker(cores, environ, GROUP)) for _ in range(2))
        load = calls.Load(process.url(), count, TAKEOVER_SECONDS)
        load.settle()
        killed_at = time.monotonic_ns()
        first.kill()
        load.speak()
        load.hang_up()
        time.sleep(1)  # for the last entries
        second.stop()
        began = (min(filter(None, times), default=0) for times in _read(second, "available.json").values())
    return sorted((at - killed_at) / 1e9 for at in began if at > killed_at)


def _print_takeover(seconds: list[float]) -> int:
    if not seconds:
        print("Failed: the worker that was killed had no call", file=sys.stderr)
        return 1
    print(
        f"{len(seconds)} calls of a worker that was killed: another had them after "
        f"{statistics.median(seconds):.1f} s (median), {seconds[-1]:.1f} s (the last)"
    )
    return 0


def _environ(count: int, redis: "_Redis | None") -> dict[str, str]:
    environ = {
        "HTTP_SERVER_PORT": "0",
        "TRANSCRIBER": "off",
        "PAGE_TOKEN": "off",
        "MAX_STREAMS": str(count + 1),
        "BENCH_LATENESS": "handled.json",
        "PYTHONPATH": os.pathsep.join((str(calls.ROOT), str(calls.BENCH))),
    }
    return environ if redis is None else {**environ, "REDIS_URL": redis.url}


def _worker(cores: calls.Cores, environ: dict[str, str], consumer: str) -> calls.Process:
    environ = {**environ, "BENCH_LATENESS": "available.json", "RECORDINGS_DIR": "recordings"}
    return calls.Process((sys.executable, _THIS, "--work", consumer), {cores.load}, environ)


def _cpu(process: calls.Process, redis: "_Redis | None", worker: calls.Process | None) -> list[int]:
    return [each.cpu_ns() if each else 0 for each in (process, redis, worker)]


def _delays(load: calls.Load, handled: dict[str, list[int]]) -> tuple[list[float], int]:
    """Return how long after it was sent each message was handled, in ms, and how many were not."""
    delays, missing = [], 0
    for call, sid in enumerate(load.sids):
        times = handled.get(sid) or [0] * (load.steps.stop + 2)
        for step in load.steps:
            if sent := load.sent[load.index(step, call)]:
                if times[step + 2]:
                    delays.append((times[step + 2] - sent) / 1e6)
                else:
                    missing += 1
    return sorted(delays), missing


def _read(process: calls.Process, name: str) -> dict[str, list[int]]:
    try:
        return json.loads((process.folder / name).read_text())
    except FileNotFoundError:
        raise calls.ServerError(f"nothing was noted:\n{process.last_lines()}") from None


class _Redis:
    """A redis-server that keeps nothing on disk; a context manager, which ends it."""

    def __init__(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + calls.PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise calls.ServerError("redis-server did not start") from None
                time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def cpu_ns(self) -> int:
        """Return the CPU time used so far."""
        return calls._cpu_ns(self.process.pid)


def _serve() -> None:
    """Serve as `python app.py` does, note when each message was handled, and publish each call by itself."""
    import lateness
    import msgspec

    if "REDIS_URL" in os.environ:
        from mediastreams.cluster.publisher import Publisher

        begin, numbers = Publisher.begin, itertools.count(1)

        def begin_one(self, stream, message):
            # All calls of the load have one SID, so that one frame serves them all; a key is for one.
            sid = f"MZ{next(numbers):032x}"
            inner = msgspec.structs.replace(message.start, stream_sid=sid)
            return begin(self, stream, msgspec.structs.replace(message, start=inner, stream_sid=sid))

        Publisher.begin = begin_one
    lateness.serve()


def _work(consumer: str) -> None:
    """Run a worker with a consumer, and write at its end what `Noting` has noted."""
    import cluster

    from mediastreams.__main__ import main

    end = os._exit

    def write_and_end(status: int) -> None:
        text = json.dumps({sid: list(times) for sid, times in cluster.Noting.handled.items()})
        Path(os.environ["BENCH_LATENESS"]).write_text(text)
        end(status)

    os._exit = write_and_end
    main(["work", consumer, "--calls", "100000"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=200, metavar="N", help="how many at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8, metavar="N", help="of each run (%(default)s)")
    parser.add_argument(
        "--worker",
        choices=(GROUP, "recording"),
        default=GROUP,
        help="its consumer: one that notes when it gets each message (%(default)s), or recording",
    )
    parser.add_argument(
        "--no-worker",
        dest="worker",
        action="store_const",
        const=None,
        help="nobody consumes the calls: more of them fit",
    )
    parser.add_argument("--takeover", action="store_true", help="kill one of two workers instead")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of both (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
