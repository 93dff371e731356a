"""Extremes of rows against numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from operators.kernels.extremes import extremes, where
from schemas.frames import make_block

VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.integers(0, 20)),
    elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32)),
)


@given(VALUES)
def test_lowest_highest_and_mean_are_those_of_numpy(v: np.ndarray) -> None:
    n = len(v)
    got = extremes(make_block("m", ("A",), pack=np.zeros(n), t_ns=np.zeros(n), cell_v=v, temp_c=v))
    for row in range(n):
        known = v[row][~np.isnan(v[row])]
        if known.size:
            assert (got.v_low[row], got.t_high[row]) == (known.min(), known.max())
            assert np.isclose(got.t_mean[row], known.astype(float).mean(), rtol=1e-6, atol=1e-6)
        else:
            assert np.isnan([got.v_low[row], got.v_high[row], got.t_low[row], got.t_high[row], got.t_mean[row]]).all()


def test_a_value_is_found_where_it_first_stands() -> None:
    assert where(np.array([1.0, 2.0, 2.0], np.float32), np.float32(2.0)) == 1
    assert where(np.array([1.0, np.nan], np.float32), np.float32(3.0)) == -1
