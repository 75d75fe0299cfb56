"""Measure what a message costs a server: its CPU time, memory and lateness under many paced calls.

    python bench/calls.py                                     this project's server
    python bench/calls.py --calls 1000 --against all          beside the servers of bench/peers
    python bench/calls.py --calls 40 --echo --against all     two-way calls: each message comes back
    python bench/calls.py --url ws://127.0.0.1:5000/media     only the load, on a server that runs already

Each call sends what Twilio sends: 50 media messages a second of 20 ms each. The server has one core for
itself and the calls another. What the numbers mean, and how they are taken, is in bench/README.md.
"""

import argparse
import base64
import contextlib
import gc
import json
import os
import platform
import random
import re
import resource
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PEERS = BENCH / "peers"

CHUNK_NS = 20_000_000  # what one media message holds, and the time to the next one
CHUNK_BYTES = 160
PER_SECOND = 50
FIRST_TIMESTAMP = 155  # ms, as in a captured call

LAST_WORDS = 0.2  # seconds for what was said last to come back
SETTLE = 2  # seconds of speech before the window that is measured
PATIENCE = 20  # seconds to start, to connect, to answer a Close, to end
TRUSTED_MS = 5  # how late the load itself may be at the 99th percentile
SATURATED = 0.95  # of a core: from here on messages wait, and the cost of those handled is not known

STREAM_SID = "MZ" + "0" * 32  # all calls carry the same, so that one frame serves them all
TEXT, CLOSE = 0x1, 0x8
# A media message of one chunk: the second of silence with which an echo begins is longer.
_ECHO = re.compile(rb'\{"event":"media",.*"payload":"([^"]{200,220})"').match


class ServerError(Exception):
    """A server that could not be measured; the text says why."""


# The servers


@dataclass(frozen=True)
class Server:
    """A server to measure.

    `command` starts it; `timed` too, but there it obeys BENCH_LATENESS. `packages` is what it is built
    of, of PyPI or, for Node, of npm. `environ` is what it is set to beside that. `echoes`: it has `/echo`.
    """

    name: str
    command: tuple[str, ...]
    timed: tuple[str, ...]
    packages: tuple[str, ...]
    environ: tuple[tuple[str, str], ...] = ()
    echoes: bool = True

    def version(self, package: str) -> str | None:
        """Return the version of a package that is installed, else None."""
        if self.command[0] == "node":
            try:
                return json.loads((PEERS / "node_modules" / package / "package.json").read_text())["version"]
            except FileNotFoundError:
                return None
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    def missing(self) -> list[str]:
        """Return what is not installed of what the server needs."""
        programs = [] if shutil.which(self.command[0]) else [self.command[0]]
        return programs + [package for package in self.packages if not self.version(package)]


def _peer(name: str, *packages: str, echoes: bool = True) -> Server:
    command = (sys.executable, str(PEERS / f"{name}_server.py"))
    return Server(name, command, command, packages, echoes=echoes)


_WS = ("node", str(PEERS / "ws_server.mjs"))
OURS = Server(
    "app.py",
    (sys.executable, str(ROOT / "app.py")),
    (sys.executable, str(BENCH / "lateness.py")),
    ("flask", "flask-sockets", "gevent", "gevent-websocket", "msgspec"),
)
AGAINST = {
    peer.name: peer
    for peer in (
        replace(OURS, name="recording", environ=(("RECORDINGS_DIR", "recordings"),)),
        replace(OURS, name="no-page", environ=(("PAGE_TOKEN", "off"),)),
        _peer("fastapi", "fastapi", "uvicorn", "websockets", "uvloop"),
        _peer("websockets", "websockets", "uvloop"),
        _peer("aiohttp", "aiohttp", "uvloop", echoes=False),
        _peer("picows", "picows", "uvloop", "orjson"),
        Server("ws", _WS, _WS, ("ws", "bufferutil"), echoes=False),
    )
}


class Process:
    """A server that runs on some cores; a context manager, which ends it.

    It gets a bare environment and an empty folder, so that no setting or `.env` of whoever measures
    changes the numbers. `folder` keeps what it writes.
    """

    def __init__(self, command: tuple[str, ...], cores: set[int], environ: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.folder = Path(self._folder.name)
        self._output = self.folder / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def url(self, path: str = "/media") -> str:
        """Wait until the server listens, and return the address of a route."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self._output.read_text(errors="replace").splitlines():
                if line.startswith("Server listening on: http://localhost:"):
                    return f"ws://127.0.0.1:{line.rpartition(':')[2]}{path}"
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise ServerError(f"the server did not start:\n{self.last_lines()}")

    def last_lines(self) -> str:
        """Return the end of what the server printed."""
        return "\n".join(self._output.read_text(errors="replace").splitlines()[-5:])

    def cpu_ns(self) -> int:
        """Return the CPU time used so far, user and system, of all threads and child processes."""
        return sum(self.cpu_ns_each())

    def cpu_ns_each(self) -> list[int]:
        """Return that of the server, and then of each of its child processes."""
        return list(map(_cpu_ns, self._pids()))

    def memory_kb(self) -> int:
        """Return the memory in use, of the child processes too: heaps and stacks, no files."""
        return sum(map(_memory_kb, self._pids()))

    def resident_kb(self) -> list[int]:
        """Return the resident memory of the server, and then of each of its child processes."""
        return [_status_kb(pid, "VmRSS:") for pid in self._pids()]

    def pss_kb(self) -> list[int]:
        """Return the PSS of the server, and then of each of its child processes."""
        return [_status_kb(pid, "Pss:", "smaps_rollup") for pid in self._pids()]

    def threads(self) -> int:
        """Return how many threads the server has, without its child processes."""
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/task").iterdir())

    def descriptors(self) -> int:
        """Return how many open files the server has, without its child processes."""
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())

    def stop(self) -> None:
        """End the server; what it writes at its end is there afterwards."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it at once; it writes nothing."""
        self._process.kill()
        self._process.wait()

    def _pids(self) -> list[int]:
        if self._process.poll() is not None:
            raise ServerError(f"the server ended:\n{self.last_lines()}")
        pids = [self._process.pid]
        for pid in pids:  # grows meanwhile, by the children of each
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += map(int, children.read_text().split())
        return pids


def _cpu_ns(pid: int) -> int:
    try:
        # The clock that clock_getcpuclockid(3) names: to the nanosecond, with threads that have ended.
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _memory_kb(pid: int) -> int:
    # Not the whole PSS: its share of the interpreter's pages changes with what else runs on the machine.
    return _status_kb(pid, "Pss_Anon:", "smaps_rollup") or _status_kb(pid, "RssAnon:")


def _status_kb(pid: int, field: str, file: str = "status") -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


# The calls


def frame(data: bytes, opcode: int = TEXT) -> bytes:
    """Return one masked frame of up to 65,535 bytes (RFC 6455, section 5.2)."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2)
    mask = os.urandom(4)
    masked = int.from_bytes(data) ^ int.from_bytes((mask * (size // 4 + 1))[:size])
    return bytes([0x80 | opcode]) + length + mask + masked.to_bytes(size)


def message(event: str, **fields: object) -> bytes:
    """Return the frame of one of Twilio's messages."""
    return frame(json.dumps({"event": event, **fields}, separators=(",", ":")).encode())


def chunks(count: int, speech: bytes | None = None) -> list[str]:
    """Return the payloads of a call's media messages: `speech`, again and again; None is noise."""
    audio = speech * (count * CHUNK_BYTES // len(speech) + 1) if speech else None
    noise = random.Random(0)
    return [
        base64.b64encode(
            audio[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES] if audio else noise.randbytes(CHUNK_BYTES)
        ).decode()
        for i in range(count)
    ]


def media_frames(payloads: list[str]) -> list[bytes]:
    """Return the media messages of a call, from its first: `sequenceNumber` 2, after that of `start`."""
    return [
        message(
            "media",
            sequenceNumber=str(i + 2),
            media={
                "track": "inbound",
                "chunk": str(i + 1),
                "timestamp": str(FIRST_TIMESTAMP + 20 * i),
                "payload": payload,
            },
            streamSid=STREAM_SID,
        )
        for i, payload in enumerate(payloads)
    ]


class Call:
    """One call: its connection, which is started at once. `last` is the `sequenceNumber` of its `stop`.

    `heard` has the payload of each media message that came back of those it sent, in base64, and when.
    """

    def __init__(self, url: str, sid: str, last: int, *, two_way: bool = False) -> None:
        self._call = {"accountSid": "AC" + "0" * 32, "callSid": sid}
        self._last = last
        self._rest = b""
        self._unread = b""  # the start of a frame
        self.heard: deque[tuple[str, int]] = deque()
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shake_hands(parts.netloc, parts.path)
        start = {
            **self._call,
            "streamSid": STREAM_SID,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"messages": str(last), **({"bidirectional": "true"} if two_way else {})},
        }
        self._socket.sendall(message("connected", protocol="Call", version="1.0.0"))
        self._socket.sendall(message("start", sequenceNumber="1", start=start, streamSid=STREAM_SID))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor of its socket."""
        return self._socket.fileno()

    def _shake_hands(self, host: str, path: str) -> None:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Twilio.TmeWs/1.0\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            received = self._socket.recv(4096)
            if not received:
                raise ServerError(f"no answer to a handshake: {answer!r}")
            answer += received
        if not answer.startswith(b"HTTP/1.1 101"):
            raise ServerError(f"the answer to a handshake: {answer.splitlines()[0].decode()}")

    def send(self, data: bytes) -> bool:
        """Send a frame without waiting; return False where the server does not take it.

        A frame that was taken in part is completed before the next one.
        """
        try:
            if self._rest:
                self._rest = self._rest[self._socket.send(self._rest) :]
                if self._rest:
                    return False
            self._rest = data[self._socket.send(data) :]
        except OSError:  # full, or gone
            return False
        return True

    def stop(self, deadline: float) -> None:
        """Send what is left, `stop` and a Close."""
        stop = message("stop", sequenceNumber=str(self._last), stop=self._call, streamSid=STREAM_SID)
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        with contextlib.suppress(OSError):  # then it gets no answer either
            self._socket.sendall(self._rest + stop + frame((1000).to_bytes(2), CLOSE))

    def hear(self) -> bool:
        """Read what has come; return whether that was the server's Close, or the end of the connection."""
        received = self._socket.recv(65536)
        now = time.monotonic_ns()
        data = self._unread + received
        at = 0
        while at < len(data):
            if data[at] == 0x80 | CLOSE:
                return True
            if len(data) < at + 4:
                break
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(data[at + 2 : at + 4]), at + 4
            if len(data) < begin + size:
                break
            match = _ECHO(data, begin, begin + size)
            if match:
                self.heard.append((match[1].decode(), now))
            at = begin + size
        self._unread = data[at:]
        return not received

    def has_ended(self) -> bool:
        """Return whether the server's Close or the end of the connection has come, without waiting."""
        self._socket.setblocking(False)
        try:
            ended = self.hear()
        except BlockingIOError:
            return False
        except OSError:
            ended = True
        if ended:
            self._socket.close()
        return ended

    def drop(self) -> None:
        """End the connection at once, with a reset (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def end(self, deadline: float) -> bool:
        """Wait for the server's Close or the end of the connection; say whether one came."""
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if self.hear():
                    return True
        except OSError:
            pass
        finally:
            self._socket.close()
        return False


class Load:
    """Many calls at once, their phases spread evenly over the 20 ms of a chunk.

    First `settle`, then `speak` for the `seconds` that are measured, then `hang_up`. `sent` holds when
    each message was sent, in ns of the monotonic clock and in the order of sending (`index`); 0: not
    sent, because the server did not take it. `unanswered` counts the calls whose Close got no answer.

    The calls are `two_way` where the server sends each media message back. `heard` then holds when.
    """

    def __init__(
        self, url: str, calls: int, seconds: float, speech: bytes | None = None, *, two_way: bool = False
    ) -> None:
        settling = round(min(SETTLE, seconds) * PER_SECOND)
        self._payloads = chunks(settling + round(seconds * PER_SECOND), speech)
        self._frames = media_frames(self._payloads)
        self.steps = range(settling, len(self._frames))  # of each call, those that are measured
        self.sent = array("q", bytes(8 * calls * len(self._frames)))
        self.unanswered = 0
        self.sids = [f"CA{n:032x}" for n in range(calls)]
        try:
            self._calls = [Call(url, sid, len(self._frames) + 2, two_way=two_way) for sid in self.sids]
        except OSError as error:
            raise ServerError(f"cannot call {url}: {error}") from None
        self._rest = time.sleep
        if two_way:
            self._by_fd = {call.fileno(): call for call in self._calls}
            self._readable = select.epoll()
            for fd in self._by_fd:
                self._readable.register(fd, select.EPOLLIN)
            self._rest = self._listen
        self._began = time.monotonic_ns()

    def index(self, step: int, call: int) -> int:
        """Return where in `sent` the media message `step` of the call stands."""
        return step * len(self._calls) + call

    def settle(self) -> None:
        """Speak until all are used to it. The calls begin now, however long it took to connect."""
        self._began = time.monotonic_ns()
        self._pace(range(self.steps.start))

    def speak(self) -> None:
        """Speak for the time that is measured."""
        self._pace(self.steps)

    def hang_up(self) -> None:
        """Send `stop` and a Close on each call, and wait a bounded time for the answers."""
        if self._rest == self._listen:
            self._rest(LAST_WORDS)
        deadline = time.monotonic() + PATIENCE
        for call in self._calls:
            call.stop(deadline)
        self.unanswered = sum(not call.end(deadline) for call in self._calls)

    def messages(self) -> int:
        """Return the number of messages sent in the time that is measured."""
        return sum(1 for _ in self._sent_of_window())

    def unsent(self) -> int:
        """Return the number of messages that the server did not take."""
        return self.sent.count(0)

    def late_ms(self) -> float:
        """Return by how much the load itself was late, at the 99th percentile."""
        late = sorted(self.sent[i] - self._due(i) for i in self._sent_of_window())
        return percentile(late, 0.99) / 1e6

    def echoes_ms(self) -> tuple[list[float], int]:
        """Return after how many ms the messages sent in the time that is measured came back, the least first.

        And how many of all did not come back as they were said.
        """
        late, missing = [], 0
        for n, call in enumerate(self._calls):
            heard = call.heard.copy()
            for step, data in enumerate(self._payloads):
                sent = self.sent[self.index(step, n)]
                if not sent:
                    continue
                payload, when = heard.popleft() if heard else ("", 0)
                if payload != data:
                    missing += 1
                elif step in self.steps:
                    late.append((when - sent) / 1e6)
        return sorted(late), missing

    def _listen(self, seconds: float) -> None:
        """Hear what comes back for so many seconds."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            # epoll's own wait is by the millisecond.
            if not select.select([self._readable], [], [], left)[0]:
                return
            for fd, _ in self._readable.poll(0):
                with contextlib.suppress(OSError):
                    if self._by_fd[fd].hear():
                        self._readable.unregister(fd)

    def _sent_of_window(self) -> Iterator[int]:
        return (i for i in range(self.index(self.steps.start, 0), len(self.sent)) if self.sent[i])

    def _due(self, i: int) -> int:
        return self._began + i * CHUNK_NS // len(self._calls)

    def _pace(self, steps: range) -> None:
        """Send each call its messages when they are due; those that are overdue, at once."""
        began, calls, sent = self._began, self._calls, self.sent
        count, clock, rest = len(calls), time.monotonic_ns, self._rest
        i = self.index(steps.start, 0)
        gc.disable()  # nothing here makes cycles, and a collection would be late messages
        for step in steps:
            data = self._frames[step]
            for call in calls:
                now = clock()
                due = began + i * CHUNK_NS // count
                if now < due:
                    rest((due - now) / 1e9)
                    now = clock()
                if call.send(data):
                    sent[i] = now
                i += 1
        gc.enable()


def percentile(ordered: list[float], part: float) -> float:
    """Return the value that `part` of the values do not exceed; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0


# The measuring


@dataclass(frozen=True)
class Cores:
    """The core of the server and that of the load."""

    server: int
    load: int

    @classmethod
    def take(cls) -> Self:
        """Return two of the cores that this process may use, the same twice if it has only one."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(server=cores[-1], load=cores[0])


@dataclass(frozen=True)
class Run:
    """What one run measured: µs of CPU a message, share of a core, kB of memory a call."""

    cpu_us: float
    share: float
    memory_kb: float
    load_late_ms: float
    faults: list[str]
    echoes: "Lateness | None" = None
    """How late each message came back, where the calls were two-way."""


@dataclass(frozen=True)
class Lateness:
    """How long after it was sent a message was handled, or had come back, in ms."""

    p50: float
    p99: float
    most: float
    faults: list[str]


def measure(server: Server, cores: Cores, calls: int, seconds: float, *, two_way: bool = False) -> Run:
    """Run a server under the calls. Raises `ServerError`."""
    with Process(server.command, {cores.server}, _environ(server, calls)) as process:
        url = process.url("/echo" if two_way else "/media")
        _warm_up(url, two_way=two_way)
        memory = process.memory_kb()
        load = Load(url, calls, seconds, two_way=two_way)
        load.settle()
        began, cpu = time.monotonic_ns(), process.cpu_ns()
        load.speak()
        cpu, wall = process.cpu_ns() - cpu, time.monotonic_ns() - began
        memory = process.memory_kb() - memory
        load.hang_up()
    faults = _faults(load)
    if cpu > SATURATED * wall:
        faults.append("the server had no time left: messages waited, µs and lateness are too low")
    echoes = None
    if two_way:
        late, missing = load.echoes_ms()
        if missing:
            faults.append(f"{missing} messages did not come back as they were said")
        echoes = Lateness(*(percentile(late, part) for part in (0.5, 0.99, 1)), faults)
    return Run(
        cpu / 1e3 / max(1, load.messages()), cpu / wall, memory / calls, load.late_ms(), faults, echoes
    )


def measure_lateness(server: Server, cores: Cores, calls: int, seconds: float) -> Lateness:
    """Run a server that notes when it handled each message. Raises `ServerError`."""
    environ = {**_environ(server, calls), "BENCH_LATENESS": "handled.json"}  # in its folder
    with Process(server.timed, {cores.server}, environ) as process:
        url = process.url()
        _warm_up(url)
        load = Load(url, calls, seconds)
        load.settle()
        load.speak()
        load.hang_up()
        process.stop()
        try:
            handled = json.loads((process.folder / "handled.json").read_text())
        except FileNotFoundError:
            raise ServerError(f"the server noted nothing:\n{process.last_lines()}") from None
    late, unhandled = [], 0
    for call, sid in enumerate(load.sids):
        times = handled.get(sid) or [0] * (load.steps.stop + 2)
        for step in load.steps:
            if sent := load.sent[load.index(step, call)]:
                if times[step + 2]:
                    late.append(times[step + 2] - sent)
                else:
                    unhandled += 1
    late.sort()
    faults = _faults(load)
    if unhandled:
        faults.append(f"{unhandled} messages were not handled")
    return Lateness(*(percentile(late, part) / 1e6 for part in (0.5, 0.99, 1)), faults)


def _environ(server: Server, calls: int) -> dict[str, str]:
    most = str(max(1000, calls + 1))
    return {"HTTP_SERVER_PORT": "0", "MAX_STREAMS": most, "TRANSCRIBER": "off", **dict(server.environ)}


def _warm_up(url: str, *, two_way: bool = False) -> None:
    """Make one short call, so that what a server loads only once is not counted as a call's memory."""
    load = Load(url, 1, 0.2, two_way=two_way)
    load.settle()
    load.speak()
    load.hang_up()


def _faults(load: Load) -> list[str]:
    faults = []
    if (late := load.late_ms()) > TRUSTED_MS:
        faults.append(f"the load itself was {late:.1f} ms late at p99: this run is not to be trusted")
    if unsent := load.unsent():
        faults.append(f"{unsent} messages could not be sent")
    if load.unanswered:
        faults.append(f"{load.unanswered} calls got no answer to their Close")
    return faults


# The command


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; return the exit status: 1 where a server could not be measured."""
    if not sys.platform.startswith("linux"):
        sys.exit("bench/calls.py needs Linux: it reads CPU time and memory from /proc, and pins cores.")
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.calls < 1 or options.rounds < 1 or options.seconds * PER_SECOND < 1:
        parser.error("--calls and --rounds must be 1 or more, --seconds 0.02 or more")
    _allow_files(options.calls + 100)
    cores = Cores.take()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    try:
        if options.url:
            _only_load(options.url, options)
        else:
            _compare(_servers(options.against, echo=options.echo), cores, options)
    except ServerError as error:
        print(f"Failed: {error}", file=sys.stderr)
        return 1
    finally:
        os.sched_setaffinity(0, before)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench/calls.py",
        description="Measures what a message costs a Media Streams server under many paced calls.",
    )
    add = parser.add_argument
    add("--calls", type=int, default=200, metavar="N", help="calls at once, 50 messages a second each (200)")
    add("--seconds", type=float, default=20, metavar="N", help="how long each run is measured (20)")
    add("--rounds", type=int, default=3, metavar="N", help="runs of each server, in turn (3)")
    add("--against", type=_names, default=[], metavar="NAME,...", help=f"all, or of {', '.join(AGAINST)}")
    add("--echo", action="store_true", help="two-way calls to /echo: each message comes back")
    add("--url", metavar="ws://...", help="only make the calls, to a server that runs already")
    return parser


def _names(text: str) -> list[str]:
    names = list(AGAINST) if text == "all" else text.split(",")
    for name in names:
        if name not in AGAINST:
            raise argparse.ArgumentTypeError(f"{name}: none of {', '.join(AGAINST)}, all")
    return names


def _allow_files(count: int) -> None:
    """Let this process, and the servers that it starts, have a socket for each call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard < count:
            sys.exit(f"so many calls need {count} open files, the system allows {hard}: see `ulimit -Hn`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _servers(names: list[str], *, echo: bool) -> list[Server]:
    servers = [OURS]
    for peer in (AGAINST[name] for name in names):
        if echo and not peer.echoes:
            print(f"{peer.name} is left out, it has no /echo here")
        elif missing := peer.missing():
            print(f"{peer.name} is left out, not installed: {', '.join(missing)}")
        else:
            servers.append(peer)
    return servers


def _only_load(url: str, options: argparse.Namespace) -> None:
    calls, seconds = options.calls, options.seconds
    load = Load(url, calls, seconds, two_way=options.echo)
    load.settle()
    load.speak()
    load.hang_up()
    print(f"{calls} calls sent {load.messages()} messages in {seconds:g} s, p99 {load.late_ms():.2f} ms late")
    _warn(_faults(load))


def _compare(servers: list[Server], cores: Cores, options: argparse.Namespace) -> None:
    _describe(servers, cores)
    print(f"{options.calls} calls, {options.seconds:g} s, median of {options.rounds} rounds\n")
    runs: dict[str, list[Run]] = {server.name: [] for server in servers}
    for n in range(options.rounds):
        for server in servers:
            run = measure(server, cores, options.calls, options.seconds, two_way=options.echo)
            runs[server.name].append(run)
            print(
                f"round {n + 1}  {server.name:<12}{run.cpu_us:8.2f} µs a message {run.share:7.1%} of a core"
                f"{run.memory_kb:8.1f} kB a call   load {run.load_late_ms:.2f} ms late",
                flush=True,
            )
            _warn(run.faults)
    lateness = {}
    for server in servers:
        echoes = [run.echoes for run in runs[server.name] if run.echoes]
        late = lateness[server.name] = (
            _median(echoes) if echoes else measure_lateness(server, cores, options.calls, options.seconds)
        )
        print(
            f"lateness {server.name:<12} p50 {late.p50:.2f}  p99 {late.p99:.2f}  max {late.most:.2f} ms",
            flush=True,
        )
        if not options.echo:
            _warn(late.faults)
    print()
    _print_table(runs, lateness)


def _median(rounds: list[Lateness]) -> Lateness:
    """Return the median of each figure of the rounds."""
    p50, p99, most = (
        statistics.median(getattr(late, part) for late in rounds) for part in ("p50", "p99", "most")
    )
    return Lateness(p50, p99, most, [])


def _describe(servers: list[Server], cores: Cores) -> None:
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    print(
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )
    for server in servers:
        versions = [f"{package} {server.version(package)}" for package in server.packages]
        if server.command[0] == "node":
            node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
            versions.insert(0, f"node {node.stdout.strip().removeprefix('v')}")
        print(f"{server.name}: {', '.join(versions)}")
    if cores.server == cores.load:
        print("This machine has one core: server and load share it, and lateness says little.")
    else:
        print(f"Server on core {cores.server}, load on core {cores.load}.")


def _print_table(runs: dict[str, list[Run]], lateness: dict[str, Lateness]) -> None:
    print("| server | µs a message | ratio | of a core | kB a call | late p50, ms | p99 | max |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    ours = statistics.median(run.cpu_us for run in runs[OURS.name])
    faulty = False
    for name, own in runs.items():
        cpu, share, memory = (
            statistics.median(getattr(run, figure) for run in own)
            for figure in ("cpu_us", "share", "memory_kb")
        )
        late = lateness[name]
        mark = " *" if late.faults or any(run.faults for run in own) else ""
        faulty = faulty or bool(mark)
        print(
            f"| {name}{mark} | {cpu:.2f} | {cpu / ours:.2f} | {share:.1%} | {memory:.1f} "
            f"| {late.p50:.2f} | {late.p99:.2f} | {late.most:.2f} |"
        )
    if faulty:
        print("\n\\* See the warnings above.")


def _warn(faults: list[str]) -> None:
    for fault in faults:
        print(f"  Warning: {fault}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
