"""Losses by `sequenceNumber` alone, against a set of numbers; their lines in the log are in test_stream."""

from hypothesis import given
from hypothesis import strategies as st

from mediastreams.streams.sequence import Loss, SequenceTracker


def take(tracker, number):
    """Let a message come, as a stream does; return whether it is new."""
    if number == tracker.next:
        tracker.advance()
    elif number > tracker.next:
        tracker.skip_to(number, 0)
    else:
        return tracker.fill(number)
    return True


@given(st.lists(st.integers(2, 60), max_size=80))
def test_it_counts_as_a_set_does(numbers):
    tracker = SequenceTracker()
    tracker.start(1)
    seen, late = {1}, 0
    for number in numbers:
        late += number < max(seen) or number in seen
        assert take(tracker, number) == (number not in seen)
        seen.add(number)
    assert tracker.lost == max(seen) - len(seen)
    assert tracker.late == late
    lost = [number for loss in tracker.losses for number in loss.numbers]
    assert lost == sorted(set(range(1, max(seen))) - seen)


def test_a_message_without_a_number_stands_for_one():
    tracker = SequenceTracker()
    tracker.start(1)
    tracker.unnumbered()
    assert tracker.skip_to(5, 800) == range(3, 5)
    assert tracker.losses == [Loss(range(3, 5), 800)]
