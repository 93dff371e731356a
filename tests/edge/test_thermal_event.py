"""Thermal event: the standard's truth table, and its vehicle form on sampled values."""

from __future__ import annotations

import math

import pytest

from edge.thermal_event import State, event, rule, see_cells, see_probes

S = 10**9
NAN = math.nan
MAX_C = 60.0


@pytest.mark.parametrize(
    ("drop", "hot", "rise", "is_event"),
    [
        (False, False, False, False),
        (False, False, True, False),
        (False, True, False, False),
        (False, True, True, True),
        (True, False, False, False),
        (True, False, True, True),
        (True, True, False, False),
        (True, True, True, True),
    ],
)
def test_an_event_is_a_drop_or_the_maximum_together_with_a_rise(
    drop: bool, hot: bool, rise: bool, is_event: bool
) -> None:
    assert rule(drop=drop, hot=hot, rise=rise) == is_event


def warmed(*temps: float, period_s: float = 1.0, probes: int = 1, state: State | None = None) -> State:
    """Feed the last probe one value each period; the others stay at 20 °C."""
    state = State() if state is None else state
    for k, temp_c in enumerate(temps):
        values = [20.0] * (probes - 1) + [temp_c]
        state = see_probes(state, values, range(probes), round(k * period_s * S))
    return state


# -- a: a voltage that drops


@pytest.mark.parametrize(("cell_v", "found"), [(2.701, 0), (2.7, 0), (2.699, 3), (NAN, 0)])
def test_a_cell_below_three_quarters_of_the_median_has_collapsed(cell_v: float, found: int) -> None:
    assert see_cells(State(), [3.6, 3.6, cell_v, 3.5, 3.7], 0).low_cell == found


def test_no_known_cell_has_not_collapsed() -> None:
    assert see_cells(State(), [NAN, NAN], 0).low_cell == 0
    assert see_cells(State(), [], 0).low_cell == 0


@pytest.mark.parametrize(("after_s", "found"), [(59, 1), (60, 1), (61, 0)])
def test_a_fall_of_a_quarter_counts_within_a_minute(after_s: int, found: int) -> None:
    state = see_cells(State(), [4.0, 4.0], 0)
    # the whole pack sags, so that the median says nothing
    assert see_cells(state, [2.9, 3.1], after_s * S).low_cell == found


def test_the_fall_is_from_the_highest_of_the_minute_and_beginnings_are_kept_every_10_s() -> None:
    state = State()
    for t_s, v in ((0, 3.5), (5, 4.2), (10, 3.6), (15, 3.6), (20, 3.7), (70, 3.7)):
        state = see_cells(state, [v], t_s * S)
        assert state.low_cell == 0
    assert [(t // S, v[0]) for t, v in state.kept] == [(10, 3.6), (20, 3.7), (70, 3.7)]
    assert see_cells(state, [2.776], 79 * S).low_cell == 0
    assert see_cells(state, [2.774], 79 * S).low_cell == 1


def test_an_unknown_cell_neither_falls_nor_is_fallen_from() -> None:
    state = see_cells(State(), [NAN, 4.0], 0)
    assert see_cells(state, [2.9, 4.0], 9 * S).low_cell == 0
    assert see_cells(state, [3.1, NAN], 9 * S).low_cell == 0


# -- c: a temperature that rises


@pytest.mark.parametrize(
    ("temps", "rises"),
    [
        ((40, 41, 42, 43), False),  # 3 s
        ((40, 41, 42, 43, 44), True),
        ((40, 41, 42, 42.99, 44), False),  # once slower
        ((40, 41, 42, 43, 44, 44), False),  # over
        ((40, 41, NAN, NAN, 44.1), True),
    ],
)
def test_a_rise_is_one_kelvin_a_second_for_more_than_3_s(temps: tuple[float, ...], rises: bool) -> None:
    state = see_cells(warmed(*temps, probes=3), [3.6, 1.0, 3.6], 0)
    assert event(state, [20.0, 20.0, temps[-1]], MAX_C) == (rises, 2)


def test_quick_sampling_is_compared_over_a_second() -> None:
    steps = [40.0 + k // 10 for k in range(51)]  # 1 K steps of a coarse sensor, 10 a second
    state = see_cells(warmed(*steps, period_s=0.1), [3.6, 1.0], 0)
    assert event(state, steps[-1:], MAX_C)[0]
    noise = [40.0 + (k % 2) for k in range(100)]
    assert not event(see_cells(warmed(*noise, period_s=0.1), [3.6, 1.0], 0), noise[-1:], MAX_C)[0]


@pytest.mark.parametrize(("rise_k", "is_event"), [(2.99, False), (3.0, True)])
def test_seldom_values_rise_by_3_kelvin_from_one_to_the_next(rise_k: float, is_event: bool) -> None:
    state = see_cells(warmed(40.0, 40.0 + rise_k, period_s=30.0), [3.6, 1.0], 0)
    assert event(state, [40.0 + rise_k], MAX_C)[0] == is_event
    calm = warmed(40.0, 44.0, 44.5, period_s=30.0)
    assert not event(see_cells(calm, [3.6, 1.0], 0), [44.5], MAX_C)[0]


def test_quick_values_may_leap_without_rising_for_3_s() -> None:
    state = see_cells(warmed(40.0, 45.0, period_s=1.999), [3.6, 1.0], 0)
    assert not event(state, [45.0], MAX_C)[0]
    state = see_cells(warmed(40.0, 45.0, period_s=2.0), [3.6, 1.0], 0)
    assert event(state, [45.0], MAX_C)[0]


@pytest.mark.parametrize(
    ("temp_c", "cell_v", "period_s", "is_event"),
    [(60.0, 1.0, 30.0, True), (59.9, 1.0, 30.0, False), (60.0, 3.6, 30.0, False), (60.0, 1.0, 1.0, False)],
)
def test_seldom_values_at_their_maximum_count_beside_a_collapse(
    temp_c: float, cell_v: float, period_s: float, is_event: bool
) -> None:
    state = see_cells(warmed(temp_c, temp_c, period_s=period_s), [3.6, 3.6, cell_v], 0)
    assert event(state, [temp_c], MAX_C)[0] == is_event


def test_heat_at_the_maximum_that_rises_is_an_event_without_a_collapse() -> None:
    state = see_cells(warmed(56, 57, 58, 59, 60), [3.6, 3.6], 0)
    assert event(state, [60.0], MAX_C) == (True, 0)
    assert event(state, [NAN], MAX_C) == (False, 0)
    assert event(State(), [], MAX_C) == (False, 0)


def test_only_fresh_probes_are_taken() -> None:
    state = see_probes(State(), [40.0, 40.0], [0, 1], 0)
    after = see_probes(state, [45.0, 45.0], [1], S)
    assert after.probes[0] == state.probes[0]
    assert after.probes[1].temp_c == 45.0
