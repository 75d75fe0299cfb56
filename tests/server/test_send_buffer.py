"""The send buffer on a real pair of sockets."""

import socket

import gevent
import pytest

from mediastreams.server.send_buffer import SendBuffer

DATA = bytes(range(256)) * 40_000  # 10 MB: more than any socket takes at once


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def buffer(pair):
    buffer = SendBuffer(pair[0].send, pair[0].fileno())
    yield buffer
    buffer.close()


def read(theirs, size):
    """Read so many bytes while the hub goes on sending."""
    theirs.setblocking(False)
    data = bytearray()
    with gevent.Timeout(10):
        while len(data) < size:
            try:
                data += theirs.recv(1 << 20)
            except BlockingIOError:
                gevent.sleep(0)
    return bytes(data)


def test_what_the_socket_takes_does_not_wait(buffer, pair):
    buffer.write(b"hello")
    assert not buffer.waiting
    assert pair[1].recv(10) == b"hello"


def test_the_hub_sends_the_rest_in_order(buffer, pair):
    buffer.write(DATA)
    buffer.write(b"the end")
    assert 0 < len(buffer.waiting) < len(DATA)
    assert read(pair[1], len(DATA) + 7) == DATA + b"the end"
    buffer.wait()
    assert not buffer.waiting


def test_wait_returns_when_all_has_left(buffer, pair):
    buffer.write(DATA)
    waiting = [gevent.spawn(buffer.wait) for _ in range(3)]
    gevent.sleep(0)
    assert not any(each.ready() for each in waiting)
    read(pair[1], len(DATA))
    assert len(gevent.joinall(waiting, timeout=10)) == 3


def test_progress(buffer, pair):
    assert buffer.has_progressed()  # nothing waits
    buffer.write(DATA)
    assert buffer.has_progressed()  # some of it has left
    gevent.sleep(0)
    assert not buffer.has_progressed()
    read(pair[1], 1 << 20)
    gevent.sleep(0.01)  # the hub has a turn
    assert buffer.has_progressed()


def test_give_up(buffer, pair):
    buffer.write(DATA)
    waiting = gevent.spawn(buffer.wait)
    gevent.sleep(0)
    buffer.give_up()
    waiting.get(timeout=10)
    assert not buffer.waiting
    buffer.write(b"nobody is there")
    assert not buffer.waiting
    assert buffer.error is None


def test_an_error_is_kept_and_nothing_more_is_sent(buffer, pair):
    pair[1].close()
    buffer.write(b"hello")
    assert isinstance(buffer.error, BrokenPipeError)
    buffer.write(DATA)
    assert not buffer.waiting


def test_an_error_while_the_hub_sends(buffer, pair):
    buffer.write(DATA)
    waiting = gevent.spawn(buffer.wait)
    gevent.sleep(0)
    pair[1].close()
    waiting.get(timeout=10)
    assert isinstance(buffer.error, OSError)
    assert not buffer.waiting
