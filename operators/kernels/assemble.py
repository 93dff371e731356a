"""Sample-and-hold in columns: signals that arrive when they like become values at chosen times.

A sample belongs to a row of a block (its CAN frame); a reading is taken at the end of a row.
Rows are in arrival order, and what arrived last counts, whatever its time says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEVER = -(1 << 62)  # the time of a sample that has not come
STEP_NS = 10**9  # a clock that goes back by more was set; by less, frames were logged out of order


def event_time(t_ns: NDArray[np.int64], last_t_ns: int, last_event_ns: int) -> NDArray[np.int64]:
    """Give times (N,) that never go back, but where the clock was set back by more than a second.

    `last_t_ns`, `last_event_ns`: the time as stamped and as given of the row before, NEVER at the start.
    """
    if not t_ns.size:
        return t_ns
    before = t_ns[0] if last_t_ns == NEVER else last_t_ns
    cuts = np.flatnonzero(np.diff(t_ns, prepend=before) < -STEP_NS).tolist()
    event = np.empty_like(t_ns)
    for a, b in zip([0, *cuts], [*cuts, t_ns.size], strict=True):
        np.maximum.accumulate(t_ns[a:b], out=event[a:b])
    if last_t_ns != NEVER and (not cuts or cuts[0] > 0):
        first = event[: cuts[0] if cuts else None]
        np.maximum(first, last_event_ns, out=first)
    return event


def period_of(event_ns: NDArray[np.int64], period_ns: int) -> NDArray[np.int64]:
    """Give each time the number of the period that ends at or after it: k·period is its end."""
    return -(-event_ns // period_ns)


def closings(
    period: NDArray[np.int64], driving: NDArray[np.int64], open_period: int, *, open_driven: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Find the periods that ended with a driving row in them.

    `period` (N,) of each row, `driving` the driving rows in ascending order; `open_period` the period
    that was open before (NEVER: none) and whether a driving row had come in it.  Gives the last row of
    each (-1: it ended before row 0), its period, and whether the period now open has been driven.
    """
    changes = np.flatnonzero(np.diff(period, prepend=period[0] if open_period == NEVER else open_period))
    ends = changes - 1
    past = np.searchsorted(driving, ends, side="right")  # driving rows up to each end
    count = np.diff(past, prepend=0)
    if open_driven and ends.size:
        count[0] += 1
    driven = count > 0
    kept = ends[driven]
    which = np.where(kept < 0, open_period, period[np.maximum(kept, 0)])
    rest = driving.size - (int(past[-1]) if ends.size else 0)
    return kept, which, rest > 0 or (open_driven and not ends.size)


def read_held(
    rows: NDArray[np.int64],
    sample_ns: NDArray[np.int64],
    values: NDArray[np.float64],
    ends: NDArray[np.int64],
    at_ns: NDArray[np.int64],
    max_age_ns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Read S signals at the ends of rows: (R, S), the last sample up to each, NaN where too old.

    `rows` (n,) of the samples in ascending order; `sample_ns` (n + 1,) and `values` (n + 1, S) with what
    was held before the block in front; `at_ns` (R,) the time of each reading; `max_age_ns` (S,).
    A sample from the future is from before the clock was set: NaN.
    """
    last = np.searchsorted(rows, ends, side="right")
    age = at_ns - sample_ns[last]
    out = values[last]
    out[(age[:, None] > max_age_ns) | (age[:, None] < -STEP_NS)] = np.nan
    return out
