"""How a pack's health so far is kept in few points, and when its life is told again.

A history is the SOH over cycles at charges that counted, at most POINTS of them: where it is full, every other one goes
and the next ones lie twice as far apart.  A life is told at the pack's first charge and then once a week of its time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

POINTS = 64
TOLD_NS = 7 * 86_400 * 10**9  # between words on one pack's life
_APART = 0.25  # full cycles between points at first

Floats = NDArray[np.float64]


@dataclass(slots=True)
class LifeState:
    """One slot per pack."""

    past: NDArray[np.float32]  # (S, POINTS, 2) cycles and SOH
    count: NDArray[np.int64]  # (S,) points
    apart: Floats  # (S,) cycles between points
    told_ns: NDArray[np.int64]  # (S,) when its life was told last
    first_ns: NDArray[np.int64]  # (S,) its first charge, 0 = none yet

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> LifeState:  # noqa: ARG003 - as every state
        """State of packs never seen."""
        return cls(
            np.zeros((slots, POINTS, 2), np.float32),
            np.zeros(slots, np.int64),
            np.full(slots, _APART),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """D charges after which a pack's life is told."""

    rows: NDArray[np.int64]  # (D,) of the charges
    past: list[tuple[Floats, Floats]]  # cycles and SOH so far
    days: Floats  # (D,) since the pack's first charge


def follow(
    state: LifeState,
    slot: NDArray[np.int32],
    t_ns: NDArray[np.int64],
    counted: NDArray[np.bool_],
    cycles: Floats,
    soh: Floats,
) -> Due:
    """Advance `state` over charges (N,), those of a pack in order of time; say which are due."""
    n = slot.size
    rows, past, points, days = (
        np.empty(n, np.int64), np.empty((n, POINTS, 2), np.float32), np.empty(n, np.int64), np.empty(n)
    )  # fmt: skip
    due = _walk(
        slot, t_ns, counted, cycles, soh, state.past, state.count, state.apart, state.told_ns, state.first_ns,
        rows, past, points, days,
    )  # fmt: skip
    histories = [past[k, : points[k]].astype(np.float64) for k in range(due)]
    return Due(rows[:due], [(h[:, 0].copy(), h[:, 1].copy()) for h in histories], days[:due])


@njit(cache=True)
def _walk(
    slot, t_ns, counted, cycles, soh, past, count, apart, told_ns, first_ns, rows, out, points, days,
):  # fmt: skip
    due = 0
    for n in range(slot.size):
        s = slot[n]
        never = first_ns[s] == 0
        if never:
            first_ns[s] = t_ns[n]
        if counted[n]:
            k = count[s]
            if k == 0 or cycles[n] - past[s, k - 1, 0] >= apart[s]:
                if k == past.shape[1]:
                    k //= 2
                    for i in range(k):
                        past[s, i, 0] = past[s, 2 * i, 0]
                        past[s, i, 1] = past[s, 2 * i, 1]
                    apart[s] *= 2.0
                past[s, k, 0] = cycles[n]
                past[s, k, 1] = soh[n]
                count[s] = k + 1
        if never or t_ns[n] - told_ns[s] >= TOLD_NS:
            told_ns[s] = t_ns[n]
            rows[due] = n
            points[due] = count[s]
            days[due] = (t_ns[n] - first_ns[s]) / 86_400e9
            for i in range(count[s]):
                out[due, i, 0] = past[s, i, 0]
                out[due, i, 1] = past[s, i, 1]
            due += 1
    return due
