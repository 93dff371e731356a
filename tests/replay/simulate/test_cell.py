"""Physics of a cell group against closed forms, and against a recorded cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from replay.fit import leaf
from replay.fit.rc import Priors, Run, Tables, fit
from replay.simulate.cell import OCV, cell_table, hysteresis_after, soc_at, temp_after, temp_at, value_at, voltage_trace
from schemas.pack import GRID_SOC, GRID_TEMP_C, load_pack

Floats = NDArray[np.float64]
R0_OHM, RB_OHM, TAU_S = 1e-3, np.array([5e-4, 2e-3]), np.array([10.0, 300.0])
SHAPE = GRID_TEMP_C.size, GRID_SOC.size


def flat_table(slope_v: float = 0.0) -> NDArray[np.float32]:
    ocv = np.broadcast_to(3.5 + slope_v * GRID_SOC, SHAPE)
    return cell_table(ocv, np.full(SHAPE, R0_OHM), np.stack([np.full(SHAPE, r) for r in RB_OHM]))


@pytest.mark.parametrize("dt_s", [0.1, 1.0, 10.0, 60.0])
def test_a_current_step_gives_the_analytic_response_at_any_step_size(dt_s: float) -> None:
    t_s = np.arange(0.0, 1200.0 + dt_s, dt_s)
    current_a = np.where(t_s > 0, 50.0, 0.0)
    v, _ = voltage_trace(flat_table(), TAU_S, 60.0, t_s, current_a, soc0=0.5)
    expected = 3.5 + 50 * (R0_OHM * (t_s > 0) + (RB_OHM * (1 - np.exp(-t_s[:, None] / TAU_S))).sum(axis=1))
    np.testing.assert_allclose(v, expected, atol=2e-6)


def test_charge_is_conserved() -> None:
    rng = np.random.default_rng(1)
    t_s = np.cumsum(rng.uniform(0.1, 20, 500))
    current_a = rng.normal(0, 40, 500)
    _, soc = voltage_trace(flat_table(), TAU_S, 60.0, t_s, current_a, soc0=0.5)
    ah = np.cumsum(current_a * np.diff(t_s, prepend=t_s[0])) / 3600
    np.testing.assert_allclose(soc, 0.5 + ah / 60.0, atol=1e-12)


def test_the_table_is_read_as_the_pack_grid_says_between_its_knots() -> None:
    grid = load_pack("generic-nmc").grid()
    table = cell_table(grid.ocv, grid.r0, grid.rb)
    rng = np.random.default_rng(2)
    for z, t in zip(rng.uniform(0, 1, 200), rng.uniform(-35, 65, 200), strict=True):
        (k, wz), (j, wt) = soc_at(z), temp_at(t, SHAPE[0])
        for m, whole in enumerate((grid.ocv, grid.r0, *grid.rb)):
            at_t = np.array([np.interp(t, GRID_TEMP_C, whole[:, i]) for i in (k, k + 1)])
            expected = at_t[0] + (z * 200 - k) * (at_t[1] - at_t[0])
            assert value_at(table, j, wt, k, wz, m) == pytest.approx(expected, rel=2e-5)


def test_beyond_full_and_empty_the_ocv_goes_on_in_a_straight_line() -> None:
    table = flat_table(slope_v=0.7)
    for z in (-0.03, 1.02):
        k, wz = soc_at(z)
        assert value_at(table, 0, np.float32(0), k, wz, OCV) == pytest.approx(3.5 + 0.7 * z, abs=1e-5)


def test_hysteresis_reaches_its_branch_and_turns_round_with_charge_not_time() -> None:
    h = hysteresis_after(0.0, 0.02, 30.0, 60.0)
    assert h == pytest.approx(0.02, rel=1e-4)
    assert hysteresis_after(h, 0.02, 0.0, 60.0) == h
    part = hysteresis_after(h, 0.02, -0.5, 60.0)
    assert -0.02 < part < h
    twice = hysteresis_after(hysteresis_after(h, 0.02, -0.25, 60.0), 0.02, -0.25, 60.0)
    assert twice == pytest.approx(part)


def _warm(steps: int, dt_s: float, heat_w: float, capacity: float, loss: float, env_c: float) -> tuple[float, float]:
    t, lost = env_c, 0.0
    for _ in range(steps):
        t = temp_after(t, heat_w, capacity / dt_s, loss, env_c, 0.0, 0.0, 0.0)
        lost += loss * (t - env_c) * dt_s
    return t, lost


def test_heat_in_is_heat_stored_plus_heat_lost_and_ends_at_its_closed_form() -> None:
    temp_c, lost_j = _warm(360, 10.0, 5.0, 1800.0, 0.5, 20.0)
    assert 1800.0 * (temp_c - 20.0) + lost_j == pytest.approx(5.0 * 3600.0, rel=1e-9)
    assert temp_c - 20.0 == pytest.approx(10.0 * (1 - np.exp(-3600.0 * 0.5 / 1800.0)), rel=2e-3)
    assert _warm(1000, 600.0, 5.0, 1800.0, 0.5, 20.0)[0] == pytest.approx(30.0)


def rmse_mv(table: NDArray[np.float32], tau_s: Floats, run: Run, temp_c: int) -> float:
    v, _ = voltage_trace(table, tau_s, leaf.CELL_AH, run.t_s, run.current_a, temp_c=float(temp_c))
    return float(1e3 * np.sqrt(np.mean((v - run.v) ** 2)))


def test_the_pulse_tests_of_a_recorded_cell_are_within_8_mv_at_each_temperature(data_dir: Path) -> None:
    grid = load_pack("leaf-24kwh").grid()  # two cells in parallel
    table = cell_table(grid.ocv, 2 * grid.r0, 2 * grid.rb)
    for temp_c, run in leaf.read(data_dir).items():
        error_mv = rmse_mv(table, grid.tau_s, run, temp_c)
        print(f"{temp_c} °C: {error_mv:.2f} mV, {run.v.size} rows")
        assert error_mv < 8.0


def test_two_branches_are_enough_for_the_recorded_cell(data_dir: Path) -> None:
    runs = leaf.read(data_dir)
    shipped = load_pack("leaf-24kwh")
    r = shipped.resistance
    branches = np.stack([r.rb_ohm[:2].sum(axis=0), r.rb_ohm[2:].sum(axis=0)])
    start = Tables(
        shipped.ocv.soc, shipped.ocv.temp_c, shipped.ocv.v, r.soc, r.temp_c,
        2 * np.concatenate([r.r0_ohm[None], branches]), np.array([10.0, 300.0]),
    )  # fmt: skip
    priors = Priors(ocv_v=0.05, ocv_rough_v=0.02, r_rough=0.5, r_arrhenius=0.5)
    two = fit(start, list(runs.values()), priors, every=20, rounds=4).grid()
    for temp_c, run in runs.items():
        error_mv = rmse_mv(cell_table(two.ocv, two.r0, two.rb), two.tau_s, run, temp_c)
        print(f"{temp_c} °C: {error_mv:.2f} mV with two branches")
        assert error_mv < 8.0
