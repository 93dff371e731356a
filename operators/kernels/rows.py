"""How a row of an array is copied and filled in a kernel: by a loop, since slices compile ten times as long."""

from __future__ import annotations

from numba import njit


@njit(cache=True, inline="always")
def copy(into, row):
    """Write `row` (K,) into `into` (K,)."""
    for k in range(row.size):
        into[k] = row[k]


@njit(cache=True, inline="always")
def fill(into, value):
    """Write `value` into all of `into` (K,)."""
    for k in range(into.size):
        into[k] = value
