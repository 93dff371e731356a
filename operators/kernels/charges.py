"""What the charges of a pack so far say of its health: levels, changes and trends of each measured column.

A row is one charge of one pack, and its features are made of this charge and earlier ones only, so that what a model
learns on finished tests of cells is what it gets from a pack in the field.  A capacity measured at a charge is known
after it: it speaks from the next charge on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

_MEDIAN = 5  # values: one odd charge does not move it
# What is said of each column, in the order of the output.
OF_COLUMN = ("", ".median", ".level", ".change", ".trend", ".first")
# And of the last measured capacity; then for each column how far it moved since.
OF_REFERENCE = ("reference", "since_reference", "reference_slope", "first_reference")
SINCE_REFERENCE = (".since", ".quick_since", ".level_since")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChargeConfig:
    """How fast levels follow, and how many charges are a pack's beginning."""

    quick: float = 0.3  # weight of the newest charge in the quick level
    level: float = 0.05  # in the level
    slow: float = 0.02  # in the slow level that trends are taken against
    first: int = 30  # charges whose median is the pack's beginning

    def __post_init__(self) -> None:
        """Refuse weights outside (0, 1] and an empty beginning."""
        for name in ("quick", "level", "slow"):
            if not 0 < getattr(self, name) <= 1:
                msg = f"{name} must be > 0 and ≤ 1; got {getattr(self, name)}"
                raise ValueError(msg)
        if self.first < 1:
            msg = f"first must be ≥ 1; got {self.first}"
            raise ValueError(msg)


@dataclass(slots=True)
class ChargeState:
    """One slot per pack, K columns: what its charges were like."""

    count: NDArray[np.int64]  # (S, K) values seen
    recent: Floats  # (S, K, 5) the newest values
    early: Floats  # (S, K, first)
    base: Floats  # (S, K) median of the beginning
    levels: Floats  # (S, K, 3) quick, level, slow
    charges: NDArray[np.int64]  # (S,)
    reference: Floats  # (S, 4) last, the charge of it, slope to the one before, first
    at_reference: Floats  # (S, K, 3) value, quick, level at the last reference

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> ChargeState:
        """State of packs never seen; `cells` is the number of columns, `probes` of first charges (as every state)."""
        columns, first = cells, probes
        return cls(
            np.zeros((slots, columns), np.int64),
            np.full((slots, columns, _MEDIAN), np.nan),
            np.full((slots, columns, first), np.nan),
            np.full((slots, columns), np.nan),
            np.full((slots, columns, 3), np.nan),
            np.zeros(slots, np.int64),
            np.full((slots, 4), np.nan),
            np.full((slots, columns, 3), np.nan),
        )


def names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Name the features of these columns, in the order that `follow` gives them."""
    plain = [column + what for column in columns for what in OF_COLUMN]
    since = [column + what for column in columns for what in SINCE_REFERENCE]
    return (*plain, *OF_REFERENCE, *since)


def follow(cfg: ChargeConfig, state: ChargeState, slot: NDArray[np.int32], x: Floats, reference: Floats) -> Floats:
    """Advance `state` over charges and give their features (N, len(names)).

    `slot` (N,) says whose charge a row is; x (N, K) are its measured columns, NaN = not available; `reference` (N,) is
    the capacity that was measured right after it (any unit, NaN = none).  Charges of one pack must be in order of time.
    """
    columns = x.shape[1]
    out = np.full((len(x), columns * (len(OF_COLUMN) + len(SINCE_REFERENCE)) + len(OF_REFERENCE)), np.nan)
    _walk(
        slot, np.ascontiguousarray(x, np.float64), np.ascontiguousarray(reference, np.float64),
        state.count, state.recent, state.early, state.base, state.levels, state.charges, state.reference,
        state.at_reference, np.array([cfg.quick, cfg.level, cfg.slow]), out,
    )  # fmt: skip
    return out


@njit(cache=True)
def _walk(
    slot, x, reference, count, recent, early, base, levels, charges, ref, at_ref, weights, out,
):  # fmt: skip
    columns = x.shape[1]
    first = early.shape[2]
    ref_at = columns * 6
    for n in range(slot.size):
        s = slot[n]
        for k in range(columns):
            value = x[n, k]
            middle = np.nan
            if value == value:
                seen = count[s, k]
                recent[s, k, seen % 5] = value
                middle = np.median(recent[s, k, : min(5, seen + 1)])
                if seen < first:
                    early[s, k, seen] = value
                    base[s, k] = np.median(early[s, k, : seen + 1])
                for w in range(3):
                    if seen == 0:
                        levels[s, k, w] = middle
                    else:
                        levels[s, k, w] += max(weights[w], 1.0 / (seen + 1)) * (middle - levels[s, k, w])
                count[s, k] = seen + 1
            at = k * 6
            out[n, at] = value
            out[n, at + 1] = middle
            out[n, at + 2] = levels[s, k, 1]
            out[n, at + 3] = levels[s, k, 1] - base[s, k]
            out[n, at + 4] = levels[s, k, 1] - levels[s, k, 2]
            out[n, at + 5] = base[s, k]
            since = ref_at + 4 + k * 3
            out[n, since] = value - at_ref[s, k, 0]
            out[n, since + 1] = levels[s, k, 0] - at_ref[s, k, 1]
            out[n, since + 2] = levels[s, k, 1] - at_ref[s, k, 2]
        charges[s] += 1
        out[n, ref_at] = ref[s, 0]
        out[n, ref_at + 1] = charges[s] - ref[s, 1]
        out[n, ref_at + 2] = ref[s, 2]
        out[n, ref_at + 3] = ref[s, 3]
        measured = reference[n]
        if measured == measured:
            if ref[s, 0] == ref[s, 0]:
                ref[s, 2] = (measured - ref[s, 0]) / (charges[s] - ref[s, 1])
            else:
                ref[s, 3] = measured
            ref[s, 0] = measured
            ref[s, 1] = charges[s]
            for k in range(columns):
                at_ref[s, k, 0] = x[n, k]
                at_ref[s, k, 1] = levels[s, k, 0]
                at_ref[s, k, 2] = levels[s, k, 1]
