"""The lower median against sorting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from operators.kernels.median import lower_median

VOLTS = st.one_of(
    st.floats(-100, 100, width=32),
    st.just(np.float32(np.nan)),
    st.sampled_from([0.0, -0.0, 3.7, 3.701, np.inf, -np.inf]),
)


def median(row: np.ndarray) -> tuple[float, int]:
    values = np.ascontiguousarray(row, np.float32)[None]
    value, valid = lower_median(values, values.view(np.int32), 0, np.empty((1, values.shape[1]), np.int32), 0)
    return float(value), int(valid)


@given(hnp.arrays(np.float32, st.integers(1, 200), elements=VOLTS.map(np.float32)))
def test_is_the_middle_value_of_those_that_are_there(row: np.ndarray) -> None:
    there = np.sort(row[~np.isnan(row)])
    value, valid = median(row)
    assert valid == there.size
    if valid:
        assert value == there[(valid + 1) // 2 - 1]
    else:
        assert np.isnan(value)


def test_a_nan_with_its_sign_bit_set_counts_as_missing() -> None:
    row = np.array([0xFFC00000, 0x7FC00000], np.uint32).view(np.float32)
    assert median(np.concatenate([row, np.array([3.5, 3.6, 3.7], np.float32)])) == (float(np.float32(3.6)), 3)


def test_of_an_even_number_it_is_the_lower_of_the_two_in_the_middle() -> None:
    assert median(np.array([4.0, 1.0, 3.0, 2.0])) == (2.0, 4)
