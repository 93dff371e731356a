"""Differences between cells against packs whose differences are known."""

import numpy as np
import pytest

from operators.kernels import imbalance as kernel
from operators.kernels.estimate import EstimateConfig
from schemas.quality import SWEEP_SKEW
from tests.support.circuit import drive, one_branch_pack, run, simulate

CELLS = 9
CFG = EstimateConfig()
D_SOC = np.array([0.0, -0.03, 0.02, 0.0, 0.0, 0.0, 0.01, -0.01, 0.0])
D_R0 = np.array([0.0, 0.0, 0.0, 0.5, -0.1, 0.0, 0.0, 0.1, 0.0])
D_Q = np.array([0.0, 0.0, 0.0, 0.0, 0.0, -0.05, 0.0, 0.0, 0.03])


def test_an_offset_in_soc_shows_within_a_minute_of_rest() -> None:
    pack = one_branch_pack(CELLS)
    current = np.zeros(60)
    out = run(pack, CFG, simulate(pack, current, 1.0, 0.6, D_SOC).cell_v, current)
    assert out["d_soc"][-1] == pytest.approx(D_SOC, abs=2e-3)


def test_a_difference_in_resistance_shows_within_minutes_of_load() -> None:
    pack = one_branch_pack(CELLS)
    current = drive(900, seed=1)
    out = run(pack, CFG, simulate(pack, current, 1.0, 0.6, D_SOC, D_R0).cell_v, current)
    assert out["d_r0"][-1] == pytest.approx(D_R0, abs=0.03)
    assert out["d_soc"][-1] == pytest.approx(D_SOC, abs=3e-3)


def test_a_difference_in_capacity_shows_over_a_wide_swing() -> None:
    pack = one_branch_pack(CELLS)
    current = np.concatenate([np.zeros(60), np.full(5400, -25.0), np.zeros(60), np.full(5400, 25.0), np.zeros(60)])
    truth = simulate(pack, current, 1.0, 0.95, D_SOC / 2, 0.0, D_Q)
    out = run(pack, CFG, truth.cell_v, current)
    assert out["d_q"][-1] == pytest.approx(D_Q, abs=0.012)
    assert out["d_q_std"][-1] < 0.6 * out["d_q_std"][0]


def test_cell_soc_is_that_of_the_median_plus_the_difference() -> None:
    pack = one_branch_pack(CELLS)
    current = drive(900, seed=1)
    truth = simulate(pack, current, 1.0, 0.6, D_SOC)
    out = run(pack, CFG, truth.cell_v, current)
    assert out["z_med"][-1] + out["d_soc"][-1] == pytest.approx(truth.soc[-1], abs=0.01)


def test_residuals_are_taken_before_the_filter_learns_from_them() -> None:
    pack = one_branch_pack(CELLS)
    current = np.zeros(120)
    truth = simulate(pack, current, 1.0, 0.6)
    truth.cell_v[100:, 4] += 0.02
    out = run(pack, CFG, truth.cell_v, current)
    assert out["resid_v"][100, 4] == pytest.approx(0.02, abs=1e-4)
    assert np.abs(out["resid_v"][99]).max() < 1e-4


def test_a_missing_cell_keeps_its_differences_and_the_others_go_on() -> None:
    pack = one_branch_pack(CELLS)
    current = np.zeros(300)
    truth = simulate(pack, current, 1.0, 0.6, D_SOC)
    truth.cell_v[100:, 1] = np.nan
    truth.cell_v[100:, 2] += 0.01
    out = run(pack, CFG, truth.cell_v, current)
    assert np.all(out["d_soc"][100:, 1] == out["d_soc"][99, 1])
    assert np.isnan(out["resid_v"][100:, 1]).all()
    assert out["d_soc"][-1, 2] > out["d_soc"][99, 2] + 1e-3


def test_one_absurd_reading_moves_little() -> None:
    pack = one_branch_pack(CELLS)
    current = drive(600, seed=2)
    truth = simulate(pack, current, 1.0, 0.6)
    truth.cell_v[500, 3] = 4.9
    out = run(pack, CFG, truth.cell_v, current)
    assert abs(out["d_soc"][500, 3]) < 1e-3
    assert out["resid_v"][500, 3] > 1.0


def test_a_skewed_sweep_teaches_nothing() -> None:
    pack = one_branch_pack(CELLS)
    current = np.zeros(200)
    truth = simulate(pack, current, 1.0, 0.6)
    truth.cell_v[150] += np.linspace(-0.05, 0.05, CELLS)
    quality = np.zeros(200, np.uint32)
    quality[150] = SWEEP_SKEW
    out = run(pack, CFG, truth.cell_v, current, quality=quality)
    np.testing.assert_array_equal(out["d_soc"][150], out["d_soc"][149])


def test_on_the_lfp_plateau_differences_are_frozen_and_ever_less_certain() -> None:
    pack = one_branch_pack(CELLS, chemistry="lfp")
    current = np.zeros(3600)
    truth = simulate(pack, current, 1.0, 0.45)
    truth.cell_v[1:, 2] += 0.01  # hysteresis can do that
    out = run(pack, CFG, truth.cell_v, current)
    assert np.abs(out["d_soc"]).max() < 1e-6
    assert out["d_soc_std"][-1] >= out["d_soc_std"][1]
    steep = run(pack, CFG, simulate(pack, current, 1.0, 0.05, D_SOC / 2).cell_v, current)
    assert steep["d_soc"][-1] == pytest.approx(D_SOC / 2, abs=2e-3)


@pytest.mark.parametrize(
    ("z", "d_soc", "d_q", "soc", "low", "high"),
    [
        (0.5, [0.0, 0.0], [0.0, 0.0], 0.5, 0, 0),
        (0.5, [-0.1, 0.1], [0.0, 0.0], 0.4 / (0.4 + 0.4), 0, 1),
        (0.5, [0.0, 0.0], [0.0, -0.2], 0.4 / (0.4 + 0.4), 1, 1),
        (0.8, [0.0, -0.2], [0.0, 0.5], 0.8 / (0.8 + 0.2), 0, 0),
        (0.95, [0.0, 0.1], [0.0, 0.0], 1.0, 0, 1),  # the second is full: nothing more goes in
        (0.05, [0.0, -0.1], [0.0, 0.0], 0.0, 1, 0),
    ],
)
def test_usable_soc_is_bound_by_the_emptiest_and_the_fullest_cell(
    z: float, d_soc: list[float], d_q: list[float], soc: float, low: int, high: int
) -> None:
    cell = np.zeros((3, 2), np.float32)
    cell[kernel.D_SOC], cell[kernel.D_Q] = d_soc, d_q
    scratch = np.empty((2, 2), np.float32)
    left, room, which_low, which_high = kernel.usable(cell, z, scratch, scratch.view(np.int32), 0)
    assert left / (left + room) == pytest.approx(soc, abs=1e-6)
    assert (which_low, which_high) == (low, high)


def test_a_channels_own_error_does_not_average_out_in_a_long_rest() -> None:
    pack = one_branch_pack(CELLS)
    current = np.zeros(20_000)
    out = run(pack, CFG, simulate(pack, current, 1.0, 0.6, D_SOC).cell_v, current)
    slope = pack.grid().docv[np.argmin(np.abs(pack.grid().temp_c - 25.0)), 120]
    assert out["d_soc_std"][-1] == pytest.approx(CFG.cell_bias_v / slope, rel=0.3)
