"""A pack run forward: what circuits and heat do in closed form, and what a recorded cell did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from operators.kernels.twin import Future, Load, Twin, run
from schemas.pack import PackModel, load_pack

PACK = load_pack("generic-nmc@4c2t60ah")
NAN = float("nan")


def twin(pack: PackModel = PACK, **more: Any) -> Twin:
    cells = pack.series
    plain: dict[str, Any] = {
        "soc": np.full(cells, 0.5), "capacity_ah": np.full(cells, 60.0), "r_scale": np.ones(cells), "temp_c": 25.0,
    }  # fmt: skip
    return Twin(pack, **(plain | more))


def load(
    seconds: float, current_a: float = NAN, power_w: float = NAN, ambient_c: float = 25.0, step: float = 1.0
) -> Load:
    t_s = np.arange(0.0, seconds + step, step)
    return Load(t_s, *(np.full(t_s.size, v) for v in (current_a, power_w, ambient_c)))


def predicted(current_a: float, seconds: float = 3600.0, **more: Any) -> Future:
    return run(twin(**more), load(seconds, current_a))


def test_charge_that_flows_in_is_charge_that_is_there() -> None:
    got = predicted(12.0)
    assert got.soc_min[-1] == pytest.approx(0.5 + 12.0 / 60.0)


def test_without_load_a_pack_rests_at_its_open_circuit_voltage_and_stays_as_warm() -> None:
    got = predicted(0.0)
    grid = PACK.grid()
    at_25 = int(np.argmin(abs(grid.temp_c - 25.0)))
    assert got.cell_v_min[-1] == pytest.approx(np.interp(0.5, grid.soc, grid.ocv[at_25]), abs=1e-9)
    assert np.ptp(got.temp_c) == 0


def test_the_first_moment_of_a_load_is_its_ohmic_drop() -> None:
    rest, loaded = predicted(0.0, 1.0), predicted(-60.0, 1.0, r_scale=np.full(4, 1.5))
    grid = PACK.grid()
    r0 = np.interp(0.5, grid.soc, grid.r0[int(np.argmin(abs(grid.temp_c - 25.0)))])
    assert rest.cell_v_min[0] - loaded.cell_v_min[0] == pytest.approx(60.0 * 1.5 * r0, rel=1e-6)


def test_a_power_is_met_by_the_current_that_it_takes() -> None:
    got = run(twin(), load(600.0, power_w=-2000.0))
    assert got.current_a * got.pack_v == pytest.approx(np.full(601, -2000.0), rel=1e-3)
    assert got.energy_out_kwh[-1] == pytest.approx(2000.0 * 600 / 3.6e6, rel=1e-3)


def test_a_weak_cell_is_the_lowest_one_and_empties_first() -> None:
    got = predicted(-30.0, 1800.0, capacity_ah=np.array([60.0, 60.0, 50.0, 60.0]))
    assert got.cell_min[-1] == 2
    assert got.soc_min[-1] == pytest.approx(0.5 - 15.0 / 50.0)
    assert got.soc_max[-1] == pytest.approx(0.5 - 15.0 / 60.0)


def test_a_warm_pack_cools_as_newton_says() -> None:
    lossy = replace(PACK, thermal=replace(PACK.thermal, heat_capacity_j_per_k=500.0, loss_w_per_k=0.5))
    got = run(twin(lossy, temp_c=45.0), load(1000.0, 0.0, ambient_c=5.0, step=50.0))
    assert got.temp_c[-1] == pytest.approx(5.0 + 40.0 * np.exp(-1000.0 * 0.5 / 500.0))


def test_heat_is_what_the_drops_cost() -> None:
    got = predicted(-60.0, 600.0)
    assert 0 < got.heat_kwh[-1] < 0.1 * got.energy_out_kwh[-1]
    assert got.temp_c[-1] > 25.0


def test_beyond_empty_the_voltage_goes_on_falling() -> None:
    got = predicted(-60.0, 3600.0)
    assert got.soc_min[-1] == pytest.approx(-0.5)
    assert (np.diff(got.cell_v_min[2000:]) < 0).all()


def test_inputs_are_not_changed() -> None:
    mine = twin()
    run(mine, load(100.0, -60.0))
    assert mine.soc.tolist() == [0.5] * 4
