"""Every limit of every shipped pack, from the TOML that a person reviews: at its bound, its debounce, its reset."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from edge.protection import (
    BEYOND,
    DERATE,
    FREE,
    INSIDE,
    NEAR,
    ZERO,
    Facts,
    Measure,
    State,
    Table,
    fresh_state,
    latched,
    step,
    table_of,
    verdict,
)
from schemas.limits import DIRECTED, QUANTITIES, Limit
from schemas.pack import load_pack, pack_names

PERIOD_NS = 100_000_000
LIMITS = [(name, row) for name in pack_names() for row in load_pack(name).limits]
LITTLE = 1e-9  # relative: less than any sensor resolves


def rows(*, latch: bool = False, directed: bool = False, debounced: bool = False) -> list[object]:
    """Give the rows of all packs as parameters: all, or those that latch, have a direction, have a time."""
    return [
        pytest.param(row, id=f"{name}-{row.quantity}-{row.tier}-{'over' if row.over else 'under'}-{row.direction}")
        for name, row in LIMITS
        if (row.latch or not latch) and (row.direction != "any" or not directed) and (row.for_s > 0 or not debounced)
    ]


def facts(row: Limit, value: float, **more: object) -> Facts:
    """Give one fresh value of the row's quantity; current flows in the row's direction."""
    shown = -value if row.quantity in DIRECTED and row.direction == "discharge" else value
    current_a = {"charge": 50.0, "discharge": -50.0, "any": 0.0}[row.direction]
    measure = Measure(0, shown, 1, shown, 1)
    return Facts({row.quantity: (measure,)}, current_a=current_a, speed_kmh=0.0)._replace(**more)  # type: ignore[arg-type]


def feed(table: Table, state: State, values: Iterable[float], from_k: int) -> tuple[State, int]:
    """Give values one period apart; gives the state and the number of the next sample."""
    k = from_k
    for value in values:
        state, _ = step(table, state, facts(table.rows[0], value), k * PERIOD_NS)
        k += 1
    return state, k


def needed(row: Limit) -> int:
    """Count the samples, one a period, until a row fires."""
    return max(row.min_samples, math.ceil(round(row.for_s * 1e9) / PERIOD_NS) + 1)


def beyond(row: Limit, by: float) -> float:
    return row.bound + by if row.over else row.bound - by


def little(row: Limit) -> float:
    return max(abs(row.bound), 1.0) * LITTLE


def fired(row: Limit) -> tuple[Table, State, int]:
    """Give a table of the row alone, its state after it fired, and the number of the next sample."""
    table = table_of([row], 1.0)
    state, k = feed(table, fresh_state(table), [row.bound] * needed(row), 0)
    assert state[0].active
    return table, state, k


@pytest.mark.parametrize("row", rows())
def test_just_below_never_fires_and_leaves_closing_alone(row: Limit) -> None:
    table = table_of([row], 1.0)
    state, _ = feed(table, fresh_state(table), [beyond(row, -little(row))] * (needed(row) + 5), 0)
    assert not state[0].active
    assert state[0].counts[0].samples == 0
    assert verdict(table, state, facts(row, row.bound)).close_allowed


@pytest.mark.parametrize("row", rows())
@pytest.mark.parametrize("by", [0.0, 1.0], ids=["at", "just above"])
def test_at_and_just_above_fire_with_the_sample_that_completes_the_debounce(row: Limit, by: float) -> None:
    table, n = table_of([row], 1.0), needed(row)
    value = beyond(row, by * little(row))
    short, k = feed(table, fresh_state(table), [value] * (n - 1), 7)
    assert not short[0].active, "one short"
    broken, after = feed(table, short, [beyond(row, -little(row)), *[value] * (n - 1)], k)
    assert not broken[0].active, "a good sample begins the count anew"
    assert feed(table, broken, [value], after)[0][0].active
    assert feed(table, short, [value], k)[0][0].active, "exactly met"


@pytest.mark.parametrize("row", rows(debounced=True))
def test_a_nanosecond_short_of_its_time_it_waits_however_many_samples_came(row: Limit) -> None:
    table, start_ns, for_ns = table_of([row], 1.0), 5_000_000_000, round(row.for_s * 1e9)
    state = fresh_state(table)
    for k in range(row.min_samples + 3):
        state, _ = step(table, state, facts(row, row.bound), start_ns + k)
    assert not state[0].active
    assert not step(table, state, facts(row, row.bound), start_ns + for_ns - 1)[0][0].active
    now, (decision,) = step(table, state, facts(row, row.bound), start_ns + for_ns)
    assert now[0].active
    assert (decision.since_ns, decision.value, now[0].since_ns) == (start_ns, row.bound, start_ns)


@pytest.mark.parametrize("row", rows())
def test_too_few_samples_wait_however_long_they_are_apart(row: Limit) -> None:
    table = table_of([row], 1.0)
    state = fresh_state(table)
    for k in range(row.min_samples):
        assert not state[0].active
        state, _ = step(table, state, facts(row, row.bound), k * 3_600 * 10**9)
    assert state[0].active


@pytest.mark.parametrize("row", rows())
def test_a_held_value_is_not_counted_however_often_the_tick_comes(row: Limit) -> None:
    table = table_of([row], 1.0)
    state, k = feed(table, fresh_state(table), [row.bound] * (needed(row) - 1), 0)
    for extra in range(50):
        again, decisions = step(table, state, Facts({}, speed_kmh=0.0), (k + extra) * PERIOD_NS)
        assert again is state
        assert decisions == ()


@pytest.mark.parametrize("row", rows())
def test_it_clears_by_its_hysteresis_or_stays_latched(row: Limit) -> None:
    table, state, k = fired(row)
    assert state[0].counts[0].place == BEYOND
    state, k = feed(table, state, [beyond(row, -row.hysteresis * 0.999)] * 3, k)
    assert state[0].active, "within the hysteresis"
    assert state[0].counts[0].place == NEAR
    state, k = feed(table, state, [beyond(row, -row.hysteresis - little(row))], k)
    assert state[0].active == row.latch
    assert state[0].counts[0].place == INSIDE
    assert latched(table, state) == (table.keys if row.latch else ())


@pytest.mark.parametrize("row", rows(latch=True))
def test_a_latch_clears_by_its_reset_rule_alone(row: Limit) -> None:
    table, state, k = fired(row)
    for ask in ({"standby": True}, {"service": True}):
        asked, _ = step(table, state, facts(row, row.bound, **ask), k * PERIOD_NS)
        assert asked[0].active, "the cause is there"
    near = beyond(row, -row.hysteresis * 0.999)
    assert step(table, state, facts(row, near, service=True), k * PERIOD_NS)[0][0].active, "and not gone by enough"
    inside = beyond(row, -row.hysteresis - little(row))
    gone, k = feed(table, state, [inside] * 3, k)
    assert gone[0].active
    by_standby, _ = step(table, gone, facts(row, inside, standby=True), k * PERIOD_NS)
    assert by_standby[0].active == (row.reset == "service")
    by_service, _ = step(table, gone, facts(row, inside, service=True), k * PERIOD_NS)
    assert not by_service[0].active


@pytest.mark.parametrize("row", rows(latch=True))
def test_a_latch_survives_a_restart_and_clears_only_once_values_were_seen(row: Limit) -> None:
    table, state, k = fired(row)
    again = fresh_state(table, latched(table, state))
    assert again[0].active
    blind, _ = step(table, again, Facts({}, service=True, standby=True), k * PERIOD_NS)
    assert blind[0].active
    assert not verdict(table, again, facts(row, 0.0)).close_allowed


@pytest.mark.parametrize("row", rows(directed=True))
def test_a_directed_row_rests_while_current_flows_the_other_way(row: Limit) -> None:
    table = table_of([row], 1.0)
    other_a = -50.0 if row.direction == "charge" else 50.0
    state = fresh_state(table)
    for k in range(needed(row) + 3):
        if row.quantity in DIRECTED:  # current of the other direction is as far inside as it can be
            far = Measure(0, 0.0, 0, 0.0, 0)
            now = Facts({row.quantity: (far,)}, current_a=other_a)
        else:
            now = facts(row, row.bound, current_a=other_a)
        state, _ = step(table, state, now, k * PERIOD_NS)
    assert not state[0].active


# What each action may do: at speed (open, stop), standing (open, stop), and what it asks of the current it concerns.
DOES = {
    "inform": ((False, False), (False, False), FREE),
    "derate": ((False, False), (False, False), DERATE),
    "zero_current": ((False, False), (False, False), ZERO),
    "open_at_standstill": ((False, True), (True, False), ZERO),
    "open_now": ((True, False), (True, False), ZERO),
}
UNKNOWN = {"silence", "cells_missing", "probes_missing", "invalid"}  # want of knowledge: asks for the stop at zero


@pytest.mark.parametrize("row", rows())
def test_a_broken_row_does_what_its_action_says_where_the_vehicle_is(row: Limit) -> None:
    table, state, _ = fired(row)
    at_speed, standing, asked = DOES[row.action]
    stops = row.quantity in UNKNOWN and asked == ZERO
    for where, does, moves in (
        ({"speed_kmh": 4.99}, standing, False),
        ({"speed_kmh": math.nan, "plugged": True}, standing, False),
        ({"speed_kmh": 5.0}, at_speed, True),
        ({"speed_kmh": 120.0, "plugged": True}, at_speed, True),
        ({"speed_kmh": math.nan}, at_speed, True),
    ):
        now = verdict(table, state, facts(row, row.bound, **where))
        assert (now.open, now.stop) == (does[0], does[1] or (stops and moves)), where
        assert now.at_once == (row.action == "open_now")
        assert max(now.charge, now.discharge) == asked
        assert now.causes == (() if row.action == "inform" else table.keys)
        assert now.close_allowed == (not row.action.startswith("open"))


def test_the_table_is_whole() -> None:
    assert len(LIMITS) == 65 * 9
    assert {row.quantity for _, row in LIMITS} == set(QUANTITIES)
    assert {name for name, _ in LIMITS} == set(pack_names())
    assert all(row.latch == row.action.startswith("open") == (row.tier == "MSL") for _, row in LIMITS)
