"""Quantities of the current: load, evidence of a short, charge beyond full and empty, obedience."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge.protection import Measure
from edge.quantities import Own, State, step
from schemas.limits import RMS_TAU_S
from tests.support.samples import ALL_OPEN, CFG, CLOSED, NAN, measured, one, sample, scalar


@pytest.mark.parametrize("current_a", [50.0, -80.0])
def test_a_current_is_measured_with_its_sign_and_as_evidence_of_a_short_without(current_a: float) -> None:
    got = measured(current_a=scalar(current_a))
    assert got["current_a"] == one(current_a)
    assert got["short_a"] == one(abs(current_a))


def test_the_load_of_a_minute_is_a_thermal_image_for_each_direction() -> None:
    state, _ = step(CFG, State(), sample(0, current_a=scalar(999.0)), Own())
    assert (state.charge_a2, state.discharge_a2) == (0.0, 0.0), "no time has passed"
    for k in range(1, 601):
        state, facts = step(CFG, state, sample(k / 10, current_a=scalar(-100.0)), Own())
    expected = 100.0 * math.sqrt(1 - math.exp(-60.0 / RMS_TAU_S))
    (got,) = facts.measures["rms_a"]
    assert (got.group, got.low_at, got.high, got.high_at) == (0, 0, 0.0, 0)
    assert got.low == pytest.approx(-expected)
    state, facts = step(CFG, state, sample(120, current_a=scalar(50.0)), Own())
    (got,) = facts.measures["rms_a"]
    assert -got.low == pytest.approx(expected * math.exp(-0.5))
    assert got.high == pytest.approx(50.0 * math.sqrt(1 - math.exp(-1.0)))


def test_two_current_sensors_are_compared_where_both_are_known() -> None:
    assert measured(current_a=scalar(50.0), current2_a=scalar(47.5, fresh=False))["current_mismatch_a"] == one(2.5)
    assert measured(current_a=scalar(-5.0), current2_a=scalar(5.0))["current_mismatch_a"] == one(10.0)
    assert "current_mismatch_a" not in measured(current_a=scalar(50.0), current2_a=scalar(NAN))


def test_current_through_open_contactors_is_measured_while_they_are_commanded() -> None:
    now: dict[str, Any] = {"current_a": scalar(-7.0)}
    assert measured(own=Own(commanded=ALL_OPEN), **now)["open_current_a"] == one(7.0)
    for closed in (CLOSED, (False, True, False), (False, False, True)):
        assert measured(own=Own(commanded=closed), **now)["open_current_a"] == one(0.0)
    assert "open_current_a" not in measured(own=Own(commanded=None), **now)


def test_disobedience_is_current_beyond_what_was_allowed() -> None:
    own = Own(allowed_charge_a=30.0, allowed_discharge_a=100.0)
    assert measured(own=own, current_a=scalar(45.0))["disobeyed_a"] == [Measure(0, 145.0, 0, 15.0, 0)]
    assert measured(own=own, current_a=scalar(-130.0))["disobeyed_a"] == [Measure(0, -30.0, 0, -160.0, 0)]
    assert "disobeyed_a" not in measured(current_a=scalar(45.0))


def charged(
    *rows: tuple[float, float, tuple[float, ...]], state: State | None = None
) -> tuple[State, list[list[Measure]], list[list[Measure]]]:
    state, over, under = state or State(), [], []
    for t_s, current_a, cells in rows:
        state, facts = step(CFG, state, sample(t_s, cells, current_a=scalar(current_a)), Own())
        over.append(list(facts.measures["overcharge_share"]))
        under.append(list(facts.measures["overdischarge_share"]))
    return state, over, under


FULL, NEARLY, LESS = (4.2, 3.7, 3.7, 4.1), (4.181, 3.7, 3.7, 3.7), (4.18, 3.7, 3.7, 3.7)
EMPTY, POOR, BETTER = (3.7, 2.8, 3.7, 2.9), (3.7, 2.8199, 3.7, 3.7), (3.7, 2.82, 3.7, 3.7)


def test_charge_beyond_full_is_counted_from_the_operating_maximum_and_forgotten_below_it() -> None:
    state, over, under = charged((0, 100.0, NEARLY), (36, 100.0, FULL), (72, 100.0, FULL), (108, -100.0, FULL))
    assert [m[0].high for m in over] == pytest.approx([0.0, 0.02, 0.04, 0.04])
    assert over[1][0].high_at == 1
    assert [m[0].high for m in under] == [0.0] * 4
    state, over, _ = charged((144, 100.0, NEARLY), state=state)
    assert over[0][0].high == pytest.approx(0.04), "kept within the hysteresis, and not counted there"
    _, over, _ = charged((180, 100.0, LESS), state=state)
    assert over[0][0].high == 0.0


def test_charge_beyond_empty_is_counted_from_the_recommended_minimum_and_forgotten_above_it() -> None:
    state, over, under = charged((0, -100.0, POOR), (36, -100.0, EMPTY), (72, -100.0, EMPTY), (108, 100.0, EMPTY))
    assert [m[0].high for m in under] == pytest.approx([0.0, 0.02, 0.04, 0.04])
    assert under[1][0].high_at == 2
    assert [m[0].high for m in over] == [0.0] * 4
    state, _, under = charged((144, -100.0, POOR), state=state)
    assert under[0][0].high == pytest.approx(0.04)
    _, _, under = charged((180, -100.0, BETTER), state=state)
    assert under[0][0].high == 0.0


def test_without_a_cell_voltage_nothing_is_counted_beyond_full() -> None:
    got = measured(cells=(NAN,) * 4, current_a=scalar(9.0))
    assert "overcharge_share" not in got
    assert "overdischarge_share" not in got
