"""What Google, Amazon and Watson have in common: one session after another, errors as one safe sentence."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote

from mediastreams.text import printable
from mediastreams.transcription.session import Backlog, SessionError

PATIENCE = 10.0  # seconds to connect, to be answered, and for the last texts of a session
_MAX_SENTENCE = 300  # characters of what a provider says of itself
_MAX_TRIES = 4
_REFUSED = 0.5  # seconds: a session that has lasted this long was not simply refused
_TELLING = 8  # characters at the beginning of a secret by which it is found
_FIRST_PAUSE = 0.5  # seconds; each pause is twice as long as the one before


class Provider(ABC):
    """A recogniser of speech in the cloud. Only the event loop's thread may use it."""

    name: str
    """What the log calls it."""
    session_seconds: float
    """How long a session may last."""
    secrets: list[str | None]
    """What never appears in the log, also when the provider repeats it."""

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        """`secrets` may have None and empty ones, which are ignored."""
        self.secrets = list(secrets)

    @abstractmethod
    async def session(self, backlog: Backlog) -> None:
        """Send the chunks of one session and add its texts to the backlog. May raise anything."""

    async def recognise(
        self,
        backlog: Backlog,
        warn: Callable[[str], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Hold one session after another until the track ends.

        A session that fails is tried again after a pause; the fifth failure in a row without a final text
        ends the track. `warn` gets a sentence for the first failure and for the last.
        """
        failures = 0
        while await backlog.wait_for_audio():
            backlog.begin(self.session_seconds)
            began = time.monotonic()
            why = await self._hold_session(backlog)
            if not (why or backlog.has_ended or backlog.has_final) and time.monotonic() - began < _REFUSED:
                why = "a session that ended at once"
            if not why:
                failures = 0
                continue
            failures = 1 if backlog.has_final else failures + 1
            backlog.rewind()
            if failures > _MAX_TRIES:
                backlog.dropped += len(backlog.take())
                warn(self.fit_for_log(f"{self.name}: {why}: given up, no transcript from here"))
                return
            if failures == 1:
                warn(self.fit_for_log(f"{self.name}: {why}: tried again"))
            await pause(_FIRST_PAUSE * 2 ** (failures - 1))

    async def _hold_session(self, backlog: Backlog) -> str:
        """Hold one session; return why it failed, "" when it did not."""
        try:
            async with asyncio.timeout(self.session_seconds + PATIENCE):
                await self.session(backlog)
        except SessionError as error:
            return str(error)
        except TimeoutError:
            return "it does not answer"
        except Exception as error:
            return f"an answer that is none of its kind ({type(error).__name__}: {error})"
        return ""

    def fit_for_log(self, sentence: str) -> str:
        """Return one printable line of at most 300 characters, without the secrets."""
        for secret in filter(None, self.secrets):
            forms = (secret, quote(secret, safe=""))
            for beginning in {form[:_TELLING] for form in forms}:
                before, *behind = sentence.split(beginning)
                rests = [form[_TELLING:] for form in forms if form.startswith(beginning)]
                sentence = "(not shown)".join((before, *(_without(text, rests) for text in behind)))
        return printable(sentence[:_MAX_SENTENCE])


def _without(text: str, rests: list[str]) -> str:
    """Return `text` without as much of one of `rests` as it begins with: a secret may be cut off."""
    beginnings = [rest[:n] for rest in rests for n in range(len(rest) + 1)]
    return text.removeprefix(max((each for each in beginnings if text.startswith(each)), key=len))
