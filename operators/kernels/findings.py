"""How detectors speak: debounce and hysteresis, and the rows that they append."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Found = tuple[
    NDArray[np.int64], NDArray[np.float32]
]  # (F, 6) row, kind, subject kind, subject, level, since_ns; (F, 3)


def new_found() -> Found:
    """Give room for findings; `emit` makes more where needed."""
    return np.empty((32, 6), np.int64), np.empty((32, 3), np.float32)


def merge(parts: Sequence[Found]) -> Found:
    """Join findings of several detectors in the order of (row, kind, subject)."""
    some = [p for p in parts if len(p[0])]
    if len(some) < 2:  # mostly nothing at all
        return some[0] if some else parts[0]
    whole = np.concatenate([p[0] for p in parts])
    order = np.lexsort((whole[:, 3], whole[:, 1], whole[:, 0]))
    return whole[order], np.concatenate([p[1] for p in parts])[order]


def columns(found: Found, t_ns: NDArray[np.int64], slot: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    """Turn findings into the columns of the findings table, and `row` of the block that each is from.

    `t_ns`, `slot` (N,) are the block's.
    """
    whole, real = found
    row = whole[:, 0]
    return {
        "row": row,
        "slot": slot[row],
        "t_ns": t_ns[row],
        "kind": whole[:, 1].astype(np.int8),
        "subject_kind": whole[:, 2].astype(np.int8),
        "subject": whole[:, 3].astype(np.int16),
        "level": whole[:, 4].astype(np.int8),
        "since_ns": whole[:, 5].copy(),
        "value": real[:, 0].copy(),
        "normal": real[:, 1].copy(),
        "sigma": real[:, 2].copy(),
    }


@njit(cache=True)
def emit(whole, real, count, row, kind, subject_kind, subject, level, since_ns, value, normal, sigma):
    """Append one finding; gives the (perhaps larger) arrays and the new count."""
    if count == len(whole):
        more_whole = np.empty((2 * count, whole.shape[1]), whole.dtype)
        more_real = np.empty((2 * count, real.shape[1]), real.dtype)
        more_whole[:count] = whole
        more_real[:count] = real
        whole, real = more_whole, more_real
    whole[count, 0] = row
    whole[count, 1] = kind
    whole[count, 2] = subject_kind
    whole[count, 3] = subject
    whole[count, 4] = level
    whole[count, 5] = since_ns
    real[count, 0] = value
    real[count, 1] = normal
    real[count, 2] = sigma
    return whole, real, count + 1


@njit(cache=True)
def hold(acc, raised, sign, dt_s, for_s, min_samples, clear_s):
    """Debounce one condition: `sign` is 1 bad, 0 not known, −1 good; gives the new (acc, raised).

    Before it is raised, `acc` (0..1) is the share of `for_s` and `min_samples` that was bad; good samples take
    a quarter of what bad ones add, so that a value which flaps raises once.  Afterwards `acc` is the time (s)
    without a bad sample, and `clear_s` of that clears.  A silence counts as at most half of `clear_s`.
    """
    if raised:
        if sign > 0:
            return 0.0, True
        if sign < 0 and dt_s > 0:
            acc += min(dt_s, 0.5 * clear_s)
            if acc >= clear_s:
                return 0.0, False
        return acc, True
    share = 1.0 / min_samples
    if dt_s >= 0 and dt_s < for_s * share:
        share = dt_s / for_s
    if sign > 0:
        acc += share
        if acc >= 0.9999:  # the sum of `min_samples` shares may be a rounding below one
            return 0.0, True
    elif sign < 0:
        acc = max(0.0, acc - 0.25 * share)
    return acc, False
