"""Who accepts connections, among processes that are forked as gunicorn does."""

import os
import signal

import pytest

from mediastreams.server.workers import Workers


@pytest.fixture
def workers():
    return Workers()


@pytest.fixture
def fork(workers):
    """Return a function that forks a worker; it ends with the test, or when it is killed."""
    processes = []

    def fork(number, *, accepts):
        workers.add(number)
        reader, writer = os.pipe()
        process = os.fork()
        if not process:
            workers.starts(number)
            if accepts:
                workers.accepts(number)
            os.write(writer, b"!")
            signal.pause()
        processes.append(process)
        assert os.read(reader, 1) == b"!"
        os.close(reader)
        os.close(writer)
        return process

    yield fork
    for process in processes:
        kill(process)


def kill(process):
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_there_is_nobody_to_hand_over_to(workers):
    workers.add(1)
    workers.starts(1)
    workers.accepts(1)
    assert not workers.hand_over(1)
    assert not workers.is_another_starting(1)


def test_handing_over_gives_the_place_up(workers, fork):
    fork(1, accepts=True)
    workers.add(2)
    workers.starts(2)
    workers.accepts(2)
    assert workers.hand_over(2)
    assert not workers.hand_over(1)  # it is the last one now


def test_one_that_starts_is_not_handed_over_to_yet(workers, fork):
    workers.add(1)
    workers.starts(1)
    fork(2, accepts=False)
    assert not workers.hand_over(1)
    assert workers.is_another_starting(1)


def test_one_that_is_about_to_be_forked_is_starting(workers):
    workers.add(1)
    workers.starts(1)
    workers.accepts(1)
    workers.add(2)
    assert workers.is_another_starting(1)
    assert not workers.is_another_starting(2)  # 1 has no other


@pytest.mark.parametrize("accepts", [True, False])
def test_one_that_was_killed_does_not_count(workers, fork, accepts):
    workers.add(1)
    workers.starts(1)
    kill(fork(2, accepts=accepts))
    assert not workers.hand_over(1)
    assert not workers.is_another_starting(1)


def test_places_of_the_dead_are_used_again(workers, fork):
    for number in range(1, 6):
        kill(fork(number, accepts=True))
    assert len([place for place in workers._places() if place[0]]) == 1
