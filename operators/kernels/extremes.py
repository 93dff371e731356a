"""Lowest, highest and mean of each row, once for all steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.frames import FrameBlock

_TOP = np.int32(0x7FFFFFFF)
_SHIFT = np.int32(31)


class Extremes(NamedTuple):
    """Columns (N,) float32, NaN where a row has no value."""

    v_low: NDArray[np.float32]
    v_high: NDArray[np.float32]
    t_low: NDArray[np.float32]
    t_high: NDArray[np.float32]
    t_mean: NDArray[np.float32]


def extremes(block: FrameBlock) -> Extremes:
    """Measure cell voltages and temperatures of each row of `block`, or take what was; NaN is skipped."""
    if Extremes._fields[0] in block.derived:
        return Extremes(*(block.derived[name] for name in Extremes._fields))
    out = Extremes(*(np.empty(len(block), np.float32) for _ in Extremes._fields))
    scratch = np.empty(2, np.int32)
    seen = scratch.view(np.float32)
    _bounds(block.cell_v, block.cell_v.view(np.int32), scratch, seen, out.v_low, out.v_high)
    _bounds(block.temp_c, block.temp_c.view(np.int32), scratch, seen, out.t_low, out.t_high)
    _means(block.temp_c, out.t_mean)
    return out


@njit(cache=True, error_model="numpy")
def _bounds(values, bits, scratch, seen, low, high):
    # Integers that sort as the floats do make each row one vector loop.
    for n in range(values.shape[0]):
        least, most = _TOP, np.int32(-_TOP)
        for c in range(values.shape[1]):
            b = bits[n, c]
            k = b ^ ((b >> _SHIFT) & _TOP)  # negative floats sort the other way round
            good = values[n, c] == values[n, c]
            least = min(least, k if good else _TOP)
            most = max(most, k if good else np.int32(-_TOP))
        if least > most:
            low[n] = high[n] = np.nan
            continue
        scratch[0] = least ^ ((least >> _SHIFT) & _TOP)
        scratch[1] = most ^ ((most >> _SHIFT) & _TOP)
        low[n] = seen[0]
        high[n] = seen[1]


@njit(cache=True, error_model="numpy")
def _means(values, mean):
    for n in range(values.shape[0]):
        total, count = 0.0, 0
        for c in range(values.shape[1]):
            v = values[n, c]
            good = v == v
            total += v if good else 0.0
            count += good
        mean[n] = total / count if count else np.nan


@njit(cache=True)
def where(values, wanted):
    """Give the first place of a value in a row, −1 where it is not."""
    for c in range(values.size):
        if values[c] == wanted:
            return c
    return -1
