"""The verdict: what opens, and when, and which current is taken back."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge.protection import DERATE, FREE, ZERO, Facts, Verdict, fresh_state, standing, step, table_of, verdict
from schemas.limits import Limit
from tests.support.limits import limit, quick, run, seen, table_for


def judged(row: Limit, **more: Any) -> Verdict:
    table = table_for(row)
    state, _ = step(table, fresh_state(table), seen(row.quantity, row.bound, **more), 0)
    assert state[0].active
    return verdict(table, state, Facts({}, **({"speed_kmh": 0.0} | more)))


STANDING, DRIVING, UNSURE = {"speed_kmh": 4.999}, {"speed_kmh": 5.0}, {"speed_kmh": math.nan}
PLUGGED = {"speed_kmh": math.nan, "plugged": True}


def test_below_5_km_h_and_plugged_in_a_vehicle_stands_and_an_unknown_speed_is_a_speed() -> None:
    assert standing(Facts({}, **STANDING))  # type: ignore[arg-type]
    assert standing(Facts({}, **PLUGGED))  # type: ignore[arg-type]
    assert not standing(Facts({}, **DRIVING))  # type: ignore[arg-type]
    assert not standing(Facts({}, **UNSURE))  # type: ignore[arg-type]
    assert not standing(Facts({}, speed_kmh=60.0, plugged=True)), "a speed that is known counts more"


@pytest.mark.parametrize("where", [STANDING, DRIVING, UNSURE, PLUGGED])
def test_informing_changes_nothing_and_derating_opens_nothing(where: dict[str, Any]) -> None:
    key = ("cell_v/MSL/over/any",)
    assert judged(quick("inform"), **where) == (False, False, False, FREE, FREE, False, True, ())
    assert judged(quick("derate"), **where) == (False, False, False, DERATE, FREE, False, True, key)
    assert judged(quick("zero_current"), **where) == (False, False, False, ZERO, FREE, False, True, key)


@pytest.mark.parametrize("action", ["open_at_standstill", "open_now"])
@pytest.mark.parametrize(("where", "opens"), [(STANDING, True), (PLUGGED, True), (DRIVING, False), (UNSURE, False)])
def test_a_cell_voltage_opens_at_standstill_only(action: str, where: dict[str, Any], opens: bool) -> None:
    got = judged(quick(action), **where)
    other = ZERO if opens else DERATE  # what opens is to find no current
    assert got == (opens, False, not opens, ZERO, other, False, False, ("cell_v/MSL/over/any",))


@pytest.mark.parametrize("quantity", ["current_a", "rms_a", "short_a", "crash"])
@pytest.mark.parametrize("where", [STANDING, DRIVING, UNSURE])
def test_over_current_and_a_crash_open_at_once(quantity: str, where: dict[str, Any]) -> None:
    way = "charge" if quantity in {"current_a", "rms_a"} else "any"
    got = judged(quick("open_now", quantity, bound=1.0, direction=way), **where)
    assert got[:5] == (True, True, False, ZERO, ZERO)
    assert not got.close_allowed
    held = judged(quick("open_at_standstill", quantity, bound=1.0, direction=way), **where)
    assert held[:3] == (where == STANDING, False, where != STANDING)


@pytest.mark.parametrize(
    ("row", "charge", "discharge"),
    [
        (quick("zero_current"), ZERO, FREE),
        (quick("zero_current", over=False), FREE, ZERO),
        (quick("zero_current", "pack_v"), ZERO, FREE),
        (quick("zero_current", "pack_v", over=False), FREE, ZERO),
        (quick("zero_current", "overcharge_share", bound=0.1), ZERO, FREE),
        (quick("zero_current", "overdischarge_share", bound=0.1), FREE, ZERO),
        (quick("zero_current", "deep_discharge_v", over=False), FREE, ZERO),
        (quick("zero_current", "temp_c", direction="charge"), ZERO, FREE),
        (quick("derate", "temp_c", direction="discharge"), FREE, DERATE),
        (quick("derate", "cell_dev_v"), DERATE, DERATE),
        (quick("zero_current", "isolation_ohm_per_v"), ZERO, ZERO),
        (quick("open_at_standstill", over=False), ZERO, ZERO),
    ],
)
def test_a_broken_limit_takes_back_the_current_that_makes_it_worse(row: Limit, charge: int, discharge: int) -> None:
    got = judged(row)
    assert (got.charge, got.discharge) == (charge, discharge)


@pytest.mark.parametrize("quantity", ["silence", "cells_missing", "invalid", "probes_missing"])
@pytest.mark.parametrize(("where", "moving"), [(STANDING, False), (DRIVING, True), (UNSURE, True)])
def test_what_is_not_known_takes_the_current_to_zero_and_asks_for_a_stop(
    quantity: str, where: dict[str, Any], moving: bool
) -> None:
    got = judged(quick("zero_current", quantity, bound=1.0), **where)
    assert got[:6] == (False, False, moving, ZERO, ZERO, True)
    opens = judged(quick("open_at_standstill", quantity, bound=1.0), **where)
    assert opens[:7] == (not moving, False, moving, ZERO, ZERO, True, False)
    if quantity == "probes_missing":
        assert judged(quick("derate", quantity, bound=1.0), **where)[:6] == (False, False, False, DERATE, DERATE, False)


def test_a_known_cause_beside_an_unknown_is_no_blindness() -> None:
    rows = (quick("zero_current", "silence", bound=5.0), quick("derate", bound=4.1), quick("zero_current"))
    table = table_of(rows, 1.0)
    state, _ = run(table, fresh_state(table), (0, seen("silence", 6.0)), (0, seen("cell_v", 4.2)))
    assert verdict(table, state, Facts({})).blind, "a known derating does not take the current to zero"
    state, _ = run(table, state, (0, seen("cell_v", 4.3)))
    assert not verdict(table, state, Facts({})).blind


def test_nothing_closes_before_every_row_that_opens_has_seen_values() -> None:
    rows = (quick(), quick("open_at_standstill", "temp_c", bound=60.0), quick("derate", "pack_v", bound=400.0))
    table = table_of(rows, 1.0, {"cell_v": 2})
    state, facts = fresh_state(table), Facts({}, speed_kmh=0.0)
    allowed = [verdict(table, state, facts).close_allowed]
    for quantity, value, group in (("cell_v", 3.7, 0), ("temp_c", 59.9, 0), ("cell_v", 4.2499, 1)):
        state, _ = step(table, state, seen(quantity, value, group=group), 0)
        allowed.append(verdict(table, state, facts).close_allowed)
    assert allowed == [False, False, False, True]
    state, _ = step(table, state, seen("cell_v", 4.25, group=1)._replace(current_a=0.0), 0)
    assert not verdict(table, state, facts).close_allowed


def test_a_value_beyond_the_bound_forbids_closing_before_it_has_fired() -> None:
    table = table_for(limit())
    state, _ = step(table, fresh_state(table), seen("cell_v", 4.25), 0)
    assert not state[0].active
    got = verdict(table, state, Facts({}, speed_kmh=0.0))
    assert not got.close_allowed
    assert not got.open


def test_a_latch_forbids_closing_after_its_cause_is_gone() -> None:
    table = table_for(quick())
    state, _ = run(table, fresh_state(table), (0, seen("cell_v", 4.3)), (1, seen("cell_v", 3.7)))
    assert not verdict(table, state, Facts({}, speed_kmh=0.0)).close_allowed


def test_the_gravest_of_several_limits_decides_and_is_named_first() -> None:
    rows = (quick("inform"), quick("derate"), quick("open_at_standstill", over=False, bound=9.0), quick("zero_current"))
    table = table_of(rows, 1.0)
    state, _ = step(table, fresh_state(table), seen("cell_v", 4.3), 0)
    got = verdict(table, state, Facts({}, speed_kmh=0.0))
    assert got[:5] == (True, False, False, ZERO, ZERO)
    assert got.causes == ("cell_v/MSL/under/any", "cell_v/MSL/over/any", "cell_v/MSL/over/any")
