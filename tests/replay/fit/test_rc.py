import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.fit.generic import nmc
from replay.fit.rc import Priors, Run, Tables, branch_currents, fit, predict, rmse_v

TAU_S = np.array([5.0, 60.0])


def tables(r0: float, r1: float, r2: float) -> Tables:
    soc, v = nmc().tables.ocv_soc, nmc().tables.ocv_v
    r = np.array([r0, r1, r2])[:, None, None] * np.ones((1, 3))
    return Tables(soc, np.array([25.0]), v, np.array([0.0, 0.5, 1.0]), np.array([25.0]), r, TAU_S)


def drive(seed: int, rows: int = 6000) -> Run:
    """A discharge from full to empty in random steps, voltage from a 2-RC cell at 25 °C."""
    rng = np.random.default_rng(seed)
    i = np.repeat(rng.uniform(-120, 60, rows // 20), 20)
    i += -60 * 3600 / rows - i.mean()  # one full capacity
    t = np.arange(float(rows))
    soc = np.clip(1 + np.cumsum(i) / 3600 / 60, 0, 1)
    return Run(t, i, np.zeros(rows), soc, np.full(rows, 25.0))


def with_voltage(run: Run, truth: Tables) -> Run:
    return Run(run.t_s, run.current_a, predict(truth.grid(), run), run.soc, run.temp_c)


@given(st.floats(0.5, 2000), st.floats(0.1, 30))
def test_a_branch_answers_a_step_as_one_minus_exp(tau_s: float, period_s: float) -> None:
    t = np.arange(50.0) * period_s
    current = np.where(t > 0, 10.0, 0.0)
    x = branch_currents(t, np.asarray(current, np.float64), np.array([tau_s]))
    np.testing.assert_array_equal(x[0], current)
    np.testing.assert_allclose(x[1], 10 * (1 - np.exp(-t / tau_s)), atol=1e-9)


def test_at_rest_the_prediction_is_the_ocv() -> None:
    truth = tables(1e-3, 1e-3, 1e-3)
    soc = np.linspace(0, 1, 201)
    run = Run(np.arange(201.0), np.zeros(201), np.zeros(201), soc, np.full(201, 25.0))
    np.testing.assert_allclose(predict(truth.grid(), run), truth.grid().ocv[11], atol=1e-12)


def test_a_long_charge_at_constant_current_adds_the_sum_of_resistances() -> None:
    truth = tables(1e-3, 2e-3, 3e-3)
    rows = 2000
    run = Run(np.arange(float(rows)), np.full(rows, 10.0), np.zeros(rows), np.full(rows, 0.5), np.full(rows, 25.0))
    assert predict(truth.grid(), run)[-1] - truth.grid().ocv[11, 100] == pytest.approx(10 * 6e-3, rel=1e-6)


def test_the_fit_finds_the_resistances_that_made_the_voltage() -> None:
    truth = tables(0.9e-3, 0.5e-3, 0.4e-3)
    run = with_voltage(drive(1), truth)
    start = tables(0.5e-3, 0.2e-3, 1.0e-3)
    assert rmse_v(start.grid(), [run]) > 0.01
    found = fit(start, [run], Priors())
    assert rmse_v(found.grid(), [run]) < 2e-4
    np.testing.assert_allclose(found.r_ohm[:, 0, 1], truth.r_ohm[:, 0, 1], rtol=0.03)


def test_the_fit_finds_an_ocv_that_lies_20_mv_off_the_start() -> None:
    truth = tables(0.9e-3, 0.5e-3, 0.4e-3)
    run = with_voltage(drive(2), truth)
    off = Tables(truth.ocv_soc, truth.ocv_temp_c, truth.ocv_v - 0.02, truth.r_soc, truth.r_temp_c, truth.r_ohm, TAU_S)
    found = fit(off, [run], Priors(ocv_v=0.1, ocv_rough_v=0.02))
    inside = (truth.ocv_soc > 0.05) & (truth.ocv_soc < 0.95)
    assert np.abs(found.ocv_v - truth.ocv_v)[0, inside].max() < 0.003


def test_priors_hold_what_no_row_shows() -> None:
    truth = tables(0.9e-3, 0.5e-3, 0.4e-3)
    whole = with_voltage(drive(3), truth)
    top = Run(*(getattr(whole, n)[:1500] for n in ("t_s", "current_a", "v", "soc", "temp_c")))
    start = tables(0.9e-3, 0.5e-3, 0.4e-3)
    found = fit(start, [top], Priors())
    below = start.ocv_soc < top.soc.min() - 0.1
    assert np.abs(found.ocv_v - start.ocv_v)[0, below].max() < 0.002


def test_every_second_row_says_nearly_the_same() -> None:
    truth = tables(0.9e-3, 0.5e-3, 0.4e-3)
    run = with_voltage(drive(4), truth)
    start = tables(0.5e-3, 0.2e-3, 1.0e-3)
    whole, half = fit(start, [run], Priors()), fit(start, [run], Priors(), every=2)
    np.testing.assert_allclose(half.r_ohm, whole.r_ohm, rtol=0.05)
