"""Twilio's buffer, against a model that plays one sample after the other."""

import random

import pytest

from mediastreams.caller.playout_buffer import MAX_SECONDS, Buffer

SECOND = 8000
MAX_BUFFERED = MAX_SECONDS * SECOND


class Heard:
    def __init__(self):
        self.parts = []

    def __call__(self, place, mulaw):
        assert mulaw, "nothing is not played"
        self.parts.append((place, mulaw))

    @property
    def samples(self):
        return {place + i: code for place, mulaw in self.parts for i, code in enumerate(mulaw)}


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def buffer(heard):
    return Buffer(heard)


def test_audio_is_played_when_it_comes_and_in_its_time(buffer, heard):
    assert buffer.media(b"a" * SECOND, 2.0) == 0
    assert buffer.play(2.25) == []
    assert heard.parts == [(2 * SECOND, b"a" * 2000)]
    assert buffer.play(9.0) == []
    assert "".join(map(chr, heard.samples.values())) == "a" * SECOND
    assert max(heard.samples) == 3 * SECOND - 1
    assert not buffer._queue


def test_what_comes_meanwhile_follows_without_a_gap(buffer, heard):
    buffer.media(b"a" * 160, 0.0)
    buffer.media(b"b" * 160, 0.01)
    buffer.play(1.0)
    assert list(heard.samples) == list(range(320))


def test_what_comes_too_late_is_played_at_once(buffer, heard):
    buffer.media(b"a" * 160, 0.0)
    buffer.media(b"b" * 160, 0.5)
    buffer.play(1.0)
    assert [place for place, _ in heard.parts] == [0, 4000]


def test_a_mark_returns_at_once_where_nothing_waits(buffer):
    buffer.mark("one", 0.0)
    assert buffer.play(0.0) == ["one"]
    assert buffer.play(0.0) == []


def test_a_mark_returns_when_the_audio_before_it_was_played(buffer):
    buffer.media(bytes(160), 0.0)
    buffer.mark("one", 0.0)
    buffer.media(bytes(160), 0.0)
    buffer.mark("two", 0.0)
    assert [buffer.play(now) for now in (0.019, 0.02, 0.039, 0.04)] == [[], ["one"], [], ["two"]]


def test_clear_returns_the_marks_in_their_order(buffer, heard):
    buffer.mark("played", 0.0)
    buffer.media(bytes(SECOND), 0.0)
    for name in ("one", "two", "one"):
        buffer.mark(name, 0.0)
    buffer.clear(0.5)
    assert not buffer._queue
    assert buffer.play(0.5) == ["played", "one", "two", "one"]
    assert buffer.play(9.0) == []
    assert len(heard.samples) == SECOND // 2


def test_it_begins_anew_after_clear(buffer, heard):
    buffer.media(b"a" * SECOND, 0.0)
    buffer.clear(0.5)
    buffer.media(b"b" * 160, 0.6)
    buffer.play(1.0)
    assert heard.parts[-1] == (4800, b"b" * 160)


def test_ten_minutes_wait_and_no_more(buffer):
    assert buffer.media(bytes(MAX_BUFFERED - 100), 0.0) == 0
    assert buffer.media(bytes(160), 0.0) == 60
    assert buffer.media(bytes(160), 0.0) == 160
    buffer.mark("behind", 0.0)
    assert buffer.media(bytes(160), 0.02) == 0  # as much was played
    assert buffer.media(bytes(1), 0.02) == 1
    assert buffer.play(599.99) == []
    assert buffer.play(600.0) == ["behind"]


@pytest.mark.parametrize("seed", range(50))
def test_as_a_model_has_it(buffer, heard, seed):
    """The model has a queue of single samples, and plays one in each 1/8000 s."""
    chance = random.Random(seed)
    queue, spoken, returned, model_returned = [], {}, [], []
    now = 0
    for _ in range(60):
        later = now + chance.choice([0, 1, 7, 100, 400])
        for place in range(now, later):
            while queue and isinstance(queue[0], str):
                model_returned.append(queue.pop(0))
            if queue:
                spoken[place] = queue.pop(0)
        while queue and isinstance(queue[0], str):
            model_returned.append(queue.pop(0))
        now = later
        match chance.randrange(4):
            case 0 | 1:
                audio = chance.randbytes(chance.choice([0, 1, 50, 300]))
                assert buffer.media(audio, now / SECOND) == 0
                queue += audio
            case 2:
                name = f"mark {now}"
                buffer.mark(name, now / SECOND)
                queue.append(name)
            case 3 if chance.random() < 0.3:
                buffer.clear(now / SECOND)
                model_returned += [part for part in queue if isinstance(part, str)]
                queue.clear()
        returned += buffer.play(now / SECOND)
    buffer.play(now / SECOND)
    while queue and isinstance(queue[0], str):
        model_returned.append(queue.pop(0))
    returned += buffer.play(now / SECOND)
    assert heard.samples == spoken
    assert returned == model_returned
