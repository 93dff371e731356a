"""The clock guard and the order of arrival, on one pack."""

from __future__ import annotations

import pytest

from tests.support.walks import RULES, Refused, Walk

COUNTED = list(range(100, 160))
UNCOUNTED = [-1] * 60
BOTH = pytest.mark.parametrize("seq", [COUNTED, UNCOUNTED], ids=["counted", "uncounted"])


def seconds(n: int, start: float = 0.0) -> list[float]:
    return [start + k for k in range(n)]


def test_the_first_frames_wait_for_the_lateness_and_then_the_next_number_goes_at_once() -> None:
    walk = Walk().feed(seconds(6), COUNTED[:6])
    assert walk.places == []  # another frame may still come before the first
    walk.feed([6.0, 7.0], COUNTED[6:8])
    assert walk.places == [0, 1, 2, 3, 4, 5, 6, 7]
    assert walk.feed([8.0], COUNTED[8:9]).places[-1] == 8


def test_without_numbers_each_frame_waits_until_the_lateness_has_passed_it() -> None:
    walk = Walk().feed(seconds(10), UNCOUNTED[:10])
    assert walk.places == [0, 1, 2, 3]
    assert walk.end().places == list(range(10))


@BOTH
@pytest.mark.parametrize(("newest_s", "refused"), [(15.2, []), (15.3, ["late"])])
def test_a_frame_is_late_only_behind_one_that_the_lateness_has_passed(
    seq: list[int], newest_s: float, refused: list[str]
) -> None:
    walk = Walk().feed(seconds(10), seq[:10]).feed([10.2, newest_s], seq[11:13]).feed([10.0], seq[10:11]).end()
    assert [r.why for r in walk.refused] == refused
    assert walk.places == [*range(10), *([] if refused else [12]), 10, 11]


@BOTH
def test_a_first_frame_ahead_of_all_others_is_refused(seq: list[int]) -> None:
    walk = Walk().feed([300.0, *seconds(9, 1.0)], seq[:10])
    assert [r[:2] for r in walk.end().refused] == [(0, "clock_future")]
    assert walk.places == list(range(1, 10))


@BOTH
def test_a_jump_is_held_until_two_more_frames_continue_it(seq: list[int]) -> None:
    walk = Walk().feed(seconds(9), seq[:9]).feed([1000.0, 1001.0], seq[9:11])
    before = len(walk.released)
    walk.feed([1010.0], seq[11:12])
    assert len(walk.released) > before
    assert walk.end().places == list(range(12))
    assert walk.refused == []


def test_a_jump_that_nothing_contradicts_passes_at_the_end_of_input() -> None:
    walk = Walk().feed([*seconds(9), 1000.0], COUNTED[:10]).end()
    assert walk.places == list(range(10))
    assert walk.refused == []


def test_a_lone_frame_between_two_silences_is_real() -> None:
    walk = Walk().feed([*seconds(9), 1000.0, *seconds(9, 5000.0)], COUNTED[:19]).end()
    assert walk.places == list(range(19))


def test_two_wrong_clocks_in_a_row_do_not_draw_the_line_after_them() -> None:
    walk = Walk().feed([*seconds(9), 309.0, 310.0, *seconds(9, 11.0)], COUNTED[:20]).end()
    assert [r.at for r in walk.refused] == [9, 10]
    assert walk.places == [*range(9), *range(11, 20)]
    assert walk.gaps == []


def test_a_time_beyond_the_century_is_refused_even_if_the_broker_says_so() -> None:
    walk = Walk().feed(seconds(9), COUNTED[:9])
    walk.feed([5e9], COUNTED[9:10], recv_s=5e9).feed(seconds(3, 10.0), COUNTED[10:13])
    assert walk.refused == [Refused(9, "clock_future", 9.0)]


def test_an_identical_frame_is_dropped_wherever_it_comes() -> None:
    arrivals = [*range(3), 1, *range(3, 15), 12, 14, *range(15, 20)]
    walk = Walk().feed([float(k) for k in arrivals], [COUNTED[k] for k in arrivals])
    assert int(walk.packs.line["repeats"][0]) == 3
    assert len(walk.released) == 20
    assert walk.refused == []


def test_a_silent_hole_does_not_hold_more_frames_than_allowed() -> None:
    walk = Walk(RULES._replace(most_waiting=10))
    walk.feed([k * 0.001 for k in range(60)], UNCOUNTED)
    walk.feed([0.1 + k * 0.001 for k in range(60)], UNCOUNTED)
    assert len(walk.released) >= 100
