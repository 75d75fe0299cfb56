"""What a server tells the pages of others."""

import gevent
import pytest
from gevent.event import Event
from support.clock import Clock
from support.server import wait_until

from mediastreams.viewers import answers as module
from mediastreams.viewers.answers import MAX_ASKERS, MAX_AUDIO, Answers
from mediastreams.viewers.messages import (
    Audio,
    Changed,
    Detail,
    Levels,
    Mark,
    Pressed,
    Removed,
    Row,
    Snapshot,
    Transcript,
    Wave,
)
from mediastreams.viewers.wire import Ask, Interest, decode_messages, decode_told

ROW = Row("own/1", "MZ1", "CA1", {}, ["inbound"], 1.5, "audio/x-mulaw 8000 Hz", True, False)
SNAPSHOT = Snapshot([ROW], [])
DETAIL = Detail("own/1", [], [], [Pressed("1", 0.5)], [])
CHANGED = Changed([{"id": "own/1", "lost": 1}])
LEVELS = Levels({"own/1": {"inbound": -5.0}, "own/2": {"inbound": None}})
AUDIO = Audio("own/1", "inbound", 0, b"\0")
WAVE = Wave("own/1", "inbound", 0, [1])
MARK = Mark("greeting", 0.5, "own/1")
TRANSCRIPT = Transcript("inbound", "caller", "hello", True, 0.5, 1.0, "own/1")


class FakeCalls:
    def snapshot(self):
        return SNAPSHOT

    def detail(self, id):
        return DETAIL if id == "own/1" else None


class Sent:
    """Notes what is sent; does not take it before `may_go`."""

    def __init__(self):
        self.all = []
        self.may_go = Event()
        self.may_go.set()

    def __call__(self, data):
        self.may_go.wait()
        self.all.append(decode_told(data))

    def messages(self):
        return [message for told in self.all for message in decode_messages(told)]


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def answers(sent):
    return Answers("own", FakeCalls(), sent)


def ask(server="other", snapshots=(), details=(), is_last=False, **interest):
    interest = Interest(**{name: frozenset(ids) for name, ids in interest.items()})
    wanted = None if snapshots is None else frozenset(snapshots)
    return Ask(1, server, interest, wanted, frozenset(details), is_last)


def tell_all(answers):
    for message in (CHANGED, Removed(["own/3"]), LEVELS, AUDIO, WAVE, MARK, TRANSCRIPT):
        answers.tell(message)
    answers.finish(5)


class TestWhatIsTold:
    @pytest.mark.parametrize(
        ("interest", "events"),
        [
            ({}, []),
            ({"shown": ["own/1"]}, [TRANSCRIPT, Levels({"own/1": {"inbound": -5.0}})]),
            ({"selected": ["own/1"]}, [MARK, TRANSCRIPT, WAVE]),
            ({"listened": ["own/1"]}, [AUDIO]),
            ({"shown": ["own/7"], "selected": ["own/7"], "listened": ["own/7"]}, []),
        ],
        ids=str,
    )
    def test_rows_and_of_calls_what_is_wanted(self, answers, sent, interest, events):
        answers.note(ask(**interest))
        tell_all(answers)
        changed, removed, *others = sent.messages()
        assert (changed.counts[0].lost, removed) == (1, Removed(["own/3"]))
        assert others == events

    def test_what_all_together_want(self, answers):
        answers.note(ask("b", shown=["own/1"], selected=["own/1"]))
        answers.note(ask("c", shown=["own/2"], listened=["own/3"]))
        assert answers.interest == Interest(
            frozenset({"own/1", "own/2"}), frozenset({"own/1"}), frozenset({"own/3"})
        )
        answers.note(ask("b", is_last=True))
        assert answers.interest == Interest(frozenset({"own/2"}), frozenset(), frozenset({"own/3"}))
        assert answers.are_wanted
        answers.note(ask("c", is_last=True))
        assert not answers.are_wanted

    def test_of_many_servers_the_first(self, answers):
        for n in range(2 * MAX_ASKERS):
            answers.note(ask(f"s{n}", shown=[f"own/{n}"]))
        assert len(answers.interest.shown) == MAX_ASKERS
        answers.note(ask("s0", shown=["own/x"]))
        assert "own/x" in answers.interest.shown

    def test_nothing_where_nobody_asks(self, answers, sent):
        tell_all(answers)
        answers.note(ask())
        answers.note(ask(is_last=True))
        tell_all(answers)
        answers.tick()
        answers.finish(5)
        assert sent.all == []

    @pytest.mark.parametrize(
        ("question", "messages"),
        [
            (ask(snapshots=None), [SNAPSHOT]),
            (ask(snapshots=["other", "own"]), [SNAPSHOT]),
            (ask(snapshots=["other"]), []),
            (ask(details=["own/1"]), [DETAIL]),
            (ask(details=["own/2"]), [Detail("own/2", [], [], [], [])]),
            (ask(details=["other/1", "1", "owner/1"]), []),
        ],
    )
    def test_what_is_asked_for_is_made_once(self, answers, sent, question, messages):
        for _ in range(3):
            answers.note(question)
        answers.finish(5)
        assert sent.messages() == messages

    def test_what_is_made_comes_after_what_waited(self, answers, sent):
        answers.note(ask(snapshots=None, details=["own/1"], selected=["own/1"]))
        answers.tell(MARK)
        answers.finish(5)
        assert sent.messages() == [MARK, SNAPSHOT, DETAIL]

    def test_what_is_told_as_a_detail_is_made_comes_before_it(self, answers, sent, monkeypatch):
        def detail(calls, id):
            answers.tell(MARK)
            return DETAIL

        monkeypatch.setattr(FakeCalls, "detail", detail)
        answers.note(ask(details=["own/1"], selected=["own/1"]))
        answers.finish(5)
        assert sent.messages() == [MARK, DETAIL]


class TestHowMuchWaits:
    @pytest.fixture(autouse=True)
    def slow(self, answers, sent):
        """Nothing more is taken for now."""
        sent.may_go.clear()
        answers.note(ask(snapshots=None, shown=["own/1"], selected=["own/1"], listened=["own/1"]))
        wait_until(lambda: answers._sent_at)

    def test_of_audio_the_latest(self, answers, sent):
        for position in range(MAX_AUDIO + 5):
            answers.tell(Audio("own/1", "inbound", position, b"\0"))
        sent.may_go.set()
        answers.finish(5)
        positions = [message.position for message in sent.messages()[1:]]
        assert positions == list(range(5, MAX_AUDIO + 5))

    def test_of_levels_the_latest(self, answers, sent):
        for level in (-5.0, -6.0):
            answers.tell(Levels({"own/1": {"inbound": level}}))
        sent.may_go.set()
        answers.finish(5)
        assert sent.messages()[1:] == [Levels({"own/1": {"inbound": -6.0}})]

    def test_of_texts_all_or_none_and_then_a_number_is_missing(self, answers, sent, monkeypatch):
        monkeypatch.setattr(module, "MAX_WAITING", 1000)
        for _ in range(10):
            answers.tell(TRANSCRIPT)
        for _ in range(10):
            answers.tell(MARK)
        sent.may_go.set()
        answers.finish(5)
        assert [told.number for told in sent.all] == [1, 3]
        assert 0 < len(sent.messages()) < 20
        assert sent.messages()[-1] == MARK


class TestTime:
    @pytest.fixture
    def clock(self, monkeypatch):
        return Clock.of(module, monkeypatch)

    def test_who_is_silent_is_forgotten(self, answers, clock):
        answers.note(ask("b", shown=["own/1"]))
        clock.now += 5
        answers.note(ask("c", shown=["own/2"]))
        clock.now += 1
        assert not answers.tick()
        clock.now += 0.1
        assert answers.tick()
        assert answers.interest.shown == {"own/2"}
        answers.finish(5)

    def test_a_server_that_is_asked_lets_know_that_it_is_there(self, answers, sent, clock):
        answers.note(ask(snapshots=None))
        answers.finish(5)
        clock.now += 1.9
        answers.tick()
        answers.finish(5)
        assert len(sent.all) == 1
        clock.now += 0.2
        answers.tick()
        answers.finish(5)
        assert [(told.number, decode_messages(told)) for told in sent.all[1:]] == [(2, [])]

    def test_the_end_is_not_waited_for_too_long(self, answers, sent):
        sent.may_go.clear()
        answers.note(ask(snapshots=None))
        with gevent.Timeout(5):
            answers.finish(0.05)
        assert sent.all == []
        sent.may_go.set()
