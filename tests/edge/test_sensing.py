"""Sensing: freshness by message, completeness by place, plausible range, stuck and frozen sensors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sensing import (
    ABSENT,
    IMPLAUSIBLE,
    MANY,
    MISSING,
    OK,
    ONE,
    STALE,
    STUCK,
    Arrival,
    Many,
    Sample,
    Scalar,
    SensingConfig,
    SignalRule,
    Source,
    State,
    fresh_state,
    step,
)
from edge.stuck import StuckConfig

MS = 10**6
S = 10**9
NAN = math.nan
MAIN, PAGE_1, PAGE_2, PROBES, CAR = range(5)
SOURCES = (
    Source("Main", 0.1, (("current_a", 0), ("pack_v", 0))),
    Source("Cells 1", 0.2, (("cell_v", 0), ("cell_v", 1))),
    Source("Cells 2", 0.2, (("cell_v", 3), ("cell_v", 2))),  # the order on the bus is not that of the places
    Source("Probes", 1.0, (("temp_c", 0), ("temp_c", 1))),
    Source("Car", 0.5, (("speed_kmh", 0), ("hvil", 0), ("link_v", 0))),
)
SENT = {"cell_v": (0.5, 5.0), "temp_c": (-50.0, 200.0), "current_a": (-500.0, 500.0), "pack_v": (0.0, 24.0)}
SENT |= {"speed_kmh": (-100.0, 500.0), "hvil": (0.0, 1.0)}
RULES = {name: SignalRule(name in SENT, *SENT.get(name, (0.0, 1.0))) for name in (*MANY, *ONE)}
MOVES = StuckConfig(idle_a=1.0, stuck_a=10.0, stuck_v=0.5, moved_v=0.005, swing_v=0.3)
CFG = SensingConfig(SOURCES, RULES, cells=4, probes=2, idle_a=1.0, stuck=MOVES)
GOOD = {
    MAIN: (0.0, 14.8), PAGE_1: (3.7, 3.71), PAGE_2: (3.73, 3.72), PROBES: (20.0, 21.0), CAR: (30.0, 1.0, 14.0),
}  # fmt: skip


def settings(**changes: Any) -> SensingConfig:
    return replace(CFG, **changes)


def hear(state: State, t_ns: int, *sources: int, **values: tuple[float, ...]) -> tuple[State, Sample]:
    """Let the named sources send what is good, or the values given as s0=(…), s1=(…)."""
    came = {k: GOOD[k] for k in sources} | {int(name[1:]): v for name, v in values.items()}
    return step(CFG, state, [Arrival(k, t_ns, v) for k, v in sorted(came.items())], t_ns)


def whole(t_ns: int = 0) -> tuple[State, Sample]:
    return hear(fresh_state(CFG, 0), t_ns, *GOOD)


# -- what a sample says


def test_before_anything_came_nothing_has_a_value() -> None:
    _, sample = step(CFG, fresh_state(CFG, 5), [], 5)
    assert sample.t_ns == 5
    assert str(sample.cell_v) == str(Many((NAN,) * 4, (MISSING,) * 4, ()))
    assert str(sample.temp_c) == str(Many((NAN,) * 2, (MISSING,) * 2, ()))
    assert {name: now.state for name, now in sample.one.items()} == {
        name: MISSING if name in SENT else ABSENT for name in ONE
    }
    assert all(math.isnan(now.value) and not now.fresh for now in sample.one.values())
    assert (sample.ages, sample.heard, sample.frozen_s) == ((0.0,) * 5, (False,) * 5, 0.0)
    assert sample.cell_v.state == MISSING


def test_values_come_with_their_places_their_time_and_their_freshness() -> None:
    _, sample = whole(7)
    assert sample.cell_v == Many((3.7, 3.71, 3.72, 3.73), (OK,) * 4, (0, 1))
    assert sample.temp_c == Many((20.0, 21.0), (OK, OK), (0,))
    assert sample.one["pack_v"] == Scalar(14.8, 7, fresh=True, state=OK)
    assert sample.one["speed_kmh"] == Scalar(30.0, 7, fresh=True, state=OK)
    assert (sample.cell_v.state, sample.temp_c.state) == (OK, OK)
    assert sample.heard == (True,) * 5


def test_a_value_is_fresh_in_the_tick_of_its_message_only() -> None:
    state, _ = whole()
    state, sample = hear(state, 10 * MS, PAGE_2, CAR)
    assert (sample.cell_v.fresh, sample.temp_c.fresh) == ((1,), ())
    assert [name for name, now in sample.one.items() if now.fresh] == ["hvil", "speed_kmh"]
    assert sample.came == {"hvil", "speed_kmh"}
    _, sample = hear(state, 20 * MS)
    assert sample.cell_v == Many((3.7, 3.71, 3.72, 3.73), (OK,) * 4, ())
    assert sample.one["speed_kmh"] == Scalar(30.0, 10 * MS, fresh=False, state=OK)
    assert sample.ages == pytest.approx((0.2, 0.1, 0.05, 0.02, 0.02))


def test_an_absent_signal_stays_absent_though_its_message_brings_it() -> None:
    _, sample = whole()
    assert str(sample.one["link_v"]) == str(Scalar(NAN, 0, fresh=False, state=ABSENT))
    rules = RULES | {"cell_v": SignalRule(False, 0.5, 5.0)}
    cfg = settings(rules=rules)
    assert cfg.groups == {"temp_c": (3,)}
    _, sample = step(cfg, fresh_state(cfg, 0), [Arrival(k, 0, v) for k, v in GOOD.items()], 0)
    assert sample.cell_v == Many((), (), ())
    assert sample.cell_v.state == ABSENT
    _, sample = step(cfg, fresh_state(cfg, 0), [Arrival(PAGE_1, 0, (9.0, 9.0))], 2 * S)
    assert sample.cell_v == Many((), (), ())


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (0.5, OK), (0.4999, IMPLAUSIBLE), (5.0, OK), (5.0001, IMPLAUSIBLE), (NAN, MISSING), (math.inf, IMPLAUSIBLE),
        (-math.inf, IMPLAUSIBLE),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_or_not_available_has_no_number(value: float, state: str) -> None:
    _, sample = hear(fresh_state(CFG, 0), 0, MAIN, PAGE_2, s1=(3.7, value))
    assert sample.cell_v.why == (OK, state, OK, OK)
    assert sample.cell_v.state == state
    assert math.isnan(sample.cell_v.values[1]) == (state != OK)
    assert sample.cell_v.values[0] == 3.7


@pytest.mark.parametrize(
    ("value", "state"), [(500.0, OK), (-500.0, OK), (500.1, IMPLAUSIBLE), (-500.1, IMPLAUSIBLE), (NAN, MISSING)]
)
def test_a_single_value_outside_its_range_is_fresh_and_has_no_number(value: float, state: str) -> None:
    _, sample = hear(fresh_state(CFG, 0), 3, s0=(value, 14.8))
    now = sample.one["current_a"]
    assert (now.state, now.fresh, now.t_ns) == (state, True, 3)
    assert math.isnan(now.value) == (state != OK)


def test_the_next_good_value_heals() -> None:
    state, sample = hear(whole()[0], 1, s0=(9999.0, NAN), s1=(66.5, 3.7))
    assert sample.cell_v.why == (IMPLAUSIBLE, OK, OK, OK)
    _, sample = hear(state, 2, MAIN, PAGE_1)
    assert sample.cell_v.state == OK
    assert sample.one["current_a"].value == 0.0


# -- silence


def test_a_message_is_lost_after_five_periods_and_takes_its_own_values_with_it() -> None:
    state, _ = whole()
    _, sample = step(CFG, state, [], 500 * MS)
    assert (sample.one["current_a"].state, sample.ages[MAIN]) == (OK, 5.0)
    state, sample = step(CFG, state, [], 500 * MS + 1)
    assert sample.one["current_a"]._replace(value=0.0) == Scalar(0.0, 0, fresh=False, state=STALE)
    assert math.isnan(sample.one["current_a"].value)
    assert sample.one["pack_v"].state == STALE
    assert (sample.cell_v.state, sample.one["speed_kmh"].state) == (OK, OK)
    state, sample = hear(state, 1001 * MS, PAGE_1)
    assert sample.cell_v.why == (OK, OK, STALE, STALE)
    assert math.isnan(sample.cell_v.values[2])
    assert sample.cell_v.values[:2] == (3.7, 3.71)
    assert sample.one["link_v"].state == ABSENT
    _, sample = hear(state, 2502 * MS)
    assert sample.one["link_v"].state == ABSENT, "what is absent is not lost"
    assert sample.one["speed_kmh"].state == STALE
    _, sample = hear(state, 2502 * MS, *GOOD)
    assert (sample.cell_v.state, sample.one["current_a"].state) == (OK, OK)


def test_what_never_came_is_missing_and_its_age_counts_from_the_start() -> None:
    state = fresh_state(CFG, 100 * MS)
    _, sample = step(CFG, state, [], 700 * MS)
    assert sample.ages == pytest.approx((6.0, 3.0, 3.0, 0.6, 1.2))
    assert sample.one["current_a"].state == MISSING
    assert sample.cell_v.state == MISSING


# -- stuck


def alternate(state: State, t_s: float, current_a: float, pack_v: float, cells: tuple[float, float]) -> Any:
    return hear(state, round(t_s * S), s0=(current_a, pack_v), s1=cells, s2=(3.7 + t_s * 1e-3, 3.72 + t_s * 1e-3))


def drive(*rows: tuple[float, float, float, tuple[float, float]]) -> tuple[State, Sample]:
    state, sample = whole()
    for t_s, current_a, pack_v, cells in rows:
        state, sample = alternate(state, t_s, current_a, pack_v, cells)
    return state, sample


def noisy(k: int) -> float:
    return 14.0 + 0.01 * (k % 3)


def test_a_voltage_that_stays_while_the_current_moved_is_stuck_until_it_changes() -> None:
    same = (3.6, 3.61)
    rows = [(0.1 * k, -5.0, noisy(k), same) for k in range(1, 4)]
    rows += [(0.1 * k, -15.1 - 0.01 * k, noisy(k), same) for k in range(4, 25)]
    state, sample = drive(*rows[:-1])
    assert sample.cell_v.state == OK, "1.9 s"
    state, sample = alternate(state, *rows[-1])
    assert sample.cell_v.why == (STUCK, STUCK, OK, OK)
    assert math.isnan(sample.cell_v.values[0])
    assert sample.one["pack_v"].state == OK
    state, sample = alternate(state, 2.5, -5.0, 14.0, same)
    assert sample.cell_v.state == STUCK, "the current coming back proves nothing"
    state, sample = hear(state, 2600 * MS)
    assert sample.cell_v.state == STUCK
    state, sample = alternate(state, 2.6, -5.0, 14.0, (3.6, 3.62))
    assert sample.cell_v.state == OK


def test_a_pack_voltage_can_be_stuck_too() -> None:
    rows = [(0.1 * k, -20.0 - 0.01 * k if k > 1 else 0.0, 14.0, (3.6 + 0.001 * k, 3.6)) for k in range(1, 25)]
    _, sample = drive(*rows)
    assert (sample.one["pack_v"].state, sample.one["pack_v"].fresh) == (STUCK, True)
    assert math.isnan(sample.one["pack_v"].value)
    assert sample.one["current_a"].state == OK
    assert sample.cell_v.state == OK


@pytest.mark.parametrize(("moved_a", "stuck"), [(10.0, False), (-10.0, False), (10.01, True), (-10.01, True)])
def test_the_current_must_have_moved_by_more_than_stuck_a(moved_a: float, stuck: bool) -> None:
    rows = [(0.1 * k, moved_a if k > 1 else 0.0, noisy(k), (3.6, 3.6)) for k in range(1, 40)]
    assert (drive(*rows)[1].cell_v.state == STUCK) == stuck


def test_a_current_that_comes_back_within_2_s_shows_nothing() -> None:
    rows = [(0.1 * k, -20.0 if k % 20 else -1.0, noisy(k), (3.6, 3.6)) for k in range(100)]
    rows[0] = (0.05, -1.0, 14.0, (3.6, 3.6))
    assert drive(*rows)[1].cell_v.state == OK


def test_few_equal_values_are_not_stuck() -> None:
    for count, state in ((3, OK), (4, STUCK)):  # beside the first one, which the current had not moved from
        rows = [(1.0, 0.0, 14.0, (3.6, 3.6))]
        rows += [(1.0 + 1.0 * k, -20.0 - k, noisy(k), (3.6, 3.6)) for k in range(1, count + 1)]
        assert drive(*rows)[1].cell_v.state == state


def test_a_voltage_whose_current_was_unknown_is_compared_from_when_it_is_known() -> None:
    rows = [(0.1, NAN, 14.0, (3.6, 3.6)), (0.2, -50.0, 14.1, (3.6, 3.6))]
    rows += [(0.1 * k, -50.0 - 0.1 * k, noisy(k), (3.6, 3.6)) for k in range(3, 50)]
    assert drive(*rows)[1].cell_v.state == OK
    rows += [(0.1 * k, -70.0, noisy(k), (3.6, 3.6)) for k in range(50, 71)]
    assert drive(*rows)[1].cell_v.state == STUCK


def test_values_that_are_not_available_are_not_equal() -> None:
    rows = [(0.1 * k, -20.0 if k > 1 else 0.0, noisy(k), (NAN, 3.6)) for k in range(1, 40)]
    assert drive(*rows)[1].cell_v.why == (MISSING, OK, OK, OK)


def test_a_flowing_current_that_stays_while_the_voltage_moves_quickly_is_stuck() -> None:
    rows = [(0.1 * k, -30.0, 14.0 - 0.03 * k, (3.6 - 0.001 * k, 3.6)) for k in range(1, 18)]
    _, sample = drive(*rows)
    assert sample.one["current_a"].state == OK, "0.48 V"
    state, sample = drive(*rows, (1.8, -30.0, 13.46, (3.5, 3.6)))
    assert (sample.one["current_a"].state, sample.one["pack_v"].state) == (STUCK, OK)
    assert math.isnan(sample.one["current_a"].value)
    _, sample = alternate(state, 1.9, -30.1, 13.4, (3.5, 3.6))
    assert sample.one["current_a"].state == OK


def test_a_voltage_that_relaxes_slowly_or_without_current_says_nothing_of_the_current() -> None:
    slow = [(0.1 * k, -30.0, 14.0 - 0.02 * k, (3.6 - 0.001 * k, 3.6)) for k in range(1, 100)]
    assert drive(*slow)[1].one["current_a"].state == OK
    for current_a, state in ((-1.0, OK), (1.0, OK), (-1.1, STUCK), (1.1, STUCK)):
        rows = [(0.1 * k, current_a, 14.0 - 0.1 * k, (3.6 - 0.001 * k, 3.6)) for k in range(1, 12)]
        assert drive(*rows)[1].one["current_a"].state == state


def test_a_current_needs_five_equal_values_to_be_stuck() -> None:
    for count, state in ((4, OK), (5, STUCK)):
        rows = [(0.1 * k, -30.0, 14.0 - 0.3 * k, (3.6 - 0.001 * k, 3.6)) for k in range(1, count + 1)]
        assert drive(*rows)[1].one["current_a"].state == state


def test_a_current_beside_an_unknown_voltage_is_compared_from_when_it_is_known() -> None:
    rows = [(0.1 * k, -30.0, NAN, (3.6 - 0.001 * k, 3.6)) for k in range(1, 8)]
    rows += [(0.8, -30.0, 20.0, (3.5, 3.6)), (0.9, -30.0, 20.4, (3.4, 3.6))]
    state, sample = drive(*rows)
    assert sample.one["current_a"].state == OK
    assert alternate(state, 1.0, -30.0, 20.6, (3.3, 3.6))[1].one["current_a"].state == STUCK


def test_what_stays_is_counted_by_messages_not_by_ticks() -> None:
    state, _ = whole()
    state, _ = hear(state, 100 * MS, s0=(-30.0, 14.0))
    for k in range(100):
        state, sample = hear(state, 100 * MS + k * MS)
    assert state.stuck.still[MAIN, "current_a"].samples == 1
    assert sample.one["current_a"].state == OK


# -- frozen


def test_frozen_time_runs_while_current_flows_and_nothing_changes() -> None:
    state, _ = whole()
    state, sample = hear(state, S, PAGE_1, PAGE_2, s0=(-30.0, 14.0))
    assert sample.frozen_s == 0.0
    for t_s in (2, 3, 4):
        state, sample = hear(state, t_s * S, PAGE_1, PAGE_2, s0=(-30.0, 14.0))
    assert sample.frozen_s == 3.0
    assert hear(state, 4 * S + 500 * MS)[1].frozen_s == 3.5, "a tick without a message"
    assert hear(state, 5 * S, PAGE_1, s2=(3.9, 3.9))[1].frozen_s == 0.0
    idle, _ = hear(state, 5 * S, s0=(1.0, 14.0))
    assert hear(idle, 5 * S + 100 * MS, s0=(1.0, 14.0))[1].frozen_s == 0.0
    runs, _ = hear(state, 5 * S, s0=(1.1, 14.0))
    assert hear(runs, 5 * S + 100 * MS, s0=(1.1, 14.0))[1].frozen_s == pytest.approx(0.1)


# -- settings


def test_periods_are_the_longest_of_each_signal_that_is_sent() -> None:
    sources = (*SOURCES[:2], SOURCES[2]._replace(period_s=0.4), *SOURCES[3:])
    assert settings(sources=sources).periods() == {
        "current_a": 0.1, "pack_v": 0.1, "cell_v": 0.4, "temp_c": 1.0, "speed_kmh": 0.5, "hvil": 0.5,
    }  # fmt: skip
    assert CFG.groups == {"cell_v": (1, 2), "temp_c": (3,)}


def changed(k: int, **changes: Any) -> tuple[Source, ...]:
    return tuple(s._replace(**changes) if k == i else s for i, s in enumerate(SOURCES))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sources": changed(4, fills=(("speed", 0),))}, "a source may fill cell_v, temp_c, current_a.*; got speed$"),
        ({"sources": changed(1, fills=(("cell_v", 4),))}, "cell_v has the places 0..3; got 4$"),
        ({"sources": changed(1, fills=(("cell_v", -1),))}, "cell_v has the places 0..3; got -1$"),
        ({"sources": changed(3, fills=(("temp_c", 2),))}, "temp_c has the places 0..1; got 2$"),
        ({"sources": changed(4, fills=(("hvil", 1),))}, "hvil has the places 0..0; got 1$"),
        ({"sources": changed(1, fills=(("cell_v", 0), ("cell_v", 2)))}, r"cell_v\[2\] must come from one source; got"),
        ({"sources": changed(1, period_s=0.0)}, "Cells 1: period_s must be > 0; got 0.0$"),
        ({"sources": changed(1, period_s=math.inf)}, "Cells 1: period_s must be > 0; got inf$"),
        ({"sources": SOURCES[:2] + SOURCES[3:]}, r"cell_v is required; no source fills place \[2\]$"),
        ({"sources": SOURCES[:-1]}, r"hvil is required; no source fills place \[0\]$"),
        ({"sources": changed(3, fills=(("temp_c", 0),))}, r"temp_c is required; no source fills place \[1\]$"),
        (
            {"rules": {n: r for n, r in RULES.items() if n != "crash"}},
            "every signal must be declared required or absent; crash is not$",
        ),
        ({"rules": RULES | {"current_a": SignalRule(False, 0, 1)}}, "current_a must be required; got absent$"),
    ],
)
def test_settings_that_cannot_be_evaluated_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        settings(**changes)


# -- properties

VALUES = st.one_of(st.just(NAN), st.floats(-1e3, 1e3), st.sampled_from([0.0, 3.7, 5.0]))


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.dictionaries(st.integers(0, 4), st.lists(VALUES, min_size=3, max_size=3))),
        max_size=40,
    )
)
def test_whatever_comes_a_value_is_a_number_exactly_where_it_is_ok_and_in_its_range(
    ticks: list[tuple[int, dict[int, list[float]]]],
) -> None:
    state, t_ns = fresh_state(CFG, 0), 0
    for ms, came in ticks:
        t_ns += ms * MS
        before = state
        arrivals = [Arrival(k, t_ns, tuple(v[: len(SOURCES[k].fills)])) for k, v in came.items()]
        state, sample = step(CFG, state, arrivals, t_ns)
        assert str(step(CFG, before, arrivals, t_ns)) == str((state, sample)), "the state before is untouched"
        for name in MANY:
            many = getattr(sample, name)
            for value, why in zip(many.values, many.why, strict=True):
                assert math.isnan(value) == (why != OK)
                assert why != OK or SENT[name][0] <= value <= SENT[name][1]
        for name, now in sample.one.items():
            assert math.isnan(now.value) == (now.state != OK)
            assert (now.state == ABSENT) == (name not in SENT)
        for k, age in enumerate(sample.ages):
            lost = age > 5 and sample.heard[k]
            assert not lost or all(
                (getattr(sample, n).why[p] if n in MANY else sample.one[n].state) in {STALE, ABSENT}
                for n, p in SOURCES[k].fills
            )
