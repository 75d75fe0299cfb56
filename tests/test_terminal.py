"""The terminal is pyte's: what a person would see on it is what is asserted."""

import io
import logging
import sys
import threading

import pyte
import pytest
from support.server import SECONDS, run_caller
from support.terminal import OnTerminal, fcntl, pty, struct, termios

from mediastreams import terminal as module
from mediastreams.terminal import MAX_LINES, Console


class Terminal(io.StringIO):
    """A terminal of so many columns and lines."""

    def __init__(self, columns=80, lines=24):
        super().__init__()
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.Stream(self.screen)

    def write(self, text):
        self.stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def shows(self):
        """Return the lines on the screen, without the empty ones at its end."""
        assert self.console.wait(SECONDS)
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")


def console_of(terminal):
    terminal.console = Console(terminal)
    return terminal.console


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def console(terminal):
    return console_of(terminal)


def test_a_line_is_rewritten_in_place(console, terminal):
    for n in range(5):
        console.show("a", f"level {n}")
    assert terminal.shows() == ["level 4"]
    console.show("b", "other")
    console.show("a", "last")
    assert terminal.shows() == ["last", "other"]
    console.remove("a")
    console.remove("a")
    assert terminal.shows() == ["other"]
    console.remove("b")
    assert terminal.shows() == [""]


def test_the_log_stays_above(console, terminal):
    console.write("one\n")
    console.show("a", "A")
    console.write("two\n")
    console.show("b", "B")
    console.write("three\nand four\n")
    console.show("a", "A again")
    assert terminal.shows() == ["one", "two", "three", "and four", "A again", "B"]


def test_it_scrolls(console, terminal):
    console.show("a", "A")
    console.show("b", "B")
    for n in range(100):
        console.write(f"line {n}\n")
        console.show("a", f"A {n}")
    assert terminal.shows()[-4:] == ["line 98", "line 99", "A 99", "B"]


def test_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal(columns=20)
    console = console_of(terminal)
    for _ in range(3):
        console.show("a", "x" * 50)
    assert terminal.shows() == ["x" * 19]


def test_wide_characters(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal(columns=20)
    console = console_of(terminal)
    for _ in range(3):
        console.show("a", "caller: " + "\u4f60\u597d" * 10)
    assert len(terminal.shows()) == 1


@pytest.mark.parametrize(("lines", "most"), [(24, MAX_LINES), (6, 4), (2, 1)])
def test_more_lines_than_there_is_room_for(monkeypatch, lines, most):
    monkeypatch.setenv("LINES", str(lines))
    terminal = Terminal(lines=lines)
    console = console_of(terminal)
    for n in range(30):
        console.show(n, f"line {n}")
    shown = terminal.shows()
    assert len(shown) == most
    assert shown[-1] == f"... and {30 - most + 1} more"
    for n in range(29):
        console.remove(n)
    assert terminal.shows() == ["line 29"]


def test_the_log_goes_through_it_until_it_is_closed(console, terminal, monkeypatch):
    root = logging.getLogger()
    ours, others = logging.StreamHandler(terminal), logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(root, "handlers", [ours, others])
    console.capture()
    console.show("a", "A")
    root.error("a line")
    assert terminal.shows() == ["a line", "A"]
    console.close()
    root.error("another")
    assert terminal.shows() == ["a line", "another"]
    assert ours.stream is terminal
    assert others.stream.getvalue() == "a line\nanother\n"


def test_many_threads(console, terminal):
    def work(n):
        for i in range(50):
            console.show(n, f"{n}: {i}")
            console.write(f"{n} wrote {i}\n")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = terminal.shows()
    assert sorted(shown[-4:]) == [f"{n}: 49" for n in range(4)]
    assert all(" wrote " in line for line in shown[:-4])


def test_a_terminal_that_is_gone():
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    console = Console(Gone())
    console.show("a", "A")
    assert console.write("x\n") == 2
    assert console.wait(SECONDS)


def test_a_terminal_that_has_stopped(monkeypatch):
    """Nobody waits for it; when it goes on, all is there."""
    monkeypatch.setattr(module, "_CLOSE_SECONDS", 0.01)
    goes_on = threading.Event()

    class Stopped(Terminal):
        def write(self, text):
            goes_on.wait(SECONDS)
            return super().write(text)

    terminal = Stopped()
    console = console_of(terminal)
    for n in range(10):
        console.write(f"line {n}\n")
        console.show("a", f"A {n}")
    console.close()
    goes_on.set()
    assert terminal.shows() == [f"line {n}" for n in range(10)]


@pytest.mark.skipif(pty is None, reason="this system has no pseudo-terminals")
def test_a_stopped_terminal_holds_up_neither_calls_nor_the_end():
    server = OnTerminal()
    try:
        server.hold()
        # These log 80 kB, more than a pty holds.
        result = run_caller(server.url, "--fast", "--calls", "60", "--seconds", "0.1")
        assert result.returncode == 0
        assert server.bytes.count(b"Connection closed") < 60
    finally:
        server.stop()
    assert server.process.returncode == 0


def test_when_there_is_one(monkeypatch):
    class Tty(io.StringIO):
        def isatty(self):
            return True

    assert module.of_stderr() is None  # that of the tests is no terminal
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stderr", None)
        assert module.of_stderr() is None
    monkeypatch.setattr(sys, "stderr", Tty())
    monkeypatch.setenv("TERM", "xterm")
    assert module.of_stderr() is not None
    monkeypatch.setenv("TERM", "dumb")
    assert module.of_stderr() is None


def test_a_line_is_removed_however_long_the_terminal_was_stopped(monkeypatch):
    goes_on = threading.Event()

    class Stopped(Terminal):
        def write(self, text):
            goes_on.wait(SECONDS)
            return super().write(text)

    monkeypatch.setattr(module, "_MAX_TASKS", 10)
    terminal = Stopped()
    console = console_of(terminal)
    console.show("a", "A")
    for n in range(20):
        console.write(f"line {n}\n")
    console.remove("a")
    goes_on.set()
    shown = terminal.shows()
    assert shown[0] == "line 0"
    assert "A" not in shown


@pytest.mark.skipif(pty is None, reason="this system has no pseudo-terminals")
def test_its_size_is_its_own_whatever_stdout_is():
    """As with `python app.py > file`."""
    master, slave = pty.openpty()
    with open(master, "rb", buffering=0) as read, open(slave, "w") as terminal:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
        console = Console(terminal)
        console.show("a", "x" * 60)
        assert console.wait(SECONDS)
        assert read.read(1000) == b"x" * 39 + b"\r\n"
