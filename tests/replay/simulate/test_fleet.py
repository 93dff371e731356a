"""A simulated fleet: deterministic, the same however it is cut, and within what real packs do."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from replay.simulate.fleet import FleetConfig, simulate, vehicle_id
from replay.simulate.state import CHARGING, DRIVING, PARKED
from replay.simulate.truth import Truth, join
from schemas.frames import FrameBlock, concat
from schemas.pack import load_pack, pack_names

NMC = "generic-nmc@96c16t60ah"
MORNING_NS = 1_767_592_800_000_000_000  # 2026-01-05T06:00Z, a Monday
FIXED = ("t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "src_part", "src_offset")


def run(cfg: FleetConfig) -> tuple[FrameBlock, Truth]:
    made = list(simulate(cfg))
    return concat([b for b, _ in made]), join([t for _, t in made])


@cache
def day() -> tuple[FrameBlock, Truth]:
    return run(FleetConfig(vehicles=40, hours=24, models=(NMC,), seed=3, start_ns=MORNING_NS))


def columns(block: FrameBlock, truth: Truth) -> dict[str, Any]:
    true = {f"true {f.name}": getattr(truth, f.name) for f in fields(truth)}
    vehicle = np.array(block.vehicles)[block.pack]
    return {n: getattr(block, n) for n in FIXED} | dict(block.context) | true | {"vehicle": vehicle}


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for name, column in a.items():
        np.testing.assert_array_equal(column, b[name], err_msg=name)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    cfg = FleetConfig(vehicles=5, hours=3, models=(NMC,), start_ns=MORNING_NS, truth_cells=True)
    first = run(cfg)
    assert_same(columns(*first), columns(*run(cfg)))
    other, _ = run(replace(cfg, seed=2))
    assert len(other) != len(first[0]) or (other.cell_v != first[0].cell_v).any()


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_the_size_of_blocks_changes_no_bit(rows: int) -> None:
    cfg = FleetConfig(vehicles=4, hours=0.5, models=(NMC,), sleep=False)
    made = list(simulate(replace(cfg, block_rows=rows)))
    assert all(len(b) == len(t) <= rows for b, t in made)
    parts = concat([b for b, _ in made]), join([t for _, t in made])
    assert_same(columns(*parts), columns(*run(cfg)))


def test_a_vehicle_alone_is_the_vehicle_in_the_fleet() -> None:
    cfg = FleetConfig(vehicles=7, hours=4, models=(NMC, "generic-lfp@20c4t100ah"), start_ns=MORNING_NS)
    for number in (2, 3):
        alone, alone_true = run(replace(cfg, vehicles=1, first=number))
        made = [(b, t) for b, t in simulate(cfg) if b.model == alone.model]
        fleet, true = concat([b for b, _ in made]), join([t for _, t in made])
        mine = np.flatnonzero(fleet.src_part == number)
        assert alone.vehicles == (vehicle_id(number),)
        assert_same(columns(fleet.take(mine), true.take(mine)), columns(alone, alone_true))


def test_a_longer_run_begins_as_the_shorter_one() -> None:
    cfg = FleetConfig(vehicles=3, hours=12, models=(NMC,), start_ns=MORNING_NS)
    block, truth = run(cfg)
    longer, longer_true = run(replace(cfg, hours=40))
    n = len(block)
    assert_same(columns(longer.take(slice(n)), longer_true.take(slice(n))), columns(block, truth))


def test_frames_come_in_time_order_and_every_vehicle_counts_its_own() -> None:
    block, _ = day()
    assert (np.diff(block.t_ns) >= 0).all()
    for pack in range(len(block.packs)):
        mine = block.pack == pack
        np.testing.assert_array_equal(block.seq[mine], np.arange(mine.sum()))
        assert (np.diff(block.t_ns[mine]) > 0).all()


def test_a_day_of_a_healthy_fleet_stays_within_what_real_packs_do() -> None:
    block, truth = day()
    limit = {row.over: row.bound for row in load_pack(NMC).limits if (row.tier, row.quantity) == ("MOL", "cell_v")}
    assert limit[False] < block.cell_v.min()
    assert block.cell_v.max() < limit[True]
    assert truth.soc_low.min() > 0.05
    assert truth.soc_high.max() < 1.005
    assert np.quantile(truth.soc, 0.85) < 0.95  # full charges are rare
    assert block.temp_c.min() > -30
    assert block.temp_c.max() < 45
    assert (truth.fault == 0).all()
    assert np.abs(block.context["soc_bms"] - truth.soc).max() < 0.08
    assert np.isfinite(block.cell_v).all()
    assert np.isfinite(block.temp_c).all()


@pytest.mark.parametrize("model", pack_names())
def test_a_fortnight_of_every_shipped_pack_stays_within_its_own_operating_limits(model: str) -> None:
    limit = {row.over: row.bound for row in load_pack(model).limits if (row.tier, row.quantity) == ("MOL", "cell_v")}
    low, high, cold = 9.0, 0.0, 9.0
    for block, truth in simulate(FleetConfig(vehicles=6, hours=14 * 24, period_s=60, models=(model,), seed=9)):
        low, high = min(low, float(block.cell_v.min())), max(high, float(block.cell_v.max()))
        assert truth.soc_low.min() > 0.05
        assert truth.soc_high.max() < 1.01
        charging = block.context["drive_state"] == CHARGING
        cold = min(cold, float(block.temp_c[charging & (truth.current_a > 0)].min(initial=9.0)))
    assert limit[False] < low
    assert high < limit[True]
    assert cold > -3.5  # charging waits for the heater; probes may read 1.5 low and lag


def test_vehicles_drive_charge_and_park_and_sleep_without_frames() -> None:
    block, truth = day()
    state, speed = block.context["drive_state"], block.context["speed_kmh"]
    share = len(block) / (40 * 8640)
    assert 0.03 < share < 0.5
    assert set(np.unique(state)) == {PARKED, DRIVING, CHARGING}
    assert (speed[state != DRIVING] == 0).all()
    assert 60 < speed.max() < 135
    assert truth.current_a[state == PARKED].any() == 0
    assert (truth.current_a[state == CHARGING] >= 0).all()
    assert truth.current_a[state == DRIVING].min() < -30
    assert truth.current_a[state == DRIVING].max() > 10  # recuperation
    assert (block.context["contactor_state"] == np.where(state == PARKED, 0, 2)).all()
    driven = [np.ptp(block.context["odo_km"][block.pack == p]) for p in range(40)]
    assert 5 < np.median(driven) < 120


def test_the_track_is_as_long_as_the_odometer_says_and_leads_home_again() -> None:
    block, _ = day()
    checked = 0
    for p in range(40):
        mine = block.take(np.flatnonzero((block.pack == p) & (block.context["drive_state"] == DRIVING)))
        odo = mine.context["odo_km"]
        if not len(mine) or np.ptp(odo) < 10:
            continue
        lat, lon = mine.context["lat_deg"], mine.context["lon_deg"]
        step = np.hypot(np.diff(lat), np.diff(lon) * np.cos(np.radians(lat[0]))) * 111.2
        assert 0.7 < step.sum() / np.ptp(odo) < 1.7
        assert step.max() < 1.5
        checked += 1
    assert checked >= 10


def test_without_sleep_every_vehicle_sends_every_period() -> None:
    block, _ = run(FleetConfig(vehicles=3, hours=1, period_s=5, models=(NMC,), sleep=False))
    assert len(block) == 3 * 720
    for p in range(3):
        assert (np.diff(block.t_ns[block.pack == p]) == 5_000_000_000).all()


def test_an_open_contactor_shows_the_offset_of_the_current_sensor() -> None:
    cfg = FleetConfig(vehicles=3, hours=6, models=(NMC,), sensor_offset_a=0.7, sleep=False)
    block, truth = run(cfg)
    rest = truth.current_a == 0
    assert block.current_a[rest].mean() == pytest.approx(0.7, abs=0.02)


def test_the_truth_differs_from_the_pack_file_as_real_packs_do() -> None:
    cfg = FleetConfig(vehicles=60, hours=0.02, models=(NMC,), sleep=False, truth_cells=True)
    _, truth = run(cfg)
    pack = load_pack(NMC)
    assert truth.capacity_cell_ah is not None
    assert truth.soc_cell is not None
    relative = truth.capacity_cell_ah / pack.usable_ah
    assert relative.min() >= 0.75 - 1e-6
    assert relative.max() <= 1.02 + 1e-6
    assert np.ptp(relative.mean(axis=1)) > 0.15
    assert (truth.soc_cell.max(axis=1) - truth.soc_cell.min(axis=1)).mean() == pytest.approx(0.02, abs=0.01)


def test_usable_soc_follows_its_definition() -> None:
    cfg = FleetConfig(vehicles=3, hours=2, models=(NMC,), sleep=False, truth_cells=True)
    _, truth = run(cfg)
    assert truth.soc_cell is not None
    assert truth.capacity_cell_ah is not None
    z, q = truth.soc_cell.astype(np.float64), truth.capacity_cell_ah.astype(np.float64)
    low, room = (z * q).min(axis=1), ((1 - z) * q).min(axis=1)
    np.testing.assert_allclose(truth.soc, low / (low + room), atol=1e-6)
    np.testing.assert_allclose(truth.capacity_ah, low + room, rtol=1e-6)


@pytest.mark.parametrize("model", ["lg-hg2", "generic-lfp@1c0t5ah", "generic-nmc@200c0t20ah"])
def test_packs_of_one_cell_and_of_many_and_without_probes_can_be_simulated(model: str) -> None:
    block, truth = run(FleetConfig(vehicles=2, hours=12, period_s=30, models=(model,), start_ns=MORNING_NS))
    assert block.cell_v.shape[1] == load_pack(model).series
    assert truth.soc.min() > 0.05
    assert block.context["drive_state"].max() > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vehicles": 0}, r"vehicles must be 1\..* got 0"),
        ({"period_s": 0.0}, r"period_s must be 0\.01\..* got 0\.0"),
        ({"hours": -1.0}, r"hours must be 0"),
        ({"models": ()}, r"models must name at least one"),
    ],
)
def test_a_bad_setting_is_refused_with_its_value(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FleetConfig(**({"vehicles": 1} | wrong))
