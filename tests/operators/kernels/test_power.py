"""Power and energy against the circuit by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from operators.kernels import power as kernel
from operators.kernels.estimate import EstimateConfig
from operators.kernels.parameters import parameters
from schemas.pack import PackModel
from tests.support.circuit import one_branch_pack, run, simulate

PACK = replace(one_branch_pack(cells=3), charge_max_a=1e6, discharge_max_a=1e6)
CFG = EstimateConfig()
R_10S = 1e-3 + 0.5e-3 * (1 - math.exp(-10 / 60))
_GRID = PACK.grid()
_SLOPE = np.interp(0.6, _GRID.soc[1:], np.diff(_GRID.ocv[11]) / np.diff(_GRID.soc))
R_60_PCT = R_10S + _SLOPE * 10 / (3600 * PACK.usable_ah)  # OCV falls during the pulse


def at_rest(
    pack: PackModel = PACK, soc: float = 0.6, temp_c: float = 25.0, d_r0: float = 0.0, d_soc: float = 0.0
) -> tuple[dict[str, Any], float]:
    n = 880
    current = np.repeat(np.tile([-50.0, 50.0], n // 40), 20)
    current[-60:] = 0.0
    truth = simulate(pack, current, 1.0, soc, np.array([d_soc, 0.0, 0.0]), np.array([d_r0, 0.0, 0.0]))
    temp = np.full((n, pack.probes), 25.0, np.float32)
    temp[-1] = temp_c
    out = run(pack, CFG, truth.cell_v, current, temp_c=temp)
    return {k: v[-1] for k, v in out.items()}, float(truth.cell_v[-1, -1])


def test_discharge_power_takes_the_cell_to_its_lower_limit() -> None:
    out, ocv = at_rest()
    v_min = parameters(PACK).cell.v_min
    assert out["sop_discharge_10s_limit"] == kernel.VOLTAGE
    assert out["sop_discharge_10s_w"] == pytest.approx(3 * v_min * (ocv - v_min) / R_60_PCT, rel=0.03)


def test_charge_power_takes_the_cell_to_its_upper_limit() -> None:
    out, ocv = at_rest()
    v_max = parameters(PACK).cell.v_max
    assert out["sop_charge_10s_limit"] == kernel.VOLTAGE
    assert out["sop_charge_10s_w"] == pytest.approx(3 * v_max * (v_max - ocv) / R_60_PCT, rel=0.03)


def test_the_cell_with_the_highest_resistance_limits_the_pack() -> None:
    out, ocv = at_rest(d_r0=0.5)
    v_min = parameters(PACK).cell.v_min
    amps = (ocv - v_min) / R_60_PCT / 1.5  # the filter takes the whole pulse's resistance for 50 % more
    assert out["sop_discharge_10s_w"] == pytest.approx(3 * amps * (ocv - amps * R_60_PCT), rel=0.04)


def test_the_emptiest_cell_limits_discharge_and_not_charge() -> None:
    low, _ = at_rest(soc=0.3, d_soc=-0.02)
    even, _ = at_rest(soc=0.3)
    assert low["sop_discharge_10s_w"] < 0.99 * even["sop_discharge_10s_w"]
    assert low["sop_charge_10s_w"] == pytest.approx(even["sop_charge_10s_w"], rel=0.01)


def test_the_packs_own_current_limit_binds_where_it_is_smaller() -> None:
    out, ocv = at_rest(replace(PACK, discharge_max_a=100.0, charge_max_a=50.0))
    assert (out["sop_discharge_10s_limit"], out["sop_charge_10s_limit"]) == (kernel.CURRENT, kernel.CURRENT)
    assert out["sop_discharge_10s_w"] == pytest.approx(3 * 100 * (ocv - 100 * R_10S), rel=0.01)
    assert out["sop_charge_10s_w"] == pytest.approx(3 * 50 * (ocv + 50 * R_10S), rel=0.01)


def test_cold_takes_charge_power_to_zero_and_says_so() -> None:
    out, _ = at_rest(replace(PACK, discharge_max_a=300.0, charge_max_a=150.0), temp_c=-40.0)
    assert out["sop_charge_10s_w"] == 0.0
    assert out["sop_charge_10s_limit"] == kernel.TEMPERATURE


def test_an_empty_pack_gives_no_power() -> None:
    out, _ = at_rest(replace(PACK, discharge_max_a=300.0), soc=0.06, d_soc=-0.055)
    assert out["sop_discharge_10s_w"] < 1500.0


def test_energy_without_load_is_the_area_under_the_curve() -> None:
    out, _ = at_rest(soc=0.5)
    grid = PACK.grid()
    soc = np.linspace(0, 0.5, 2001)
    v = np.interp(soc, grid.soc, grid.ocv[11])
    above = v >= parameters(PACK).cell.v_min
    expected = 3 * 50.0 * np.trapezoid(v[above], soc[above]) / 1e3
    assert out["soe_kwh"] == pytest.approx(expected, rel=0.02)


def test_energy_under_load_is_what_a_discharge_then_gives() -> None:
    current = np.full(5000, -50.0)
    truth = simulate(PACK, current, 1.0, 0.9)
    v_min = parameters(PACK).cell.v_min
    end = int(np.argmax((truth.cell_v[:, 0] < v_min) | (truth.soc[:, 0] <= 0)))
    given = np.cumsum(50.0 * truth.cell_v.sum(1))[:end] / 3.6e6
    out = run(PACK, CFG, truth.cell_v[:end], current[:end])
    left = given[-1] - given
    whole = 50.0 * 3 * 3.7e-3
    assert np.abs(out["soe_kwh"][1800:end] - left[1800:]).max() < 0.015 * whole


def test_a_load_that_swings_is_told_to_lose_more_than_a_steady_one() -> None:
    current = np.tile(np.repeat([-100.0, 0.0], 20), 75)
    truth = simulate(PACK, current, 1.0, 0.9)
    given = -np.cumsum(current * truth.cell_v.sum(1)) / 3.6e6
    cfg = replace(CFG, reserve_soc=float(truth.soc[-1, 0]))
    out = run(PACK, cfg, truth.cell_v, current)
    error = out["soe_kwh"][1800:] - (given[-1] - given)[1800:]
    beyond_steady = 3 * (100.0**2 / 2 - 50.0**2) * 1e-3 * 1200 / 3.6e6  # kWh lost in R0 alone
    assert np.abs(error).max() < 0.5 * beyond_steady


def test_energy_down_to_a_reserve_is_less_by_what_the_reserve_holds() -> None:
    n = 200
    truth = simulate(PACK, np.zeros(n), 1.0, 0.6)
    whole = run(PACK, CFG, truth.cell_v, np.zeros(n))["soe_kwh"][-1]
    kept = run(PACK, replace(CFG, reserve_soc=0.3), truth.cell_v, np.zeros(n))["soe_kwh"][-1]
    grid = PACK.grid()
    z = np.linspace(0, 0.3, 500)
    v = np.interp(z, grid.soc, grid.ocv[11])
    above = v >= parameters(PACK).cell.v_min
    assert whole - kept == pytest.approx(3 * 50.0 * np.trapezoid(v[above], z[above]) / 1e3, rel=0.02)


@pytest.mark.parametrize("reserve", [-0.1, 1.0, float("nan")])
def test_a_reserve_outside_0_to_1_is_refused(reserve: float) -> None:
    with pytest.raises(ValueError, match="reserve_soc must be ≥ 0 and < 1"):
        EstimateConfig(reserve_soc=reserve)


def test_the_cells_that_bind_are_named_and_longer_pulses_give_less() -> None:
    out, _ = at_rest(d_soc=-0.03)
    assert out["sop_discharge_cell"] == 0
    assert out["sop_charge_cell"] in {1, 2}
    for way in ("discharge", "charge"):
        powers = [out[f"sop_{way}_{s}s_w"] for s in (2, 10, 30)]
        assert powers == sorted(powers, reverse=True)
        assert powers[0] > powers[2]
        for seconds, power in zip((2, 10, 30), powers, strict=True):
            assert 0.02 * power < out[f"sop_{way}_{seconds}s_std_w"] < 0.5 * power


@pytest.mark.parametrize("way", [1.0, -1.0])
@pytest.mark.parametrize("limit", [kernel.VOLTAGE, kernel.CURRENT, kernel.CHARGE])
def test_the_deviation_of_a_power_is_that_of_powers_under_what_may_be_wrong(way: float, limit: int) -> None:
    """Draws from the covariance, each with its own power by the circuit; the model's own error is drawn as well."""
    ocv, slope, u, ohm, limit_v, seconds, ah, fixed_a, left, cells = (
        3.7,
        0.8,
        -0.03,
        2e-3,
        3.7 - 0.9 * way,
        10,
        60,
        150,
        0.02,
        4,
    )
    whole_a = ah * 3600 / seconds
    std = np.diag([0.01, 0.004, 0.08, 0.005, 0.04, 0.01, 0.03])  # z, z of a cell, scale, bias, cell's R, Q, model
    mixed = np.eye(7)
    mixed[0, 3] = mixed[3, 0] = -0.6
    mixed[0, 2] = mixed[2, 0] = 0.3
    mixed[2, 3] = mixed[3, 2] = -0.2
    cov = std @ mixed @ std
    z, apart, s, b, cell_r, q, model = np.random.default_rng(4).multivariate_normal(np.zeros(7), cov, 400_000).T
    end_v = ocv + slope * (z + apart) + b + u * (1 + s)
    r = (ohm * (1 + s) + slope / whole_a) * (1 + model)
    amps = {
        kernel.VOLTAGE: way * (end_v - limit_v) / (r * (1 + cell_r)),
        kernel.CURRENT: np.full(z.size, fixed_a),
        kernel.CHARGE: (left + way * (z + apart)) * whole_a * (1 + q),
    }[limit]
    watts = cells * amps * (end_v - way * amps * r)
    r_pulse, rest_v = ohm + slope / whole_a, ocv + u
    amp = {kernel.VOLTAGE: way * (rest_v - limit_v) / r_pulse, kernel.CURRENT: fixed_a, kernel.CHARGE: left * whole_a}
    doubt = (cov[0, 0], cov[1, 1], cov[0, 3], cov[3, 3], cov[0, 2], cov[2, 3], cov[2, 2], cov[4, 4], cov[5, 5])
    told = kernel.sop_std(
        way, limit, float(amp[limit]), cells, r_pulse, rest_v, slope, 1 / r_pulse, whole_a, u, 0.0, doubt
    )
    assert told == pytest.approx(watts.std(), rel=0.1)


def test_who_can_give_nothing_is_not_sure_of_it() -> None:
    doubt = (1e-4, 0.0, 0.0, 1e-6, 0.0, 0.0, 1e-2, 0.0, 0.0)
    for_nothing = kernel.sop_std(1.0, kernel.VOLTAGE, 0.0, 96, 1e-3, 3.0, 1.0, 1e3, 1e4, 0.0, 0.0, doubt)
    assert for_nothing == pytest.approx(96 * 3.0 * 1e3 * math.sqrt(1e-4 + 1e-6))


def test_a_pack_whose_current_binds_is_surer_than_one_whose_voltage_does() -> None:
    free, _ = at_rest()
    bound, _ = at_rest(replace(PACK, discharge_max_a=100.0, charge_max_a=50.0))
    for way in ("discharge", "charge"):
        share = [out[f"sop_{way}_10s_std_w"] / out[f"sop_{way}_10s_w"] for out in (free, bound)]
        assert share[1] < 0.3 * share[0]
