"""Gap ledger, restarts and refused numbers, on one pack that has been running for a while."""

from __future__ import annotations

import pytest

from schemas.quality import BOOT, GAP_BEFORE
from tests.support.walks import Missing, Refused, Walk


@pytest.fixture
def walk() -> Walk:
    """Numbers 100..119 at 0..19 s, all released."""
    return Walk().feed([float(k) for k in range(20)], list(range(100, 120)))


def test_lost_numbers_are_one_gap_between_the_frames_around_them(walk: Walk) -> None:
    walk.feed([23.0, 24.0, 30.0], [123, 124, 130]).end()
    assert walk.gaps == [Missing(120, 122, 19.0, 23.0), Missing(125, 129, 24.0, 30.0)]
    assert [flags for _, flags in walk.released[-3:]] == [GAP_BEFORE, 0, GAP_BEFORE]


def test_a_hole_that_is_filled_in_time_is_no_gap(walk: Walk) -> None:
    walk.feed([21.0, 22.0], [121, 122])
    assert len(walk.released) == 20
    walk.feed([20.0], [120])
    assert walk.places == [*range(20), 22, 20, 21]
    assert walk.gaps == []


def test_the_number_of_a_refused_frame_is_neither_waited_for_nor_missing(walk: Walk) -> None:
    walk.feed([-1.7e9, 21.0], [120, 121])
    assert walk.places[-1] == 21
    assert walk.refused == [Refused(20, "clock_past", 20.0)]
    assert walk.gaps == []


def test_gaps_leave_out_a_refused_number_between_lost_ones(walk: Walk) -> None:
    walk.feed([-1.7e9, 23.0, 30.0], [121, 123, 130])
    assert walk.gaps[:2] == [Missing(120, 120, 19.0, 23.0), Missing(122, 122, 19.0, 23.0)]
    assert walk.refused == [Refused(20, "clock_past", 21.0)]


def test_a_count_that_begins_again_waits_for_the_lateness_and_is_no_gap(walk: Walk) -> None:
    walk.feed([22.0, 23.0, 24.0], [0, 1, 2])
    assert len(walk.released) == 20
    walk.feed([28.0, 29.0], [6, 7]).end()
    assert [flags for _, flags in walk.released[20:]] == [BOOT, 0, 0, GAP_BEFORE, 0]
    assert [g[:2] for g in walk.gaps] == [(3, 5)]


def test_refused_frames_before_and_after_a_restart_find_their_count(walk: Walk) -> None:
    # 120 is the last of the old count; 0 and 3 belong to the new one
    walk.feed([-1.7e9, -1.7e9, 31.0, 32.0, -1.7e9, 34.0, 45.0], [120, 0, 1, 2, 3, 4, 15]).end()
    assert [(r.at, r.why) for r in sorted(walk.refused)] == [(k, "clock_past") for k in (20, 21, 24)]
    assert [g[:2] for g in walk.gaps] == [(5, 14)]


def test_two_numbers_at_one_time_are_a_conflict_and_the_second_is_not_missed(walk: Walk) -> None:
    walk.feed([20.0, 20.0, 21.0], [120, 121, 122])
    assert walk.refused == [Refused(21, "time_conflict", 21.0)]
    assert walk.gaps == []


def test_without_numbers_a_silence_of_ten_periods_and_a_minute_is_a_gap() -> None:
    t = [0.0, 10, 20, 30, 40, 139, 149, 159, 260, 270, 280]
    walk = Walk().feed(t, [-1] * len(t)).end()
    assert walk.gaps == [Missing(-1, -1, 159.0, 260.0)]
    fast = Walk().feed([0.0, 1, 2, 3, 62, 63, 64, 125, 126, 127], [-1] * 10).end()
    assert fast.gaps == [Missing(-1, -1, 64.0, 125.0)]


def test_frames_of_a_lost_hole_that_come_too_late_are_refused_as_late(walk: Walk) -> None:
    walk.feed([22.0, 30.0], [122, 130]).feed([21.0], [121])
    assert walk.refused == [Refused(22, "late", 21.0)]


def test_a_refused_frame_whose_number_is_past_is_given_up_however_slow_the_pack() -> None:
    walk = Walk().feed([10.0 * k for k in range(20)], list(range(20)))  # slower than the lateness
    walk.feed([-1.7e9, *(10.0 * k for k in range(20, 30))], [15, *range(20, 30)])
    assert [(r.at, r.why) for r in walk.refused] == [(20, "clock_past")]
    assert len(walk.released) == 30
