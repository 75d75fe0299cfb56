"""What turns audio into words: the face that the local engine and each provider have."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from gevent.monkey import get_original

# text, whether it is final, and where it begins and ends, in seconds of the audio that was fed
Hear = Callable[[str, bool, float, float], None]


class Recognition(ABC):
    """One track's audio on its way to words. What is heard is told to the `Hear` that it was made with.

    That happens in any thread. A final text is the end of what the texts before it have said.
    """

    def __init__(self) -> None:
        # A lock of the system and not of gevent: consumers wait in threads, where gevent may have patched.
        self._finished = get_original("_thread", "allocate_lock")()
        self._finished.acquire()

    @abstractmethod
    def feed(self, mulaw: bytes) -> None:
        """Take audio, mu-law at 8 kHz. Never waits: what cannot be taken is dropped, and counted."""

    @abstractmethod
    def finish(self) -> None:
        """Take no more audio, and tell what is left to tell."""

    def wait(self, seconds: float) -> bool:
        """Wait for the end of what `finish` asks for, so long at the most; say whether it came."""
        return bool(self._finished.acquire(timeout=max(seconds, 0.0)))

    def has_finished(self) -> None:
        """Let `wait` return. For the engine to call, once or more often."""
        if self._finished.locked():
            self._finished.release()


class Engine(ABC):
    """A recogniser of this process, for all streams."""

    @abstractmethod
    def listen(self, name: str, hear: Hear) -> Recognition:
        """Begin to recognise one track; `name` is what the log calls it."""
