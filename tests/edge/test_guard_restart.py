"""The guard after a restart: it goes on from what was, moves no contactor by itself, and calls nobody disobedient."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import guard
from edge.contactors import HOLD, Commands
from tests.support.vehicle import SOURCES, TICK_NS, Run, Vehicle, small_guard

CELL_HIGH, CELL_LOST = "cell_v/MSL/over/any", "cells_missing/MSL/over/any"


def test_a_restart_at_speed_moves_no_contactor() -> None:
    run = Run(Vehicle(speed_kmh=100.0, closed=[True, True, False], link_v=22.2, current_a=-50.0)).go(30.0)
    assert run.state.contactors.phase == HOLD
    assert run.is_closed
    assert run.out.commands.hold
    assert run.out.allowed.discharge_a > 100.0
    run.close = False
    run.go(0.5, speed_kmh=0.0, current_a=0.5)
    assert not run.is_closed


@pytest.mark.parametrize("current_a", [-150.0, 80.0])
def test_a_restart_while_current_flows_takes_none_of_it_back_and_calls_nobody_disobedient(current_a: float) -> None:
    run = Run(Vehicle(speed_kmh=100.0, closed=[True, True, False], link_v=22.2, current_a=current_a))
    run.once()
    for _ in range(2000):
        flows_a, allowed = run.vehicle.flowing_a(), run.once().allowed
        assert -allowed.discharge_a - 0.05 <= flows_a <= allowed.charge_a + 0.05, "0.05: the ripple of the sensor"
    assert run.said == []


def test_what_is_left_of_the_run_before_holds_until_values_come_and_then_as_far_as_they_allow() -> None:
    setup = small_guard()
    state = guard.fresh_state(setup.config, 0, (), (170.0, 150.0))
    for tick in range(9):  # no message yet
        state, out = guard.step(setup.config, state, guard.Inputs(), tick * TICK_NS)
        assert (out.allowed.charge_a, out.allowed.discharge_a) == (170.0, 150.0)
    run = Run(Vehicle(closed=[True, True, False], link_v=22.2, temp_c=[-15.0, -15.0]))
    run.state = guard.fresh_state(setup.config, 0, (), (170.0, 150.0))
    run.go(1.0)
    assert run.out.allowed.charge_a == 0.0, "frozen"
    assert 0.0 < run.out.allowed.discharge_a < 150.0


_SILENT = st.frozensets(st.integers(0, len(SOURCES) - 1))


@settings(max_examples=25)
@given(
    silent=_SILENT,
    later=_SILENT,
    speed_kmh=st.sampled_from([5.0, 100.0, math.nan]),
    bad=st.sampled_from([{}, {"cell_v": [math.nan] * 6}, {"cell_v": [4.5] * 6}, {"hvil": 0.0}, {"isolation_ohm": 0.0}]),
    latched=st.sampled_from([None, (), (CELL_HIGH, CELL_LOST)]),
    close=st.booleans(),
)
def test_whatever_a_successor_hears_first_at_speed_or_never_it_moves_no_contactor(
    silent: frozenset[int],
    later: frozenset[int],
    speed_kmh: float,
    bad: dict[str, Any],
    latched: tuple[str, ...] | None,
    close: bool,
) -> None:
    vehicle = Vehicle(speed_kmh=speed_kmh, closed=[True, True, False], link_v=22.2, current_a=-2.0)
    for name, value in bad.items():
        setattr(vehicle, name, value)
    vehicle.silent = set(silent | later)
    run = Run(vehicle, latched=latched, close=close)
    for tick in range(350):
        if tick == 130:  # past the second within which feedback has to come
            vehicle.silent = set(silent)
        assert run.once().commands.hold, (tick, run.said)
    assert run.is_closed


def test_a_restart_with_a_lost_latch_file_holds_at_speed_and_does_not_close_again() -> None:
    run = Run(Vehicle(speed_kmh=100.0, closed=[True, True, False], link_v=22.2), latched=None).go(5.0)
    assert run.is_closed
    run.close = False
    run.go(0.5, speed_kmh=0.0)
    run.close = True
    assert not run.go(15.0).is_closed


def test_a_new_state_holds_whatever_was_closed() -> None:
    cfg = small_guard().config
    state = guard.fresh_state(cfg, 77, ["nothing known"])
    assert (state.now_ns, state.trusted, state.contactors.phase, state.own.commanded) == (77, True, HOLD, None)
    state, out = guard.step(cfg, state, guard.Inputs(), 78)
    assert out.commands == Commands(hold=True)
    assert state.contactors.since_ns == 77
