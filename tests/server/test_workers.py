"""Who accepts connections, among processes that are forked as gunicorn does."""

import os

import pytest

from mediastreams.server.workers import Workers


@pytest.fixture
def workers():
    return Workers()


def fork(workers, number, *, accepts):
    """Let a worker begin in a process of its own, which ends."""
    workers.add(number)
    process = os.fork()
    if not process:
        if accepts:
            workers.accepts(number)
        os._exit(0)
    os.waitpid(process, 0)


def test_there_is_nobody_to_hand_over_to(workers):
    workers.add(1)
    workers.accepts(1)
    assert not workers.hand_over(1)
    assert not workers.is_another_starting(1)


def test_handing_over_gives_the_place_up(workers):
    fork(workers, 1, accepts=True)
    workers.add(2)
    workers.accepts(2)
    assert workers.hand_over(2)
    assert not workers.hand_over(1)  # it is the last one now


def test_one_that_starts_is_not_handed_over_to_yet(workers):
    workers.add(1)
    fork(workers, 2, accepts=False)
    assert not workers.hand_over(1)
    assert workers.is_another_starting(1)


def test_one_that_is_about_to_be_forked_is_starting(workers):
    workers.add(1)
    workers.accepts(1)
    workers.add(2)
    assert workers.is_another_starting(1)
    assert not workers.is_another_starting(2)  # 1 has no other


@pytest.mark.parametrize("accepts", [True, False])
def test_one_that_has_ended_does_not_count(workers, accepts):
    workers.add(1)
    fork(workers, 2, accepts=accepts)
    workers.remove(2)
    assert not workers.hand_over(1)
    assert not workers.is_another_starting(1)


def test_one_that_has_handed_over_gets_no_place_again(workers):
    workers.add(1)
    fork(workers, 2, accepts=True)
    assert workers.hand_over(1)
    workers.accepts(1)
    workers.remove(2)
    workers.add(3)
    assert not workers.hand_over(3)


def test_places_are_used_again(workers):
    for number in range(1, 2000):
        fork(workers, number, accepts=True) if number < 6 else workers.add(number)
        workers.remove(number)
    workers.add(2000)
    assert workers.is_another_starting(1)
