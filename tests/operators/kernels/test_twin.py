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


def test_what_was_learned_beside_the_circuit_moves_rest_and_drop_of_every_cell() -> None:
    learned = np.array([0.01, 0.02, 0.0, 0.03, 0.0])  # V: offset, by SOC, by cold, at 1 C, at 1 C in the cold
    mine: dict[str, Any] = {"soc": np.full(4, 0.7), "residual": learned}
    plain: dict[str, Any] = {"soc": np.full(4, 0.7)}
    at_rest = [run(twin(**k), load(1.0, 0.0)).pack_v[0] for k in (mine, plain)]
    assert at_rest[0] - at_rest[1] == pytest.approx(4 * (0.01 + 0.02 * 0.2))
    at_1c = [run(twin(**k), load(1.0, 60.0)).pack_v[0] for k in (mine, plain)]
    assert at_1c[0] - at_1c[1] == pytest.approx(4 * (0.01 + 0.02 * 0.2 + 0.03))


def test_what_was_learned_leaves_half_of_the_resistance_and_stops_where_packs_charge() -> None:
    wild = np.array([0.0, 0.0, 0.01, -10.0, 0.0])
    at_rest, at_1c = ([run(t, load(1.0, i)).cell_v_min[0] for t in (twin(residual=wild), twin())] for i in (0.0, -60.0))
    drop = np.subtract(at_rest, at_1c)
    assert drop[0] == pytest.approx(0.5 * drop[1])
    cold = [run(twin(temp_c=t, residual=wild), load(1.0, 0.0)).pack_v[0] for t in (-5.0, -20.0)]
    plain = [run(twin(temp_c=t), load(1.0, 0.0)).pack_v[0] for t in (-5.0, -20.0)]
    assert np.subtract(cold, plain) == pytest.approx([4 * 0.01, 4 * 0.01])


def test_inputs_are_not_changed() -> None:
    mine = twin()
    run(mine, load(100.0, -60.0))
    assert mine.soc.tolist() == [0.5] * 4
