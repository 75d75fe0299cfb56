"""Posts the accounts that wait in the spool to CALL_WEBHOOK, and tries again for a day.

A few threads of the system's do it, so that neither a call nor a consumer ever waits for the receiver. At
least once: where a process dies after the receiver has taken an account, and before the file is removed, the
account is posted again, under the same id.
"""

import http
import logging
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from gevent import sleep as let_others_run
from gevent.monkey import get_original

from mediastreams.audio.files import unusable
from mediastreams.call_webhook import signature
from mediastreams.call_webhook.spool import Spool, Version
from mediastreams.client import causes, prepare_threads, tls_context, why_not_connected
from mediastreams.config import Settings, __version__
from mediastreams.exceptions import MediaStreamsError
from mediastreams.text import printable

logger = logging.getLogger(__name__)

THREADS = 4
TIMEOUT = 10.0  # seconds for each of: the connection, TLS, the request, the answer's head
FIRST_PAUSE = 5.0  # seconds until the second attempt; each further pause is twice as long
MAX_PAUSE = 600.0
DAY = 86400.0
LEAST_ATTEMPTS = 10  # after which one is given up, however old it is: they take 40 minutes
_FINISH_SECONDS = 5.0  # for the first attempts, at the end of the process
_SCAN_EVERY = 2.0
_POLL_SECONDS = 0.2
_MAX_SCANNING = 0.05  # of the time
_MANY = 10  # failures in a row: it is the receiver that fails, not an account
_PROBE_SECONDS = 1.0  # from one attempt to the next, then; so many accounts that wait cost little
_LIMIT = {"limit": "accounts that cannot be posted"}

# Those of the system, also where gevent has patched the modules: the threads are none of the hub's.
_sleep = get_original("time", "sleep")
_start_new_thread = get_original("_thread", "start_new_thread")
_allocate_lock = get_original("_thread", "allocate_lock")

# They log the address, and what the receiver answers, which may hold a secret. Not `disabled`: that would
# not hold for the loggers below, such as httpcore.http11.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class NotTakenError(MediaStreamsError):
    """The receiver did not take an account; the sentence says why."""


@dataclass
class _Account:
    """What is known of an account in the spool."""

    attempts: int = 0
    due: float = 0.0
    """When it is posted next, on the monotonic clock."""
    is_sent: bool = False
    """Whether a thread is posting it."""


class CallWebhook:
    """Posts accounts to an address. Any thread may call `put`."""

    def __init__(
        self, url: str, secret: str, folder: str, on_given_up: Callable[[], None] = lambda: None
    ) -> None:
        """Make it; `on_given_up` is called with each account that will not be posted, in any thread."""
        self._on_given_up = on_given_up
        self._url = url
        self._host = printable(urlsplit(url).netloc)
        self._key = signature.key_of(secret)
        self._spool = Spool(folder)
        self._lock = _allocate_lock()
        self._accounts: dict[str, _Account] = {}  # by their id
        self._has_started = self._is_mine = self._is_ending = False
        self._scan_at = self._wait_until = 0.0  # on the monotonic clock
        self._failures = 0  # in a row
        self._fault = ""  # of the spool

    @classmethod
    def of(cls, settings: Settings, on_given_up: Callable[[], None] = lambda: None) -> Self:
        """Return the webhook of settings that have one.

        Where they lack the secret, the program ends with one line that says so.
        """
        assert settings.call_webhook is not None
        if settings.call_webhook_secret is None:
            sys.exit(
                "CALL_WEBHOOK cannot be used: it needs CALL_WEBHOOK_SECRET, which signs what is posted; "
                "docs/call-webhook.md has the command that makes one"
            )
        secret, folder = settings.call_webhook_secret, settings.call_webhook_dir
        return cls(settings.call_webhook, secret, folder, on_given_up)

    def start(self) -> None:
        """Begin with what a former process has left; again does nothing. Not before gunicorn forks."""
        with self._lock:
            if self._has_started:
                return
            self._has_started = True
        prepare_threads("httpcore")
        if why := unusable(str(self._spool.folder)):
            self._log_fault(why)
        for _ in range(THREADS):
            _start_new_thread(self._work, ())

    def put(self, id: str, account: str) -> None:
        """Let an account be posted, soon. It waits for the disk."""
        # A peer's words may hold half of a surrogate pair, which has no UTF-8.
        body = account.encode(errors="backslashreplace")
        try:
            self._spool.put(id, body)
        except OSError as error:
            folder = str(self._spool.folder)
            text = "Account %s is not posted: CALL_WEBHOOK_DIR=%r cannot be used: %s"
            logger.error(text, id, folder, error.strerror)
            self._on_given_up()
            return
        with self._lock:
            self._accounts.setdefault(id, _Account())

    def finish(self, seconds: float) -> None:
        """Post what was not tried yet, and nothing more: wait at most so long, and 5 s."""
        until = time.monotonic() + min(seconds, _FINISH_SECONDS)
        while self._has_started and time.monotonic() < until and self._is_first_attempt_due():
            let_others_run(_POLL_SECONDS)
        self._is_ending = True
        with self._lock:
            waiting = len(self._accounts) if self._is_mine else 0
            self._spool.release()
        if waiting:
            text = "%d accounts wait in %s: they are posted to %s after the next start"
            logger.info(text, waiting, self._spool.folder, self._host)

    def _is_first_attempt_due(self) -> bool:
        with self._lock:
            return self._is_mine and any(not account.attempts for account in self._accounts.values())

    def _work(self) -> None:
        """Post accounts until the process ends (a thread)."""
        while not self._is_ending:
            try:
                id = self._next()
                if id is None:
                    _sleep(_POLL_SECONDS)
                else:
                    self._post_and_note(id)
            except Exception:  # it must not end the thread
                logger.exception("CALL_WEBHOOK failed")
                _sleep(FIRST_PAUSE)

    def _next(self) -> str | None:
        """Return the account to be posted now; None where there is none."""
        with self._lock:
            now = time.monotonic()
            if now >= self._scan_at:
                self._scan()
                self._scan_at = time.monotonic() + max(_SCAN_EVERY, (time.monotonic() - now) / _MAX_SCANNING)
            if not self._is_mine or now < self._wait_until:
                return None
            # Those that were not tried first: one that the receiver never takes delays no other.
            due = [
                (account.attempts, account.due, id)
                for id, account in self._accounts.items()
                if account.due <= now and not account.is_sent
            ]
            if not due:
                return None
            id = min(due)[2]
            self._accounts[id].is_sent = True
            if self._failures >= _MANY:
                self._wait_until = now + _PROBE_SECONDS
            return id

    def _scan(self) -> None:
        """Look for accounts that other processes have put in. The caller holds the lock."""
        try:
            self._is_mine = self._spool.acquire()
            ids = set(self._spool.ids()) if self._is_mine else set()
        except OSError as error:
            self._log_fault(error.strerror or str(error))
            return
        self._fault = ""
        self._accounts = {
            **{id: account for id, account in self._accounts.items() if id in ids or account.is_sent},
            **{id: _Account() for id in ids if id not in self._accounts},
        }

    def _post_and_note(self, id: str) -> None:
        version: Version | None = None
        try:
            body, version = self._spool.read(id)
            self._post(id, body)
        except FileNotFoundError:  # another process has posted it
            with self._lock:
                self._accounts.pop(id, None)
        except OSError as error:
            self._note_failure(id, version, error.strerror or str(error))
        except NotTakenError as error:
            self._note_failure(id, version, str(error))
        except Exception:
            logger.exception("Account %s cannot be posted", id)
            self._note_failure(id, version, "it failed")
        else:
            self._failures, self._wait_until = 0, 0.0
            logger.info("Account %s posted to %s", id, self._host)
            self._forget(id, version)

    def _post(self, id: str, body: bytes) -> None:
        headers = {
            **signature.headers(self._key, id, int(time.time()), body),
            "Content-Type": "application/json",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": f"mediastreams/{__version__}",
            "Connection": "close",
        }
        extensions = {"trace": _bounding()}
        try:
            # By default it follows no redirect.
            with (
                httpx.Client(verify=tls_context(), trust_env=False, timeout=TIMEOUT) as client,
                client.stream(
                    "POST", self._url, content=body, headers=headers, extensions=extensions
                ) as response,
            ):
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise NotTakenError(self._why(error)) from None
        if not 200 <= status < 300:
            raise NotTakenError(f"answered with {_status(status)}")

    def _why(self, error: Exception) -> str:
        """Return why there was no answer; of the address it has only the host."""
        if isinstance(error, httpx.TimeoutException):
            return f"no answer within {TIMEOUT:.0f} s"
        if isinstance(error, httpx.ConnectError):
            cause = [error, *(each for each in causes(error) if isinstance(each, OSError))][-1]
            return printable(why_not_connected(cause, self._url))
        return f"no answer that is HTTP ({type(error).__name__})"

    def _note_failure(self, id: str, version: Version | None, why: str) -> None:
        with self._lock:
            self._failures += 1
            account = self._accounts[id]
            account.attempts += 1
            pause = min(FIRST_PAUSE * 2 ** (account.attempts - 1), MAX_PAUSE)
            account.due = time.monotonic() + pause * random.uniform(0.8, 1.2)
            account.is_sent = False
            attempts = account.attempts
        if version is not None and attempts >= LEAST_ATTEMPTS and self._spool.age(id) > DAY:
            if not self._forget(id, version):
                return
            text = "Account %s is given up, %s has not taken it within a day: %s"
            logger.error(text, id, self._host, why)
            self._on_given_up()
        elif attempts == 1:
            text = "Account %s is not posted to %s yet: %s; it is tried again for a day"
            logger.warning(text, id, self._host, why, extra=_LIMIT)

    def _forget(self, id: str, version: Version) -> bool:
        """Remove an account; return False where it stays, or a later one has replaced it, which is posted."""
        try:
            has_gone = self._spool.remove(id, version)
        except OSError as error:  # it stays noted as sent: this process does not post it again
            self._log_fault(error.strerror or str(error))
            return False
        with self._lock:
            if has_gone:
                self._accounts.pop(id, None)
            else:
                self._accounts[id] = _Account()
        return has_gone

    def _log_fault(self, why: str) -> None:
        """Log why the spool cannot be used, once."""
        if why != self._fault:
            self._fault = why
            logger.error("CALL_WEBHOOK_DIR=%r cannot be used: %s", str(self._spool.folder), why)


def _bounding() -> Callable[[str, dict[str, Any]], None]:
    """Return a trace that bounds the wait for the answer: httpx bounds each read, and a receiver may drip."""

    def trace(event: str, info: dict[str, Any]) -> None:
        if event not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        stream = info["return_value"]
        read_some, until = stream.read, 0.0

        def read(max_bytes: int, timeout: float | None = None) -> bytes:
            nonlocal until
            until = until or time.monotonic() + TIMEOUT  # from the first read on: the request is sent
            data: bytes = read_some(max_bytes, max(until - time.monotonic(), 0.001))
            return data

        stream.read = read

    return trace


def _status(status: int) -> str:
    try:
        text = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        text = str(status)
    return f"{text}, redirects are not followed" if 300 <= status < 400 else text
