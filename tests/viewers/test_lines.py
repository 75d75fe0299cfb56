"""The last lines of each stream's log."""

import gc
import logging
import sys
import weakref

import pytest
from support.streams import FakeConnection

from mediastreams.config import Settings
from mediastreams.streams.stream import Stream
from mediastreams.viewers.lines import MAX_LINES, Lines


def record(text, *arguments, stream=None, level=logging.INFO, error=None):
    record = logging.LogRecord("name", level, __file__, 1, text, arguments, error)
    if stream is not None:
        record.stream = stream
    return record


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def stream():
    return Stream(FakeConnection(), Settings())


def texts(lines, stream):
    return [line.text for line in lines.of(stream).lines]


def test_a_line_belongs_to_its_stream(lines, stream):
    other = Stream(FakeConnection(), Settings())
    written = record("%d messages", 3, stream=stream, level=logging.WARNING)
    lines.add(written)
    lines.add(record("another", stream=other))
    (line,) = lines.of(stream).lines
    assert (line.at, line.level, line.text) == (written.created, "WARNING", "3 messages")
    assert texts(lines, other) == ["another"]


def test_a_line_of_no_stream_is_not_kept(lines, stream):
    lines.add(record("of nobody"))
    assert texts(lines, stream) == []


def test_the_stream_in_whose_route_it_was_logged(lines):
    with Stream(FakeConnection(), Settings()) as stream:
        lines.add(record("inside"))
    assert texts(lines, stream) == ["inside"]


def test_the_latest_are_kept(lines, stream):
    for n in range(MAX_LINES + 5):
        lines.add(record(f"{n}", stream=stream))
    assert texts(lines, stream) == [f"{n}" for n in range(5, MAX_LINES + 5)]


def test_a_failure_with_its_traceback(lines, stream):
    try:
        raise KeyError("x")
    except KeyError:
        lines.add(record("failed", stream=stream, error=sys.exc_info()))
    (text,) = texts(lines, stream)
    assert text.startswith("failed\nTraceback (most recent call last):\n")
    assert text.endswith("KeyError: 'x'")


def test_a_long_one_is_cut(lines, stream):
    lines.add(record("x" * 5000, stream=stream))
    assert texts(lines, stream) == ["x" * 2000 + "..."]


def test_one_that_is_malformed_fails_nobody(lines, stream):
    lines.add(record("%d", "no number", stream=stream))
    assert texts(lines, stream) == ["%d"]


def test_what_has_no_utf_8(lines, stream):
    lines.add(record("half \ud800", stream=stream))
    assert texts(lines, stream) == ["half \\ud800"]


def test_further_lines_are_told(lines, stream):
    told = []
    lines.add(record("before", stream=stream))
    lines.of(stream).tell = lambda line: told.append(line.text)
    lines.add(record("after", stream=stream))
    lines.of(stream).tell = None
    lines.add(record("later", stream=stream))
    assert told == ["after"]


def test_it_keeps_no_stream_alive(lines):
    stream = Stream(FakeConnection(), Settings())
    lines.add(record("a line", stream=stream))
    log, gone = lines.of(stream), weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None
    assert [line.text for line in log.lines] == ["a line"]  # for who still has it
