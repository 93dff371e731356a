"""A hint to the processor: nothing but time may change."""

import numpy as np
from numba import njit

from operators.kernels import prefetch as kernel


@njit
def touch(array, n):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    kernel.row(array, n)


def test_asking_for_a_row_changes_no_value() -> None:
    array = np.arange(24.0).reshape(4, 2, 3)
    for n in range(4):
        touch(array, n)
    np.testing.assert_array_equal(array, np.arange(24.0).reshape(4, 2, 3))


def test_every_line_of_the_row_is_asked_for() -> None:
    touch(np.zeros((2, 64), np.float32), 0)
    assert "prefetch" in touch.inspect_asm(touch.signatures[0])


def test_rows_beyond_the_end_and_empty_rows_are_harmless() -> None:
    touch(np.zeros((1, 0), np.float32), 0)
    touch(np.zeros((1, 8), np.float32), 10**6)
