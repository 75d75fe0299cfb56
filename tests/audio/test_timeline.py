import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediastreams.audio import timeline
from mediastreams.audio.timeline import MAX_GAPS, Discontinuity, PositionMap, TrackTimeline, UndecodedTrack

HOUR = 3600_000


def track_of(*timestamps, samples=160):
    """Return the timeline of a track with a chunk at each timestamp, and the positions they got."""
    track = TrackTimeline(timestamps[0])
    return track, [track.add(timestamp, samples) for timestamp in timestamps]


class TestFollowingOn:
    def test_each_chunk_behind_the_last(self):
        track, places = track_of(155, 175, 195)
        assert places == [155 * 8, 155 * 8 + 160, 155 * 8 + 320]
        assert (track.first, track.end, track.chunks, track.bytes) == (1240, 1720, 3, 480)
        assert (track.gaps, track.missing, track.discontinuity) == ([], 0, None)

    @pytest.mark.parametrize("step", [19.97, 19.85])
    def test_rounded_timestamps_cut_no_audio(self, step):
        track, places = track_of(*(round(155 + n * step) for n in range(3000)))
        assert places == [155 * 8 + n * 160 for n in range(3000)]
        assert (track.gaps, track.bytes) == ([], track.end - track.first)

    def test_jitter_is_no_gap(self):
        track, places = track_of(*(155 + n * 20 + (9 if n % 2 else 0) for n in range(100)))
        assert places == [155 * 8 + n * 160 for n in range(100)]
        assert track.missing == 0

    def test_many_small_steps_ahead_add_up_to_a_gap(self):
        track, places = track_of(*(n * 25 for n in range(1000)))
        assert max(abs(place - n * 25 * 8) for n, place in enumerate(places)) < 160
        assert 0 <= 999 * 5 * 8 - track.missing < 160

    def test_chunks_of_any_length(self):
        track = TrackTimeline(0)
        assert [track.add(0, 161), track.add(20, 3), track.add(20, 0), track.add(21, 800)] == [
            0,
            161,
            164,
            164,
        ]
        assert (track.missing, track.end) == (0, 964)

    def test_a_track_that_is_always_behind_has_chunks_that_overlap(self):
        track, _ = track_of(*(n * 11 for n in range(1000)))
        assert track.end == pytest.approx(1000 * 11 * 8, abs=1000 * 11 * 8 // 100 + 320)
        same = TrackTimeline(20)
        for _ in range(1000):
            same.add(20, 79)
        assert same.end - same.first < 400

    def test_how_far_a_track_may_be_behind_before_it_has_audio(self):
        track, _ = track_of(40, 31, 22, 21, samples=0)
        assert track.discontinuity is None
        track.add(20, 0)
        assert track.discontinuity == Discontinuity(-1, filled=[])


class TestRate:
    def test_how_large_a_gap_is(self):
        """At 11,025 Hz 10 ms are 110.25 samples: 110 are a gap, 109 are rounding."""
        track = TrackTimeline(0, 11025)
        track.add(0, 220)
        track.add(30, 1)
        assert track.gaps == [range(220, 330)]
        track = TrackTimeline(0, 11025)
        track.add(0, 221)
        track.add(30, 1)
        assert track.gaps == []

    @pytest.mark.parametrize("rate", [1000, 8000, 11025, 16000, 22050, 44100, 48_000])
    def test_a_call_with_a_gap(self, rate):
        """Chunks of 20 ms, not always a whole number of samples, without the second 100 of them."""
        ends = [n * rate // 50 for n in range(301)]
        track = TrackTimeline(155, rate)
        first = 155 * rate // 1000
        for n in (*range(100), *range(200, 300)):
            position = track.add(155 + 20 * n, ends[n + 1] - ends[n])
            assert abs(position - first - ends[n]) <= 1
        assert (track.bytes, len(track.gaps)) == (ends[100] + ends[300] - ends[200], 1)
        assert abs(track.missing - 2 * rate) <= 1
        assert track.end - track.first == track.bytes + track.missing

    def test_what_is_off_is_told_in_milliseconds(self):
        track = TrackTimeline(0, 16000)
        track.add(0, 320)
        track.add(60, 320)
        assert (track.discontinuity, track.gaps) == (Discontinuity(40), [range(320, 960)])
        track.add(20, 320)
        assert track.discontinuity == Discontinuity(-60, filled=[range(320, 640)])
        track.add(80 + HOUR + 1, 320)
        assert track.discontinuity.is_implausible

    def test_two_tracks(self):
        inbound = TrackTimeline(100, 16000)
        inbound.add(100, 320)
        outbound = TrackTimeline(105, 16000, beside=inbound)
        assert outbound.add(105, 320) == 105 * 16


class TestUndecoded:
    def test_bytes_are_counted_and_positions_are_timestamps(self):
        track = UndecodedTrack(155)
        assert [track.add(timestamp, 640) for timestamp in (155, 175, 9000, 20)] == [155, 175, 9000, 20]
        assert (track.chunks, track.bytes, track.first, track.end) == (4, 2560, 155, 9000)
        assert (track.gaps, track.missing, track.discontinuity) == ([], 0, None)


class TestTwoTracks:
    def test_the_same_time_is_the_same_place(self):
        """Also after ten minutes of timestamps that step by 19.97 ms, and one track that lost a second."""
        inbound = TrackTimeline(0)
        outbound = TrackTimeline(0, beside=inbound)
        for n in range(30_000):
            left = inbound.add(int(n * 19.97), 160)
            if not 15_000 <= n < 15_050:
                right = outbound.add(int(n * 19.97), 160)
        assert abs(left - right) <= 16
        assert outbound.missing == pytest.approx(8000, abs=16)

    def test_one_that_begins_later(self):
        inbound, _ = track_of(*(int(n * 19.97) for n in range(30_000)))
        outbound = TrackTimeline(int(30_000 * 19.97), beside=inbound)
        assert outbound.add(int(30_000 * 19.97), 160) == pytest.approx(inbound.end, abs=8)

    def test_one_that_begins_later_may_lag_as_much(self):
        """It is not cut until it has caught up, which would part it from the other one."""
        inbound, _ = track_of(*(int(n * 19.97) for n in range(30_000)))
        outbound = TrackTimeline(int(30_000 * 19.97), beside=inbound)
        for n in range(30_000, 60_000):
            left = inbound.add(int(n * 19.97), 160)
            assert abs(outbound.add(int(n * 19.97), 160) - left) <= 8
            assert outbound.discontinuity is None

    @pytest.mark.parametrize("timestamp", [10 * HOUR, 2**63 - 1])
    def test_an_implausible_beginning(self, timestamp):
        inbound, _ = track_of(0, 20, 40)
        outbound = TrackTimeline(timestamp, beside=inbound)
        assert outbound.add(timestamp, 160) == inbound.end
        assert outbound.discontinuity == Discontinuity(timestamp - 60, is_implausible=True)
        assert outbound.add(60, 160) == inbound.end + 160
        assert (outbound.first, outbound.missing) == (inbound.end, 0)


class TestGaps:
    def test_one_lost_chunk(self):
        track, places = track_of(0, 40)
        assert places == [0, 320]
        assert (track.gaps, track.missing, track.discontinuity) == ([range(160, 320)], 160, Discontinuity(20))

    def test_one_lost_chunk_of_a_track_that_lags(self):
        track, places = track_of(*(int(n * 19.97) for n in range(6000) if n != 5000))
        assert places[5000] - places[4999] == pytest.approx(320, abs=16)
        assert track.missing == pytest.approx(160, abs=16)

    def test_a_late_chunk_fills_its_part(self):
        track, places = track_of(0, 100, 40)
        assert (places[-1], track.discontinuity) == (320, Discontinuity(-80, filled=[range(320, 480)]))
        assert (track.gaps, track.missing, track.end) == ([range(160, 320), range(480, 800)], 480, 960)
        assert track.add(120, 160) == 960  # what was due is still due
        assert track.discontinuity is None

    def test_a_repeat_fills_nothing(self):
        track, places = track_of(0, 20, 40, 60, 20)
        assert (places[-1], track.discontinuity.filled, track.end, track.missing) == (160, [], 640, 0)

    def test_an_overlap_fills_only_what_is_past_the_end(self):
        track, places = track_of(0, 20, 25)
        assert (places[-1], track.discontinuity.filled, track.end) == (200, [range(320, 360)], 360)

    def test_what_is_before_the_first_chunk(self):
        track, places = track_of(100, 120, 60)
        assert (places[-1], track.discontinuity.filled) == (480, [range(480, 640)])
        assert (track.first, track.gaps, track.missing) == (480, [range(640, 800)], 160)

    def test_a_long_chunk_fills_several(self):
        track, _ = track_of(0, 40, 80, 120)
        assert track.add(10, 8 * 200) == 80
        filled = [range(160, 320), range(480, 640), range(800, 960), range(1120, 1680)]
        assert track.discontinuity.filled == filled
        assert (track.gaps, track.missing, track.end) == ([], 0, 1680)

    def test_they_are_bounded(self):
        track, _ = track_of(*(40 * n for n in range(3 * MAX_GAPS)))
        assert (len(track.gaps), track.missing) == (MAX_GAPS, (3 * MAX_GAPS - 1) * 160)


class TestImplausible:
    def test_ahead(self):
        track, places = track_of(0, 20, 40 + 2 * HOUR, 60 + 2 * HOUR)
        assert places == [0, 160, 320, 480]
        assert (track.missing, track.end) == (0, 640)

    def test_one_alone(self):
        track = TrackTimeline(0)
        jumps = []
        for timestamp in (0, 20, 2**63 - 1, 60, 80):
            track.add(timestamp, 160)
            jumps.append(track.discontinuity and track.discontinuity.is_implausible)
        assert jumps == [None, None, True, True, None]
        assert (track.missing, track.end) == (0, 800)

    def test_back(self):
        _track, places = track_of(2 * HOUR, 2 * HOUR + 20, 0, 20)
        assert [place - places[0] for place in places] == [0, 160, 320, 480]

    def test_just_an_hour_is_a_gap(self):
        track, places = track_of(0, 20 + HOUR)
        assert (places[-1], track.discontinuity) == ((20 + HOUR) * 8, Discontinuity(HOUR))

    def test_many_that_are_less_cannot_fill_a_disk(self):
        track, _ = track_of(*(n * HOUR // 2 for n in range(1000)))
        assert track.end <= (HOUR + 60_000) * 8

    def test_just_an_hour_back_is_late(self):
        track, places = track_of(HOUR, 20)
        assert (places[-1], track.discontinuity) == (160, Discontinuity(-HOUR, filled=[range(160, 320)]))

    @pytest.mark.parametrize("ahead", [HOUR - 1000, HOUR, HOUR + 1000])
    def test_a_track_that_was_silent_for_hours(self, monkeypatch, ahead):
        """It goes on where it belongs, up to an hour ahead of the time that has passed."""
        now, begin = [1000.0], 5 * HOUR
        monkeypatch.setattr(timeline.time, "monotonic", lambda: now[0])
        inbound, _ = track_of(begin, begin + 20)
        outbound = TrackTimeline(begin, beside=inbound)
        outbound.add(begin, 160)
        now[0] += 3 * HOUR / 1000
        again = begin + 3 * HOUR + ahead
        beside = TrackTimeline(again, beside=inbound)
        positions = [track.add(again, 160) for track in (outbound, beside)]
        assert outbound.discontinuity.is_implausible == (ahead > HOUR)
        assert positions == ([begin * 8 + 160, begin * 8 + 320] if ahead > HOUR else [again * 8, again * 8])


class TestPositionMap:
    def test_breaks(self):
        positions = PositionMap(800)
        positions.break_at(160, 8000)  # a gap after the first chunk
        positions.break_at(480, 100)
        assert [positions.position(n) for n in (0, 159, 160, 479, 480, 500)] == [
            *(800, 959, 8000, 8319),
            *(100, 120),
        ]

    def test_the_oldest_breaks_are_forgotten(self):
        positions = PositionMap(0)
        for n in range(1, 3 * MAX_GAPS):
            positions.break_at(n * 10, n * 1000)
        assert positions.position((3 * MAX_GAPS - 1) * 10 + 3) == (3 * MAX_GAPS - 1) * 1000 + 3
        assert positions.position(2 * MAX_GAPS * 10 + 3) == 2 * MAX_GAPS * 1000 + 3
        assert positions.position(13) != 1003


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 40)), min_size=1, max_size=40))
def test_no_place_is_given_twice(chunks):
    """Against a list of every millisecond: what a chunk gets was free, and all else is missing."""
    track = TrackTimeline(chunks[0][0] * 10)
    taken = set()
    for at, size in chunks:
        place = track.add(at * 10, size * 8)
        parts = track.discontinuity and track.discontinuity.filled
        if parts is None:
            parts = [range(place, place + size * 8)]
        for part in parts:
            assert place <= part.start
            assert part.stop <= place + size * 8
            assert taken.isdisjoint(part)
            assert part or not size
            taken.update(part)
    assert track.missing == track.end - track.first - len(taken)
    assert track.missing == sum(map(len, track.gaps))
    assert all(gap and taken.isdisjoint(gap) for gap in track.gaps)


class TestLimits:
    """Each limit of the module's docstring, on both of its sides."""

    @pytest.mark.parametrize(
        ("timestamp", "discontinuity"),
        [(29, None), (30, Discontinuity(10)), (11, None), (10, Discontinuity(-10, filled=[range(160, 240)]))],
    )
    def test_half_a_chunk_is_a_jump(self, timestamp, discontinuity):
        track, _ = track_of(0, timestamp)
        assert track.discontinuity == discontinuity

    @pytest.mark.parametrize(("size", "timestamp", "ms"), [(161, 40, 19), (161, 10, -11)])
    def test_a_jump_is_in_whole_milliseconds(self, size, timestamp, ms):
        track = TrackTimeline(0)
        track.add(0, size)
        track.add(timestamp, 160)
        assert track.discontinuity.ms == ms
        assert isinstance(track.discontinuity.ms, int)

    @pytest.mark.parametrize(
        ("second", "third", "position"),
        [
            (19, 59, 59 * 8),  # behind by a rounding: after a gap it is placed by its timestamp
            (18, 58, 58 * 8),
            (17, 57, 57 * 8 + 24),  # by more: it stays behind
            (17, 47, 47 * 8 + 24),
            (22, 62, 62 * 8),
            (23, 63, 63 * 8 - 24),
        ],
    )
    def test_a_gap_ends_the_rounding(self, second, third, position):
        _, places = track_of(0, second, third)
        assert places == [0, 160, position]

    @pytest.mark.parametrize(("step", "is_behind"), [(16, False), (24, True)])
    def test_a_track_may_lag_by_1_percent_and_20_ms(self, step, is_behind):
        """Of 80,008 samples, 800 and 160; it lags by 936, and then by `step` more."""
        track = TrackTimeline(1000)
        track.add(1000, 79_904)
        due = 8000 + 79_904
        for behind in (*13 * [72], step):
            track.add((due - behind) // 8, 8)
            due += 8 - behind
        assert (track.discontinuity is not None) == is_behind

    def test_what_is_there_already_leaves_nothing_behind(self):
        for timestamp in (0, 40):
            track, _ = track_of(0, 20, 40, timestamp)
            assert (track.discontinuity.filled, track.gaps, track.missing, track.end) == ([], [], 0, 480)

    def test_a_second_track_follows_what_the_first_has_taken_for_implausible(self):
        inbound, places = track_of(0, 20, 40 + 2 * HOUR)
        outbound = TrackTimeline(60 + 2 * HOUR, beside=inbound)
        assert outbound.add(60 + 2 * HOUR, 160) == places[-1] + 160
        assert outbound.discontinuity is None

    @pytest.mark.parametrize("ahead", [10_000, HOUR - 20])
    def test_a_second_track_may_begin_up_to_an_hour_later(self, ahead):
        inbound, _ = track_of(40 * 60_000)
        begin = 40 * 60_000 + 20 + ahead
        outbound = TrackTimeline(begin, beside=inbound)
        assert (outbound.add(begin, 160), outbound.discontinuity) == (begin * 8, None)
        just = TrackTimeline(40 * 60_000 + 20 + HOUR, beside=inbound)
        assert just.first == (40 * 60_000 + 20 + HOUR) * 8

    @pytest.mark.parametrize(("passed", "is_implausible"), [(3599, True), (3600, False), (3601, False)])
    def test_all_gaps_may_have_an_hour_and_the_time_that_has_passed(
        self, monkeypatch, passed, is_implausible
    ):
        now = [1000.0]
        monkeypatch.setattr(timeline.time, "monotonic", lambda: now[0])
        inbound = TrackTimeline(0)
        inbound.add(0, 160)
        now[0] += passed
        for track in (inbound, TrackTimeline(20, beside=inbound)):
            begin = 20 if track is inbound else 40
            if track is not inbound:
                track.add(20, 160)
            track.add(begin + HOUR, 160)
            assert track.discontinuity == Discontinuity(HOUR)
            track.add(begin + 20 + 2 * HOUR, 160)
            assert track.discontinuity == Discontinuity(HOUR, is_implausible=is_implausible)
