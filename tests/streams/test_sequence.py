"""Losses by `sequenceNumber` alone, against a set of numbers; their lines in the log are in test_stream."""

from hypothesis import given
from hypothesis import strategies as st

from mediastreams.streams.sequence import Loss, SequenceTracker


@given(st.lists(st.integers(2, 60), max_size=80))
def test_it_counts_as_a_set_does(numbers):
    tracker = SequenceTracker()
    tracker.add_due(1)
    seen, late = {1}, 0
    for number in numbers:
        is_late = number < max(seen) or number in seen
        late += is_late
        expected = "lost" if number > max(seen) + 1 else ""
        if is_late:
            expected = "repeat" if number in seen else "late"
        assert tracker.add(number, 0) == expected
        seen.add(number)
    assert tracker.lost == max(seen) - len(seen)
    assert tracker.late == late
    lost = [number for loss in tracker.losses for number in loss.numbers]
    assert lost == sorted(set(range(1, max(seen))) - seen)


def test_a_message_without_a_number_stands_for_one():
    tracker = SequenceTracker()
    tracker.add_due(1)
    tracker.add_unnumbered()
    assert tracker.add(5, 800) == "lost"
    assert tracker.losses == [Loss(range(3, 5), 800)]
