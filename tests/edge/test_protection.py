"""Protection: every limit of every pack at its bound, its debounce, its hysteresis, its latch; and what opens when."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protection import (
    SIGNAL_OF,
    Rules,
    Sample,
    State,
    Verdict,
    fresh_state,
    not_evaluated,
    serviced,
    step,
    too_slow,
)
from schemas.limits import Limit, worst_detection_s
from schemas.pack import load_pack, pack_names

PERIOD_S = 0.1
CELLS, PROBES, BASE_V = 5, 3, 3.2  # a voltage within the limits of every chemistry
SIGNALS = frozenset(SIGNAL_OF.values())


def rules_of(*limits: Limit) -> Rules:
    return Rules(limits, idle_a=1.0, sum_offset_v=0.5, max_pack_v=400.0)


def limit(**changes: Any) -> Limit:
    fields: dict[str, Any] = {
        "quantity": "cell_v", "tier": "MSL", "bound": 4.25, "over": True, "direction": "any", "for_s": 0.5,
        "min_samples": 3, "max_detect_s": 2.0, "hysteresis": 0.02, "action": "open_at_standstill", "latch": True,
        "reset": "standby",
    }  # fmt: skip
    return Limit(**(fields | changes))


def at(row: Limit, value: float, t_s: float = 0.0, **more: Any) -> Sample:
    """A sample in which the row's quantity has `value`, current flows its way, and nothing else is odd."""
    current = {"charge": 50.0, "discharge": -50.0, "any": 0.0}[row.direction]
    known: dict[str, Any] = {
        "cell_v": (BASE_V,) * CELLS, "temp_c": (20.0,) * PROBES, "current_a": current, "pack_v": BASE_V * CELLS + 0.5,
        "isolation_ohm": 1e9, "speed_kmh": 0.0,
    }  # fmt: skip
    if row.quantity == "cell_v":
        known["cell_v"] = (BASE_V,) * (CELLS - 1) + (value,)
    elif row.quantity == "cell_dev_v":
        known["cell_v"] = (BASE_V,) * (CELLS - 1) + (BASE_V - value,)
    elif row.quantity == "temp_c":
        known["temp_c"] = (20.0, value, 20.0)
    elif row.quantity == "temp_dev_c":
        known["temp_c"] = (20.0, 20.0 + 1.5 * value, 20.0)  # the mean moves by half of that
    elif row.quantity == "current_a":
        known["current_a"] = value if row.direction == "charge" else -value
    elif row.quantity == "pack_v":
        known["pack_v"] = value
    elif row.quantity == "isolation_ohm_per_v":
        known["isolation_ohm"] = value * 400.0
    elif row.quantity == "sum_mismatch_v":
        known["pack_v"] = math.fsum(known["cell_v"]) + 0.5 + value
    return Sample(round(t_s * 1e9), SIGNALS, **(known | more))


def feed(
    rules: Rules, state: State, row: Limit, values: list[float], from_s: float, **more: Any
) -> tuple[State, float]:
    """Give values one period apart; gives the state and the time after them."""
    for k, value in enumerate(values):
        state, _ = step(rules, state, at(row, value, from_s + k * PERIOD_S, **more))
    return state, from_s + len(values) * PERIOD_S


def needed(row: Limit) -> int:
    """Count the samples, one a period, until a row fires."""
    return max(row.min_samples, math.ceil(row.for_s / PERIOD_S - 1e-9) + 1)


def beyond(row: Limit, by: float) -> float:
    return row.bound + by if row.over else row.bound - by


ROWS = [
    pytest.param(row, id=f"{name}-{k}-{row.quantity}-{row.tier}-{row.direction}-{'over' if row.over else 'under'}")
    for name in pack_names()
    for k, row in enumerate(load_pack(name).limits)
]


@pytest.mark.parametrize("row", ROWS)
def test_a_limit_of_a_pack_fires_at_its_bound_after_its_debounce_and_clears_by_its_rule(row: Limit) -> None:
    rules, n, little = rules_of(row), needed(row), row.hysteresis * 1e-3 + 1e-6
    inside = beyond(row, -row.hysteresis - little)

    state, _ = feed(rules, fresh_state(rules), row, [beyond(row, -little)] * (n + 5), 0.0)
    assert not state[0].active, "just inside"
    for reached in (beyond(row, little), beyond(row, 10 * little)):
        state, t_s = feed(rules, fresh_state(rules), row, [reached] * (n - 1), 0.0)
        assert not state[0].active, "debounce one short"
        broken, _ = feed(rules, state, row, [inside, *[reached] * (n - 1)], t_s)
        assert not broken[0].active, "a good sample begins the count anew"
        state, t_s = feed(rules, state, row, [reached], t_s)
        assert state[0].active, "debounce met"

    state, t_s = feed(rules, state, row, [beyond(row, -row.hysteresis / 2)] * 3, t_s)
    assert state[0].active, "within the hysteresis"
    state, t_s = feed(rules, state, row, [inside], t_s)
    assert state[0].active == row.latch
    if row.latch:
        asked, t_s = feed(rules, state, row, [inside], t_s, standby=True)
        assert asked[0].active == (row.reset == "service")
        assert not serviced(rules, state)[0].active
        still, _ = feed(rules, state, row, [beyond(row, little)], t_s)
        assert serviced(rules, still)[0].active, "the cause is there"
        assert feed(rules, still, row, [beyond(row, little)], t_s, standby=True)[0][0].active


@pytest.mark.parametrize("over", [True, False])
def test_a_bound_is_crossed_by_reaching_it(over: bool) -> None:
    row = limit(over=over, for_s=0.0, min_samples=1)
    rules = rules_of(row)
    assert step(rules, fresh_state(rules), at(row, row.bound))[0][0].active


def test_a_held_value_is_never_counted_twice() -> None:
    row = limit()
    rules = rules_of(row)
    state, _ = step(rules, fresh_state(rules), at(row, 4.3, 0.0))
    for k in range(1, 60):  # the message stays away
        state, _ = step(rules, state, at(row, 4.3, k / 100)._replace(fresh=SIGNALS - {"cell_v"}))
    assert state[0].samples == 1
    assert not state[0].active


@pytest.mark.parametrize(
    ("way", "current_a", "fires"),
    [
        ("charge", 5.0, True), ("charge", -5.0, False), ("charge", 0.5, False), ("charge", math.nan, True),
        ("discharge", -5.0, True), ("discharge", 5.0, False), ("discharge", math.nan, True), ("any", 0.0, True),
    ],
)  # fmt: skip
def test_a_direction_holds_for_current_that_flows_so_and_for_an_unknown_one(
    way: str, current_a: float, fires: bool
) -> None:
    row = limit(quantity="temp_c", bound=50.0, direction=way, for_s=0.0, min_samples=1)
    rules = rules_of(row)
    assert step(rules, fresh_state(rules), at(row, 51.0, current_a=current_a))[0][0].active == fires


# -- what opens, and when


def verdict(row: Limit, **more: Any) -> Verdict:
    rules = rules_of(row)
    return step(rules, fresh_state(rules), at(row, beyond(row, 1.0), **more))[1]


def quick(action: str, quantity: str = "cell_v") -> Limit:
    way = "charge" if quantity == "current_a" else "any"
    opens = action.startswith("open")
    reset = "standby" if opens else "auto"
    return limit(action=action, quantity=quantity, direction=way, for_s=0.0, min_samples=1, latch=opens, reset=reset)


STANDING, DRIVING, UNSURE, PLUGGED = {"speed_kmh": 4.9}, {"speed_kmh": 5.0}, {"speed_kmh": math.nan}, {"plugged": True}


@pytest.mark.parametrize("where", [STANDING, DRIVING, UNSURE, PLUGGED])
def test_informing_changes_nothing_and_derating_opens_nothing(where: dict[str, Any]) -> None:
    noted, less, none = (verdict(quick(a), **where) for a in ("inform", "derate", "zero_current"))
    assert noted[:5] == (False, False, False, False, True)
    assert less[:5] == (False, False, True, False, True)
    assert none[:5] == (False, True, True, False, False)


@pytest.mark.parametrize("action", ["open_at_standstill", "open_now"])
@pytest.mark.parametrize(("where", "opens"), [(STANDING, True), (PLUGGED, True), (DRIVING, False), (UNSURE, False)])
def test_a_cell_voltage_opens_at_standstill_only(action: str, where: dict[str, Any], opens: bool) -> None:
    got = verdict(quick(action), **where)
    assert got[:5] == (opens, True, True, not opens, False)


def test_an_over_current_and_a_crash_open_at_speed() -> None:
    assert verdict(quick("open_now", "current_a"), **DRIVING).open
    assert not verdict(quick("open_at_standstill", "current_a"), **DRIVING).open
    rules = rules_of()
    crash = step(rules, (), Sample(0, frozenset(), speed_kmh=90.0, crash=True))[1]
    assert crash.open
    assert not crash.close_allowed


@pytest.mark.parametrize(("where", "opens"), [(STANDING, True), (DRIVING, False), (UNSURE, False)])
def test_what_is_not_known_holds_at_speed_and_opens_at_standstill(where: dict[str, Any], opens: bool) -> None:
    got = step(rules_of(), (), Sample(0, frozenset(), unknown=("cell_v is stale",), **where))[1]
    assert got[:5] == (opens, True, True, not opens, False)


def test_a_latch_forbids_closing_after_its_cause_is_gone() -> None:
    row = limit(for_s=0.0, min_samples=1)
    rules = rules_of(row)
    state, _ = step(rules, fresh_state(rules), at(row, 4.3))
    _, after = step(rules, state, at(row, 3.7, 1.0))
    assert not after.close_allowed


def test_the_gravest_of_several_limits_decides() -> None:
    rows = [quick("inform"), quick("open_at_standstill"), quick("derate")]
    rules = rules_of(*rows)
    state, got = step(rules, fresh_state(rules), at(rows[0], 4.3))
    assert [r.active for r in state] == [True] * 3
    assert got[:5] == (True, True, True, False, False)


# -- words, and what cannot be judged


def test_decisions_are_plain_words() -> None:
    row = limit(for_s=0.5)
    rules = rules_of(row)
    state, _ = feed(rules, fresh_state(rules), row, [4.26] * 5, 0.0)
    state, got = step(rules, state, at(row, 4.26, 0.7))
    assert [d.text for d in got.decisions] == ["cell 5 at 4.26 V, limit 4.25 V for 0.7 s: contactors opened"]
    _, cleared = step(rules, state, at(row, 4.0, 1.0, standby=True))
    assert [d.text for d in cleared.decisions] == [
        "cell 5 at 4.00 V, back inside the limit of 4.25 V for 1.0 s: cleared"
    ]


@pytest.mark.parametrize(
    ("changes", "value", "text"),
    [
        ({"quantity": "temp_c", "bound": 60.0}, 61.25, "probe 2 at 61.2 °C"),
        ({"quantity": "current_a", "bound": 90.0, "direction": "charge"}, 91.0, "charge current at 91.0 A"),
        ({"quantity": "pack_v", "bound": 20.0}, 21.0, "pack at 21.0 V"),
        ({"quantity": "isolation_ohm_per_v", "bound": 100.0, "over": False}, 99.0, "pack at 99 Ω/V isolation"),
        ({"quantity": "cell_dev_v", "bound": 0.3}, 0.35, "cell 5 at 0.35 V from the median"),
        ({"quantity": "temp_dev_c", "bound": 10.0}, 12.0, "probe 2 at 12.0 K from the mean"),
        ({"quantity": "sum_mismatch_v", "bound": 3.0}, 4.0, "pack at 4.0 V between sum of cells and pack sensor"),
    ],
)
def test_the_value_of_every_quantity_has_a_subject_and_a_unit(changes: dict[str, Any], value: float, text: str) -> None:
    row = limit(**changes, for_s=0.0, min_samples=1)
    rules = rules_of(row)
    _, got = step(rules, fresh_state(rules), at(row, value))
    assert got.decisions[0].text.startswith(text + ", limit ")


def test_limits_whose_signal_is_absent_are_named() -> None:
    pack = load_pack("generic-nmc")
    rules = Rules(pack.limits, 1.0, 0.0, 400.0)
    assert not_evaluated(rules, ()) == []
    gone = not_evaluated(rules, ("pack_v", "isolation_ohm"))
    assert {row.quantity for row in gone} == {"pack_v", "sum_mismatch_v", "isolation_ohm_per_v"}


def test_a_signal_too_slow_for_its_limit_is_named() -> None:
    rules = rules_of(limit(), limit(quantity="temp_c", for_s=5.0, max_detect_s=15.0))
    assert too_slow(rules, {"cell_v": 0.1, "temp_c": 1.0}, 0.2) == []
    (text,) = too_slow(rules, {"cell_v": 0.5, "temp_c": 1.0}, 0.2)
    assert text == ("cell_v MSL (any, over 4.25): worst detection must be ≤ 2 s; got 2.7 s (cell_v every 0.5 s)")


VALUES = st.one_of(st.just(math.nan), st.floats(-1e4, 1e4))


@given(st.lists(st.tuples(st.integers(1, 2000), st.booleans(), VALUES, VALUES, st.booleans()), max_size=40))
def test_whatever_comes_only_over_current_or_a_crash_opens_at_speed(
    ticks: list[tuple[int, bool, float, float, bool]],
) -> None:
    pack = load_pack("generic-nmc")
    rules = Rules(pack.limits, 1.0, 0.0, 400.0)
    state, t_ns = fresh_state(rules), 0
    for ms, fresh, cell_v, current_a, standby in ticks:
        t_ns += ms * 10**6
        sample = Sample(
            t_ns, SIGNALS if fresh else frozenset(), cell_v=(3.7, cell_v, 3.6), temp_c=(cell_v,), current_a=current_a,
            pack_v=cell_v, isolation_ohm=cell_v, speed_kmh=60.0, standby=standby,
        )  # fmt: skip
        state, got = step(rules, state, sample)
        fast = [r for r, row in zip(rules.limits, state, strict=True) if row.active and r.action == "open_now"]
        assert got.open == any(r.quantity == "current_a" for r in fast)
        assert not (got.open and got.close_allowed)


@given(st.integers(1, 6), st.floats(0.0, 2.0), st.sampled_from([0.05, 0.1, 0.25, 1.0]), st.floats(0, 0.999))
def test_a_crossing_is_found_within_the_worst_detection_of_its_row(
    min_samples: int, for_s: float, period_s: float, phase: float
) -> None:
    row = limit(for_s=for_s, min_samples=min_samples, max_detect_s=100.0)
    rules, state = rules_of(row), fresh_state(rules_of(row))
    crossed_s = phase * period_s  # after the sample at 0
    for k in range(200):
        t_s = k * period_s
        state, _ = step(rules, state, at(row, 4.3 if t_s > crossed_s else 3.7, t_s))
        if state[0].active:
            assert t_s - crossed_s <= worst_detection_s(row, period_s) + 1e-9
            return
    pytest.fail("never found")
