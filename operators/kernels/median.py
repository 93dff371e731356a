"""The lower median of a row of cells, exact and without branches on data."""

from __future__ import annotations

import numpy as np
from numba import njit

_TOP = np.int32(0x7FFFFFFF)
_SHIFT = np.int32(31)


@njit(cache=True, error_model="numpy")
def lower_median(values, bits, row, scratch, line):
    """Find the lower median of `values[row]` without its NaNs: (value, how many are valid).

    Of n valid values the ((n + 1) // 2)-th smallest: always one of them, NaN where there is none.
    `bits` is the same array seen as int32, `scratch[line]` (≥ C,) int32 is overwritten.  Bisection by counting over
    integers that sort as the floats do: each pass is one vector loop, so the cost hardly depends on the data.
    """
    cells = values.shape[1]
    valid = 0
    low, high = _TOP, np.int32(-_TOP)
    for c in range(cells):
        b = bits[row, c]
        k = b ^ ((b >> _SHIFT) & _TOP)  # negative floats sort the other way round
        good = values[row, c] == values[row, c]
        scratch[line, c] = k if good else _TOP
        valid += good
        low = min(low, k if good else _TOP)
        high = max(high, k if good else np.int32(-_TOP))
    if valid == 0:
        return np.float32(np.nan), 0
    wanted = (valid + 1) // 2
    while low < high:
        middle = np.int32((np.int64(low) + np.int64(high)) >> 1)
        count = 0
        below, above = np.int32(-_TOP), _TOP  # the values next to the cut: the bracket shrinks onto values
        for c in range(cells):
            k = scratch[line, c]
            under = k <= middle
            count += under
            below = max(below, k if under else np.int32(-_TOP))
            above = min(above, _TOP if under else k)
        if count >= wanted:
            high = below
            if count == wanted:
                low = below
        else:
            low = above
    # the bracket has closed on the key of one of the values
    for c in range(cells):
        if scratch[line, c] == low:
            return values[row, c], valid
    return np.float32(np.nan), valid
