"""Tables of a pack against the pack's own grid."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.kernels import ocv as kernel
from schemas.pack import load_pack

PACK = load_pack("generic-nmc")
GRID = PACK.grid()
TABLE = kernel.table(GRID)


def look_up(soc: float, temp_c: float) -> np.ndarray:
    out = np.empty(kernel.WIDTH)
    kernel.look_up(TABLE, soc, temp_c, out)
    return out


@given(st.integers(0, 200), st.integers(0, 18))
def test_a_knot_has_the_value_of_the_grid(k: int, t: int) -> None:
    at = look_up(GRID.soc[k], GRID.temp_c[t])
    assert at[kernel.OCV] == pytest.approx(GRID.ocv[t, k], abs=1e-12)
    assert at[kernel.DOCV] == pytest.approx(GRID.docv[t, k], abs=1e-9)
    assert at[kernel.R0] == pytest.approx(GRID.r0[t, k], rel=1e-9)
    for b in range(GRID.tau_s.size):
        assert at[kernel.RB + b] == pytest.approx(GRID.rb[b, t, k], rel=1e-9)


@given(st.floats(0.0, 1.0), st.floats(-30.0, 60.0))
def test_between_knots_it_is_bilinear(soc: float, temp_c: float) -> None:
    columns = [np.interp(soc, GRID.soc, row) for row in GRID.r0]
    assert look_up(soc, temp_c)[kernel.R0] == pytest.approx(np.interp(temp_c, GRID.temp_c, columns), rel=1e-9)


@pytest.mark.parametrize(
    ("soc", "temp_c", "same"), [(-1.0, 25.0, (0.0, 25.0)), (9.0, 99.0, (1.0, 60.0)), (0.5, -80.0, (0.5, -30.0))]
)
def test_outside_it_is_the_nearest_edge(soc: float, temp_c: float, same: tuple[float, float]) -> None:
    np.testing.assert_array_equal(look_up(soc, temp_c), look_up(*same))


@given(st.floats(0.0, 1.0), st.floats(-30.0, 60.0))
def test_the_inverse_finds_the_soc_back(soc: float, temp_c: float) -> None:
    v = look_up(soc, temp_c)[kernel.OCV]
    assert kernel.soc_at(TABLE, v, temp_c) == pytest.approx(soc, abs=1e-6)


def test_energy_is_the_area_under_the_curve() -> None:
    at = look_up(0.8, 25.0)[kernel.ENERGY] - look_up(0.3, 25.0)[kernel.ENERGY]
    soc = np.linspace(0.3, 0.8, 5001)
    v = np.interp(soc, GRID.soc, GRID.ocv[11])
    assert at == pytest.approx(np.trapezoid(v, soc), rel=1e-6)


def test_a_pack_with_five_branches_is_refused() -> None:
    many = replace(GRID, tau_s=np.arange(1.0, 6.0), rb=np.zeros((5, 19, 201)))
    with pytest.raises(ValueError, match="at most 4 branches; got 5"):
        kernel.table(many)
