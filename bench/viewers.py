"""Measure what live pages cost: CPU above the same without them, the calls' lateness, the delay of texts.

    python bench/viewers.py
    python bench/viewers.py --calls 50 --viewers 20 --seconds 20 --rounds 3

Each page shows all calls (100 at most), has one of them selected and listens to it. In each call a text is
said once a second. The server has one core, calls and pages another. What the numbers mean, and how they are
taken, is in bench/README.md.
"""

import argparse
import base64
import http.client
import json
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import calls  # noqa: E402

TOKEN = "0123456789abcdef-bench"
TEXTS_PER_SECOND = 1  # of each call
_THIS = str(Path(__file__).resolve())


@dataclass(frozen=True)
class Run:
    """What one run measured: share of a core, lateness of the calls' messages in ms, delay of texts in ms."""

    share: float
    late: calls.Lateness
    text_delays: list[float]
    received: int
    """Bytes that all pages received in the time that is measured."""


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line asks; return the exit status."""
    if arguments is None and sys.argv[1:2] == ["--serve"]:
        _serve()
        return 0
    if arguments is None and sys.argv[1:2] == ["--watch"]:
        _watch(sys.argv[2], int(sys.argv[3]))
        return 0
    options = _parser().parse_args(arguments)
    cores = calls.Cores.take()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    runs: dict[int, list[Run]] = {0: [], options.viewers: []}
    print(f"{options.calls} calls, {options.seconds:g} s, median of {options.rounds} rounds\n")
    try:
        for n in range(options.rounds):
            for viewers, done in runs.items():
                run = measure(cores, options.calls, viewers, options.seconds)
                done.append(run)
                rate = run.received / 1e3 / options.seconds
                print(
                    f"round {n + 1}  {viewers:3} pages {run.share:7.2%} of a core  handled after "
                    f"{run.late.p99:.2f} ms (p99)  {rate:.0f} kB/s to the pages",
                    flush=True,
                )
                for fault in run.late.faults:
                    print(f"  {fault}", flush=True)
    except calls.ServerError as error:
        print(f"Failed: {error}", file=sys.stderr)
        return 1
    finally:
        os.sched_setaffinity(0, before)
    print()
    for viewers, done in runs.items():
        share = statistics.median(run.share for run in done)
        p99 = statistics.median(run.late.p99 for run in done)
        print(f"{viewers} pages: {share:.2%} of a core, messages handled after {p99:.2f} ms (p99)")
    without, with_pages = (statistics.median(run.share for run in done) for done in runs.values())
    delays = sorted(delay for run in runs[options.viewers] for delay in run.text_delays)
    print(f"above: {with_pages - without:.2%} of a core")
    print(
        f"texts on the page after {calls.percentile(delays, 0.5):.1f} ms (p50), "
        f"{calls.percentile(delays, 0.99):.1f} ms (p99) of {len(delays)}"
    )
    return 0


def measure(cores: calls.Cores, count: int, viewers: int, seconds: float) -> Run:
    """Run a server under so many calls and pages. Raises `ServerError`."""
    environ = {
        "HTTP_SERVER_PORT": "0",
        "TRANSCRIBER": "off",
        "PAGE_TOKEN": TOKEN,
        "PAGE_VIEWERS": str(max(viewers, 1)),
        "BENCH_LATENESS": "handled.json",
    }
    with calls.Process((sys.executable, _THIS, "--serve"), {cores.server}, environ) as process:
        url = process.url()
        load = calls.Load(url, count, seconds)
        pages = _Pages(url, viewers) if viewers else None
        load.settle()
        began, cpu = time.monotonic_ns(), process.cpu_ns()
        load.speak()
        ended = time.monotonic_ns()
        cpu = process.cpu_ns() - cpu
        seen = pages.end() if pages else []
        load.hang_up()
        process.stop()
        try:
            handled = json.loads((process.folder / "handled.json").read_text())
        except FileNotFoundError:
            raise calls.ServerError(f"the server noted nothing:\n{process.last_lines()}") from None
    late = sorted(
        handled[sid][step + 2] - sent
        for call, sid in enumerate(load.sids)
        for step in load.steps
        if (sent := load.sent[load.index(step, call)]) and handled[sid][step + 2]
    )
    faults = []
    if (late_ms := load.late_ms()) > calls.TRUSTED_MS:
        faults.append(f"the load itself was {late_ms:.1f} ms late at p99: this run is not to be trusted")
    lateness = calls.Lateness(*(calls.percentile(late, part) / 1e6 for part in (0.5, 0.99, 1)), faults)
    window = [row for row in seen if began <= row[0] <= ended]
    delays = [delay for _, _, delay in window if delay is not None]
    return Run(cpu / (ended - began), lateness, delays, sum(size for _, size, _ in window))


def _serve() -> None:
    """Serve as `python app.py` does, note when each message was handled, and say a text a second."""
    import lateness

    from mediastreams.consumers.base import Consumer
    from mediastreams.extension import MediaStreams
    from mediastreams.streams.transcript import Transcript

    class Recogniser(Consumer):
        """Publishes a text a second that says when it was published."""

        def __init__(self, stream, publish):
            super().__init__(stream)
            self._publish = publish
            self._next = time.monotonic() + hash(id(self)) % 100 / 100

        def audio(self, track, position, payload):
            if time.monotonic() >= self._next:
                self._next += 1 / TEXTS_PER_SECOND
                seconds = self.stream.seconds
                self._publish(Transcript(track, f"said at {time.monotonic_ns()}", True, seconds, seconds))

    register = MediaStreams._register_consumers

    def register_all(self):
        self._consumers.recognise(Recogniser)
        register(self)

    MediaStreams._register_consumers = register_all
    lateness.serve()


class _Pages:
    """The pages, in a process of their own on the core of the calls."""

    def __init__(self, url: str, viewers: int) -> None:
        command = [sys.executable, _THIS, "--watch", url, str(viewers)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "open\n":
            raise calls.ServerError("the pages did not open")

    def end(self) -> list[tuple[int, int, float | None]]:
        """Close the pages; return for each read when it was, its bytes and, of a text, its delay in ms."""
        out, _ = self._process.communicate("\n")
        return [tuple(row) for row in json.loads(out)]


def _watch(url: str, viewers: int) -> None:
    """Be the pages: print `open`, read until something comes on stdin, print what was read."""
    parts = urlsplit(url)
    cookie = _log_in(parts.hostname, parts.port)
    sockets = [_open(parts.hostname, parts.port, cookie) for _ in range(viewers)]
    print("open", flush=True)
    seen: list[tuple[int, int, float | None]] = []
    unread = dict.fromkeys(sockets, b"")
    while True:
        readable, _, _ = select.select([*sockets, sys.stdin], [], [])
        if sys.stdin in readable:
            break
        for each in readable:
            data = each.recv(1 << 20)
            if not data:
                sys.exit("a page was closed")
            now = time.monotonic_ns()
            seen.append((now, len(data), None))
            data = unread[each] + data
            for match in re.finditer(rb'"transcript".{1,80}"said at (\d+)"', data):
                seen.append((now, 0, (now - int(match[1])) / 1e6))
            unread[each] = data[-150:] if b'"said at' not in data[-150:] else b""
    print(json.dumps(seen))


def _log_in(host: str, port: int) -> str:
    connection = http.client.HTTPConnection(host, port)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/page/login", urlencode({"token": TOKEN}), headers)
    return connection.getresponse().getheader("Set-Cookie").partition(";")[0]


def _open(host: str, port: int, cookie: str) -> socket.socket:
    """Open a page that shows all calls and listens to one; return its socket."""
    page = socket.create_connection((host, port))
    page.sendall(
        f"GET /page/live HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode()
    )
    received = b""
    while not (snapshot := re.search(rb'"event":"calls","live":(\[.*\]),"ended"', received)):
        if not (part := page.recv(1 << 20)):
            sys.exit(f"a page was not let in: {received[:200]!r}")
        received += part
    ids = [row["id"] for row in json.loads(snapshot[1])][:100]
    for message in (
        {"event": "show", "ids": ids},
        {"event": "select", "id": ids[0]},
        {"event": "listen", "id": ids[0]},
    ):
        page.sendall(calls.frame(json.dumps(message).encode()))
    return page


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench/viewers.py", description="Measures what live pages cost a server that has calls."
    )
    add = parser.add_argument
    add("--calls", type=int, default=50, metavar="N", help="calls at once (50)")
    add("--viewers", type=int, default=20, metavar="N", help="pages that show them all (20)")
    add("--seconds", type=float, default=20, metavar="N", help="how long each run is measured (20)")
    add("--rounds", type=int, default=3, metavar="N", help="runs without and with pages, in turn (3)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
