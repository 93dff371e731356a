"""The simulated junction box: it follows, and without a heartbeat it fails to the safe side."""

from __future__ import annotations

import math

import pytest

from edge.commands import ASK_CLOSE, ASK_HOLD, ASK_OPEN, CONTACTORS, CURRENTS, SAFE_STOP, SUPERVISOR
from edge.junction_box import FOLLOWS, HOLDS, INHIBITED, OPENED, BoxConfig, Seen, State, hear, status, step

MS = 10**6
CFG = BoxConfig(break_current_a=3.5)
PARKED = Seen(pack_v=355.0, current_a=0.0, speed_kmh=0.0)
DRIVING = Seen(pack_v=355.0, current_a=-60.0, speed_kmh=90.0)
SHUT = (True, True, False)


def asked(state: State, plus: int, minus: int, precharge: int, now_ns: int) -> State:
    return hear(state, CONTACTORS, {"Plus": plus, "Minus": minus, "Precharge": precharge}, now_ns)


def run(state: State, seen: Seen, from_ms: int, to_ms: int, ask: tuple[int, int, int] | None = None) -> State:
    for ms in range(from_ms, to_ms, 10):
        state = asked(state, *ask, ms * MS) if ask else state
        state = step(CFG, state, seen, ms * MS)
    return state


def closed() -> State:
    state = run(State(), PARKED, 0, 100, (ASK_CLOSE, ASK_CLOSE, ASK_OPEN))
    assert state.closed == SHUT
    return hear(state, CURRENTS, {"ChargeCurrentMax": 100.0, "DischargeCurrentMax": 200.0}, 90 * MS)


def test_contactors_follow_after_the_time_that_they_take() -> None:
    state = asked(step(CFG, State(), PARKED, 0), ASK_OPEN, ASK_CLOSE, ASK_OPEN, 0)
    assert step(CFG, state, PARKED, 19 * MS).closed == (False, False, False)
    assert step(CFG, state, PARKED, 20 * MS).closed == (False, True, False)


def test_the_link_charges_through_precharge_and_empties_slowly() -> None:
    state = run(State(), PARKED, 0, 1000, (ASK_OPEN, ASK_CLOSE, ASK_CLOSE))
    assert state.link_v == pytest.approx(355.0, abs=0.2)
    after_a_time_constant = run(State(), PARKED, 0, 120, (ASK_OPEN, ASK_CLOSE, ASK_CLOSE))
    assert after_a_time_constant.link_v == pytest.approx(355.0 * (1 - math.exp(-1)), rel=0.01)
    emptied = run(state, PARKED, 1000, 3000, (ASK_OPEN, ASK_OPEN, ASK_OPEN))
    assert 200.0 < emptied.link_v < 260.0


def test_silence_at_speed_holds_what_is_closed_and_ramps_currents_to_zero_within_5_s() -> None:
    state = run(closed(), DRIVING, 100, 210)
    assert (state.mode, state.closed) == (HOLDS, SHUT)
    half = run(state, DRIVING, 210, 2710)
    assert half.charge_a == pytest.approx(50.0, abs=1.0)
    assert half.discharge_a == pytest.approx(100.0, abs=2.0)
    gone = run(half, DRIVING, 2710, 5300)
    assert (gone.charge_a, gone.discharge_a, gone.closed) == (0.0, 0.0, SHUT)


@pytest.mark.parametrize(
    ("seen", "opens"),
    [
        (Seen(355.0, -3.5, 4.9), True),
        (Seen(355.0, -3.6, 4.9), False),
        (Seen(355.0, -3.5, 5.0), False),
        (Seen(355.0, 0.0, math.nan), False),
    ],
)
def test_after_silence_it_opens_at_standstill_below_the_break_current_alone(seen: Seen, opens: bool) -> None:
    state = run(run(closed(), DRIVING, 100, 300), seen, 300, 500)
    assert (state.closed == (False, False, False), state.mode) == (opens, OPENED if opens else HOLDS)


def test_the_supervisor_s_safe_stop_is_silence_and_its_other_words_are_none() -> None:
    state = hear(closed(), SUPERVISOR, {"Request": SAFE_STOP}, 95 * MS)
    assert state.mode == HOLDS
    assert hear(closed(), SUPERVISOR, {"Request": 0.0}, 95 * MS).mode == FOLLOWS


def test_a_heartbeat_that_holds_moves_nothing_and_one_that_asks_is_followed_again() -> None:
    lost = run(closed(), DRIVING, 100, 300)
    held = run(lost, DRIVING, 300, 400, (ASK_HOLD, ASK_HOLD, ASK_HOLD))
    assert (held.mode, held.closed) == (FOLLOWS, SHUT)
    assert run(held, DRIVING, 400, 500, (ASK_OPEN, ASK_OPEN, ASK_OPEN)).closed == (False, False, False)


def test_what_opened_by_itself_closes_only_after_open_was_asked_for() -> None:
    opened = run(closed(), PARKED, 100, 400)
    assert opened.mode == OPENED
    asks = (ASK_CLOSE, ASK_CLOSE, ASK_OPEN)
    inhibited = run(opened, PARKED, 400, 600, asks)
    assert (inhibited.mode, inhibited.closed) == (INHIBITED, (False, False, False))
    rested = run(inhibited, PARKED, 600, 650, (ASK_OPEN, ASK_OPEN, ASK_OPEN))
    assert run(rested, PARKED, 650, 750, asks).closed == SHUT


def test_its_status_is_what_the_bus_description_holds() -> None:
    assert status(closed()) == {
        "PlusClosed": 1.0, "MinusClosed": 1.0, "PrechargeClosed": 0.0, "LinkVoltage": closed().link_v, "State": FOLLOWS,
    }  # fmt: skip
