"""The WebSocket of a page, `/page/live`: one for each tab.

It is no stream: `Viewers` admits and counts it, not `ServerState`. A tab that does not read what it is sent
loses audio first, then waves; levels are replaced by later ones. Texts and rows are never left out: where too
many wait, the WebSocket is closed with 1013.
"""

import contextlib
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import gevent
import msgspec
from gevent.event import Event
from geventwebsocket.exceptions import WebSocketError
from werkzeug.exceptions import HTTPException

from mediastreams.server import handshake
from mediastreams.server.connections import Live
from mediastreams.server.frames import CloseCode, Opcode
from mediastreams.server.handshake import Refusal
from mediastreams.server.sockets import UPGRADE, refusal
from mediastreams.server.websocket import WebSocket
from mediastreams.text import printable
from mediastreams.viewers.call import Told
from mediastreams.viewers.calls import Calls
from mediastreams.viewers.messages import (
    Alive,
    Audio,
    Changed,
    Detail,
    Draining,
    Hello,
    Levels,
    Listen,
    Listening,
    Removed,
    Request,
    Select,
    Show,
    Transcript,
    Wave,
    audio_frame,
    decode,
    encode,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

PATH = "/page/live"
PING_SECONDS = 30.0
IDLE_SECONDS = 90.0  # without a Pong or anything else
MAX_MESSAGE_BYTES = 16384  # the ids of 100 calls
MAX_WAITING = 2_000_000  # bytes of texts and rows
MAX_AUDIO = 20  # frames: 1 s of both tracks
MAX_WAVES = 100  # messages: 5 s of both tracks
_SENDING = 65536  # bytes that the system takes of what is sent: what waits in there cannot be left out
_TOGETHER = 16384  # bytes: from so many on the rest is sent later
_GATHER_SECONDS = 0.02  # what comes in this time is sent together
_PAUSE = 0.05  # seconds from one message of a page to the next that is handled
_DRAIN_SECONDS = 1.0  # for the pages to close
_ALIVE = encode(Alive())
_TRY_AGAIN_LATER = 1013  # https://www.iana.org/assignments/websocket


class Access(Protocol):
    """Who may look (`access.Access`)."""

    def refusal(self, environ: Mapping[str, Any]) -> Refusal | None:
        """Return why a request is refused; None where it may look."""


class Viewers:
    """The WebSockets of all pages: admits them (`handler.Admission`), and tells them what happens.

    For the server's thread.
    """

    live: Live
    """Those that are live; they are no streams."""
    max_message_bytes: int = MAX_MESSAGE_BYTES
    """How long a message of a page may be."""
    idle_seconds: float = IDLE_SECONDS
    """How many seconds a page may be silent, or read nothing."""

    def __init__(self, calls: Calls, access: Access, max_viewers: int, hello: Callable[[], Hello]) -> None:
        """`hello` makes the first message."""
        self.live = Live(gather_ms=0)
        self.calls = calls
        self.hello = hello
        self._access = access
        self._max_viewers = max_viewers
        self._viewers: set[Viewer] = set()
        self._running = 0  # also those that are not told yet what happens

    def refusal(self, environ: Mapping[str, Any], path: str) -> Refusal | None:
        """Return why a page's handshake is refused; None if it is accepted."""
        refused = handshake.check_request(environ) or self._access.refusal(environ)
        if refused is not None:
            return refused
        if self.live.draining:
            return Refusal(503, "draining", "The server is draining and takes no more pages.")
        if len(self.live) >= self._max_viewers:
            return Refusal(503, "page", f"{self._max_viewers} pages watch already (PAGE_VIEWERS).")
        return None

    def join(self, websocket: WebSocket) -> None:
        """Count a WebSocket that was opened."""
        self.live.join(websocket)

    def leave(self, websocket: WebSocket) -> None:
        """Undo `join`."""
        self.live.leave(websocket)

    def run(self, websocket: WebSocket) -> None:
        """Serve a page until its WebSocket has ended."""
        viewer = Viewer(websocket, self)
        self._running += 1
        if self._running == 1:
            self.calls.open(self)
        logger.info("%s: a page watches the calls", websocket.peer, extra={"limit": "pages"})
        try:
            self.calls.settle()
            self._viewers.add(viewer)
            if self.live.draining:
                viewer.drain()
            viewer.run()
        except WebSocketError:
            pass  # it has ended; how that came is logged
        except Exception:
            logger.exception("A page failed")
            websocket.close(CloseCode.INTERNAL_ERROR, "internal error")
        finally:
            self._viewers.discard(viewer)
            self._running -= 1
            self.watch()
            if not self._running:
                self.calls.close()

    def watch(self) -> None:
        """Ask for what the pages together want."""
        viewers = self._viewers
        self.calls.watch(
            frozenset().union(*(viewer.shown for viewer in viewers)),
            {viewer.selected for viewer in viewers if viewer.selected is not None},
            {viewer.listened for viewer in viewers if viewer.listened is not None},
        )

    def greet(self) -> None:
        """Send the first message again."""
        data = encode(self.hello())
        for viewer in self._viewers:
            viewer.put(data)

    def tell(self, message: Changed | Removed | Levels | Told | Detail) -> None:
        """Pass on what has happened to those whom it concerns; encode it once."""
        if isinstance(message, Levels):
            self._tell_levels(message)
            return
        if isinstance(message, Audio):
            for viewer in self._viewers:
                if viewer.listened == message.id:
                    viewer.put_audio(message)
            return
        concerned = [viewer for viewer in self._viewers if _concerns(message, viewer)]
        if not concerned:
            return
        data = encode(message)
        for viewer in concerned:
            if isinstance(message, Wave):
                viewer.put_wave(data)
            else:
                viewer.put(data)

    def drain(self) -> None:
        """Take no more pages, close those that are live with 1001, and wait for that, at most 1 s."""
        self.live.draining = True
        for viewer in self._viewers:
            viewer.drain()
        self.live.wait_until_empty(_DRAIN_SECONDS)

    def _tell_levels(self, message: Levels) -> None:
        encoded: dict[frozenset[str], bytes] = {}  # many pages show the same
        for viewer in self._viewers:
            shown = viewer.shown
            if shown not in encoded:
                levels = {id: each for id, each in message.levels.items() if id in shown}
                encoded[shown] = encode(Levels(levels)) if levels else b""
            if data := encoded[shown]:
                viewer.put_levels(data)


def _concerns(message: Changed | Removed | Told | Detail, viewer: "Viewer") -> bool:
    if isinstance(message, Changed | Removed):
        return True
    if isinstance(message, Transcript) and message.id in viewer.shown:
        return True
    return message.id == viewer.selected


class Viewer:
    """One page. The greenlet of `run` receives, one of its own sends; the others put something in."""

    shown: frozenset[str] = frozenset()
    """The calls that it shows."""
    selected: str | None = None
    """The call of which it shows all."""
    listened: str | None = None
    """The call to which it listens."""

    def __init__(self, websocket: WebSocket, viewers: Viewers) -> None:
        self._websocket = websocket
        self._viewers = viewers
        self._number = 0  # of the last `listen`
        self._waiting: deque[bytes] = deque()  # texts and rows
        self._waiting_bytes = 0
        self._levels: bytes | None = None
        self._waves: deque[bytes] = deque(maxlen=MAX_WAVES)
        self._audio: deque[bytes] = deque(maxlen=MAX_AUDIO)
        self._has_something = Event()
        self._is_draining = False

    def run(self) -> None:
        """Send what happens and do what the page asks for, until the WebSocket has ended."""
        with contextlib.suppress(OSError):
            self._websocket.handler.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENDING)
        # Before anything else can happen: what comes from now on is behind it.
        first = [encode(self._viewers.hello()), encode(self._viewers.calls.snapshot())]
        sender = gevent.spawn(self._send, first)
        try:
            while (message := self._websocket.receive()) is not None:
                self._handle(message)
                gevent.sleep(_PAUSE)
        finally:
            sender.kill()

    def put(self, data: bytes) -> None:
        """Send a text message behind those that wait; close where too many do."""
        if self._websocket.closed:
            return
        if self._waiting_bytes > MAX_WAITING:
            self._close(_TRY_AGAIN_LATER, "the page reads too slowly")
            self._waiting.clear()
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._has_something.set()

    def put_levels(self, data: bytes) -> None:
        """Send levels, instead of those that wait."""
        self._levels = data
        self._has_something.set()

    def put_wave(self, data: bytes) -> None:
        """Send a stretch of a wave; where too many wait, the oldest is dropped."""
        self._waves.append(data)
        self._has_something.set()

    def put_audio(self, audio: Audio) -> None:
        """Send audio, after all else; where too much waits, the oldest is dropped."""
        self._audio.append(audio_frame(audio, self._number))
        self._has_something.set()

    def drain(self) -> None:
        """Say that the server ends, and close with 1001."""
        self._is_draining = True
        self._has_something.set()

    def _handle(self, data: str | bytes) -> None:
        try:
            if isinstance(data, bytes):
                raise msgspec.DecodeError("a binary message")
            request = decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._close(CloseCode.POLICY_VIOLATION, f"not a message of the page: {error}")
            return
        self._do(request)

    def _do(self, request: Request) -> None:
        calls = self._viewers.calls
        if isinstance(request, Show):
            self.shown = frozenset(request.ids)
        elif isinstance(request, Select):
            self.selected = request.id
            self._waves.clear()
            if request.id is not None:
                self.put(encode(calls.detail(request.id) or Detail(request.id, [], [], [], [])))
        elif isinstance(request, Listen):
            rate = calls.rate(request.id) if request.id is not None else None
            self.listened = request.id if rate is not None else None
            self._number = (self._number + 1) % 2**16
            self._audio.clear()
            self.put(encode(Listening(self.listened, self._number, rate or 0)))
        self._viewers.watch()

    def _close(self, code: int, reason: str) -> None:
        peer = self._websocket.peer
        logger.warning("%s: page closed with %d, %s", peer, code, printable(reason), extra={"limit": "pages"})
        self._websocket.close(code, reason)

    def _send(self, first: Iterable[bytes]) -> None:
        websocket = self._websocket
        ping_at = time.monotonic() + PING_SECONDS
        with contextlib.suppress(WebSocketError):  # it has ended; how that came is logged
            for data in first:
                websocket.send_frame(data, Opcode.TEXT)
            while True:
                if self._is_draining:
                    websocket.send_frame(encode(Draining()), Opcode.TEXT)
                    websocket.drain(CloseCode.GOING_AWAY, "the server is going away")
                    return
                if (now := time.monotonic()) >= ping_at:
                    ping_at = now + PING_SECONDS
                    websocket.send_frames([(b"", Opcode.PING), (_ALIVE, Opcode.TEXT)])
                elif frames := self._next():
                    websocket.send_frames(frames)
                    gevent.sleep(_GATHER_SECONDS)
                else:
                    self._has_something.clear()
                    self._has_something.wait(ping_at - now)

    def _next(self) -> list[tuple[bytes, int]]:
        """Take what is to be sent next, as frames; none where nothing waits."""
        frames: list[tuple[bytes, int]] = []
        size = 0
        while size < _TOGETHER and (frame := self._next_frame()):
            frames.append(frame)
            size += len(frame[0])
        return frames

    def _next_frame(self) -> tuple[bytes, int] | None:
        if self._waiting:
            data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            return data, Opcode.TEXT
        if self._levels is not None:
            levels, self._levels = self._levels, None
            return levels, Opcode.TEXT
        if self._waves:
            return self._waves.popleft(), Opcode.TEXT
        if self._audio:
            return self._audio.popleft(), Opcode.BINARY
        return None


class LivePage:
    """The WSGI application in front of Flask's: it answers the handshakes for `/page/live`."""

    def __init__(self, wsgi_app: "WSGIApplication", viewers: Viewers) -> None:
        self._wsgi_app = wsgi_app
        self._viewers = viewers

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Upgrade a handshake, or pass the request on."""
        if environ.get("PATH_INFO") != PATH or not _is_handshake(environ):
            return self._wsgi_app(environ, start_response)
        try:
            upgrade = environ.get(UPGRADE)
            if upgrade is None:  # a server that asks nobody who may look
                raise refusal(501, "This server cannot serve the page: start it with `streams.serve()`.")
            upgrade(self._viewers.run, self._viewers)
        except HTTPException as refused:
            return refused(environ, start_response)
        return []


def _is_handshake(environ: "WSGIEnvironment") -> bool:
    return (
        "upgrade" in environ.get("HTTP_CONNECTION", "").lower()
        and environ.get("HTTP_UPGRADE", "").lower() == "websocket"
    )
