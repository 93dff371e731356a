"""Contactors: precharge before closing, no opening above the break current but for the fuse's sake, welds found."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.contactors import (
    CLOSED,
    FEEDBACK,
    FUSE,
    LEAK,
    OPEN,
    OPENING,
    PRECHARGE,
    TIMEOUT,
    WELD,
    Commands,
    ContactorConfig,
    Reading,
    State,
    serviced,
    step,
)

CFG = ContactorConfig(break_current_a=3.5)
ALL_OPEN, MAINS = Commands(), Commands(plus=True, minus=True)


def reading(t_s: float, **changes: Any) -> Reading:
    known: dict[str, Any] = {
        "close": True, "must_open": False, "may_close": True, "current_a": 0.0, "pack_v": 360.0, "link_v": 0.0,
    }  # fmt: skip
    return Reading(round(t_s * 1e9), **(known | changes))


def closed(t_s: float = 0.0) -> State:
    state, _, _ = step(CFG, State(), reading(t_s))
    state, commands, faults = step(CFG, state, reading(t_s + 0.5, link_v=359.5))
    assert (state.phase, commands, faults) == (CLOSED, MAINS, ())
    return state


def test_the_pack_is_precharged_before_the_plus_contactor_closes() -> None:
    state, commands, _ = step(CFG, State(), reading(0.0))
    assert (state.phase, commands) == (PRECHARGE, Commands(minus=True, precharge=True))
    for link_v, current_a in ((300.0, 0.0), (359.0, 0.0), (359.5, 0.05), (math.nan, 0.0), (359.5, math.nan)):
        state, commands, _ = step(CFG, state, reading(1.0, link_v=link_v, current_a=current_a))
        assert (state.phase, commands.plus) == (PRECHARGE, False), (link_v, current_a)
    state, commands, _ = step(CFG, state, reading(1.9, link_v=359.1, current_a=0.049))
    assert (state.phase, commands) == (CLOSED, MAINS)


@pytest.mark.parametrize("why", [{"may_close": False}, {"must_open": True}, {"close": False}])
def test_nothing_closes_unasked_or_unchecked(why: dict[str, bool]) -> None:
    state, commands, _ = step(CFG, State(), reading(0.0, **why))
    assert (state.phase, commands) == (OPEN, ALL_OPEN)


def test_three_precharges_that_fail_lock_with_pauses_between() -> None:
    state, t_s = State(), 0.0
    begun: list[float] = []
    seen: list[str] = []
    while t_s < 60:
        before = state.phase
        state, _, faults = step(CFG, state, reading(t_s, link_v=100.0))
        begun += [t_s] if (before, state.phase) == (OPEN, PRECHARGE) else []
        seen += faults
        t_s = round(t_s + 0.1, 1)
    assert begun == [0.0, 12.0, 24.0]
    assert seen == [TIMEOUT]
    assert state.locked == {TIMEOUT}
    assert step(CFG, serviced(state), reading(100.0))[0].phase == PRECHARGE


def test_a_withdrawn_wish_forgets_the_tries() -> None:
    state, _, _ = step(CFG, State(tries=2), reading(0.0, close=False))
    assert state.tries == 0


@pytest.mark.parametrize("why", [{"must_open": True}, {"close": False}, {"minus": False}])
def test_a_precharge_is_broken_off(why: dict[str, bool]) -> None:
    state, _, _ = step(CFG, State(), reading(0.0))
    state, commands, _ = step(CFG, state, reading(0.4, **why))
    assert (state.phase, commands) == (OPEN, ALL_OPEN)


@pytest.mark.parametrize(("current_a", "phase"), [(3.5, OPEN), (-3.5, OPEN), (3.51, OPENING), (math.nan, OPENING)])
def test_contactors_open_at_once_only_below_the_break_current(current_a: float, phase: str) -> None:
    state, commands, faults = step(CFG, closed(), reading(1.0, must_open=True, current_a=current_a))
    assert (state.phase, commands, faults) == (phase, ALL_OPEN if phase == OPEN else MAINS, ())


def test_an_over_current_has_three_seconds_to_blow_the_fuse() -> None:
    state, _, _ = step(CFG, closed(), reading(1.0, must_open=True, current_a=900.0))
    for t_s in (1.5, 2.5, 3.99):
        state, commands, faults = step(CFG, state, reading(t_s, must_open=True, current_a=900.0))
        assert (commands, faults) == (MAINS, ())
    blown, commands, faults = step(CFG, state, reading(3.995, must_open=True, current_a=0.0))
    assert (blown.phase, commands, faults) == (OPEN, ALL_OPEN, ())
    state, commands, faults = step(CFG, state, reading(4.0, must_open=True, current_a=900.0))
    assert (state.phase, commands, faults) == (OPEN, ALL_OPEN, (FUSE,))
    assert state.locked == {FUSE}


def test_a_driver_who_switches_off_waits_for_the_current_to_fall_however_long() -> None:
    state, _, _ = step(CFG, closed(), reading(1.0, close=False, current_a=50.0))
    for t_s in range(2, 20):
        state, commands, faults = step(CFG, state, reading(t_s, close=False, current_a=50.0))
        assert (state.phase, commands, faults) == (OPENING, MAINS, ())
    back, _, _ = step(CFG, state, reading(20.0, current_a=50.0))
    assert back.phase == CLOSED
    late, _, faults = step(CFG, state, reading(20.0, close=False, must_open=True, current_a=50.0))
    assert (late.phase, faults) == (OPENING, ()), "the fuse's time begins with protection's wish"
    state, _, _ = step(CFG, state, reading(20.0, close=False, current_a=1.0))
    assert state.phase == OPEN


def test_a_pack_that_was_opened_rests_before_it_closes_again() -> None:
    state, _, _ = step(CFG, closed(), reading(5.0, close=False))
    assert step(CFG, state, reading(14.99))[0].phase == OPEN
    assert step(CFG, state, reading(15.0))[0].phase == PRECHARGE


@pytest.mark.parametrize("which", ["plus", "minus"])
def test_a_contactor_that_stays_closed_is_a_weld_and_locks(which: str) -> None:
    state, _, _ = step(CFG, closed(), reading(1.0, must_open=True))
    state, _, faults = step(CFG, state, reading(1.29, must_open=True, **{which: True}))
    assert faults == ()
    state, _, faults = step(CFG, state, reading(1.3, must_open=True, **{which: True}))
    assert faults == (WELD,)
    assert step(CFG, state, reading(1.4, must_open=True, **{which: True}))[2] == (), "told once"
    assert step(CFG, state, reading(50.0))[0].phase == OPEN


def test_a_contactor_that_does_not_close_is_a_fault() -> None:
    state, _, faults = step(CFG, closed(), reading(0.9, plus=False, minus=True))
    assert faults == (FEEDBACK,)
    assert state.locked == {FEEDBACK}


def test_current_through_open_contactors_is_a_fault() -> None:
    state, _, faults = step(CFG, State(), reading(0.0, close=False, current_a=-0.6))
    state, _, faults = step(CFG, state, reading(0.1, close=False, current_a=-0.6))
    assert faults == ()
    broken, _, _ = step(CFG, state, reading(0.15, close=False, current_a=-0.5))
    assert step(CFG, broken, reading(0.25, close=False, current_a=-0.6))[2] == ()
    assert step(CFG, state, reading(0.2, close=False, current_a=-0.6))[2] == (LEAK,)


def test_a_lock_is_not_lifted_while_contactors_are_closed() -> None:
    state = closed()._replace(locked=frozenset({FEEDBACK}))
    assert serviced(state) == state


@pytest.mark.parametrize("name", ["break_current_a", "precharge_s", "fuse_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_setting_that_cannot_be_meant_is_refused(name: str, value: float) -> None:
    changed: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be > 0; got {value}"):
        replace(CFG, **changed)


READINGS = st.builds(
    Reading, t_ns=st.integers(1, 3 * 10**9), close=st.booleans(), must_open=st.booleans(), may_close=st.booleans(),
    current_a=st.sampled_from([0.0, 0.04, 3.0, -3.0, 100.0, math.nan]), pack_v=st.sampled_from([360.0, math.nan]),
    link_v=st.sampled_from([0.0, 359.9, math.nan]), plus=st.sampled_from([True, False, None]),
    minus=st.sampled_from([True, False, None]),
)  # fmt: skip


@given(st.lists(READINGS, max_size=60))
def test_in_any_sequence_closing_is_prepared_and_opening_is_bounded(steps: list[Reading]) -> None:
    state, t_ns, wanted_ns = State(), 0, None
    commands = ALL_OPEN
    for one in steps:
        t_ns += one.t_ns
        now = one._replace(t_ns=t_ns)
        before, was = state, commands
        state, commands, _ = step(CFG, state, now)
        if commands.plus and not was.plus:
            assert was.precharge
            assert abs(now.pack_v - now.link_v) < 1.0
        if commands.precharge and not was.precharge:
            assert now.may_close
            assert now.close
            assert not now.must_open
            assert not before.locked
        if was.plus and not commands.plus and not abs(now.current_a) <= CFG.break_current_a:
            assert wanted_ns is not None
            assert t_ns - wanted_ns >= 3 * 10**9
            assert FUSE in state.locked
        wanted_ns = (wanted_ns if wanted_ns is not None else t_ns) if now.must_open and commands.plus else None
        if now.must_open and commands.plus:
            assert t_ns - (wanted_ns or 0) < 3 * 10**9, "held beyond the fuse's time"
