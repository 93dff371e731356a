"""Contactors: precharge before closing, no opening above the break current but for the fuse's sake, welds, restarts."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.contactors import (
    CHECK,
    CLOSED,
    HOLD,
    MINUS,
    OPEN,
    PLUS,
    PRE,
    PRECHARGE,
    Commands,
    ContactorConfig,
    Feedback,
    Request,
    State,
    rested,
    serviced,
    step,
)

CFG = ContactorConfig(break_current_a=3.5)
OFF, MAINS, HELD = Commands(), Commands(plus=True, minus=True), Commands(hold=True)
WANTED = Request(close=True, must_open=False, may_close=True, standing=True)
QUIET = Feedback(current_a=0.0, pack_v=360.0, link_v=0.0)
MS = 10**6
S = 10**9


def at(state: State, t_ns: int, feedback: Feedback = QUIET, **request: Any) -> tuple[State, Commands]:
    return step(CFG, state, WANTED._replace(**request), feedback, t_ns)


def opened(since_ns: int = 0, **more: Any) -> State:
    return State(since_ns, OPEN, **more)


def precharging(t_ns: int = 0) -> State:
    return State(t_ns, PRECHARGE, link_v=0.0)


def closed(t_ns: int = 0) -> State:
    return State(t_ns - S, CLOSED)


# -- a start


def test_a_restart_commands_nothing_until_it_is_known_where_the_contactors_are() -> None:
    state, commands = at(State(0), 0, QUIET._replace(plus=True, minus=True), standing=False)
    assert (state.phase, commands) == (HOLD, HELD)
    later, commands = at(state, 3600 * S, QUIET._replace(plus=True, minus=True))
    assert (later.phase, commands) == (HOLD, HELD), "closed and wanted: nothing to do"


@pytest.mark.parametrize(
    ("plus", "minus"), [(False, False), (False, True), (True, False), (False, None), (None, False)]
)
def test_feedback_of_an_open_contactor_ends_the_holding_at_any_speed(plus: bool | None, minus: bool | None) -> None:
    state, commands = at(State(0), 5, Feedback(plus=plus, minus=minus), standing=False)
    assert (state, commands) == (State(5, OPEN), OFF)


@pytest.mark.parametrize("feedback", [QUIET, QUIET._replace(plus=True), QUIET._replace(minus=True)])
def test_contactors_without_feedback_are_held_until_the_vehicle_stands_and_no_current_flows(feedback: Feedback) -> None:
    for t_ns, standing, current_a, phase in (
        (S - 1, True, 0.0, HOLD),  # feedback may still come
        (S, False, 0.0, HOLD),
        (S, True, 3.6, HOLD),
        (S, True, math.nan, HOLD),
        (S, True, -3.5, OPEN),
    ):
        state, commands = at(State(0), t_ns, feedback._replace(current_a=current_a), standing=standing)
        assert (state.phase, commands.hold) == (phase, phase == HOLD), (t_ns, standing, current_a)


def test_held_contactors_open_when_protection_says_so_and_at_standstill_when_nobody_wants_them() -> None:
    shut = QUIET._replace(plus=True, minus=True)
    assert at(State(0), 1, shut, must_open=True, standing=False)[0].phase == OPEN
    assert at(State(0), 1, shut, close=False, standing=False)[0].phase == HOLD
    assert at(State(0), 1, shut, close=False)[0].phase == OPEN
    assert at(State(0), 1, shut._replace(current_a=4.0), close=False)[0].phase == HOLD


# -- closing


@pytest.mark.parametrize("why", [{"close": False}, {"may_close": False}, {"must_open": True}])
def test_nothing_closes_unasked_unchecked_or_forbidden(why: dict[str, bool]) -> None:
    state, commands = at(opened(), 0, QUIET, **why)
    assert (state.phase, commands) == (OPEN, OFF)


@pytest.mark.parametrize(
    "state", [opened(locked=True), opened(weld=PLUS), opened(opened_ns=0)], ids=["locked", "welded", "just opened"]
)
def test_nothing_closes_locked_welded_or_without_a_pause(state: State) -> None:
    assert at(state, 10 * S - 1)[0].phase == OPEN


@pytest.mark.parametrize("which", ["plus", "minus", "precharge"])
def test_nothing_closes_while_a_contactor_says_that_it_is_closed(which: str) -> None:
    assert at(opened(), 0, QUIET._replace(**{which: True}))[0].phase == OPEN
    assert at(opened(), 0, QUIET._replace(**{which: False}))[0].phase == CHECK


def test_after_the_pause_the_minus_contactor_closes_alone_then_precharge() -> None:
    state, commands = at(opened(opened_ns=0), 10 * S, QUIET._replace(link_v=7.0))
    assert (state.phase, state.since_ns, state.link_v) == (CHECK, 10 * S, 7.0)
    assert commands == Commands(minus=True)
    state, commands = at(state, 10 * S + 200 * MS - 1)
    assert (state.phase, commands) == (CHECK, Commands(minus=True))
    state, commands = at(state, 10 * S + 200 * MS)
    assert (state.phase, state.since_ns, commands) == (
        PRECHARGE, 10 * S + 200 * MS, Commands(minus=True, precharge=True),
    )  # fmt: skip


def test_a_link_that_charges_through_the_minus_contactor_alone_shows_a_welded_plus() -> None:
    state = State(0, CHECK, link_v=10.0)
    assert at(state, 1, QUIET._replace(link_v=82.0))[0].phase == CHECK, "a fifth of the pack"
    after, commands = at(state, 1, QUIET._replace(link_v=82.1))
    assert (after.phase, after.weld, after.locked, commands.plus, commands.minus) == (OPEN, PLUS, True, False, False)
    assert commands.alerts == ("link at 82 V before precharge: the plus contactor is welded",)
    assert at(state, 1, QUIET._replace(link_v=math.nan))[0].phase == CHECK


@pytest.mark.parametrize(
    ("link_v", "current_a", "done"),
    [
        (359.0, 0.0, False), (359.001, 0.0, True), (360.999, 0.0, True), (361.0, 0.0, False),
        (360.0, 0.05, False), (360.0, -0.05, False), (360.0, 0.0499, True), (360.0, -0.0499, True),
        (math.nan, 0.0, False), (360.0, math.nan, False),
    ],
)  # fmt: skip
def test_precharge_is_done_when_voltages_are_even_and_no_current_flows(
    link_v: float, current_a: float, done: bool
) -> None:
    state, commands = at(precharging(), 5, Feedback(current_a, 360.0, link_v))
    assert state.phase == (CLOSED if done else PRECHARGE)
    assert commands == Commands(plus=done, minus=True, precharge=True), "precharge stays beside a plus that closes"


def test_precharge_opens_a_moment_after_the_plus_contactor_has_closed_and_failures_are_forgotten() -> None:
    state, _ = at(precharging()._replace(failures=2), 7, QUIET._replace(link_v=360.0))
    assert (state.failures, state.since_ns) == (0, 7)
    assert at(state, 7 + 100 * MS - 1)[1] == Commands(plus=True, minus=True, precharge=True)
    assert at(state, 7 + 100 * MS)[1] == MAINS


def test_precharge_that_takes_2_s_fails_and_the_third_failure_locks() -> None:
    state = precharging()
    assert at(state, 2 * S - 1)[0].phase == PRECHARGE
    slow = Feedback(0.2, 360.0, 120.0)
    t_ns = 2 * S
    for tries in (1, 2, 3):
        state, commands = at(state, t_ns, slow)
        assert (state.phase, state.failures, state.locked, state.opened_ns) == (OPEN, tries, tries == 3, t_ns)
        assert commands == Commands(
            alerts=(f"precharge failed, try {tries} of 3: link at 120.0 V, pack at 360.0 V, 0.2 A after 2 s",)
        )
        state = state._replace(phase=PRECHARGE, since_ns=t_ns)
        t_ns += 2 * S
    state = opened(failures=3, locked=True)
    denied, _ = at(state, t_ns, must_open=True, standby=True)
    assert (denied.locked, denied.failures) == (True, 0)
    free, commands = at(state, t_ns, standby=True, close=False)
    assert (free.failures, free.locked, commands) == (0, False, OFF)
    assert at(free, t_ns)[0].phase == CHECK


def test_standby_unlocks_open_contactors_only() -> None:
    state = closed()._replace(locked=True, failures=1)
    after, _ = at(state, 0, standby=True)
    assert (after.locked, after.failures) == (True, 1)


@pytest.mark.parametrize("phase", [CHECK, PRECHARGE])
@pytest.mark.parametrize(
    ("why", "locks"), [({"close": False}, False), ({"may_close": False}, True), ({"must_open": True}, True)]
)
def test_a_closing_is_broken_off_at_once(phase: str, why: dict[str, bool], locks: bool) -> None:
    state, commands = at(State(0, phase, link_v=0.0), 9, QUIET._replace(link_v=360.0), **why)
    assert (state.phase, state.locked, state.opened_ns, commands) == (OPEN, locks, 9, OFF)


# -- opening


def test_protection_opens_what_may_be_broken_at_once_and_at_any_speed() -> None:
    state, commands = at(closed(), 5, QUIET._replace(current_a=-3.5), must_open=True, standing=False)
    assert (state.phase, state.locked, state.opened_ns, state.since_ns, commands) == (OPEN, True, 5, 5, OFF)


@pytest.mark.parametrize(
    ("current_a", "said"), [(-400.0, "400.0 A"), (3.51, "3.5 A"), (math.nan, "an unknown current")]
)
def test_a_current_that_cannot_be_broken_waits_3_s_for_the_fuse(current_a: float, said: str) -> None:
    hot = QUIET._replace(current_a=current_a)
    state, commands = at(closed(), 100, hot, must_open=True)
    assert (state.phase, state.must_ns, commands) == (CLOSED, 100, MAINS)
    state, commands = at(state, 100 + 3 * S - 1, hot, must_open=True)
    assert (state.must_ns, commands) == (100, MAINS)
    late, commands = at(state, 100 + 3 * S, hot, must_open=True)
    assert (late.phase, late.locked, late.must_ns) == (OPEN, True, -1)
    assert commands == Commands(alerts=(f"contactors opened under {said} after 3 s: no fuse tripped",))
    early, commands = at(state, 200, must_open=True)
    assert (early.phase, early.must_ns, commands) == (OPEN, -1, OFF)


def test_the_wait_begins_anew_when_protection_took_its_word_back() -> None:
    hot = QUIET._replace(current_a=50.0)
    state, _ = at(closed(), 0, hot, must_open=True)
    state, _ = at(state, 1, hot)
    assert (state.phase, state.must_ns) == (CLOSED, -1)
    state, _ = at(state, 4 * S, hot, must_open=True)
    assert state.phase == CLOSED


@pytest.mark.parametrize(
    ("standing", "current_a", "opens"),
    [(True, 3.5, True), (True, 3.6, False), (True, math.nan, False), (False, 0.0, False)],
)
def test_an_opening_that_nobody_needs_waits_for_standstill_and_a_small_current(
    standing: bool, current_a: float, opens: bool
) -> None:
    now = 10 * S
    state, commands = at(closed(), now, QUIET._replace(current_a=current_a), close=False, standing=standing)
    assert (state.phase, commands) == ((OPEN, OFF) if opens else (CLOSED, MAINS))
    assert not state.locked
    assert at(closed(), now, close=True)[0].phase == CLOSED


def test_want_of_permission_to_close_opens_nothing() -> None:
    assert at(closed(), 10 * S, may_close=False)[1] == MAINS


# -- welds


@pytest.mark.parametrize(("name", "which"), [("plus", PLUS), ("minus", MINUS), ("precharge", PRE)])
def test_a_contactor_that_says_closed_half_a_second_after_opening_is_welded(name: str, which: int) -> None:
    bad = QUIET._replace(**{name: True})
    state, _ = at(closed(), 0, close=False)
    state, commands = at(state, 10, bad)
    assert (state.weld, state.weld_ns, commands.alerts) == (0, 10, ())
    assert at(state, 10 + 500 * MS - 1, bad)[0].weld == 0
    late, commands = at(state, 10 + 500 * MS, bad)
    assert late.weld == which
    assert commands.alerts == (f"the {name} contactor conducts 0.5 s after opening",)
    again, commands = at(late, S, bad)
    assert (again.weld, commands.alerts) == (which, ()), "said once"
    cured, _ = at(state, 11, QUIET)
    assert cured.weld_ns == -1
    assert at(late, 20 * S)[0].phase == OPEN, "a weld stays until a service"
    assert at(serviced(late), 20 * S)[0].phase == CHECK
    held = closed()._replace(weld=which, failures=2, locked=True)
    assert serviced(held) == rested(held) == held
    assert serviced(opened(weld=which, weld_ns=5, failures=2, locked=True)) == opened()
    assert rested(opened(weld=which, failures=2, locked=True)) == opened(weld=which, locked=True)


def test_a_link_at_pack_voltage_two_minutes_after_opening_is_a_weld() -> None:
    full = QUIET._replace(link_v=324.1)
    state, _ = at(opened(opened_ns=0), 50, full, close=False)
    assert state.weld_ns == 50
    assert at(state, 50 + 120 * S - 1, full, close=False)[0].weld == 0
    late, commands = at(state, 50 + 120 * S, full, close=False)
    assert late.weld == PLUS
    assert commands.alerts == ("the plus contactor conducts 120 s after opening",)
    assert at(opened(), 50, QUIET._replace(link_v=324.0), close=False)[0].weld_ns == -1


# -- settings and properties


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_settings_must_be_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match="break_current_a must be > 0; got"):
        ContactorConfig(break_current_a=value)
    with pytest.raises(ValueError, match="fuse_s must be > 0; got"):
        ContactorConfig(3.5, fuse_s=value)
    assert ContactorConfig(1e-9).tries == 3


FEEDBACKS = st.builds(
    Feedback,
    st.sampled_from([0.0, 0.04, 3.5, 60.0, -400.0, math.nan]),
    st.sampled_from([360.0, math.nan]),
    st.sampled_from([0.0, 200.0, 359.5, math.nan]),
    *[st.sampled_from([None, True, False])] * 3,
)
REQUESTS = st.builds(Request, *[st.booleans()] * 5)


@given(st.lists(st.tuples(st.integers(0, 5000), REQUESTS, FEEDBACKS), max_size=60))
def test_whatever_comes_the_plus_contactor_closes_only_after_precharge_and_never_opens_unasked_under_load(
    ticks: list[tuple[int, Request, Feedback]],
) -> None:
    state, before, t_ns, must_since = State(0), HELD, 0, -1
    for ms, request, feedback in ticks:
        t_ns += ms * MS
        must_since = (must_since if must_since >= 0 else t_ns) if request.must_open else -1
        state, commands = step(CFG, state, request, feedback, t_ns)
        if commands.plus and not before.plus:
            assert before == Commands(minus=True, precharge=True, alerts=before.alerts)
            assert request.may_close
            assert not request.must_open
            assert abs(feedback.pack_v - feedback.link_v) < 1.0
        if before.plus and not commands.plus:
            small = abs(feedback.current_a) <= 3.5
            waited = request.must_open and t_ns - must_since >= 3 * S
            assert waited or (small and (request.must_open or (request.standing and not request.close)))
        if not request.may_close and not before.minus:
            assert not commands.minus
        if state.weld or state.locked:
            assert state.phase in {OPEN, CLOSED, HOLD}
        before = commands


# -- any time of the clock

STARTS = [0, 1_000_000 * S]


@pytest.mark.parametrize("t_ns", STARTS)
def test_waits_are_measured_from_when_they_began(t_ns: int) -> None:
    busy = QUIET._replace(current_a=50.0)
    state, commands = at(closed(t_ns), t_ns, busy, must_open=True)
    assert (state.must_ns, commands.plus) == (t_ns, True)
    state, commands = at(state, t_ns + 3 * S - 1, busy, must_open=True)
    assert commands.plus
    assert not at(state, t_ns + 3 * S, busy, must_open=True)[1].plus, "the fuse had its time"
    stuck = QUIET._replace(plus=True)
    state, _ = at(opened(t_ns), t_ns, stuck)
    assert (state.weld_ns, state.weld) == (t_ns, 0)
    state, _ = at(state, t_ns + S // 2 - 1, stuck)
    assert state.weld == 0
    assert at(state, t_ns + S // 2, stuck)[0].weld == PLUS


@pytest.mark.parametrize("t_ns", STARTS)
def test_a_start_waits_for_feedback_and_an_opening_for_its_pause(t_ns: int) -> None:
    wait = State(t_ns)
    assert at(wait, t_ns + S - 1)[0] == wait
    assert at(wait, t_ns + S)[0].phase == OPEN
    rests = opened(t_ns, opened_ns=t_ns)
    assert at(rests, t_ns + 10 * S - 1)[0].phase == OPEN
    assert at(rests, t_ns + 10 * S)[0].phase == CHECK


def test_an_opening_begins_its_watch_and_its_pause_anew() -> None:
    state, _ = at(State(0, CHECK, weld_ns=5, must_ns=7, link_v=0.0), 9 * S, close=False)
    assert state == State(9 * S, OPEN, opened_ns=9 * S, link_v=0.0)
    state, _ = at(State(0, CHECK, link_v=0.0), 9 * S, QUIET._replace(link_v=100.0))
    assert (state.weld, state.opened_ns, state.since_ns, state.locked) == (PLUS, 9 * S, 9 * S, True)


def test_tries_are_forgotten_only_when_standby_is_asked_for() -> None:
    tried = opened(0, failures=2, locked=True)
    assert at(tried, S)[0].failures == 2
    assert at(tried, S, standby=True)[0].failures == 0
