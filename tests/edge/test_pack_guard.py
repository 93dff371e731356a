"""From a pack model and a vehicle's signals to settings, and what they cannot protect."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge import guard
from edge.derating import HORIZONS_S
from edge.pack_guard import default_ranges, pack_guard
from edge.sensing import MANY, ONE, Source
from schemas.limits import NEEDS, QUANTITIES
from schemas.pack import load_pack, pack_names
from tests.support.vehicle import CELLS, PROBES, SENT, SOURCES, small_guard

PACK = load_pack(f"generic-nmc@{CELLS}c{PROBES}t60ah")


def without(*names: str) -> tuple[list[Source], set[str]]:
    """Give this vehicle's messages without some signals."""
    sources = [s._replace(fills=tuple(f for f in s.fills if f[0] not in names)) for s in SOURCES]
    return [s for s in sources if s.fills], set(SENT) - set(names)


def test_a_vehicle_that_sends_everything_has_every_row_and_no_warning() -> None:
    made = small_guard()
    assert made.not_evaluated == ()
    assert made.warnings == ()
    assert {row.quantity for row in made.config.table.rows} == set(QUANTITIES)
    assert not made.config.observer


@pytest.mark.parametrize("name", pack_names())
def test_every_shipped_pack_can_be_protected_on_a_bus_of_100_ms(name: str) -> None:
    pack = load_pack(name)
    fills = [("cell_v", k) for k in range(pack.series)] + [("temp_c", k) for k in range(pack.probes)]
    made = pack_guard(pack, [Source("All", 0.1, (*fills, *((s, 0) for s in ONE)))], {*MANY, *ONE}, delay_s=0.05)
    assert (made.not_evaluated, made.too_slow, made.warnings) == ((), (), ())
    state = guard.fresh_state(made.config, 0, ())
    _, out = guard.step(made.config, state, guard.Inputs(), 10**7)
    assert out.commands.hold


@pytest.mark.parametrize("gone", sorted(SENT - {"current_a"}))
def test_rows_whose_signal_is_absent_are_named_and_left_out(gone: str) -> None:
    made = pack_guard(PACK, *without(gone))
    named = {row.quantity for row in made.not_evaluated}
    assert named == {q for q, needs in NEEDS.items() if any(set(n) & set(SENT) == {gone} for n in needs)}
    assert len(made.not_evaluated) + len(made.config.table.rows) == len(PACK.limits)


def test_a_pack_without_cell_voltages_is_an_observer() -> None:
    made = pack_guard(PACK, *without("cell_v"))
    assert made.config.observer
    assert made.warnings == ("no cell voltages: observer, contactors are never commanded",)
    _, out = guard.step(made.config, guard.fresh_state(made.config, 0, ()), guard.Inputs(close=True), 5)
    assert out.commands.hold


def test_a_vehicle_that_cannot_say_whether_it_stands_or_where_its_contactors_are_is_warned_of() -> None:
    (moving,) = pack_guard(PACK, *without("speed_kmh", "drive_state", "charge_type")).warnings
    assert moving.startswith("none of speed_kmh, drive_state, charge_type: the vehicle counts as moving")
    for name in ("plus_closed", "minus_closed"):
        (held,) = pack_guard(PACK, *without(name)).warnings
        assert held.startswith("no feedback of both main contactors")


def test_rows_that_would_come_too_late_are_named() -> None:
    slow = [s._replace(period_s=0.5) if s.name == "Cells 2" else s for s in SOURCES]
    made = pack_guard(PACK, slow, SENT)
    assert made.too_slow
    needs_cells = ("cell_v", "deep_discharge_v", "overcharge", "overdischarge", "cells_missing RSL")
    assert all(text.startswith(needs_cells) for text in made.too_slow)
    late = pack_guard(PACK, SOURCES, SENT, delay_s=0.6).too_slow
    assert {text.split()[0] for text in late} >= {"current_a", "short_a", "crash"}
    ticks = pack_guard(PACK, SOURCES, SENT, tick_s=1.0).too_slow
    assert {text.split()[0] for text in ticks} == {"silence", "silence_minor", "weld", "precharge_failures"}
    assert {text.split()[0] for text in small_guard().too_slow} == set()


def test_a_signal_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a required signal must be one of cell_v, .*; got speed, voltage$"):
        pack_guard(PACK, SOURCES, [*SENT, "voltage", "speed"])


def test_groups_and_names_follow_the_messages() -> None:
    table = small_guard().config.table
    groups = {row.quantity: n for row, n in zip(table.rows, table.groups, strict=True)}
    by_cell_message = {"cell_v", "deep_discharge_v", "cell_dev_v", "cells_missing"}
    assert {q for q, n in groups.items() if n == 2} == {*by_cell_message, "invalid"}
    assert {q for q, n in groups.items() if n == 3} == {"feedback_mismatch"}
    assert groups["invalid_minor"] == len(table.names["invalid_minor"]) == 12
    assert table.names["invalid"] == ("current_a", "pack_v")
    assert table.names["silence"][1] == "Cells 1"
    quantities = small_guard().config.quantities
    assert quantities.cell_groups == ((0, 1, 2), (3, 4, 5))
    assert quantities.probe_groups == ((0, 1),)
    assert quantities.feedback == (0, 1, 2)
    assert quantities.vital == (True, True, True, True, False, False, False)
    two = pack_guard(PACK, *without("minus_closed")).config
    assert two.quantities.feedback == (0, 2)
    assert (
        next(n for r, n in zip(two.table.rows, two.table.groups, strict=True) if r.quantity == "feedback_mismatch") == 2
    )


def test_settings_of_quantities_and_derating_are_the_packs_own() -> None:
    cfg = small_guard().config
    assert (cfg.quantities.full_v, cfg.quantities.empty_v, cfg.quantities.max_temp_c) == (4.21, 2.85, 60.0)
    assert cfg.quantities.max_pack_v == CELLS * 4.25
    assert (cfg.derating.high_v, cfg.derating.low_v) == (4.21, 3.0)
    assert cfg.derating.charge_rms_a == pytest.approx(0.95 * PACK.charge_max_a)
    assert cfg.contactors.break_current_a == PACK.break_current_a
    res = PACK.resistance
    now = PACK.grid().r0[11, 100]
    steady = now + PACK.grid().rb[:, 11, 100].sum()
    got = [cfg.derating.r_ohm[k][11][10] for k in range(len(HORIZONS_S))]
    assert now < got[0] < got[1] < got[2] < steady
    by_hand = now + sum(
        (1 - math.exp(-10.0 / tau)) * rb for tau, rb in zip(res.tau_s, PACK.grid().rb[:, 11, 100], strict=True)
    )
    assert got[1] == pytest.approx(by_hand)
    assert cfg.derating.r_soc == pytest.approx(np.linspace(0, 1, 21))


def test_a_pack_without_those_rows_falls_back_to_its_tables() -> None:
    made = small_guard(limits=[row for row in PACK.limits if row.quantity == "current_a"]).config
    assert (made.derating.high_v, made.derating.low_v) == (PACK.ocv.v.max(), PACK.ocv.v.min())
    assert made.derating.discharge_rms_a == PACK.discharge_max_a
    assert (made.quantities.full_v, made.quantities.empty_v) == (math.inf, -math.inf)
    assert made.quantities.max_temp_c == math.inf
    assert made.quantities.max_pack_v == CELLS * PACK.ocv.v.max()


def test_a_coarse_voltage_needs_a_larger_current_to_be_called_stuck() -> None:
    fine, coarse = (small_guard(resolution_v=(r, r)).config.sensing.stuck.stuck_a for r in (1e-6, 0.05))
    assert fine == pytest.approx(0.2 * PACK.usable_ah)
    assert coarse > 5 * fine
    pack_only = small_guard(resolution_v=(1e-6, 0.5)).config.sensing.stuck.stuck_a
    assert pack_only == pytest.approx(4.0 * 0.5 / (PACK.grid().r0[11].min() * CELLS))


def test_ranges_hold_what_the_limits_ask_for() -> None:
    ranges = default_ranges(PACK)
    assert set(ranges) == {*MANY, *ONE}
    for row in PACK.limits:
        if row.quantity in ranges:
            assert ranges[row.quantity][0] <= row.bound <= ranges[row.quantity][1], row
        if row.quantity in {"short_a", "rms_a"}:
            assert row.bound < ranges["current_a"][1]


def test_what_must_move_for_a_value_to_be_stuck_follows_from_the_pack_and_is_more_than_noise() -> None:
    moves, ohm = small_guard().config.sensing.stuck, float(PACK.grid().r0[11].min())
    pack_v = PACK.series * float(PACK.ocv.v.mean())
    assert moves.stuck_v == pytest.approx(0.02 * pack_v)
    assert moves.moved_v == pytest.approx(0.5 * moves.stuck_a * ohm)
    assert moves.swing_v == 1.0, "a small pack's voltage is noisier than 0.5 % of it"
    large = small_guard(resolution_v=(1e-6, 5.0)).config.sensing.stuck
    assert large.swing_v == pytest.approx(20.0), "four steps of a coarse sensor"
