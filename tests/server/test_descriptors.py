"""File descriptors, with limits of the process: its own, or those that it was started with."""

import contextlib
import os
import re
import resource
import socket
import sys

import pytest
from support.handshake import handshake
from support.server import ROOT, SECONDS, Server, environment

from mediastreams.config import Settings
from mediastreams.server import descriptors


@pytest.fixture
def limits(monkeypatch):
    """Return a function that sets what the system allows; it returns the list of limits that are set then."""

    def set_limits(soft, hard):
        changed = []
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))

        def set_limit(_, both):
            if both[0] > hard != resource.RLIM_INFINITY:
                raise ValueError("above the hard limit")
            changed.append(both)

        monkeypatch.setattr(resource, "setrlimit", set_limit)
        return changed

    return set_limits


class TestMakeRoom:
    def test_a_limit_that_is_enough_stays(self, limits, caplog):
        changed = limits(soft=1064, hard=4096)
        descriptors.make_room(Settings())
        assert (changed, caplog.records) == ([], [])

    def test_a_lower_one_is_raised(self, limits, caplog):
        changed = limits(soft=1063, hard=4096)
        descriptors.make_room(Settings())
        assert (changed, caplog.records) == ([(4096, 4096)], [])

    def test_recordings_take_another_each(self, limits):
        changed = limits(soft=2063, hard=4096)
        descriptors.make_room(Settings(recordings_dir="recordings"))
        assert changed == [(4096, 4096)]

    def test_where_it_is_not_enough_that_is_one_line(self, limits, caplog):
        limits(soft=100, hard=200)
        descriptors.make_room(Settings())
        assert [record.getMessage() for record in caplog.records] == [
            "MAX_STREAMS=1000 needs 1064 file descriptors, and the system allows 200: "
            "raise the limit (ulimit -n) or lower MAX_STREAMS"
        ]

    def test_a_system_that_refuses_its_own_hard_limit(self, limits, monkeypatch, caplog):
        limits(soft=100, hard=resource.RLIM_INFINITY)
        changed = []

        def refuse_infinity(_, both):
            if both[0] == resource.RLIM_INFINITY:
                raise ValueError
            changed.append(both)

        monkeypatch.setattr(resource, "setrlimit", refuse_infinity)
        descriptors.make_room(Settings())
        assert (changed, caplog.records) == ([(1064, resource.RLIM_INFINITY)], [])


@pytest.mark.parametrize("gunicorn", [False, True], ids=["python", "gunicorn"])
def test_more_connections_than_descriptors(gunicorn):
    """Live streams go on, what is too much is one line, and when there is room new ones are taken."""
    program = "app.py" if not gunicorn else "-m gunicorn app:app"
    command = ["bash", "-c", f"ulimit -n 120 && exec {sys.executable} {program}"]
    server = Server(command, ROOT, {**environment(), "HTTP_SERVER_PORT": "0", "START_TIMEOUT": "60"})
    try:
        server.wait_until_it_listens()
        with contextlib.ExitStack() as connections:
            first = connections.enter_context(connect(server))
            assert answer(first).startswith(b"HTTP/1.1 101 ")
            for _ in range(300):
                connections.enter_context(connect(server))
            server.wait_for("No file descriptor is left for another connection")
            first.sendall(b"\x89\x80\0\0\0\0")  # a Ping
            assert first.recv(2) == b"\x8a\x00"
        with connect(server) as late:
            assert answer(late).startswith(b"HTTP/1.1 101 ")
    finally:
        printed = server.stop()
    assert "Traceback" not in printed
    assert "MAX_STREAMS=1000 needs 1064 file descriptors, and the system allows 120" in printed
    assert len(re.findall("No file descriptor is left", printed)) == 1


def connect(server):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
    connection.sendall(handshake())
    return connection


def answer(connection):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += connection.recv(1)
    return data


def test_this_test_has_descriptors_enough_itself():
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 400 + len(os.listdir("/proc/self/fd"))
