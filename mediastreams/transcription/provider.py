"""What Google, Amazon and Watson have in common: sessions of bounded length, errors as one safe sentence."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from urllib.parse import quote

from mediastreams.text import printable
from mediastreams.transcription.session import Backlog, SessionError

PATIENCE = 10.0  # seconds to connect, to be answered, and for the last texts of a session
_MAX_SENTENCE = 300  # characters of what a provider says of itself


class Provider(ABC):
    """A recogniser of speech in the cloud. Only the event loop's thread may use it.

    `session_seconds` is how long a session may last. `secrets` never appear in the log, also where the
    provider repeats them; None and empty ones are ignored.
    """

    name: str
    session_seconds: float

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        self.secrets = [secret for secret in secrets if secret]

    @abstractmethod
    async def session(self, backlog: Backlog) -> None:
        """Send the chunks of one session, and give its texts to the backlog, until the provider has told all.

        May raise anything.
        """

    async def hold_session(self, backlog: Backlog) -> None:
        """Hold one session. Whatever the provider does, only a `SessionError` is raised."""
        try:
            async with asyncio.timeout(self.session_seconds + PATIENCE):
                await self.session(backlog)
        except SessionError as error:
            raise SessionError(f"{self.name}: {error}") from None
        except TimeoutError:
            raise SessionError(f"{self.name}: it does not answer") from None
        except Exception as error:
            kind = type(error).__name__
            raise SessionError(f"{self.name}: an answer that is none of its kind ({kind}: {error})") from None

    def fit_for_log(self, sentence: str) -> str:
        """Return one printable line of at most 300 characters, without the secrets."""
        for secret in self.secrets:
            for form in (secret, quote(secret, safe="")):
                sentence = sentence.replace(form, "(not shown)")
        return printable(sentence[:_MAX_SENTENCE])
