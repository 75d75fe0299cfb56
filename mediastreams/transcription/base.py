"""What every speech recogniser offers: `Engine.listen` begins a track, its `Recognition` is fed audio."""

from abc import ABC, abstractmethod
from collections.abc import Callable

# Receives a text, whether it is final, and where it begins and ends, in seconds of the audio that was fed.
# A final text replaces the texts since the last final one.
OnText = Callable[[str, bool, float, float], None]


class Recognition(ABC):
    """The recognition of one track.

    One thread feeds it and finishes it. Its `OnText` is called in a thread of the engine's. `dropped` is how
    many seconds of audio were not recognised; it is known once `is_finished` returns True.
    """

    def __init__(self) -> None:
        self.dropped = 0.0
        self._is_finished = False

    @abstractmethod
    def feed(self, mulaw: bytes) -> None:
        """Take audio, mu-law at 8 kHz. Never waits: audio that cannot be taken is dropped and counted."""

    @abstractmethod
    def finish(self) -> None:
        """End the audio, and ask for the texts that are still to come."""

    def is_finished(self) -> bool:
        """Return whether the last text has come. Any thread may ask."""
        return self._is_finished

    def has_finished(self) -> None:
        """Make `is_finished` return True. Only the engine calls this."""
        self._is_finished = True


class Engine(ABC):
    """A speech recogniser for all streams of this process. Any thread may call `listen`."""

    @abstractmethod
    def listen(self, name: str, hear: OnText) -> Recognition:
        """Begin to recognise one track. `name` identifies it in the log, `hear` receives its texts."""
