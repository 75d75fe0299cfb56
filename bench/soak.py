"""Keep a server busy with calls that come and go, and tell whether it grows.

    python bench/soak.py                    10 minutes of 40 calls

Each call speaks for 0.5 to 3 s, at the pace of a call, and is followed by another; one in seven is dropped
without a `stop` or a Close. The server records all, its /metrics are asked for, and the local recogniser
transcribes where it is installed. What the figures mean is in bench/README.md.
"""

import argparse
import importlib.util
import os
import random
import statistics
import sys
import time
import urllib.request
from dataclasses import astuple, dataclass
from pathlib import Path

import calls

sys.path.insert(0, str(calls.ROOT))

from mediastreams.caller import SAMPLE, sound_file

SHORTEST, LONGEST = 0.5, 3  # seconds of a call
DROPPED = 7  # one in so many
MORE_THREADS = 8  # of the consumers: another is started where one does not return in time, and is kept
KEEP = 10  # seconds for which a recording stays, longer than any call


@dataclass(frozen=True)
class Sample:
    """What the server had at one moment."""

    seconds: float
    """Since the start."""
    calls: int
    """How many had ended."""
    live: int
    """Streams, by /metrics."""
    server_mb: float
    """PSS: its own memory, and its share of what it has in common with others."""
    engine_mb: float
    """The same of its child processes; 0 where it has none."""
    threads: int
    descriptors: int


class Server:
    """The server's process, as this looks at it."""

    def __init__(self, process: calls.Process) -> None:
        self._process = process
        self.url = process.url()
        self._metrics = self.url.replace("ws:", "http:").replace("/media", "/metrics")

    def sample(self, seconds: float, ended: int) -> Sample:
        """Ask for the metrics, and take a sample."""
        with urllib.request.urlopen(self._metrics, timeout=calls.PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        live = next(float(line.split()[1]) for line in lines if line.startswith("mediastreams_streams_live "))
        own, *engine = self._process.pss_kb()
        threads, descriptors = self._process.threads(), self._process.descriptors()
        return Sample(seconds, ended, int(live), own / 1024, sum(engine) / 1024, threads, descriptors)


class Churn:
    """Calls that come and go, always `count` of them, their phases spread over the 20 ms of a chunk.

    `ended` is how many of them have, `dropped` how many of these were dropped; `unanswered` is how many had
    no answer to their Close in time.
    """

    def __init__(self, url: str, count: int) -> None:
        self.ended = self.dropped = self.unanswered = 0
        self._url = url
        self._random = random.Random(0)
        most = round(LONGEST * calls.PER_SECOND)
        self._frames = calls.media_frames(calls.chunks(most, sound_file.read(str(SAMPLE))[0]))
        self._live = [self._dial() for _ in range(count)]
        self._ending: list[tuple[calls.Call, float]] = []

    def speak(self, seconds: float) -> None:
        """Speak for so long; calls that have said all are followed by others."""
        began, count = time.monotonic(), len(self._live)
        for step in range(round(seconds * calls.PER_SECOND)):
            for n in range(count):
                due = began + (step + n / count) / calls.PER_SECOND
                time.sleep(max(due - time.monotonic(), 0))
                call, left = self._live[n]
                frame = next(left, None)
                if frame is not None:
                    call.send(frame)
                    continue
                self._hang_up(call)
                self._live[n] = self._dial()
            self._take_answers()

    def end(self) -> None:
        """End all calls, and wait for the answers to their Closes."""
        for call, _ in self._live:
            self._hang_up(call)
        while self._ending:
            self._take_answers()
            time.sleep(0.02)

    def _dial(self) -> tuple[calls.Call, object]:
        count = round(self._random.uniform(SHORTEST, LONGEST) * calls.PER_SECOND)
        call = calls.Call(self._url, f"CA{self._random.getrandbits(128):032x}", count + 2)
        return call, iter(self._frames[:count])

    def _hang_up(self, call: calls.Call) -> None:
        self.ended += 1
        if self.ended % DROPPED == 0:
            self.dropped += 1
            call.drop()
            return
        deadline = time.monotonic() + calls.PATIENCE
        call.stop(deadline)
        self._ending.append((call, deadline))

    def _take_answers(self) -> None:
        waiting = []
        for call, deadline in self._ending:
            if call.has_ended():
                continue
            if time.monotonic() < deadline:
                waiting.append((call, deadline))
            else:
                self.unanswered += 1
                call.drop()
        self._ending = waiting


def slope(samples: list[Sample], figure: str) -> float:
    """Return by how much a figure grows in an hour: least squares over the second half of the samples."""
    late = samples[len(samples) // 2 :]
    if len(late) < 2:
        return 0.0
    times, values = [each.seconds for each in late], [getattr(each, figure) for each in late]
    return statistics.linear_regression(times, values).slope * 3600


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; return the exit status: 1 where something grew or was left."""
    if not sys.platform.startswith("linux"):
        sys.exit("bench/soak.py needs Linux: it reads memory and descriptors from /proc.")
    options = _parser().parse_args(arguments)
    local = importlib.util.find_spec("moonshine_voice") is not None
    environ = {
        "HTTP_SERVER_PORT": "0",
        "RECORDINGS_DIR": "recordings",  # in the folder of the process
        "MAX_STREAMS": "1000",
        "TRANSCRIBER": "local" if local else "off",
    }
    try:
        with calls.Process(calls.OURS.command, os.sched_getaffinity(0), environ) as process:
            return _soak(process, options)
    except (calls.ServerError, OSError) as error:
        print(f"Failed: {error}", file=sys.stderr)
        return 1


def _soak(process: calls.Process, options: argparse.Namespace) -> int:
    server = Server(process)
    warm_up = Churn(server.url, options.calls)  # so that what is loaded, and grows, only once is there
    warm_up.speak(LONGEST)
    warm_up.end()
    before = server.sample(0, 0)
    churn = Churn(server.url, options.calls)
    began = time.monotonic()
    samples: list[Sample] = []
    print("| s | calls | live | server, MB | engine, MB | threads | descriptors |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    while time.monotonic() - began < options.seconds:
        churn.speak(options.every)
        _remove_old(process.folder / "recordings")
        samples.append(server.sample(time.monotonic() - began, churn.ended))
        _print_row(samples[-1])
    churn.end()
    faults = [] if not churn.unanswered else [f"{churn.unanswered} calls got no answer to their Close"]
    after = _settled(server, before, churn)
    _print_row(after)
    print(f"\n{churn.ended} calls, {churn.dropped} of them dropped")
    for name, figure in (("server", "server_mb"), ("engine", "engine_mb")):
        grows = slope(samples, figure)
        print(f"{name} {grows:+.1f} MB an hour")
        if grows > options.max_slope:
            faults.append(f"the {name} grows by more than {options.max_slope:g} MB an hour")
    for name, more in (("live", 0), ("threads", MORE_THREADS), ("descriptors", 0)):
        had, has = getattr(before, name), getattr(after, name)
        if has > had + more:
            faults.append(f"{name}: {had} before the calls, {has} after them")
    for fault in faults:
        print(f"Failed: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _settled(server: Server, before: Sample, churn: Churn) -> Sample:
    """Return a sample in which all calls have left, or what it is after a bounded time."""
    began = time.monotonic()
    while True:
        sample = server.sample(0, churn.ended)
        is_settled = sample.live <= before.live and sample.descriptors <= before.descriptors
        if is_settled or time.monotonic() - began > calls.PATIENCE:
            return sample
        time.sleep(0.2)


def _remove_old(folder: Path) -> None:
    now = time.time()
    for path in folder.iterdir():
        try:
            if now - path.stat().st_mtime > KEEP:
                path.unlink()
        except FileNotFoundError:  # a draft that has got its name meanwhile
            continue


def _print_row(sample: Sample) -> None:
    seconds, ended, live, own, engine, threads, descriptors = astuple(sample)
    print(
        f"| {seconds:.0f} | {ended} | {live} | {own:.1f} | {engine:.1f} | {threads} | {descriptors} |",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench/soak.py", description="Tells whether a server grows while calls come and go."
    )
    add = parser.add_argument
    add("--calls", type=int, default=40, metavar="N", help="calls at once (40)")
    add("--seconds", type=float, default=600, metavar="N", help="how long (600)")
    add("--every", type=float, default=5, metavar="N", help="seconds between two samples (5)")
    add("--max-slope", type=float, default=30, metavar="MB", help="MB an hour that are no failure (30)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
