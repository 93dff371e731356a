"""Small robust statistics against numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from operators.kernels.robust import NEAR, is_alone, median_of, middle_of, sort

VALUES = hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(-1000, 1000, width=32))


@given(VALUES)
def test_sorts_as_numpy(v: np.ndarray) -> None:
    mine = v.copy()
    sort(mine, mine.size)
    np.testing.assert_array_equal(mine, np.sort(v))


@given(VALUES, st.integers(0, 2**30))
def test_median_is_that_of_the_values_that_are_there(v: np.ndarray, holes: int) -> None:
    v = v.copy()
    v[[k for k in range(v.size) if holes >> k & 1]] = np.nan
    got = median_of(v, np.empty(v.size, np.float32))
    known = v[~np.isnan(v)]
    if known.size:
        assert got == np.float32(0.5) * (np.sort(known)[(known.size - 1) // 2] + np.sort(known)[known.size // 2])
    else:
        assert np.isnan(got)


@given(VALUES)
def test_middle_is_the_mean_of_the_inner_half(v: np.ndarray) -> None:
    got, order = middle_of(v, np.empty(v.size, np.float32)), np.sort(v).astype(np.float64)
    out = max(v.size // 4, 1) if v.size > 2 else 0
    if v.size:
        np.testing.assert_allclose(got, order[out : v.size - out].mean(), rtol=1e-5, atol=1e-3)
    else:
        assert np.isnan(got)


def test_middle_is_left_alone_by_one_value_in_four_and_by_holes() -> None:
    v = np.array([20.0, np.nan, 20.5, 90.0, 20.5, -40.0, 20.0, np.nan, 20.5, 20.0], np.float32)
    assert 20.0 <= middle_of(v, np.empty(v.size, np.float32)) <= 20.5


def test_a_cell_is_alone_unless_its_neighbourhood_moves_with_it() -> None:
    x = np.zeros(40, np.float32)
    x[20] = 1.0
    near = np.empty(NEAR, np.float32)
    assert is_alone(x, 20, near)
    x[12:30] = 1.0
    assert not is_alone(x, 20, near)


def test_short_packs_have_a_neighbourhood_too() -> None:
    near = np.empty(NEAR, np.float32)
    assert is_alone(np.array([0.0, 0.0, 1.0], np.float32), 2, near)
    assert not is_alone(np.array([1.0], np.float32), 0, near)
