"""The meter's line, and the meter of `python app.py` on a terminal."""

import re

import pytest
from support.server import run_caller
from support.terminal import OnTerminal, pty

from mediastreams.audio import mulaw
from mediastreams.consumers.level_meter import line

LINE = re.compile(r"MZ\w{6} 0:0(\d) (inbound |outbound) \[#*-*\] +(?:-\d\d dBFS|silence)( speaking)?$")


class TestLine:
    @pytest.mark.parametrize(
        ("level", "expected"),
        [
            (0.0, "MZ012345 1:05 inbound  [########################]   0 dBFS speaking"),
            (-30.0, "MZ012345 1:05 inbound  [############------------] -30 dBFS speaking"),
            (-46.0, "MZ012345 1:05 inbound  [######------------------] -46 dBFS"),
            (-70.0, "MZ012345 1:05 inbound  [------------------------] -70 dBFS"),
            (mulaw.level(mulaw.SILENCE), "MZ012345 1:05 inbound  [------------------------]  silence"),
        ],
    )
    def test_it(self, level, expected):
        assert line("MZ0123456789", 65.9, "inbound", level) == expected


@pytest.mark.skipif(pty is None, reason="this system has no pseudo-terminals")
class TestOnATerminal:
    def test_who_is_speaking_how_loud(self):
        server = OnTerminal()
        try:
            result = run_caller(server.url, "--seconds", "5", "--track", "both_tracks")
            assert result.returncode == 0
            server.wait_for("Stream MZ.*5.00 s; inbound 250 chunks")
        finally:
            last = server.stop()
        ends = [[LINE.search(text) for text in screen.split("\n")[-2:]] for screen in server.seen]
        both = [lines for lines in ends if len(lines) == 2 and all(lines)]
        assert {tuple(line[2] for line in lines) for lines in both} == {("inbound ", "outbound")}
        # Once a second: each a tick of the consumers later, so that numbers are left out.
        assert len({lines[0][1] for lines in both}) >= 3
        assert {bool(lines[1][3]) for lines in both} == {True, False}  # the callee answers in the end
        assert " dBFS" not in last  # and in the end only the log is there
        log = [text.partition(": ")[2] for text in last.split("\n") if text.startswith("[")]
        assert log[1] == "Connection accepted"
        assert log[-2] == "Connection closed. Received a total of 503 messages"

    def test_not_where_nobody_wants_to_know(self):
        server = OnTerminal(LOG_LEVEL="WARNING")
        try:
            assert run_caller(server.url, "--seconds", "1.5").returncode == 0
        finally:
            server.stop()
        assert b"dBFS" not in server.bytes
        assert b"\x1b" not in server.bytes


def test_not_where_it_is_no_terminal(server):
    assert run_caller(server.url, "--seconds", "1.5").returncode == 0
    server.wait_for("Stream MZ")
    printed = server.stop()
    assert "dBFS" not in printed
    assert "\x1b" not in printed
