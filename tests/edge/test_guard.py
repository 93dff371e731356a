"""The guard: one tick from messages to commands, on a vehicle that listens to them."""

from __future__ import annotations

import math

import pytest

from edge import guard
from edge.contactors import HOLD, OPEN, Commands
from edge.derating import Caps
from edge.protection import key_of
from edge.sensing import OK, Arrival
from edge.tighten import tightened
from schemas.limits import worst_detection_s
from tests.support.vehicle import (
    CAR,
    ISOLATION,
    MAIN,
    MS,
    PAGE_1,
    SOURCES,
    TICK_NS,
    Run,
    Vehicle,
    closed_run,
    small_guard,
)

CELL_HIGH, CELL_LOST = "cell_v/MSL/over/any", "cells_missing/MSL/over/any"


# -- closing


def test_a_healthy_pack_closes_through_precharge_and_says_nothing() -> None:
    run = Run()
    order: list[Commands] = []
    for _ in range(400):
        commands = run.once().commands
        if not order or commands != order[-1]:
            order.append(commands)
    assert order == [
        Commands(hold=True),
        Commands(),
        Commands(minus=True),
        Commands(minus=True, precharge=True),
        Commands(plus=True, minus=True, precharge=True),
        Commands(plus=True, minus=True),
    ]
    assert (run.said, run.alerts) == ([], [])
    run.go(10.0)
    assert run.out.allowed.charge_a == pytest.approx(180.0)


def test_contactors_that_take_80_ms_to_move_close_all_the_same() -> None:
    run = Run(Vehicle(delay_ticks=8)).go(4.0)
    assert run.is_closed
    assert (run.said, run.alerts) == ([], [])


def test_nothing_closes_unless_it_is_wanted() -> None:
    run = Run(close=False).go(5.0)
    assert run.out.may_close
    assert run.out.commands == Commands()


@pytest.mark.parametrize("source", [s for s in range(len(SOURCES)) if s != CAR])
def test_nothing_closes_while_one_message_has_not_come(source: int) -> None:
    run = Run(Vehicle(silent={source})).go(8.0)
    assert not run.out.may_close
    assert run.state.contactors.phase in {HOLD, OPEN}
    assert not any(run.vehicle.closed)


def test_nothing_closes_with_81_of_96_or_5_of_6_cells() -> None:
    run = Run(Vehicle(cell_v=[3.7, 3.7, 3.7, 3.7, 3.7, math.nan])).go(5.0)
    assert not any(run.vehicle.closed)
    assert any("cell 6 among 1 cells without a value" in d.text for _, d in run.said)


def test_nothing_closes_without_its_latches_until_a_person_has_looked() -> None:
    run = Run(latched=None).go(3.0)
    assert run.out.verdict.close_allowed
    assert not run.out.may_close
    run.once(service=True)
    assert run.go(3.0).is_closed


def test_a_latch_of_the_run_before_keeps_open_until_its_rule() -> None:
    run = Run(latched=(CELL_HIGH,)).go(3.0)
    assert not run.is_closed
    assert run.out.latched == (CELL_HIGH,)
    run.once(standby=True)
    assert not run.out.latched
    assert run.go(3.0).is_closed
    hard = Run(latched=("crash/MSL/over/any",)).go(3.0)
    hard.once(standby=True)
    assert not hard.go(3.0).is_closed
    hard.once(service=True)
    assert hard.go(8.0).is_closed, "10 s after the opening at the start"


def test_completeness_is_asked_for_whatever_the_table_says() -> None:
    rows = tuple(row for row in small_guard().config.table.rows if row.quantity not in {"cells_missing", "invalid"})
    setup = small_guard(limits=rows)
    lost = Run(Vehicle(cell_v=[3.7] * 5 + [-1.0]), setup=setup).go(4.0)
    assert lost.out.verdict.close_allowed
    assert not lost.out.may_close
    bad = Run(Vehicle(pack_off_v=1e5), setup=setup).go(4.0)
    assert not bad.out.may_close
    assert Run(setup=setup).go(4.0).is_closed


# -- opening


def test_an_over_voltage_while_charging_opens_within_its_rows_time_and_says_so() -> None:
    run = closed_run(charge_type=2.0, current_a=60.0).go(2.0)
    cells = list(run.vehicle.cell_v)
    cells[4] = 4.26
    crossed_s = run.tick / 100
    run.go(1.0, cell_v=cells, current_a=0.5)
    row = next(r for r in run.setup.config.table.rows if key_of(r) == CELL_HIGH)
    assert run.fired()[CELL_HIGH] - crossed_s <= worst_detection_s(row, 0.1, 0.01)
    text = next(d.text for _, d in run.said if d.key == CELL_HIGH)
    assert text == "cell 5 at 4.26 V, limit 4.25 V for 0.5 s: contactors opened"
    assert not run.is_closed
    assert run.out.latched == (CELL_HIGH,)


def test_an_over_voltage_at_speed_takes_charging_back_asks_for_a_stop_and_opens_at_standstill() -> None:
    run = closed_run(speed_kmh=90.0, current_a=-60.0)
    run.go(1.0, cell_v=[4.3] * 6).go(2.0)
    assert run.is_closed
    assert (run.out.verdict.stop, run.out.verdict.open, run.out.allowed.charge_a) == (True, False, 0.0)
    assert run.out.allowed.discharge_a == pytest.approx(180.0), "half: the voltage must come down"
    run.go(0.2, speed_kmh=4.9, current_a=-20.0)
    assert run.is_closed, "20 A may not be broken"
    run.go(0.2, current_a=-3.0)
    assert not run.is_closed
    assert run.alerts == []


def test_a_short_opens_at_speed_after_the_fuse_had_its_time() -> None:
    run = closed_run(speed_kmh=90.0, current_a=-900.0)
    start_s = run.tick / 100
    run.go(2.9)
    assert run.fired()["short_a/MSL/over/any"] - start_s <= 0.03
    assert run.is_closed
    run.go(0.2)
    assert not run.is_closed
    assert [text for _, text in run.alerts] == ["contactors opened under 900.0 A after 3 s: no fuse tripped"]
    cleared = closed_run(speed_kmh=90.0, current_a=-900.0)
    cleared.go(0.1).go(0.1, current_a=0.0)
    assert not cleared.is_closed, "the fuse has cleared it"
    assert cleared.alerts == []


def test_a_crash_opens_at_speed() -> None:
    run = closed_run(speed_kmh=90.0, crash=1.0)
    run.go(0.1)
    assert not run.is_closed
    assert run.out.latched == ("crash/MSL/over/any",)


def test_a_lost_page_of_cells_ramps_to_zero_asks_for_a_stop_and_opens_at_standstill_only() -> None:
    run = closed_run(speed_kmh=60.0, current_a=-20.0, silent={PAGE_1})
    lost_s = run.tick / 100
    run.go(0.8)
    assert run.fired()["silence/RSL/over/any"] - lost_s <= 0.55
    assert (run.out.verdict.blind, run.out.verdict.stop) == (True, True)
    before = run.out.allowed.discharge_a
    run.go(1.0)
    assert 0 < run.out.allowed.discharge_a < before
    run.go(5.0)
    assert (run.out.allowed.charge_a, run.out.allowed.discharge_a) == (0.0, 0.0)
    run.go(60.0)
    assert run.is_closed, "never at speed for want of knowledge"
    run.go(0.2, speed_kmh=0.0, current_a=-1.0)
    assert not run.is_closed
    run.go(20.0, silent=set())
    assert not run.is_closed, "and not closed again before standby was asked for"
    run.once(standby=True)
    assert run.go(3.0).is_closed


def test_a_short_loss_heals_and_current_comes_back() -> None:
    run = closed_run(speed_kmh=60.0, current_a=-20.0, silent={PAGE_1}).go(2.0)
    run.go(15.0, silent=set())
    assert run.is_closed
    assert run.out.verdict.causes == ()
    assert run.out.allowed.discharge_a > 200.0
    assert {key.split("/")[1] for key in run.fired()} == {"RSL"}


def test_a_lost_speed_is_a_speed_and_the_charger_s_word_counts_beside_it() -> None:
    run = closed_run(speed_kmh=0.0, silent={CAR}).go(1.0)
    assert not run.out.standing
    run.go(1.0, cell_v=[4.3] * 6)
    assert run.is_closed
    assert run.out.verdict.stop


def test_contactors_that_do_not_obey_are_found_and_welds_are_remembered() -> None:
    run = closed_run(dead=frozenset({0})).go(0.5)
    assert "feedback_mismatch/MSL/over/any" in run.fired()
    stuck = closed_run(welded=frozenset({0}))
    stuck.close = False
    stuck.go(1.5)
    assert "weld/MSL/over/any" in stuck.fired()
    assert stuck.state.contactors.weld == 1
    assert [text for _, text in stuck.alerts] == ["the plus contactor conducts 0.5 s after opening"]
    stuck.go(1.0, welded=frozenset())
    stuck.once(standby=True)
    stuck.close = True
    assert not stuck.go(15.0).is_closed
    stuck.once(service=True)
    assert stuck.go(3.0).is_closed


def test_three_failed_precharges_lock_until_standby() -> None:
    run = Run(Vehicle(shorted=True)).go(60.0)
    assert [t for _, t in run.alerts][-1].startswith("precharge failed, try 3 of 3")
    assert len(run.alerts) == 3
    assert "precharge_failures/MSL/over/any" in run.fired()
    run.go(30.0, shorted=False)
    assert not run.is_closed
    run.once(standby=True)
    assert run.go(3.0).is_closed


def test_a_charger_that_takes_no_notice_is_named() -> None:
    run = closed_run(charge_type=2.0, current_a=30.0)
    run.setup = small_guard()
    for _ in range(800):
        run.once(caps=Caps(5.0, math.nan))
    assert run.out.allowed.charge_a == 5.0
    text = next(d.text for _, d in run.said if d.key == "disobeyed_a/RSL/over/charge")
    assert text.startswith("charge current at 25.0 A more than allowed, limit 18 A for 3.0 s: noted")


# -- time


def test_messages_of_one_source_in_one_tick_are_judged_one_after_the_other() -> None:
    run = closed_run()
    base = run.tick * TICK_NS
    bad = (4.3, 3.7, 3.7)
    late = [Arrival(PAGE_1, base + k * 100 * MS, (4.3 + k * 1e-4, *bad[1:])) for k in range(7)]
    state, out = guard.step(run.setup.config, run.state, guard.Inputs(late, close=True), base + 650 * MS)
    assert CELL_HIGH in {d.key for d in out.decisions}
    (decision,) = [d for d in out.decisions if d.key == CELL_HIGH]
    assert decision.since_ns == base
    assert "for 0.5 s" in decision.text
    assert state.now_ns == base + 650 * MS
    _, out = guard.step(run.setup.config, run.state, guard.Inputs(late[-1:], close=True), base + 650 * MS)
    assert CELL_HIGH not in {d.key for d in out.decisions}


def test_a_request_counts_once_though_a_tick_has_many_rounds() -> None:
    run = Run(latched=(CELL_HIGH,), close=False).go(3.0)
    t_ns = run.tick * TICK_NS
    came = [Arrival(PAGE_1, t_ns + k, (3.7 + k * 1e-3, 3.7, 3.7)) for k in range(3)]
    _, out = guard.step(run.setup.config, run.state, guard.Inputs(came, standby=True), t_ns + 5)
    assert [d.active for d in out.decisions] == [False]


def test_alerts_of_all_rounds_are_kept() -> None:
    run = closed_run(speed_kmh=50.0, current_a=-900.0).go(0.1)
    t_ns = run.tick * TICK_NS
    came = [Arrival(MAIN, t_ns + k * 1500 * MS, (-900.0 - k, 22.2, -900.0)) for k in range(4)]
    _, out = guard.step(run.setup.config, run.state, guard.Inputs(came, close=True), t_ns + 4600 * MS)
    assert len(out.commands.alerts) == 1
    assert not out.commands.plus


def test_a_clock_that_is_set_back_goes_on_from_where_it_was() -> None:
    run = closed_run()
    now_ns = run.state.now_ns
    state = run.state
    for k in range(1, 200):  # an hour back
        t_ns = now_ns - 3600 * 10**9 + k * TICK_NS
        state, out = guard.step(run.setup.config, state, guard.Inputs(run.vehicle.arrivals(k, t_ns), close=True), t_ns)
    assert state.now_ns == now_ns + 198 * TICK_NS
    assert state.offset_ns == 3600 * 10**9 - TICK_NS
    assert out.sample.cell_v.state == OK
    assert out.decisions == ()
    assert out.commands.plus


def test_a_message_from_the_future_or_the_past_is_of_now() -> None:
    run = closed_run()
    now_ns = run.state.now_ns
    for t_ns in (now_ns + 10**12, now_ns - 10**12):
        state, out = guard.step(
            run.setup.config, run.state, guard.Inputs([Arrival(ISOLATION, t_ns, (1e7,))]), now_ns + TICK_NS
        )
        assert out.sample.one["isolation_ohm"].t_ns in {now_ns, now_ns + TICK_NS}
        assert state.now_ns == now_ns + TICK_NS


def test_a_leap_ahead_makes_everything_stale_and_the_next_messages_heal_it() -> None:
    run = closed_run(speed_kmh=50.0)
    run.tick += 6000
    run.once()
    assert run.out.verdict.blind
    run.go(2.0)
    assert run.is_closed
    assert not run.out.verdict.blind


# -- settings


def test_an_observer_judges_and_never_commands() -> None:
    setup = small_guard()
    cfg = setup.config
    observer = guard.GuardConfig(cfg.sensing, cfg.quantities, cfg.table, cfg.derating, cfg.contactors, observer=True)
    run = Run(setup=setup)
    run.setup = type(setup)(observer, (), (), ())
    run.go(3.0, cell_v=[4.3] * 6)
    assert CELL_HIGH in run.fired()
    assert run.out.commands == Commands(hold=True)
    assert not run.out.may_close
    assert run.state.contactors.phase == HOLD


def test_tightened_limits_hold_from_the_next_tick_and_the_state_goes_on() -> None:
    run = closed_run()
    rows = tightened(run.setup.config.table.rows, {CELL_HIGH: 3.69})
    table = small_guard(limits=rows).config.table
    cfg = guard.with_limits(run.setup.config, table)
    run.setup = type(run.setup)(cfg, (), (), ())
    run.go(1.0)
    assert not run.is_closed
    with pytest.raises(AssertionError):
        guard.with_limits(cfg, small_guard(limits=rows[1:]).config.table)
