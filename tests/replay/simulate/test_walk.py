"""The compiled loop: charge, resistance and heat of whole packs, and what a BMS does to what it measures."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from replay.simulate import state as w
from replay.simulate.fleet import FleetConfig, _empty, _Group, simulate
from replay.simulate.pack import Packs
from replay.simulate.truth import Truth, join
from replay.simulate.walk import walk
from schemas.frames import FrameBlock, concat
from schemas.pack import load_pack

NMC = "generic-nmc@24c8t60ah"
MORNING_NS = 1_767_592_800_000_000_000  # 2026-01-05T06:00Z


@cache
def second_by_second() -> tuple[FrameBlock, Truth, dict[int, Packs]]:
    cfg = FleetConfig(
        vehicles=6, hours=6, period_s=1, models=(NMC,), seed=11, start_ns=MORNING_NS, sleep=False, truth_cells=True
    )
    made = list(simulate(cfg))
    packs = {int(n): _Group(cfg, NMC).packs for n in (0,)}
    return concat([b for b, _ in made]), join([t for _, t in made]), packs


def of(vehicle: int) -> tuple[FrameBlock, Any]:
    block, truth, _ = second_by_second()
    rows = np.flatnonzero(block.src_part == vehicle)
    return block.take(rows), truth.take(rows)


@pytest.mark.parametrize("vehicle", range(6))
def test_charge_that_flows_is_charge_that_is_stored_but_for_leaks_and_bleeds(vehicle: int) -> None:
    block, truth = of(vehicle)
    flown_ah = np.cumsum(truth.current_a)[-1] / 3600 - truth.current_a[0] / 3600
    stored_ah = (truth.soc_cell[-1].astype(float) - truth.soc_cell[0]) * truth.capacity_cell_ah[0]
    lost_ah = flown_ah - stored_ah
    bleeding = block.context["balancing_mask"] > 0
    most_ah = 0.02 * 6 + 0.13 * bleeding.sum() / 3600  # 33 ohm at 60 Ah
    assert (lost_ah > -1e-4).all()
    assert (lost_ah < most_ah).all()
    if not bleeding.any():
        assert lost_ah.max() < 0.05


def test_a_jump_of_current_shows_the_true_resistance_of_every_group() -> None:
    block, truth = of(max(range(6), key=lambda n: np.ptp(of(n)[1].current_a)))
    d_i = np.diff(truth.current_a)
    jump = np.flatnonzero((np.abs(d_i) > 20) & (block.context["drive_state"][1:] == w.DRIVING))
    assert jump.size > 50
    d_v = np.diff(block.cell_v.astype(float), axis=0)[jump]
    slope = (d_v * d_i[jump, None]).sum(axis=0) / (d_i[jump] ** 2).sum()
    r0 = truth.r0_cell_ohm[jump].mean(axis=0)
    assert slope / r0 == pytest.approx(np.ones(24), abs=0.25)  # a second of the branches is in it, and the sweep
    assert np.corrcoef(slope, r0)[0, 1] > 0.6


def test_cells_are_read_one_after_another_so_a_jump_leans_over_the_pack() -> None:
    _, truth, _ = second_by_second()
    leans = []
    for vehicle in range(6):
        block, truth = of(vehicle)
        d_i = np.r_[0.0, np.diff(truth.current_a)]
        late = block.cell_v[:, -6:].mean(axis=1) - block.cell_v[:, :6].mean(axis=1)
        up, down = d_i > 25, d_i < -25
        if up.sum() > 10 and down.sum() > 10:
            leans.append(late[up].mean() - late[down].mean())
    assert len(leans) >= 2
    assert min(leans) > 1e-4


def test_values_come_in_the_steps_of_the_sensors() -> None:
    block, _, _ = second_by_second()
    for column, step in ((block.cell_v, 1e-3), (block.temp_c, 0.5), (block.current_a, 0.1), (block.pack_v, 0.1)):
        np.testing.assert_allclose(column / step, np.round(column / step), atol=2e-2)


def test_at_rest_voltage_is_ocv_within_shape_hysteresis_and_sensor() -> None:
    grid = load_pack(NMC).grid()
    checked = 0
    for vehicle in range(6):
        block, truth = of(vehicle)
        moving = np.flatnonzero(truth.current_a)
        rest = slice(0, int(moving[0]) if moving.size else len(block))
        if len(block.take(rest)) < 600:
            continue
        z = truth.soc_cell[rest][-1]
        expected = np.interp(z, grid.soc, grid.ocv[11])
        error = block.cell_v[rest][-1] - expected
        assert np.abs(error).max() < 5e-3 + 2.2e-3 + 3.5e-3 + 2e-3  # shape, hysteresis, channel, noise and step
        checked += 1
    assert checked


def test_a_full_charge_tapers_at_constant_voltage_while_high_groups_bleed() -> None:
    seen = 0
    cfg = FleetConfig(vehicles=60, hours=30, period_s=30, models=(NMC,), seed=4, start_ns=MORNING_NS)
    made = list(simulate(cfg))
    block, truth = concat([b for b, _ in made]), join([t for _, t in made])
    top_v = 4.185
    assert block.cell_v.max() < top_v + 8e-3
    for n in range(60):
        rows = np.flatnonzero((block.src_part == n) & (block.context["drive_state"] == w.CHARGING))
        if not rows.size or truth.soc_high[rows].max() < 0.98:
            continue
        current, high = truth.current_a[rows], block.cell_v[rows].max(axis=1)
        taper = high > top_v - 5e-3  # the channel may read 2 mV low
        assert taper.sum() > 5
        assert current[taper].min() < 0.5 * current.max()
        assert (block.context["balancing_mask"][rows] > 0).any()
        seen += 1
    assert seen >= 2


def test_heat_of_a_driven_pack_is_stored_or_lost() -> None:
    cfg = FleetConfig(vehicles=1, hours=3, period_s=1, models=("generic-nmc@1c1t60ah",), seed=2, start_ns=MORNING_NS)
    group = _Group(cfg, cfg.models[0])
    f, m, packs = group.fleet, group.model, group.packs
    s = f.s[0]
    out = _empty(1, group.pack, cells=False)
    stored = lost = made = 0.0
    tick = at = 0
    capacity = m.heat_capacity * packs.heat_factor[0]
    loss = m.loss * packs.loss_factor[0]
    while tick < group.ticks:
        before, driving = float(f.temp_c[0, 0]), s[w.MODE] == w.DRIVING
        tick, at, n = walk(f, packs, m, out, tick, at, group.ticks, 1.0, False)
        if not n or not driving:
            continue
        now = float(f.temp_c[0, 0])
        stored += capacity * (now - before)
        lost += loss * (now - s[w.AMBIENT_C]) + 4.0 * loss * (now - s[w.COOLANT_C])
        made += s[w.HEAT_W]
    assert made > 1000.0
    assert stored + lost == pytest.approx(made, rel=0.01)
