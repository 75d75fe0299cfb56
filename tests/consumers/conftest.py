import threading

import pytest
from support.consumers import MISSED, Noting
from support.server import SECONDS

from mediastreams.consumers.base import Consumer
from mediastreams.consumers.registry import Consumers


@pytest.fixture
def notes():
    Noting.notes = {}
    MISSED.clear()
    return Noting.notes


@pytest.fixture
def consumers(notes):
    consumers = Consumers(on_missed=lambda *what: MISSED.append(what))
    consumers.register(Noting)
    return consumers


@pytest.fixture
def stuck():
    """Return a consumer that is stuck in its first media message until the test ends."""
    released = threading.Event()

    class Stuck(Consumer):
        count = 0

        def media(self, message):
            Stuck.count += 1
            released.wait(SECONDS)

    yield Stuck
    released.set()
