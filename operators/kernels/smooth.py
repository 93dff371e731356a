"""A smooth function of many inputs, row by row: radial functions around some centres, and a plane.

Trees are steps and end at the edge of what they saw; this continues.  Trained in `flows/prognosis` as a regularised
least-squares fit over a low-rank kernel (Williams and Seeger, "Using the Nyström method to speed up kernel machines",
2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CLIP = 4.0  # standard widths: an input farther out says no more than this


@dataclass(frozen=True, slots=True, eq=False)
class Smooth:
    """A fitted function of F inputs around M centres."""

    middle: Floats  # (F,) of each input; what a missing one counts as
    width: Floats  # (F,) ; inf for an input that never varied
    relevance: Floats  # (F,) of each input: how much a width of it counts
    centres: Floats  # (M, F) in relevant widths from the middle
    length: float  # of the radial functions, in relevant widths
    weight: Floats  # (M,)
    slope: Floats  # (F,) of the plane, a relevant width
    offset: float


def scaled(x: Floats, middle: Floats, width: Floats, relevance: Floats) -> Floats:
    """Give inputs (N, F) in widths from their middle, clipped, times their relevance; 0 where one is missing."""
    with np.errstate(invalid="ignore"):
        z = np.clip((x - middle) / width, -CLIP, CLIP)
    return np.where(np.isnan(z), 0.0, z) * relevance


def value(f: Smooth, x: Floats) -> Floats:
    """Give the function at inputs (N, F); a row's result does not depend on the rows beside it."""
    out = np.empty(len(x))
    z = scaled(x, f.middle, f.width, f.relevance)
    _value(z, np.ascontiguousarray(f.centres.T), f.length, f.weight, f.slope, f.offset, out)
    return out


@njit(cache=True)
def _value(z, centres, length, weight, slope, offset, out):
    inputs, m = centres.shape
    square = np.empty(m)
    for n in range(z.shape[0]):
        square[:] = 0.0
        total = offset
        for k in range(inputs):
            at = z[n, k]
            total += slope[k] * at
            for j in range(m):
                d = at - centres[k, j]
                square[j] += d * d
        for j in range(m):
            total += weight[j] * np.exp(-0.5 * square[j] / (length * length))
        out[n] = total
