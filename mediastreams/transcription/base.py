"""What turns audio into words: the face that the local engine and each provider have."""

from abc import ABC, abstractmethod
from collections.abc import Callable

# text, whether it is final, and where it begins and ends, in seconds of the audio that was fed
Hear = Callable[[str, bool, float, float], None]


class Recognition(ABC):
    """One track's audio on its way to words. What is heard is told to the `Hear` that it was made with.

    That happens in any thread. A final text is the end of what the texts before it have said. `dropped` is
    how many seconds were not heard, known when it is finished.
    """

    def __init__(self) -> None:
        self.dropped = 0.0
        self._is_finished = False

    @abstractmethod
    def feed(self, mulaw: bytes) -> None:
        """Take audio, mu-law at 8 kHz. Never waits: what cannot be taken is dropped, and counted."""

    @abstractmethod
    def finish(self) -> None:
        """Take no more audio, and tell what is left to tell."""

    def is_finished(self) -> bool:
        """Say whether all is told that `finish` asks for."""
        return self._is_finished

    def has_finished(self) -> None:
        """Let `is_finished` say so. For the engine to call."""
        self._is_finished = True


class Engine(ABC):
    """A recogniser of this process, for all streams."""

    @abstractmethod
    def listen(self, name: str, hear: Hear) -> Recognition:
        """Begin to recognise one track; `name` is what the log calls it."""
