"""A provider's WebSocket on gevent sockets: greenlets of the server's hub, and the certificate is verified.

The WebSocket is the caller's (`client`), which follows no redirect, bounds what it is sent and waits for
nobody for ever. A consumer's thread only leaves audio in the backlog.
"""

import logging
from abc import abstractmethod
from typing import Any
from urllib.parse import quote

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from gevent.queue import Empty, Queue

from mediastreams.audio.timeline import RATE
from mediastreams.text import printable
from mediastreams.transcription.base import Engine, Hear, Recognition
from mediastreams.transcription.session import Backlog, CloudError, recognise
from mediastreams.websocket_client import CallError, Client, verified_context

logger = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds to connect, and to be answered
MOST_BYTES = 65536  # of a provider's message
_LONGEST = 300  # characters of what a provider says of itself
_LOOK_EVERY = 0.25  # seconds


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
    """A provider that is spoken to over a WebSocket, one for each track.

    `secrets` are what must not be logged, also where a provider repeats it.
    """

    name: str
    session_seconds: float

    def __init__(self, *secrets: str | None) -> None:
        self.secrets = [secret for secret in secrets if secret]
        self._loop = get_hub().loop
        self.context = verified_context()  # 20 ms of the hub's time, and so only once

    def listen(self, name: str, hear: Hear) -> "_Track":
        """Begin to recognise one track."""
        backlog = Backlog(hear, HubEvent(self._loop))
        track = _Track(backlog)
        self._loop.run_callback_threadsafe(gevent.spawn, self._follow, name, backlog, track)
        return track

    def _follow(self, name: str, backlog: Backlog, track: "_Track") -> None:
        def say(sentence: str) -> None:
            logger.warning("%s: %s", name, self._fit_for_the_log(sentence))

        try:
            recognise(backlog, self._session, self.session_seconds, say, gevent.sleep)
            if backlog.dropped:
                say(f"{backlog.dropped / RATE:.1f} s of audio were not sent, the provider was too slow")
        finally:
            track.dropped = backlog.dropped / RATE
            track.has_finished()

    def _session(self, backlog: Backlog) -> None:
        try:
            self._talk(backlog)
        except CallError as error:
            raise CloudError(f"{self.name}: {error.cause}") from None
        except CloudError as error:
            raise CloudError(f"{self.name}: {error}") from None
        except OSError as error:
            cause = getattr(error, "verify_message", "") or error.strerror or str(error)
            raise CloudError(f"{self.name}: {cause.lower()}") from None
        except Exception as error:  # the border: what a provider sends is no reason for a traceback
            kind = type(error).__name__
            raise CloudError(f"{self.name}: an answer that is none of its kind ({kind}: {error})") from None

    def _talk(self, backlog: Backlog) -> None:
        messages: Any = Queue(100)
        url, headers = self.address()
        client = Client(url, headers, messages.put, max_bytes=MOST_BYTES, context=self.context)
        try:
            client.connect()
        except CallError:
            self.refused()
            raise
        has_ended = Event()
        sender = None
        try:
            self.start(client, lambda: messages.get(timeout=PATIENCE))
            sender = gevent.spawn(self._send, client, backlog, has_ended)
            while not backlog.is_late:
                try:
                    message = messages.get(timeout=_LOOK_EVERY)
                except Empty:
                    if not client.closed:
                        continue
                    if has_ended.is_set():
                        return
                    client.fail()
                data = message.encode() if isinstance(message, str) else message
                if self.take(data, backlog, has_ended.is_set()):
                    return
        except Empty:
            raise CloudError("it does not answer") from None
        finally:
            if sender is not None:
                sender.kill()
            client.leave()

    def _send(self, client: Client, backlog: Backlog, has_ended: Event) -> None:
        try:
            for chunk in backlog.chunks():
                client.send(self.audio(chunk))
            has_ended.set()
            client.send(self.last())
        except CallError:
            return  # whoever receives hears of it

    def _fit_for_the_log(self, sentence: str) -> str:
        for secret in self.secrets:
            for form in (secret, quote(secret, safe="")):
                sentence = sentence.replace(form, "(not shown)")
        return printable(sentence[:_LONGEST])

    @abstractmethod
    def address(self) -> tuple[str, dict[str, str]]:
        """Return the URL of a session, wss://, and headers for its handshake. May raise `CloudError`."""

    def refused(self) -> None:
        """Know that the handshake of the last address has failed."""

    def start(self, client: Client, receive: Any) -> None:
        """Say what goes before the audio; `receive` waits for a message. May raise `CloudError`."""

    @abstractmethod
    def audio(self, chunk: bytes) -> bytes:
        """Return the message that carries mu-law at 8 kHz."""

    @abstractmethod
    def last(self) -> str | bytes:
        """Return the message that says that there is no more audio."""

    @abstractmethod
    def take(self, message: bytes, backlog: Backlog, has_ended: bool) -> bool:
        """Take a message; say whether it was the session's last. May raise anything.

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
