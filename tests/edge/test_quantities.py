"""Quantities: what a sample says about each of them, when it is new, and what is remembered between samples."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge.protection import Facts, Measure
from edge.quantities import Own, State, step
from edge.sensing import IMPLAUSIBLE, MANY, MISSING, OK, ONE, OTHERS, STUCK, Scalar
from schemas.limits import NEEDS, QUANTITIES
from tests.support.samples import CFG, CLOSED, NAN, measured, one, sample, scalar

AT_EVERY_TICK = {"silence", "silence_minor", "weld", "precharge_failures"}


# -- when a quantity is new


def test_a_tick_without_a_message_measures_silence_and_our_own_side_only() -> None:
    assert set(measured()) == AT_EVERY_TICK
    assert set(measured(own=Own(commanded=CLOSED, allowed_charge_a=1.0, allowed_discharge_a=1.0))) == AT_EVERY_TICK


def test_every_quantity_of_the_limits_is_measured_where_all_its_signals_come() -> None:
    everything: dict[str, Any] = {name: scalar(0.0) for name in ONE}
    got = measured(own=Own(CLOSED, 0, 0, 9.0, 9.0), fresh=((0, 1), (0, 1)), **everything)
    assert set(QUANTITIES) - set(got) == {"temp_rate_c_per_s"}, "which needs five seconds"
    assert set(NEEDS) == set(QUANTITIES)
    assert NEEDS["invalid_minor"] == (OTHERS,)


@pytest.mark.parametrize(
    ("fresh", "new"),
    [
        (
            {"fresh": ((1,), ())},
            {"cell_v", "deep_discharge_v", "cell_dev_v", "thermal_event", "cells_missing", "frozen_s"},
        ),
        ({"fresh": ((), (0,))}, {"temp_c", "temp_dev_c", "temp_spread_c", "thermal_event", "probes_missing"}),
        (
            {"current_a": scalar(5.0)},
            {"current_a", "short_a", "rms_a", "overcharge_share", "overdischarge_share", "invalid", "frozen_s"},
        ),
        ({"current2_a": scalar(5.0)}, set()),
        ({"pack_v": scalar(15.3)}, {"pack_v", "sum_mismatch_v", "invalid", "frozen_s"}),
        ({"isolation_ohm": scalar(4e5)}, {"isolation_ohm_per_v"}),
        ({"hvil": scalar(1.0)}, {"interlock_open", "invalid_minor"}),
        ({"crash": scalar(0.0)}, {"crash", "invalid_minor"}),
        ({"plus_closed": scalar(0.0), "soc": scalar(0.5), "speed_kmh": scalar(1.0)}, {"invalid_minor"}),
    ],
)  # fmt: skip
def test_a_message_makes_the_quantities_new_that_it_brings(fresh: dict[str, Any], new: set[str]) -> None:
    assert set(measured(**fresh)) - AT_EVERY_TICK == new


@pytest.mark.parametrize("name", ["current_a", "pack_v", "isolation_ohm", "hvil", "crash"])
def test_a_fresh_message_without_a_usable_value_measures_only_that_it_has_none(name: str) -> None:
    bad: Any = {name: Scalar(NAN, 1, fresh=True, state=IMPLAUSIBLE)}
    got = measured(own=Own(commanded=CLOSED), **bad)
    known = {q for q, measures in got.items() if any(m.high == m.high for m in measures)}
    assert known <= {*AT_EVERY_TICK, "invalid", "invalid_minor", "frozen_s"}


# -- cells and probes


def test_extremes_come_by_group_with_places_from_1() -> None:
    got = measured(cells=(3.5, 3.9, 3.6, 3.8), fresh=((0, 1), ()))
    assert got["cell_v"] == [Measure(0, 3.5, 1, 3.9, 2), Measure(1, 3.6, 3, 3.8, 4)]
    assert got["deep_discharge_v"] == got["cell_v"]
    assert measured(cells=(3.5, 3.9, 3.6, 3.8), fresh=((1,), ()))["cell_v"] == [Measure(1, 3.6, 3, 3.8, 4)]
    got = measured(temps=(20.0, 25.0, 18.0), fresh=((), (1,)))
    assert got["temp_c"] == [Measure(1, 18.0, 3, 25.0, 2)]


def test_an_unknown_place_is_left_out_and_a_group_without_a_value_is_no_number() -> None:
    got = measured(cells=(NAN, 3.9, NAN, NAN), fresh=((0, 1), ()))
    assert got["cell_v"][0] == Measure(0, 3.9, 2, 3.9, 2)
    assert math.isnan(got["cell_v"][1].low)
    assert math.isnan(got["cell_v"][1].high)
    none = measured(cells=(NAN,) * 4, temps=(NAN,) * 3, fresh=((0,), (0,)))
    assert "cell_dev_v" not in none
    assert "temp_dev_c" not in none
    assert "temp_spread_c" not in none


@pytest.mark.parametrize(
    ("cells", "off", "at"),
    [((3.0, 3.5, 3.5, 3.6), 0.5, 1), ((3.4, 4.1, 3.5, 3.5), 0.6, 2), ((3.4, NAN, 3.5, 3.6), 0.1, 1)],
)
def test_a_deviation_is_the_larger_distance_from_the_median_of_all_cells(
    cells: tuple[float, ...], off: float, at: int
) -> None:
    (got,) = measured(cells=cells, fresh=((0,), ()))["cell_dev_v"]
    assert got.low == got.high == pytest.approx(off)
    assert (got.group, got.low_at, got.high_at) == (0, at, at)


def test_probes_deviate_from_their_mean_and_spread_from_the_coldest() -> None:
    got = measured(temps=(10.0, 20.0, 30.0), fresh=((), (1,)))
    assert got["temp_dev_c"] == [Measure(1, 10.0, 3, 10.0, 3)]
    assert got["temp_spread_c"] == one(20.0, 3)
    got = measured(temps=(NAN, 25.0, 24.0), fresh=((), (0, 1)))
    assert got["temp_spread_c"] == one(1.0, 2)


def test_a_rise_is_taken_over_5_to_10_s_and_by_the_fastest_probe_of_a_group() -> None:
    state, rates = State(), []
    for t_s in range(13):
        temps = (20.0, 20.0 + t_s, 20.0 + 2.0 * max(t_s - 6, 0))
        state, facts = step(CFG, state, sample(t_s, temps=temps, fresh=((), (1,))), Own())
        rates.append(facts.measures.get("temp_rate_c_per_s"))
    assert rates[:5] == [None] * 5
    assert rates[5] == [Measure(1, 1.0, 2, 1.0, 2)], "5 K in 5 s"
    assert rates[9] == [Measure(1, 1.0, 2, 1.0, 2)], "9 K in 9 s, against 6 K"
    assert rates[12] == [Measure(1, 12 / 7, 3, 12 / 7, 3)], "12 K since 5 s"
    seldom, _ = step(CFG, State(), sample(0, temps=(20.0, 20.0, NAN), fresh=((), (1,))), Own())
    _, facts = step(CFG, seldom, sample(30, temps=(20.0, 35.0, 40.0), fresh=((), (1,))), Own())
    assert facts.measures["temp_rate_c_per_s"] == [Measure(1, 0.5, 2, 0.5, 2)]
    _, facts = step(CFG, seldom, sample(30, temps=(20.0, NAN, 40.0), fresh=((), (1,))), Own())
    assert "temp_rate_c_per_s" not in facts.measures


def test_a_thermal_event_names_the_cell() -> None:
    state, said = State(), []
    for t_s in range(6):
        cells = (3.7, 3.7, 3.7, 3.7) if t_s < 2 else (3.7, 3.7, 2.0, 3.7)
        now = sample(t_s, cells, (20.0, 20.0, 40.0 + 2 * t_s), ((1,), (1,)))
        state, facts = step(CFG, state, now, Own())
        said.append(facts.measures["thermal_event"])
    assert said[1] == one(0.0)
    assert said[3] == one(0.0, 3)
    assert said[-1] == one(1.0, 3)
    _, facts = step(CFG, state, sample(6, fresh=((0,), ())), Own())
    assert facts.measures["thermal_event"] == one(0.0), "the voltage is back"


# -- pack


def test_the_sum_of_cells_is_compared_with_the_packs_own_offset() -> None:
    cells = (3.0, 4.0, 3.5, 3.5)
    for pack_v, off in ((14.5, 0.0), (16.0, 1.5), (12.0, 2.5)):
        got = measured(cells=cells, pack_v=scalar(pack_v))
        assert got["pack_v"] == one(pack_v)
        assert got["sum_mismatch_v"] == one(pytest.approx(off))  # type: ignore[arg-type]
    assert "sum_mismatch_v" not in measured(cells=(3.0, NAN, 3.5, 3.5), pack_v=scalar(14.5))
    assert "sum_mismatch_v" not in measured(pack_v=scalar(14.5), current_a=scalar(NAN))


@pytest.mark.parametrize(("to_a", "compared"), [(10.0, True), (10.1, False), (-10.1, False)])
def test_nothing_is_compared_within_a_second_of_a_current_step(to_a: float, compared: bool) -> None:
    state, _ = step(CFG, State(), sample(0, current_a=scalar(0.0)), Own())
    state, facts = step(CFG, state, sample(0.5, current_a=scalar(to_a), pack_v=scalar(15.3)), Own())
    assert ("sum_mismatch_v" in facts.measures) == compared
    _, facts = step(CFG, state, sample(1.499, pack_v=scalar(15.3)), Own())
    assert ("sum_mismatch_v" in facts.measures) == compared
    _, facts = step(CFG, state, sample(1.5, pack_v=scalar(15.3)), Own())
    assert "sum_mismatch_v" in facts.measures


def test_a_slow_ramp_is_no_step_and_one_of_many_small_ones_is() -> None:
    state = State()
    for k in range(100):  # 5 A/s
        state, _ = step(CFG, state, sample(k / 10, current_a=scalar(0.5 * k)), Own())
    assert state.step_ns == -1
    state = State()
    for k in range(10):  # 15 A in 0.9 s
        state, _ = step(CFG, state, sample(k / 10, current_a=scalar(1.7 * k)), Own())
    assert state.step_ns == 600_000_000


def test_isolation_is_stated_by_volt_of_the_highest_pack_voltage() -> None:
    assert measured(isolation_ohm=scalar(2e5))["isolation_ohm_per_v"] == one(500.0)


# -- conditions


@pytest.mark.parametrize(("value", "is_open"), [(1.0, 0.0), (0.0, 1.0), (0.5, 1.0)])
def test_the_interlock_is_open_unless_it_says_closed(value: float, is_open: float) -> None:
    assert measured(hvil=scalar(value))["interlock_open"] == one(is_open)


def test_a_crash_is_what_the_vehicle_reports() -> None:
    assert measured(crash=scalar(1.0))["crash"] == one(1.0)
    assert measured(crash=scalar(0.0))["crash"] == one(0.0)


def test_feedback_is_compared_with_commands_where_it_is_declared_and_fresh() -> None:
    own = Own(commanded=(True, True, False))
    told: dict[str, Any] = {"plus_closed": scalar(0.0), "minus_closed": scalar(0.0), "precharge_closed": scalar(0.0)}
    assert measured(own=own, **told)["feedback_mismatch"] == [Measure(0, 1.0, 1, 1.0, 1), Measure(1, 0.0, 3, 0.0, 3)]
    told |= {"plus_closed": scalar(1.0), "precharge_closed": scalar(1.0, fresh=False)}
    assert measured(own=own, **told)["feedback_mismatch"] == [Measure(0, 0.0, 1, 0.0, 1)]
    assert "feedback_mismatch" not in measured(own=Own(commanded=None), **told)
    told |= {"plus_closed": Scalar(NAN, 1, fresh=True, state=IMPLAUSIBLE)}
    assert "feedback_mismatch" not in measured(own=own, **told)


def test_welds_and_failed_precharges_are_our_own_sides_word() -> None:
    got = measured(own=Own(weld=2, precharge_failures=3))
    assert got["weld"] == one(1.0, 2)
    assert got["precharge_failures"] == one(3.0)
    assert measured()["weld"] == one(0.0)


# -- what is not known


def test_silence_is_the_oldest_message_of_its_kind() -> None:
    got = measured(ages=(1.0, 6.0, 9.0))
    assert got["silence"] == one(6.0, 2)
    assert got["silence_minor"] == one(9.0, 3)
    assert measured(ages=(1.5, 0.0, 0.0))["silence"] == one(1.5, 1)


def test_missing_places_of_all_messages_count_for_each_message_that_lacks_one() -> None:
    cells, temps = (3.7, NAN, NAN, NAN), (NAN, 20.0, 20.0)
    got = measured(cells=cells, temps=temps, fresh=((0, 1), (0, 1)))
    assert got["cells_missing"] == [Measure(0, 3.0, 2, 3.0, 2), Measure(1, 3.0, 4, 3.0, 4)]
    assert got["probes_missing"] == [Measure(0, 1 / 3, 1, 1 / 3, 1), Measure(1, 0.0, 0, 0.0, 0)]
    got = measured(cells=(3.7, 3.7, 3.7, NAN), temps=temps, fresh=((0,), (1,)))
    assert got["cells_missing"] == one(0.0), "the other message lacks it"
    assert got["probes_missing"] == [Measure(1, 0.0, 0, 0.0, 0)]


def test_what_is_held_is_not_counted_again() -> None:
    held = scalar(NAN, fresh=False)
    assert set(measured(cells=(NAN,) * 4, temps=(NAN,) * 3, current_a=held, hvil=held)) == AT_EVERY_TICK


@pytest.mark.parametrize(("state", "bad"), [(OK, 0.0), (IMPLAUSIBLE, 1.0), (STUCK, 1.0), (MISSING, 1.0)])
def test_single_values_that_came_and_cannot_be_used_are_counted(state: str, bad: float) -> None:
    wrong = Scalar(NAN if state != OK else 14.8, 1, fresh=True, state=state)
    at = 2 if bad else 0
    assert measured(pack_v=wrong)["invalid"] == [Measure(1, bad, at, bad, at)]
    assert measured(crash=wrong, hvil=scalar(1.0), soc=scalar(1.0))["invalid_minor"] == [
        Measure(0, 0.0, 0, 0.0, 0),
        Measure(1, bad, at, bad, at),
        Measure(2, 0.0, 0, 0.0, 0),
    ]
    both = measured(pack_v=wrong, current_a=scalar(NAN))["invalid"]
    assert [m.high for m in both] == [1.0 + bad, (1.0 + bad) * bad]


def test_frozen_time_is_passed_on() -> None:
    assert measured(frozen_s=12.5, pack_v=scalar(15.0))["frozen_s"] == one(12.5)


# -- facts


def facts(standby: bool = False, service: bool = False, **single: Any) -> Facts:
    return step(CFG, State(), sample(**single), Own(), standby=standby, service=service)[1]


def test_facts_carry_current_speed_and_requests() -> None:
    got = facts(current_a=scalar(-3.0), speed_kmh=scalar(-30.0), standby=True)
    assert (got.current_a, got.speed_kmh, got.plugged, got.standby, got.service) == (-3.0, 30.0, False, True, False)
    assert facts(service=True)[-2:] == (False, True)
    assert math.isnan(facts().speed_kmh)


@pytest.mark.parametrize(
    ("charge_type", "drive_state", "plugged"),
    [(0.0, 0.0, False), (1.0, 0.0, True), (2.0, NAN, True), (NAN, 2.0, True), (NAN, 1.0, False), (NAN, NAN, False)],
)
def test_plugged_in_is_a_charger_or_the_charging_state(charge_type: float, drive_state: float, plugged: bool) -> None:
    assert facts(charge_type=scalar(charge_type), drive_state=scalar(drive_state)).plugged == plugged


def test_the_state_before_is_untouched() -> None:
    state, _ = step(CFG, State(), sample(0, fresh=((0,), (0, 1)), current_a=scalar(5.0)), Own())
    text = str(state)
    step(CFG, state, sample(9, fresh=((0,), (0, 1)), current_a=scalar(50.0)), Own())
    assert str(state) == text
    assert set(MANY) == {"cell_v", "temp_c"}
