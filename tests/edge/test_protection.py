"""Protection: counting fresh samples, hysteresis, latches, and words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protection import (
    BEYOND,
    INSIDE,
    Count,
    Facts,
    Measure,
    fresh_state,
    key_of,
    latched,
    step,
    table_of,
    verdict,
)
from schemas.limits import Limit, worst_detection_s
from tests.support.limits import limit, quick, run, seen, table_for

MS = 10**6


# -- counting


@pytest.mark.parametrize("over", [True, False])
def test_a_bound_is_crossed_by_reaching_it(over: bool) -> None:
    table = table_for(quick(over=over))
    for by, fires in ((0.0, True), (1e-9, True), (-1e-9, False)):
        value = 4.25 + by if over else 4.25 - by
        assert step(table, fresh_state(table), seen("cell_v", value), 0)[0][0].active == fires


def test_a_row_fires_with_the_sample_that_completes_both_its_time_and_its_count() -> None:
    table = table_for(limit())
    state, _ = run(table, fresh_state(table), *[(k / 10, seen("cell_v", 4.25)) for k in range(5)])
    assert not state[0].active, "five samples, 0.4 s"
    assert run(table, state, (0.499999999, seen("cell_v", 4.25)))[0][0].active is False
    assert run(table, state, (0.5, seen("cell_v", 4.25)))[0][0].active
    state, _ = run(table, fresh_state(table), (0.0, seen("cell_v", 4.25)), (60.0, seen("cell_v", 4.25)))
    assert not state[0].active, "a minute, two samples"
    assert run(table, state, (60.1, seen("cell_v", 4.25)))[0][0].active


def test_a_good_sample_begins_the_count_anew() -> None:
    table = table_for(limit())
    bad, good = seen("cell_v", 4.3), seen("cell_v", 4.2499)
    state, _ = run(table, fresh_state(table), (0, bad), (0.3, bad), (0.4, good), (0.5, bad), (0.9, bad))
    assert not state[0].active
    assert run(table, state, (1.0, bad))[0][0].active


def test_what_is_not_fresh_is_not_counted_and_an_unknown_value_changes_nothing() -> None:
    table = table_for(limit())
    state, _ = run(table, fresh_state(table), (0, seen("cell_v", 4.3)))
    for k in range(1, 60):
        again, decisions = step(table, state, Facts({}, speed_kmh=0.0), k * 10 * MS)
        assert again is state
        assert decisions == ()
    assert step(table, state, seen("cell_v", math.nan), 10**9)[0] is state


def test_groups_are_counted_apart_and_any_of_them_fires() -> None:
    table = table_for(limit(), groups=2)
    turns = [(k / 10, seen("cell_v", 4.3 if k % 2 else 4.0, at=k % 2 + 1, group=k % 2)) for k in range(8)]
    state, decisions = run(table, fresh_state(table), *turns)
    assert state[0].active
    assert [(d.subject, d.since_ns) for d in decisions] == [("cell 2", 100 * MS)]
    # the healthy page does not clear what the other says
    auto = table_for(limit(latch=False, reset="auto", action="inform"), groups=2)
    state, _ = run(auto, fresh_state(auto), *turns)
    assert run(auto, state, (2.0, seen("cell_v", 4.0, group=0)))[0][0].active
    assert not run(auto, state, (2.0, seen("cell_v", 4.0, group=1)))[0][0].active


def test_the_first_of_several_groups_to_fire_in_one_tick_gives_its_name() -> None:
    table = table_for(quick(), groups=3)
    facts = Facts({"cell_v": (Measure(0, 4, 1, 4, 2), Measure(1, 4, 3, 4.3, 4), Measure(2, 4, 5, 4.4, 6))})
    _, (decision,) = step(table, fresh_state(table), facts, 0)
    assert (decision.subject, decision.value) == ("cell 4", 4.3)


def test_an_active_row_clears_inside_its_hysteresis_unless_it_is_latched() -> None:
    table = table_for(limit(tier="RSL", action="derate", latch=False, reset="auto", hysteresis=0.25, bound=4.0))
    state, _ = run(table, fresh_state(table), *[(k, seen("cell_v", 4.5)) for k in range(3)])
    assert state[0].active
    state, decisions = run(table, state, (3, seen("cell_v", 3.75000001)))
    assert state[0].active
    assert decisions == []
    state, decisions = run(table, state, (4, seen("cell_v", 3.75)))
    assert not state[0].active
    assert [(d.active, d.since_ns) for d in decisions] == [(False, 0)]


@pytest.mark.parametrize(("reset", "by_standby"), [("standby", True), ("service", False)])
def test_a_latch_clears_by_its_rule_and_only_when_its_cause_is_gone(reset: str, by_standby: bool) -> None:
    table = table_for(quick(reset=reset))
    state, _ = run(table, fresh_state(table), (0, seen("cell_v", 4.3)))
    asks = [{"standby": True}, {"service": True}]
    for ask in asks:
        for value in (4.3, 4.25, 4.24):
            assert run(table, state, (1, seen("cell_v", value, **ask)))[0][0].active, "the cause is there, or near"
    gone, _ = run(table, state, (1, seen("cell_v", 4.0)))
    assert gone[0].active
    after, decisions = run(table, gone, (2, Facts({}, standby=True)))
    assert after[0].active == (not by_standby)
    assert [d.text for d in decisions] == (["cell 5: cleared after 2.0 s"] if by_standby else [])
    assert not run(table, gone, (2, Facts({}, service=True)))[0][0].active


def test_a_row_that_is_no_latch_is_not_cleared_by_asking() -> None:
    table = table_for(quick("derate"))
    state, _ = run(table, fresh_state(table), (0, seen("cell_v", 4.3)))
    assert run(table, state, (1, Facts({}, service=True)))[0][0].active


def test_latches_survive_by_their_keys_and_clear_only_after_values_were_seen() -> None:
    rows = (quick(), quick("derate", bound=4.1, tier="RSL"), quick("open_now", "short_a", bound=500.0))
    table = table_of(rows, 1.0)
    state, _ = run(table, fresh_state(table), (0, seen("cell_v", 4.3)))
    assert latched(table, state) == ("cell_v/MSL/over/any",)
    again = fresh_state(table, [*latched(table, state), key_of(rows[1]), "no such row"])
    assert [row.active for row in again] == [True, False, False]
    assert run(table, again, (0, Facts({}, standby=True)))[0][0].active, "no value yet"
    assert not run(table, again, (0, seen("cell_v", 4.0)), (0.1, Facts({}, standby=True)))[0][0].active


@pytest.mark.parametrize(
    ("way", "current_a", "fires"),
    [
        ("charge", 1.1, True), ("charge", 1.0, False), ("charge", -5.0, False), ("charge", math.nan, True),
        ("discharge", -1.1, True), ("discharge", 1.0, True), ("discharge", 1.1, False), ("discharge", math.nan, True),
        ("any", 0.0, True), ("any", 5.0, True), ("any", -5.0, True),
    ],
)  # fmt: skip
def test_a_direction_holds_for_current_that_flows_so_for_an_unknown_one_and_discharge_at_rest_too(
    way: str, current_a: float, fires: bool
) -> None:
    table = table_for(quick(quantity="temp_c", bound=50.0, direction=way))
    state, _ = step(table, fresh_state(table), seen("temp_c", 51.0, current_a=current_a), 0)
    assert state[0].active == fires
    # too hot to close all the same: what stands against closing does not wait for a current
    assert not verdict(table, state, Facts({}, speed_kmh=0.0)).close_allowed


@pytest.mark.parametrize("quantity", ["current_a", "rms_a", "disobeyed_a"])
def test_the_discharging_side_of_a_current_is_its_negative(quantity: str) -> None:
    table = table_of([quick("inform", quantity, bound=100.0, direction=way) for way in ("charge", "discharge")], 1.0)
    for low, high, fires in ((-100.0, 99.9, [False, True]), (-99.9, 100.0, [True, False]), (-100, 100, [True, True])):
        facts = Facts({quantity: (Measure(0, low, 0, high, 0),)}, current_a=0.0)
        state, _ = step(table, fresh_state(table), facts, 0)
        assert [row.active for row in state] == fires


def test_over_takes_the_highest_and_under_the_lowest_value() -> None:
    table = table_of([quick(), quick(over=False, bound=2.7)], 1.0)
    facts = Facts({"cell_v": (Measure(0, 2.7, 3, 4.25, 9),)}, speed_kmh=0.0)
    _, decisions = step(table, fresh_state(table), facts, 0)
    assert [d.subject for d in decisions] == ["cell 9", "cell 3"]


STANDING, DRIVING = {"speed_kmh": 4.999}, {"speed_kmh": 5.0}


# -- several rows and groups at once, any time of the clock


def test_each_group_is_judged_whatever_the_others_say() -> None:
    table = table_for(limit(min_samples=2, for_s=1.0), groups=4)
    good, bad = 4.0, 4.3
    measures = (
        Measure(0, math.nan, 0, math.nan, 0), Measure(1, good, 1, good, 2), Measure(2, bad, 3, bad, 4),
        Measure(3, bad, 5, bad, 6),
    )  # fmt: skip
    facts = Facts({"cell_v": measures, "pack_v": (Measure(0, 1, 0, 1, 0),)}, speed_kmh=0.0)
    once, _ = step(table, fresh_state(table), facts, 50)
    assert once[0].counts == (Count(), Count(0, 0, INSIDE), Count(1, 50, BEYOND), Count(1, 50, BEYOND))
    twice, decisions = step(table, once, facts, 60)
    assert twice[0].counts == (Count(), Count(0, 0, INSIDE), Count(2, 50, BEYOND), Count(2, 50, BEYOND))
    assert decisions == ()
    state, (decision,) = step(table, twice, facts, 50 + 10**9)
    assert (decision.subject, decision.since_ns) == ("cell 4", 50)
    assert (state[0].active, state[0].since_ns, state[0].at, state[0].value) == (True, 50, 4, 4.3)


def test_a_good_value_after_a_good_one_changes_nothing_at_all() -> None:
    table = table_for(limit())
    state, _ = step(table, fresh_state(table), seen("cell_v", 4.0), 0)
    assert step(table, state, seen("cell_v", 4.1), 1)[0] is state


def test_a_value_beyond_the_bound_begins_anew_once_its_current_has_rested() -> None:
    table = table_for(limit(quantity="temp_c", bound=50.0, direction="charge"))
    state, _ = run(table, fresh_state(table), *[(k / 10, seen("temp_c", 51.0, current_a=5.0)) for k in range(2)])
    state, _ = run(table, state, (0.2, seen("temp_c", 51.0, current_a=0.0)))
    assert state[0].counts == (Count(0, 0, BEYOND),)


@pytest.mark.parametrize("start_s", [0, 1_000_000])
def test_a_clock_that_starts_anywhere_counts_the_same_time(start_s: int) -> None:
    table = table_for(limit(latch=False, reset="auto", action="inform"))
    bad = seen("cell_v", 4.26)
    state, _ = run(table, fresh_state(table), *[(start_s + k / 10, bad) for k in range(5)])
    assert not state[0].active
    state, (fired,) = run(table, state, (start_s + 0.5, bad))
    assert (fired.since_ns, fired.text) == (start_s * 10**9, "cell 5 at 4.26 V, limit 4.25 V for 0.5 s: noted")
    _, (cleared,) = run(table, state, (start_s + 2, seen("cell_v", 4.0)))
    assert cleared.since_ns == start_s * 10**9
    assert cleared.text == "cell 5 at 4.00 V, back inside the limit of 4.25 V after 2.0 s: cleared"


def test_what_is_whole_again_names_the_place_that_was_not() -> None:
    table = table_for(quick("inform", "cells_missing", bound=1.0, hysteresis=0.5))
    state, _ = step(table, fresh_state(table), seen("cells_missing", 2.0, at=7), 0)
    _, (cleared,) = step(table, state, seen("cells_missing", 0.0, at=0), 10**9)
    assert cleared.subject == "cell 7"


def test_a_broken_row_counts_after_whole_ones_and_only_what_may_open_stands_against_closing() -> None:
    rows = (quick("derate", tier="RSL"), quick("inform", "temp_c", bound=50.0), quick(bound=4.25, quantity="pack_v"))
    table = table_of(rows, 1.0)
    state, _ = step(table, fresh_state(table), seen("pack_v", 5.0), 0)
    now = verdict(table, state, Facts({}, speed_kmh=0.0))
    assert (now.open, now.causes) == (True, ("pack_v/MSL/over/any",))


def test_a_state_of_another_table_is_a_broken_invariant() -> None:
    table = table_for(limit())
    with pytest.raises(ValueError, match="zip"):
        latched(table, ())
    with pytest.raises(ValueError, match="zip"):
        fresh_state(replace(table, groups=(1, 1)))


# -- words


def test_decisions_are_plain_words() -> None:
    table = table_for(limit())
    state, decisions = run(table, fresh_state(table), *[(k / 10, seen("cell_v", 4.26, at=23)) for k in range(6)])
    assert [d.text for d in decisions] == ["cell 23 at 4.26 V, limit 4.25 V for 0.5 s: contactors opened"]
    assert decisions[0] == (
        "cell_v/MSL/over/any", table.rows[0], True, "cell 23", 4.26, 0, "contactors opened", decisions[0].text,
    )  # fmt: skip
    _, cleared = run(table, state, (1, seen("cell_v", 4.0, at=7, standby=True)))
    assert [d.text for d in cleared] == ["cell 7 at 4.00 V, back inside the limit of 4.25 V after 1.0 s: cleared"]
    assert cleared[0].action == "cleared"


@pytest.mark.parametrize(
    ("row", "where", "done"),
    [
        (quick("inform"), STANDING, "noted"),
        (quick("derate"), STANDING, "current limited"),
        (quick("zero_current"), STANDING, "current to zero"),
        (quick("open_at_standstill"), STANDING, "contactors opened"),
        (quick("open_at_standstill"), DRIVING, "stop requested, contactors open at standstill"),
        (quick("open_now"), DRIVING, "stop requested, contactors open at standstill"),
        (quick("open_now", "short_a", bound=1.0), DRIVING, "contactors opened"),
        (quick("open_at_standstill", "short_a", bound=1.0), DRIVING, "stop requested, contactors open at standstill"),
    ],
)
def test_a_decision_says_what_is_done_now(row: Limit, where: dict[str, Any], done: str) -> None:
    table = table_for(row)
    _, (decision,) = step(table, fresh_state(table), seen(row.quantity, 5.0, **where), 0)
    assert decision.action == done
    assert decision.text.endswith(f": {done}")


def test_places_with_names_are_called_by_them() -> None:
    table = table_of([quick("inform", "silence", bound=5.0)], 1.0, names={"silence": ("Cells 1", "Cells 2")})
    _, (decision,) = step(table, fresh_state(table), seen("silence", 6.0, at=2), 0)
    assert decision.text == "message Cells 2 silent for 6.0 periods, limit 5 periods for 0.0 s: noted"


def test_decisions_of_one_tick_come_in_the_order_of_the_rows() -> None:
    rows = (quick("inform"), quick("inform", "temp_c", bound=50.0), quick("inform", bound=4.0))
    table = table_of(rows, 1.0)
    measures = {"temp_c": (Measure(0, 51, 1, 51, 1),), "cell_v": (Measure(0, 4.3, 1, 4.3, 1),)}
    _, decisions = step(table, fresh_state(table), Facts(measures), 0)
    assert [d.limit for d in decisions] == list(rows)


# -- properties


@given(st.integers(1, 6), st.floats(0.0, 2.0), st.sampled_from([0.05, 0.1, 0.25, 1.0]), st.floats(0, 0.999))
def test_a_crossing_is_found_within_the_worst_detection_of_its_row(
    min_samples: int, for_s: float, period_s: float, phase: float
) -> None:
    row = limit(for_s=for_s, min_samples=max(min_samples, 2 if for_s else 1), max_detect_s=100.0)
    table = table_for(row)
    state, crossed_s = fresh_state(table), phase * period_s  # after the sample at 0
    for k in range(200):
        t_s = k * period_s
        state, _ = step(table, state, seen("cell_v", 4.3 if t_s > crossed_s else 3.7), round(t_s * 1e9))
        if state[0].active:
            assert t_s - crossed_s <= worst_detection_s(row, period_s) + 1e-9
            return
    pytest.fail("never found")
