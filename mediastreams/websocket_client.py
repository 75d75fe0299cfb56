"""The WebSocket as Twilio opens it: what the simulated caller speaks through, and transcripts to a provider.

RFC 6455 itself is the websockets package's, without its I/O; this module gives it a gevent socket, so that
one process holds many calls, and names each failure with the error code that Twilio would report.
"""

import errno
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import certifi
import gevent
import gevent.lock
import gevent.socket
import gevent.ssl
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.uri import parse_uri

from mediastreams.protocol import error_codes
from mediastreams.protocol.signature import sign
from mediastreams.text import printable

PATIENCE = 10.0  # seconds for the connection, for its handshake, and for a server that does not read
GOODBYE = 5.0  # seconds for the server's answer to a Close


class CallError(Exception):
    """A call that Twilio would report as failed: its error `code` and the `cause`."""

    def __init__(self, code: int, cause: str) -> None:
        super().__init__(code, cause)
        self.code = code
        self.cause = cause

    def __str__(self) -> str:
        return printable(f"{error_codes.meaning(self.code)}: {self.cause}")


class Client:
    """One WebSocket to `url`, opened by `connect` with these headers; `closed` once it has ended.

    `receive` is called with each message of the server, in a greenlet of the client's own. A message of more
    than `max_bytes` ends the connection; None takes any. `context` verifies the server, None by a new one.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        receive: Callable[[str | bytes], None],
        *,
        max_bytes: int | None = None,
        context: gevent.ssl.SSLContext | None = None,
    ) -> None:
        self._url = parse_uri(url)
        self._headers = headers
        self._context = context
        self._receive = receive
        self._protocol = ClientProtocol(self._url, max_size=max_bytes)
        self._fragments: list[Frame] = []
        self._sending = gevent.lock.RLock()
        self._reader: gevent.Greenlet[[], None] | None = None
        self._socket: gevent.socket.socket

    @property
    def closed(self) -> bool:
        """Whether the server has ended the WebSocket or the connection."""
        return self._protocol.state is not State.OPEN

    def connect(self) -> str:
        """Connect and shake hands; return the server's status, "101 Switching Protocols".

        Raises `CallError`.
        """
        self._socket = self._connect()
        try:
            if self._url.secure:
                self._socket = self._secure()
            status = self._shake_hands()
        except CallError:
            self._abandon()
            raise
        self._socket.settimeout(None)
        self._reader = gevent.spawn(self._read)
        return status

    def send(self, message: str | bytes) -> None:
        """Send one message, text or binary.

        Raises `CallError` where the connection has ended or nobody reads.
        """
        if self.closed:
            self.fail()
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        try:
            with gevent.Timeout(PATIENCE, TimeoutError()):
                self._flush()
        except TimeoutError:
            raise CallError(31903, f"the server has read nothing for {PATIENCE:.0f} s") from None
        except OSError:
            self.fail()

    def close(self) -> None:
        """Close with 1000, as Twilio does after `stop`, and wait for the server to do the same."""
        if not self.closed:
            self._protocol.send_close(1000)
        try:
            with gevent.Timeout(GOODBYE, TimeoutError()):
                self._flush()
                if self._reader is not None:
                    self._reader.join()
        except OSError:
            pass  # nothing is left to say: the server is gone, or will not answer
        self._abandon()

    def leave(self) -> None:
        """End the connection at once, with a Close for who still reads."""
        try:
            if not self.closed:
                self._protocol.send_close(1000)
                with gevent.Timeout(1, TimeoutError()):
                    self._flush()
        except OSError:
            pass  # it is gone already
        self._abandon()

    def drop(self) -> None:
        """Reset the connection (TCP RST), without a Close."""
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        )
        self._abandon()

    def _abandon(self) -> None:
        if self._reader is not None:
            self._reader.kill()
        self._socket.close()

    def _connect(self) -> gevent.socket.socket:
        host, port = self._url.host, self._url.port
        at = f"{host}:{port}"
        try:
            connection = gevent.socket.create_connection((host, port), timeout=PATIENCE)
        except TimeoutError:
            raise CallError(31901, f"{at} did not answer within {PATIENCE:.0f} s") from None
        except ConnectionRefusedError:
            raise CallError(31902, f"nothing listens on {at} (is the server running?)") from None
        except socket.gaierror as error:
            raise CallError(31904, f"no address is known for {host} ({error.strerror})") from None
        except OSError as error:
            unreachable = error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
            raise CallError(31904 if unreachable else 31900, f"{at}: {error.strerror or error}") from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _secure(self) -> gevent.socket.socket:
        try:
            return (self._context or verified_context()).wrap_socket(
                self._socket, server_hostname=self._url.host
            )
        except TimeoutError:
            raise CallError(31910, f"no TLS answer within {PATIENCE:.0f} s") from None
        except gevent.ssl.SSLCertVerificationError as error:
            raise CallError(31910, f"the certificate is not valid: {error.verify_message}") from None
        except OSError as error:  # SSLError, or the end of the connection
            reason = getattr(error, "reason", None) or error.strerror or error
            raise CallError(31910, f"{reason} (does port {self._url.port} speak TLS?)") from None

    def _shake_hands(self) -> str:
        request = self._protocol.connect()
        headers = Headers((name.lower(), value) for name, value in request.headers.raw_items())
        for name, value in self._headers.items():
            headers[name] = value
        self._protocol.send_request(Request(request.path, headers))
        events: list[Event] = []
        try:
            with gevent.Timeout(PATIENCE, TimeoutError()):
                self._flush()
                while not events and self._protocol.handshake_exc is None:
                    self._feed(self._socket.recv(65536))
                    events = self._protocol.events_received()
        except TimeoutError:
            raise CallError(31901, f"no answer to the handshake within {PATIENCE:.0f} s") from None
        except OSError as error:
            raise CallError(31920, f"the connection ended without an answer: {error.strerror}") from None
        if not events or not isinstance(events[0], Response):
            raise CallError(31920, "the connection ended without an answer, or with one that is not HTTP/1.1")
        status = self._judge(events[0])
        for frame in events[1:]:  # the server has not waited for anything
            self._take(frame)
        return status

    def _judge(self, response: Response) -> str:
        status = f"{response.status_code} {response.reason_phrase}"
        error = self._protocol.handshake_exc
        if isinstance(error, InvalidStatus):
            raise CallError(31920, f"the server answered {status}{_explanation(response)}")
        if isinstance(error, InvalidHandshake):
            raise CallError(31920, f"the server answered {status}, but not as a WebSocket: {error}")
        return status

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            self._feed(data)
            for frame in self._protocol.events_received():
                self._take(frame)
            gevent.sleep(0)  # a server that floods must not hold up the call
            try:
                self._flush()
            except OSError:
                data = b""
            if not data:
                return

    def _feed(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()

    def _take(self, frame: Event) -> None:
        if not isinstance(frame, Frame) or frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        self._fragments.append(frame)
        if frame.fin:
            opcode = self._fragments[0].opcode
            data = b"".join(bytes(fragment.data) for fragment in self._fragments)
            self._fragments.clear()
            self._receive(data.decode("utf-8", "replace") if opcode is Opcode.TEXT else data)

    def _flush(self) -> None:
        # Two greenlets send: the call, and the reader with its Pongs. Frames must not interleave.
        with self._sending:
            for data in self._protocol.data_to_send():
                if data:
                    self._socket.sendall(data)
                else:
                    self._socket.shutdown(socket.SHUT_WR)

    def fail(self) -> NoReturn:
        """Raise the `CallError` that says how the server has ended the connection."""
        if self._reader is not None:
            self._reader.join(timeout=1)  # a Close may have come in just before the connection broke
        violation, close = self._protocol.parser_exc, self._protocol.close_rcvd
        if close is not None:
            raise CallError(31921, f"it sent a Close, {close}")
        if isinstance(violation, WebSocketException | UnicodeDecodeError):
            raise CallError(31924, f"the server sent a wrong frame: {violation}")
        raise CallError(31903, "the server dropped the connection without a Close")


def twilio_headers(url: str, auth_token: str | None) -> dict[str, str]:
    """Return the headers of Twilio's handshake; `auth_token` signs it, None sends no signature."""
    headers = {"user-agent": "Twilio.TmeWs/1.0", "accept-encoding": "gzip"}
    if auth_token is not None:
        # Twilio speaks wss only; a ws:// address is this machine's name for the same.
        headers["x-twilio-signature"] = sign(auth_token, urlunsplit(urlsplit(url)._replace(scheme="wss")))
    return headers


def verified_context() -> gevent.ssl.SSLContext:
    """Return a TLS context for gevent's sockets that verifies whom it speaks to."""
    # ssl.create_default_context() returns a context whose sockets would block the other calls.
    context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    context.load_verify_locations(certifi.where())  # on macOS python.org's Python has none of its own
    return context


def _explanation(response: Response) -> str:
    """Return what the refusal says of itself: ngrok's error code, or the text of the body."""
    if ngrok := response.headers.get_all("ngrok-error-code"):
        return f" ({ngrok[0]}: is the tunnel up, and the server behind it?)"
    body = bytes(response.body or b"")
    plain = any(kind.startswith("text/plain") for kind in response.headers.get_all("content-type"))
    if plain and body:
        return f": {body.decode('utf-8', 'replace').strip()[:200]}"
    return ""
