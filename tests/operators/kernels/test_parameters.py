"""What the estimator's loops get of a pack model."""

from dataclasses import replace

import numpy as np
import pytest

from operators.kernels.parameters import parameters
from schemas.pack import load_pack

NMC, LFP = load_pack("generic-nmc@96c16t60ah"), load_pack("generic-lfp@96c16t60ah")


def test_voltage_limits_are_the_innermost_of_the_pack_file() -> None:
    cell = parameters(NMC).cell
    bounds = {
        over: [r.bound for r in NMC.limits if r.quantity == "cell_v" and r.over == over] for over in (True, False)
    }
    assert cell.v_max == min(bounds[True])
    assert cell.v_min == max(bounds[False])
    assert cell.v_min < cell.v_max


def test_without_limits_the_curve_ends_them() -> None:
    cell = parameters(replace(NMC, limits=())).cell
    assert (cell.v_min, cell.v_max) == (NMC.ocv.v.min(), NMC.ocv.v.max())


def test_the_sum_s_offset_is_shared_by_the_cell_groups() -> None:
    assert parameters(replace(NMC, sum_offset_v=9.6)).cell.sum_offset_v == pytest.approx(0.1)


def test_resistance_up_to_a_soc_grows_by_what_lies_between() -> None:
    p, grid = parameters(LFP), LFP.grid()
    steady = grid.r0 + grid.rb.sum(axis=0)
    assert p.r_to.shape == steady.shape
    assert np.all(p.r_to[:, 0] == 0)
    expected = np.trapezoid(steady, grid.soc, axis=1)
    np.testing.assert_allclose(p.r_to[:, -1], expected, rtol=1e-12)


def test_a_model_is_prepared_once() -> None:
    assert parameters(NMC) is parameters(NMC)
