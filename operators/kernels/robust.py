"""Statistics of few values that bad ones cannot pull: for short rows, inside compiled loops."""

from __future__ import annotations

import numpy as np
from numba import njit

NEAR = 13  # cells whose median is the neighbourhood
ALONE = 0.6  # share of a deviation that the neighbourhood must not have


@njit(cache=True, error_model="numpy")
def sort(values, size):
    """Sort the first `size` of a short row in place, NaN-free; insertion is enough, and compiles in no time."""
    for m in range(1, size):
        v = values[m]
        k = m
        while k > 0 and values[k - 1] > v:
            values[k] = values[k - 1]
            k -= 1
        values[k] = v


@njit(cache=True, error_model="numpy")
def _known(values, scratch):
    """Sort what is no NaN of a short row into `scratch`, which is as long; give how many that are."""
    m = 0
    for p in range(values.size):
        if values[p] == values[p]:
            scratch[m] = values[p]
            m += 1
    sort(scratch, m)
    return m


@njit(cache=True, error_model="numpy")
def median_of(values, scratch):
    """Give the median of a short row without its NaNs, NaN where nothing is left; `scratch` as long as the row."""
    m = _known(values, scratch)
    if m == 0:
        return np.float32(np.nan)
    return np.float32(0.5) * (scratch[(m - 1) // 2] + scratch[m // 2])


@njit(cache=True, error_model="numpy")
def middle_of(values, scratch):
    """Give the mean of the inner half of a short row without its NaNs, of less than three of all; NaN where none is."""
    m = _known(values, scratch)
    if m == 0:
        return np.float32(np.nan)
    out = max(m // 4, 1) if m > 2 else 0
    total = np.float32(0.0)
    for p in range(out, m - out):
        total += scratch[p]
    return total / np.float32(m - 2 * out)


@njit(cache=True, error_model="numpy")
def is_alone(x, c, near):
    """Say whether a cell deviates without its neighbourhood."""
    first = max(0, min(c - NEAR // 2, x.size - NEAR))
    common = median_of(x[first : min(x.size, first + NEAR)], near)
    return abs(x[c] - common) >= ALONE * abs(x[c])
