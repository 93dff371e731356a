"""Rows are copied and filled whole."""

import numpy as np

from operators.kernels import rows


def test_a_copy_is_the_row_and_not_a_view_of_it() -> None:
    into, row = np.zeros((2, 3)), np.array([1.0, np.nan, 3.0])
    rows.copy(into[1], row)
    row[0] = 9.0
    np.testing.assert_array_equal(into, [[0.0, 0.0, 0.0], [1.0, np.nan, 3.0]])


def test_filling_leaves_no_element_out() -> None:
    into = np.arange(5.0)
    rows.fill(into, -1.0)
    np.testing.assert_array_equal(into, np.full(5, -1.0))
