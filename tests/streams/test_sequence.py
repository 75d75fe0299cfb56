"""Losses by `sequenceNumber` alone, against a set of numbers; their lines in the log are in test_stream."""

from hypothesis import given
from hypothesis import strategies as st

from mediastreams.streams.sequence import SequenceTracker


@given(st.lists(st.none() | st.integers(2, 60), max_size=80))
def test_it_counts_as_a_set_does(numbers):
    """None is a message without a number: it stands for the next one that seems lost."""
    tracker = SequenceTracker()
    tracker.add_unnumbered()  # before `start`: it stands for none
    tracker.add_due(1)
    lost, highest, late, unnumbered = {}, 1, 0, 0
    for position, number in enumerate(numbers):
        if number is None:
            tracker.add_unnumbered()
            unnumbered += 1
        elif number <= highest:
            expected = "late" if number in lost else "repeat"
            assert tracker.add(number, position) == expected
            lost.pop(number, None)
            late += 1
        else:
            missing = range(highest + 1, number)[unnumbered:]
            assert tracker.add(number, position) == ("lost" if missing else "")
            lost |= dict.fromkeys(missing, position)
            highest, unnumbered = number, 0
        assert (tracker.due, tracker.lost, tracker.late) == (highest + 1, len(lost), late)
    found = [(number, loss.position) for loss in tracker.losses for number in loss.numbers]
    assert found == sorted(lost.items())
    assert all(loss.numbers for loss in tracker.losses)


def test_the_latest_thousand_losses_are_kept():
    tracker = SequenceTracker()
    tracker.add_due(1)
    for number in range(3, 2403, 2):  # loses the even ones before
        tracker.add(number, 0)
    assert [loss.numbers for loss in tracker.losses] == [range(n, n + 1) for n in range(402, 2402, 2)]
    assert tracker.lost == 1200
    assert tracker.add(400, 0) == "repeat"
    assert tracker.add(402, 0) == "late"
    assert tracker.add(2500, 0) == "lost"
    assert len(tracker.losses) == 1000
    assert tracker.add(2450, 0) == "late"  # two losses, where one was
    assert [loss.numbers for loss in tracker.losses[-2:]] == [range(2402, 2450), range(2451, 2500)]
    assert len(tracker.losses) == 1000
