"""Boosted trees as plain arrays: what XGBoost trained, evaluated as it does, to the bit, without loading it.

A serving process that has compiled kernels anyway saves xgboost's library and the scipy that it imports, about 40 MB.
Inputs, thresholds and sums are single precision, and leaves are added tree by tree: the order is part of the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """T trees of M nodes in all; a leaf has no left child."""

    root: NDArray[np.int32]  # (T,) node at which each begins
    left: NDArray[np.int32]  # (M,) node where the input is below the threshold, -1 at a leaf
    right: NDArray[np.int32]  # (M,) and where it is not
    feature: NDArray[np.int32]  # (M,) which input
    threshold: NDArray[np.float32]  # (M,) at a leaf: its value
    missing_left: NDArray[np.bool_]  # (M,) where a missing input goes
    base: float  # what all values start from


def value(trees: Trees, x: Floats) -> Floats:
    """Give the sum of the trees at inputs (N, F), NaN = missing; each row for itself."""
    out = np.empty(len(x), np.float32)
    rows = np.ascontiguousarray(x, np.float32)
    _value(rows, trees.root, trees.left, trees.right, trees.feature, trees.threshold, trees.missing_left,
           np.float32(trees.base), out)  # fmt: skip
    return out.astype(np.float64)


@njit(cache=True)
def _value(x, root, left, right, feature, threshold, missing_left, base, out):
    for n in range(x.shape[0]):
        total = base
        for t in range(root.size):
            k = root[t]
            while left[k] >= 0:
                v = x[n, feature[k]]
                below = missing_left[k] if np.isnan(v) else v < threshold[k]
                k = left[k] if below else right[k]
            total += threshold[k]
        out[n] = total
