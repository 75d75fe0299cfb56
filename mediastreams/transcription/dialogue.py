"""A provider's WebSocket on gevent sockets: a greenlet a track, no thread, and the certificate is verified.

The WebSocket is websocket-client's, which takes a socket that is connected already. Everything here runs on
the server's hub; a consumer's thread only leaves audio in the backlog.
"""

import contextlib
import logging
from abc import abstractmethod
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.lock
import gevent.socket
import websocket
from gevent.event import Event
from gevent.hub import get_hub

from mediastreams.client import verified_context
from mediastreams.messages import printable
from mediastreams.transcription.cloud import Backlog, CloudError, recognise
from mediastreams.transcription.engine import Engine, Hear, Recognition

logger = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds to connect, to be answered, and for what is heard after the audio's end


class HubEvent:
    """An event that any thread may set, and a greenlet of the hub waits for."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._event = Event()
        self.clear = self._event.clear
        self.wait = self._event.wait

    def set(self) -> None:
        """Let `wait` return, as soon as the hub gets to it."""
        self._loop.run_callback_threadsafe(self._event.set)


class Dialogue(Engine):
    """A provider that is spoken to over a WebSocket, one for each track."""

    name: str
    session_seconds: float

    def __init__(self) -> None:
        self._loop = get_hub().loop

    def listen(self, name: str, hear: Hear) -> "_Track":
        """Begin to recognise one track."""
        backlog = Backlog(hear, HubEvent(self._loop))
        track = _Track(backlog)
        self._loop.run_callback_threadsafe(gevent.spawn, self._follow, name, backlog, track)
        return track

    def _follow(self, name: str, backlog: Backlog, track: "_Track") -> None:
        def say(sentence: str) -> None:
            logger.warning("%s: %s", name, printable(sentence))

        try:
            recognise(backlog, self._session, self.session_seconds, say, gevent.sleep)
            if backlog.dropped:
                say("the recogniser was too slow, and has not heard all")
        finally:
            track.has_finished()

    def _session(self, backlog: Backlog) -> None:
        try:
            ws = self._open()
        except (OSError, websocket.WebSocketException, CloudError) as error:
            raise CloudError(f"{self.name}: {_sentence(error)}") from None
        has_ended = Event()
        sender = gevent.spawn(self._send, ws, backlog, has_ended)
        try:
            while True:
                opcode, data = ws.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    if has_ended.is_set():
                        return
                    raise CloudError(f"it closed with {int.from_bytes(data[:2])} {data[2:].decode()}".strip())
                if self.take(data, backlog, has_ended.is_set()):
                    return
        except (OSError, websocket.WebSocketException, CloudError, LookupError, ValueError) as error:
            raise CloudError(f"{self.name}: {_sentence(error)}") from None
        finally:
            sender.kill()
            with contextlib.suppress(OSError, websocket.WebSocketException):
                ws.close(timeout=1)

    def _send(self, ws: Any, backlog: Backlog, has_ended: Event) -> None:
        with contextlib.suppress(OSError, websocket.WebSocketException):  # whoever receives hears of it
            for chunk in backlog.chunks():
                ws.send_binary(self.audio(chunk))
            has_ended.set()
            self.end(ws)
            gevent.sleep(PATIENCE)
            ws.shutdown()  # it has had its time for what was heard

    def _open(self) -> Any:
        url, headers = self.address()
        ws: Any = websocket.WebSocket(enable_multithread=False)
        # Locks of gevent's: two greenlets send, one audio and the other Pongs.
        ws.lock, ws.readlock = gevent.lock.RLock(), gevent.lock.RLock()
        connection = connect(url)
        try:
            ws.connect(url, header=headers, socket=connection)
            ws.settimeout(None)
            self.start(ws)
        except BaseException:
            connection.close()
            raise
        return ws

    @abstractmethod
    def address(self) -> tuple[str, list[str]]:
        """Return the URL of a session, wss://, and headers for its handshake. May raise `CloudError`."""

    def start(self, ws: Any) -> None:
        """Say what goes before the audio."""

    @abstractmethod
    def audio(self, chunk: bytes) -> bytes:
        """Return the message that carries mu-law at 8 kHz."""

    @abstractmethod
    def end(self, ws: Any) -> None:
        """Say that there is no more audio."""

    @abstractmethod
    def take(self, message: bytes, backlog: Backlog, has_ended: bool) -> bool:
        """Take a message; say whether it was the session's last. May raise `CloudError`.

        `has_ended` says whether the audio has.
        """


class _Track(Recognition):
    """One track: what it is fed waits in the backlog."""

    def __init__(self, backlog: Backlog) -> None:
        super().__init__()
        self._backlog = backlog

    def feed(self, mulaw: bytes) -> None:
        """Keep audio to be sent."""
        self._backlog.feed(mulaw)

    def finish(self) -> None:
        """Know that there is no more to come."""
        self._backlog.finish()


def connect(url: str) -> Any:
    """Return a gevent socket to the host of an https:// or wss:// URL, its certificate verified."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = gevent.socket.create_connection((host, parts.port or 443), timeout=PATIENCE)
    try:
        return verified_context().wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _sentence(error: Exception) -> str:
    if isinstance(error, websocket.WebSocketBadStatusException):
        body = (error.resp_body or b"").decode(errors="replace").strip()
        return f"refused with {error.status_code} {body}"[:300].strip()
    if isinstance(error, OSError):
        return str(getattr(error, "verify_message", "") or error.strerror or error).lower()
    if isinstance(error, LookupError | ValueError):
        return f"an answer that is none of its kind ({type(error).__name__}: {error})"
    return str(error) or type(error).__name__
