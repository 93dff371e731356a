"""Stuck values: a cell that stays alone, a current that stays; each bound just below and at it."""

from __future__ import annotations

import math

import pytest

from edge.sensing import OK, STUCK, Sample
from edge.sensing import State as Sensed
from edge.stuck import ALONE, LEG_NS, LEGS, STUCK_NS, Apart, Still, StuckConfig, Swing, apart, current, swung, voltage
from tests.edge.test_sensing import MAIN, PAGE_1, PAGE_2, S, alternate, drive, hear, noisy

NAN = math.nan
CFG = StuckConfig(idle_a=1.0, stuck_a=10.0, stuck_v=0.5, moved_v=0.25, swing_v=0.5)
START = 1_000_000 * S


def test_its_numbers_are_as_the_recordings_left_them() -> None:
    assert (LEGS, LEG_NS, ALONE, STUCK_NS) == (4, 600 * S, 16, 2 * S)
    assert (Swing(way=0, legs=0, leg_ns=0), math.isnan(Swing().far)) == (Swing()._replace(far=Swing().far), True)
    assert (Still().samples, Still().moved_ns, Still().stuck, Still().since_ns) == (0, -1, False, 0)
    assert Apart((1.0,), 1.0, 0, ((0, 0),)).stuck == ()


# -- swings


def test_a_leg_begins_where_a_value_has_come_back_by_more_than_its_bound() -> None:
    now = swung(Swing(), 5.0, 1.0, 1)
    assert now == Swing(0, 5.0, 0, 0)
    assert swung(now, 6.0, 1.0, 2) == now, "by no more than the bound"
    assert swung(now, 4.0, 1.0, 2) == now
    down = swung(now, 3.75, 1.0, 2)
    assert down == Swing(-1, 3.75, 1, 2)
    up = swung(now, 6.25, 1.0, 3)
    assert up == Swing(1, 6.25, 1, 3)
    assert swung(up, 6.5, 1.0, 4) == Swing(1, 6.5, 1, 3), "on its way"
    assert swung(up, 6.25, 1.0, 4) == up
    assert swung(up, 5.25, 1.0, 4) == up
    assert swung(up, 5.0, 1.0, 4) == Swing(-1, 5.0, 2, 4)
    assert swung(down, 3.5, 1.0, 4) == Swing(-1, 3.5, 1, 2)
    assert swung(down, 5.0, 1.0, 4) == Swing(1, 5.0, 2, 4)


def test_a_value_that_is_not_known_turns_nothing() -> None:
    up = Swing(1, 6.25, 1, 3)
    assert swung(up, NAN, 1.0, 9) == up
    unknown = swung(Swing(), NAN, 1.0, 9)
    assert swung(unknown, 2.0, 1.0, 10) == Swing(0, 2.0, 0, 0)


# -- one cell alone


def message(level: int, *, stays: int = 0, cells: int = 3) -> tuple[float, ...]:
    """Give cells at 3 V or 3.5 V by turns; the first ones stay."""
    return tuple(3.125 if k < stays else 3.0 + 0.5 * (level % 2) for k in range(cells))


def after(turns: int, *, legs: int | None = None, stays: int = 1, cells: int = 3) -> Apart:
    """Let a message come, and come again each time that the others have moved, the current by as many legs."""
    now = apart(CFG, None, message(0, stays=stays, cells=cells), 5)
    for k in range(1, turns + 1):
        now = apart(CFG, now, message(k, stays=stays, cells=cells), 5 + (k if legs is None else min(k, legs)))
    return now


def test_a_cell_that_stays_while_current_and_others_move_16_times_is_stuck_until_it_changes() -> None:
    assert after(15).stuck == ()
    now = after(16)
    assert now.stuck == (0,)
    now = apart(CFG, now, message(16, stays=1), 21)
    assert now.stuck == (0,), "neither current nor others move, and it is stuck all the same"
    assert apart(CFG, now, (3.126, 3.0, 3.0), 21).stuck == ()
    assert apart(CFG, now, (NAN, 3.0, 3.0), 21).stuck == (), "it has no value, and is none that stays"


def test_neither_the_current_s_legs_nor_the_others_moves_are_enough_alone() -> None:
    assert after(40, legs=15).stuck == ()
    assert after(40, legs=16).stuck == (0,)
    now = apart(CFG, None, (3.125, 3.0, 3.0), 0)
    for k in range(1, 40):
        now = apart(CFG, now, (3.125, 3.0 + 0.001 * (k % 2), 3.0), k)
    assert now.stuck == ()


def test_the_others_move_where_their_median_goes_by_the_bound() -> None:
    now = apart(CFG, None, (3.0, 3.0, 3.0), 0)
    assert now == Apart((3.0,) * 3, 3.0, 0, ((0, 0),) * 3)
    now = apart(CFG, now, (3.0, 3.2, 3.2), 1)
    assert (now.moves, now.far_v) == (0, 3.0)
    now = apart(CFG, now, (3.0, 3.25, 3.25), 2)
    assert (now.moves, now.far_v, now.since) == (1, 3.25, ((0, 0), (2, 1), (2, 1)))
    now = apart(CFG, now, (3.0, 3.0, NAN), 3)
    assert (now.moves, now.far_v, now.since) == (2, 3.0, ((0, 0), (3, 2), (3, 2)))
    now = apart(CFG, now, (NAN, NAN, NAN), 4)
    assert (now.moves, now.far_v) == (2, 3.0)


def test_cells_whose_others_were_not_known_are_compared_from_when_they_are() -> None:
    now = apart(CFG, None, (NAN, NAN, NAN), 0)
    assert math.isnan(now.far_v)
    assert apart(CFG, now, (3.0, 3.0, 3.0), 1).far_v == 3.0


def test_several_stay_alone_as_long_as_most_move() -> None:
    assert after(16, stays=2, cells=5).stuck == (0, 1)
    assert after(40, stays=3, cells=5).stuck == (), "a message that stays is judged as a whole"
    assert after(40, stays=1, cells=1).stuck == ()


def test_what_moved_before_a_cell_changed_last_does_not_count() -> None:
    now = after(12)
    now = apart(CFG, now, (3.0, 3.5, 3.5), 17)
    assert now.since[0] == (17, 13)
    for k in range(1, 16):
        now = apart(CFG, now, (3.0, *message(k + 1)[1:]), 18 + k)
    assert (now.stuck, now.moves) == ((), 28)
    assert apart(CFG, now, (3.0, *message(15)[1:]), 99).stuck == (0,)


# -- in a sample


def test_a_cell_that_stays_alone_while_current_and_others_move_is_stuck_at_its_place() -> None:
    def to_and_fro(turns: int) -> tuple[Sensed, Sample]:
        rows = [(0.1 * k, -20.0 * (k % 2), noisy(k), (3.6 + 0.02 * (k % 2), 3.5)) for k in range(1, turns + 1)]
        return drive(*rows)

    assert to_and_fro(16)[1].cell_v.state == OK
    state, sample = to_and_fro(17)
    assert sample.cell_v.why == (OK, STUCK, OK, OK)
    assert state.stuck.places == {(MAIN, "current_a"): (), (MAIN, "pack_v"): (), (1, "cell_v"): (1,), (2, "cell_v"): ()}
    assert set(state.stuck.apart) == {PAGE_1, PAGE_2}
    state, sample = hear(state, 2 * S)
    assert sample.cell_v.why == (OK, STUCK, OK, OK)
    assert alternate(state, 2.1, 0.0, 14.0, (3.6, 3.501))[1].cell_v.state == OK


# -- a current


def beside(*volts: float, current_a: float = -30.0, each_ns: int = 30 * S) -> Still:
    """Let a current stay beside these voltages of the pack."""
    now = current(CFG, None, (current_a,), 10.0, START)
    for k, pack_v in enumerate(volts, 1):
        now = current(CFG, now, (current_a,), pack_v, START + k * each_ns)
    return now


@pytest.mark.parametrize("current_a", [-30.0, 0.0])
def test_a_current_that_stays_while_the_voltage_turns_is_stuck(current_a: float) -> None:
    # 0.4 V at a time and 3 s apart: nothing of it is quick
    waves = [10.4, 10.8, 10.4, 10.0, 10.4, 10.8, 10.4]
    assert not beside(*waves, current_a=current_a, each_ns=3 * S).stuck
    now = beside(*waves, 10.2, current_a=current_a, each_ns=3 * S)
    assert now.stuck
    assert now.samples == 9
    assert current(CFG, now, (current_a,), 10.2, START + 60 * S).stuck
    moved = current(CFG, now, (current_a + 0.1,), 10.0, START + 60 * S)
    assert moved == Still((current_a + 0.1,), START + 60 * S, 1, 10.0, START + 60 * S, swing=Swing(far=10.0))


def test_turns_that_lie_further_apart_than_ten_minutes_are_counted_anew() -> None:
    early, late = (beside(10.8, 10.0, 10.8, 10.0, current_a=0.0, each_ns=ns) for ns in (LEG_NS, LEG_NS + 1))
    assert early.stuck
    assert (late.stuck, late.swing.legs) == (False, 1)
    assert beside(10.1, current_a=0.0).swing.legs == 0
    once = beside(10.8, 10.8, 10.8, 10.8, current_a=0.0, each_ns=LEG_NS)
    assert (once.stuck, once.swing) == (False, Swing(1, 10.8, 1, START + LEG_NS))


def test_a_current_that_is_not_known_or_new_is_not_stuck() -> None:
    unknown = Still((NAN,), START, 40, 10.0, START, swing=Swing(1, 10.0, 9, START))
    assert current(CFG, unknown, (NAN,), 12.0, START + S).samples == 1
    assert not current(CFG, unknown, (NAN,), 12.0, START + S).stuck


# -- voltages of a message, beside the tests of sensing


def test_voltages_that_stay_keep_when_they_changed_and_which_current_flowed_then() -> None:
    now = voltage(CFG, None, (3.0, 3.1), NAN, START)
    now = voltage(CFG, now, (3.0, 3.1), 5.0, START + S)
    assert now == Still((3.0, 3.1), START, 2, 5.0, START)
    now = voltage(CFG, now, (3.0, 3.1), 15.5, START + 2 * S)
    assert now == Still((3.0, 3.1), START, 3, 5.0, START, START + 2 * S)
    assert voltage(CFG, now, (3.0, 3.1), 5.0, START + 3 * S).moved_ns == -1
