"""What `/metrics` shows as the lateness of handling."""

import pytest
from support.clock import Clock

from mediastreams.web import lateness as module
from mediastreams.web.lateness import Lateness


@pytest.fixture
def clock(monkeypatch):
    return Clock.of(module, monkeypatch, 5000.0)


def test_it_is_later_than_the_earliest(clock):
    observed = []
    lateness = Lateness(observed.append)
    for number, delay in {64: 0.5, 128: 0.53, 192: 0.5, 256: 1.5}.items():
        clock.now = 5000 + number * 0.02 + delay
        lateness.sample(number * 20)
    assert observed == pytest.approx([0, 0.03, 0, 1])


def test_what_was_early_is_forgotten(clock):
    observed = []
    lateness = Lateness(observed.append)
    for second in range(0, 300, 5):
        clock.now = 5000 + second + (0.2 if second > 100 else 0)  # the clocks have drifted
        lateness.sample(second * 1000)
    assert observed[0] == 0
    assert max(observed) == pytest.approx(0.2)
    assert observed[-1] == pytest.approx(0)
