"""Faults: what may be asked for, and what each that acts in the cells does to them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from replay.simulate.faults import BIT, KINDS, Fault
from replay.simulate.fleet import FleetConfig, region_of, simulate
from replay.simulate.state import DRIVING
from replay.simulate.truth import Truth, join
from schemas.frames import FrameBlock, concat

NMC = "generic-nmc@24c8t60ah"
H = 3600.0
CFG = FleetConfig(vehicles=4, hours=30, models=(NMC,), seed=5, sleep=False, truth_cells=True, period_s=30)


def run(*faults: Fault, cfg: FleetConfig = CFG) -> tuple[FrameBlock, Truth]:
    made = list(simulate(replace(cfg, faults=faults)))
    return concat([b for b, _ in made]), join([t for _, t in made])


@cache
def healthy() -> tuple[FrameBlock, Truth]:
    return run()


def of(vehicle: int, made: tuple[FrameBlock, Truth], start_s: float = 0.0, end_s: float = 1e9) -> tuple[Any, Any]:
    block, truth = made
    at_s = (block.t_ns - CFG.start_ns) / 1e9
    rows = np.flatnonzero((block.src_part == vehicle) & (at_s >= start_s) & (at_s < end_s))
    return block.take(rows), truth.take(rows)


def test_an_internal_short_drains_its_group_by_ohms_law_and_no_other() -> None:
    made = run(Fault("internal_short", 1, 2 * H, 6 * H, subject=7, size=10.0))
    block, truth = of(1, made, 2 * H, 6 * H)
    _, sound = of(1, healthy(), 2 * H, 6 * H)
    extra = (truth.soc_cell - sound.soc_cell)[:, 7].astype(float) * sound.capacity_cell_ah[:, 7]
    expected = -block.cell_v[:, 7].astype(float).mean() / 10.0 * 4.0
    assert extra[-1] - extra[0] == pytest.approx(expected, rel=0.02)
    others = np.delete(truth.soc_cell - sound.soc_cell, 7, axis=1)
    assert np.abs(others).max() < 2e-3
    assert ((truth.fault & BIT["internal_short"]) > 0).all()
    _, later = of(1, made, 6 * H)
    assert (later.fault == 0).all()


@pytest.mark.parametrize("sleep", [False, True])
@pytest.mark.parametrize(("kind", "size"), [("internal_short", 0.001), ("thermal_runaway", 1e6)])
def test_the_worst_that_can_be_asked_for_leaves_every_value_a_number(kind: str, size: float, sleep: bool) -> None:
    cfg = replace(CFG, vehicles=1, hours=24, models=("generic-nmc@8c2t60ah",), sleep=sleep)
    made = run(Fault(kind, 0, 2 * H, 6 * H, subject=1, size=size), cfg=cfg)
    block, truth = of(0, made, 3 * H)
    assert np.isfinite(made[0].cell_v).all()
    assert made[1].soc_cell is not None
    assert np.isfinite(made[1].soc_cell).all()
    assert (block.cell_v[:, 1] < 0.5).all(), "it is empty, or burnt"
    assert truth.soc_cell[:, 1].min() > -0.5
    assert made[1].temp_max_c.max() > 60.0 or sleep, "its charge becomes heat; over a sleep's long steps that leaves"


def test_resistance_rises_over_the_ramp_and_stays() -> None:
    _, truth = of(0, run(Fault("rising_resistance", 0, 4 * H, 30 * H, subject=3, size=0.5, ramp_s=10 * H)))
    ratio = truth.r0_cell_ohm[:, 3] / np.median(truth.r0_cell_ohm, axis=1)
    normal = ratio[0]
    at_s = np.arange(ratio.size) * 30.0
    assert ratio[at_s < 4 * H] == pytest.approx(normal, rel=0.05)
    assert ratio[np.searchsorted(at_s, 9 * H)] == pytest.approx(1.25 * normal, rel=0.05)
    assert ratio[at_s > 14.1 * H] == pytest.approx(1.5 * normal, rel=0.05)


def test_capacity_loss_takes_its_share_of_the_group() -> None:
    _, truth = of(2, run(Fault("capacity_loss", 2, 5 * H, 30 * H, subject=0, size=0.2)))
    capacity = truth.capacity_cell_ah[:, 0]
    assert capacity[-1] / capacity[0] == pytest.approx(0.8, rel=1e-5)
    assert truth.capacity_ah[-1] < 0.87 * truth.capacity_ah[0]  # the weakest group limits the pack


def test_without_cooling_a_driven_pack_gets_warmer_in_summer() -> None:
    cfg = replace(CFG, start_ns=CFG.start_ns + 180 * 86_400_000_000_000, truth_cells=False)
    vehicle = next(n for n in range(100) if region_of(cfg, n).name == "Phoenix")
    cfg = replace(cfg, first=vehicle - 1, vehicles=2)
    faulty, sound = run(Fault("cooling_fault", vehicle, 0.0, 30 * H, size=1.0), cfg=cfg), run(cfg=cfg)
    assert of(vehicle, sound)[1].temp_max_c.max() > 35
    assert of(vehicle, faulty)[1].temp_max_c.max() > of(vehicle, sound)[1].temp_max_c.max() + 2.0
    assert of(vehicle - 1, faulty)[1].temp_max_c.max() == of(vehicle - 1, sound)[1].temp_max_c.max()


def test_a_thermal_runaway_burns_its_group_spreads_and_stops_the_vehicle() -> None:
    block, truth = of(3, run(Fault("thermal_runaway", 3, 10 * H, 30 * H, subject=12, size=3000.0)))
    at_s = (block.t_ns - CFG.start_ns) / 1e9
    assert truth.temp_max_c[at_s < 10 * H].max() < 45
    assert truth.temp_max_c.max() > 300
    dead = block.cell_v[-1] < 0.1
    assert dead[12]
    assert dead.sum() > 1
    after = at_s > 10.5 * H
    assert (block.context["drive_state"][after] == 0).all()
    assert block.current_a[after] == pytest.approx(block.current_a[after][0], abs=0.3)
    assert np.isnan(block.temp_c[after]).any()  # a burnt probe shows nothing
    assert np.nanmax(block.temp_c[after]) > 80
    assert np.median(block.context["isolation_ohm"][after]) < 0.05 * np.median(block.context["isolation_ohm"][~after])


def test_a_fault_changes_nothing_before_it_begins() -> None:
    made = run(Fault("internal_short", 1, 12 * H, 20 * H, subject=7, size=10.0))
    block, _ = of(1, made, 0, 12 * H)
    sound, _ = of(1, healthy(), 0, 12 * H)
    np.testing.assert_array_equal(block.cell_v, sound.cell_v)
    np.testing.assert_array_equal(block.context["drive_state"] == DRIVING, sound.context["drive_state"] == DRIVING)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "gremlin"}, r"kind of a gremlin fault must be one of internal_short, .*; got 'gremlin'"),
        ({"vehicle": -2}, r"vehicle of .* must be ≥ 0, or -1 for all; got -2"),
        ({"end_s": 1.0}, r"start_s of .* before end_s \(1\.0\); got 5\.0"),
        ({"size": 0.0}, r"size of a internal_short fault must be 0\.001"),
        ({"unit": "V"}, r"unit of .* must be ohm; got 'V'"),
        ({"subject": -1}, r"subject of .* must be ≥ 0 \(a cell\); got -1"),
        ({"share": 0.0}, r"share of .* must be in \(0, 1\]; got 0\.0"),
        ({"field": "cell_v"}, r"field of .* must be empty; got 'cell_v'"),
        ({"kind": "sensor_bias", "size": 1.0}, r"field of a sensor_bias fault must be one of cell_v, "),
        ({"kind": "dropped", "size": 0.0, "subject": -1, "ramp_s": 3.0}, r"ramp_s of .* 0 for faults of the stream"),
        ({"kind": "cooling_fault", "size": 0.5}, r"subject of a cooling_fault fault must be −1 \(the pack\); got 3"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_its_value(wrong: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "kind": "internal_short", "vehicle": 0, "start_s": 5.0, "end_s": 9.0, "subject": 3, "size": 10.0,
    }  # fmt: skip
    Fault(**good)
    with pytest.raises(ValueError, match=message):
        Fault(**(good | wrong))


def test_a_subject_that_the_pack_does_not_have_is_refused() -> None:
    fault = Fault("internal_short", 0, 0.0, 9.0, subject=24, size=1.0)
    with pytest.raises(ValueError, match=r"must be below 24 \(cells of generic-nmc@24c8t60ah\); got 24"):
        next(simulate(replace(CFG, faults=(fault,))))


def test_every_kind_has_a_bit_of_its_own() -> None:
    assert sorted(BIT) == sorted(KINDS)
    assert len({*BIT.values()}) == len(KINDS) <= 32
