"""How detectors speak: debounce and hysteresis, and the rows that they append."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Found = tuple[
    NDArray[np.int64], NDArray[np.float32]
]  # (F, 6) row, kind, subject kind, subject, level, since_ns; (F, 3)
_ROOM = 64  # findings beside those that one row can bring
ONSETS = 4  # values of a pack whose way out of their normal is timed at once
_MINUTE_NS = 60_000_000_000


def collect(walk: Callable[..., int], rows: int, most: int, *columns: Any) -> Found:  # noqa: ANN401 - arrays and numbers
    """Run a detector's compiled walk over its rows, and again from where its table of findings was full.

    `walk(start, whole, real, count, *columns)` gives the row that it has reached; `most` is what one row can bring.
    """
    parts: list[Found] = []
    start = 0
    while start < rows:
        whole, real = np.empty((most + _ROOM, 6), np.int64), np.empty((most + _ROOM, 3), np.float32)
        count = np.zeros(1, np.int64)
        start = walk(start, whole, real, count, *columns)
        parts.append((whole[: count[0]], real[: count[0]]))
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[Found]) -> Found:
    if not parts:
        return np.empty((0, 6), np.int64), np.empty((0, 3), np.float32)
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def merge(parts: Sequence[Found]) -> Found:
    """Join findings of several detectors in the order of (row, kind, subject)."""
    some = [p for p in parts if len(p[0])]
    if not some:  # as mostly
        return parts[0]
    whole, real = _joined(some)
    order = np.lexsort((whole[:, 3], whole[:, 1], whole[:, 0]))
    return whole[order], real[order]


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


# One signature for all callers, whatever they count and measure in: fifteen took ten times as long to compile.
@njit("(i8[:,::1], f4[:,::1], i8[::1], i8, i8, i8, i8, i8, i8, f8, f8, f8)", cache=True, error_model="numpy")
def emit(whole, real, count, row, kind, subject_kind, subject, level, since_ns, value, normal, sigma):
    """Append one finding; the caller has left room for all that a row can bring."""
    k = count[0]
    whole[k, 0] = row
    whole[k, 1] = kind
    whole[k, 2] = subject_kind
    whole[k, 3] = subject
    whole[k, 4] = level
    whole[k, 5] = since_ns
    real[k, 0] = value
    real[k, 1] = normal
    real[k, 2] = sigma
    count[0] = k + 1


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


@njit(cache=True, error_model="numpy")
def onset(at, minute, key, t_ns, x, leaves, follows):
    """Keep since when a value is beyond `leaves`; give since when (ns) it has been on its way to `x`, −1 if not known.

    `at` (ONSETS,) holds `key` of what is timed, −1 free, `minute` (ONSETS,) when it crossed, minutes since 1970.  A
    straight line through that crossing and now leads back to zero.  Where it crossed with `follows` false, while the
    estimate of it was still settling, it is told from the crossing on.  Falling below half of `leaves` ends it.
    """
    place, free = -1, -1
    for k in range(at.size):
        if at[k] == key:
            place = k
        elif at[k] < 0 and free < 0:
            free = k
    if place < 0:
        place = free
        if place < 0 or not x >= leaves:
            return np.int64(-1)
        at[place] = key
        minute[place] = t_ns // _MINUTE_NS if follows else -(t_ns // _MINUTE_NS)
    elif not x >= 0.5 * leaves:
        at[place] = -1
        return np.int64(-1)
    crossed = np.int64(abs(minute[place])) * _MINUTE_NS
    if minute[place] < 0 or x <= leaves:
        return crossed
    back = (t_ns - crossed) * min(leaves / (x - leaves), 1.0)
    return crossed - np.int64(back)
