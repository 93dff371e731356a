"""Which limits somebody outside may change, and how: only to the safe side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from edge.protection import key_of
from schemas.limits import FAST, QUANTITIES, Limit


def tightened(rows: Iterable[Limit], bounds: Mapping[str, float]) -> tuple[Limit, ...]:
    """Give the rows with bounds, by key (edge.protection.key_of), moved to the safe side where they are on it.

    A looser bound, one that is no number or outside the quantity's range, and an unknown key change nothing.  Rows
    that open at speed stay as they are: a small bound there would itself be an attack.  Take current back with
    edge.derating.Caps.
    """
    return tuple(_tightened(row, bounds.get(key_of(row), math.nan)) for row in rows)


def _tightened(row: Limit, bound: float) -> Limit:
    low, high = QUANTITIES[row.quantity]
    safer = bound < row.bound if row.over else bound > row.bound  # false for NaN
    if not safer or not low <= bound <= high or row.quantity in FAST:
        return row
    return replace(row, bound=float(bound))
