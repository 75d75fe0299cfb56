"""Providers on this machine, that speak the real protocols: what they heard, and answers by the second."""

import asyncio
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from websockets.sync.server import serve

from mediastreams.caller import SAMPLE, sound_file
from mediastreams.client import tls_context
from mediastreams.transcription import provider as cloud
from mediastreams.transcription.session import Backlog
from support.server import run_caller

SECOND = bytes(8000)
SAID = sound_file.read(str(SAMPLE))[0]


class Hearing:
    """One session of a provider: counts its audio and answers with how much it was.

    A text each second, final every second one: `Heard 1 s`, `Heard 2 s`.
    """

    def __init__(self):
        self.mulaw = b""
        self._told = 0

    def hear(self, mulaw, last=False):
        """Return what there is to tell, as (text, final, start, end)."""
        self.mulaw += mulaw
        seconds = len(self.mulaw) // 8000
        told = []
        while self._told < seconds:
            self._told += 1
            start = (self._told - 1) // 2 * 2
            told.append((f"Heard {self._told} s", self._told % 2 == 0, float(start), float(self._told)))
        if last and len(self.mulaw) > self._told // 2 * 2 * 8000:
            end = len(self.mulaw) / 8000
            told.append((f"Heard {end:.2f} s", True, float(self._told // 2 * 2), end))
        return told


class Provider:
    """A WebSocket server over TLS; `sessions` has what each of them heard."""

    def __init__(self, tls, handler):
        self.sessions = []
        self.requests = []
        self.failures = []  # what the next sessions do instead, each a function of the connection
        self.refused = []
        self.elsewhere = ""  # the address that a path with this word redirects to
        self._server = serve(
            lambda ws: handler(self, ws),
            "127.0.0.1",
            0,
            ssl=tls.context,
            compression=None,
            process_request=self._judge,
        )
        self.port = self._server.socket.getsockname()[1]
        self.url = f"https://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _judge(self, connection, request):
        if "refuse" in request.path:
            self.refused.append(request)
            return connection.respond(401, f"it was {request.headers['Authorization']}")
        if "elsewhere" in request.path:
            response = connection.respond(302, "")
            response.headers["Location"] = self.elsewhere
            return response
        return None

    def stop(self):
        self._server.shutdown()
        self._thread.join()


class Tls:
    """A certificate for localhost, and the file of the authority that signed it."""

    def __init__(self, folder):
        authority = trustme.CA()
        self.file = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(self.file)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.context)


@pytest.fixture
def tls(tmp_path):
    tls_context.cache_clear()  # each test has an authority of its own
    yield Tls(tmp_path)
    tls_context.cache_clear()


@pytest.fixture
def start_provider(tls):
    """Return a function that starts a provider; it ends with the test."""
    providers = []

    def start(handler):
        providers.append(Provider(tls, handler))
        return providers[-1]

    yield start
    for provider in providers:
        provider.stop()


@pytest.fixture
def start_https(tls):
    """Return a function that starts an HTTPS server, which answers a POST as `answer(path, body)` says.

    That is the status and the text, and an address to redirect to if there is one.
    """
    servers = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, text, *location = answer(self.path, body)
                self.send_response(status)
                for address in location:
                    self.send_header("Location", address)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = tls.context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"https://localhost:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def shown(printed, speaker="caller"):
    """Return the final texts that a server has printed of one speaker, each with its time."""
    return re.findall(rf"INFO in transcriber: MZ\w{{6}} (\d+:\d\d) {speaker}: (.*)", printed)


def call_is_shown(server, *options):
    """Say the sample to a server, see that what its provider heard is shown, and return all it printed."""
    assert run_caller(server.url, *options).returncode == 0
    server.wait_for("Stream MZ")
    printed = server.stop()
    assert shown(printed) == [("0:00", "Heard 2 s"), ("0:02", "Heard 4 s"), ("0:04", "Heard 5.20 s")]
    return printed


class Recognised:
    """What became of a track that a provider's module has recognised in this process.

    `heard` has its texts, `warned` its lines of the log, and `paused` the seconds between the sessions, in
    which nobody has waited.
    """

    def __init__(self, provider, audio, seconds=None, pace=None, rate=8000):
        self.heard, self.warned, self.paused = [], [], []
        self._backlog = Backlog(lambda *told: self.heard.append(told), rate)
        asyncio.run(self._recognise(provider(), audio, seconds, pace))

    async def _recognise(self, provider, audio, seconds, pace):
        async def pause(seconds):
            self.paused.append(seconds)

        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            provider.session_seconds = seconds or provider.session_seconds
            tasks.create_task(provider.recognise(self._backlog, self.warned.append, pause))
            for n in range(0, len(audio), 800):
                self._backlog.feed(audio[n : n + 800])
                if pace:
                    await asyncio.sleep(pace)
            self._backlog.finish()


class Sessions(cloud.Provider):
    """A provider whose sessions are a function of the test's."""

    name = "Provider"

    def __init__(self, session, seconds, secrets=()):
        super().__init__(secrets)
        self.session_seconds = seconds
        self._session = session

    async def session(self, backlog):
        await self._session(backlog)


class Track:
    """A backlog that is recognised by sessions of the test's; its texts, warnings and pauses."""

    def __init__(self, audio=b""):
        self.heard = []
        self.said = []
        self.paused = []
        self.backlog = Backlog(lambda *heard: self.heard.append(heard))
        if audio:
            self.backlog.feed(audio)

    def recognise(self, session, seconds=3600, beside=None):
        """Recognise the track in an event loop, with the coroutine `beside` in the same."""
        asyncio.run(self._recognise(session, seconds, beside))

    async def _recognise(self, session, seconds, beside):
        async def pause(seconds):
            self.paused.append(seconds)

        provider = Sessions(session, seconds)
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            if beside:
                tasks.create_task(beside)
            tasks.create_task(provider.recognise(self.backlog, self.said.append, pause))
