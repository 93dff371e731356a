"""What a cell group shows at rest and under load: one table per pack model, looked up bilinearly."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.pack import PackGrid

# What the last axis of a table holds; eight numbers are one cache line.
OCV = 0  # V at rest
DOCV = 1  # its slope, V per unit SOC
R0 = 2  # ohm
RB = 3  # ohm of each RC branch, BRANCHES of them
ENERGY = 7  # integral of OCV over SOC from empty, V
WIDTH = 8
BRANCHES = 4

TEMP_MIN_C = -30.0
TEMP_STEP_C = 5.0


def table(grid: PackGrid) -> NDArray[np.float64]:
    """Interleave a pack's tables, so that one look-up touches few cache lines: (T, K, WIDTH).

    Raises ValueError where the pack has more than BRANCHES branches.
    """
    branches = grid.tau_s.size
    if branches > BRANCHES:
        msg = f"tau_s must have at most {BRANCHES} branches; got {branches}"
        raise ValueError(msg)
    assert grid.temp_c[0] == TEMP_MIN_C, "the grid starts elsewhere"
    assert np.allclose(np.diff(grid.temp_c), TEMP_STEP_C), "the grid has another step"
    out = np.zeros((*grid.ocv.shape, WIDTH))
    out[..., OCV], out[..., DOCV], out[..., R0] = grid.ocv, grid.docv, grid.r0
    for b in range(branches):
        out[..., RB + b] = grid.rb[b]
    middle = (grid.ocv[:, 1:] + grid.ocv[:, :-1]) / 2 * np.diff(grid.soc)
    out[:, 1:, ENERGY] = np.cumsum(middle, axis=1)
    return out


def resistance_to(grid: PackGrid) -> NDArray[np.float64]:
    """Give the integral of the steady-state resistance over SOC from empty, ohm: (T, K)."""
    steady = grid.r0 + sum(grid.rb, start=np.zeros_like(grid.r0))
    out = np.zeros_like(steady)
    out[:, 1:] = np.cumsum((steady[:, 1:] + steady[:, :-1]) / 2 * np.diff(grid.soc), axis=1)
    return out


def time_constants(grid: PackGrid) -> NDArray[np.float64]:
    """Give tau_s (BRANCHES,) in s; absent branches have 1 s, and no resistance in the table."""
    tau_s = np.ones(BRANCHES)
    tau_s[: grid.tau_s.size] = grid.tau_s
    return tau_s


@njit(cache=True, error_model="numpy")
def look_up(table, soc, temp_c, out):
    """Write what `table` (T, K, WIDTH) holds at `soc` and `temp_c` into `out` (WIDTH,); clamped at the edges."""
    x = min(max(soc, 0.0), 1.0) * (table.shape[1] - 1)
    y = min(max((temp_c - TEMP_MIN_C) / TEMP_STEP_C, 0.0), table.shape[0] - 1.0)
    k = min(int(x), table.shape[1] - 2)
    t = min(int(y), table.shape[0] - 2)
    fx, fy = x - k, y - t
    w00, w01 = (1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx
    w10, w11 = fy * (1.0 - fx), fy * fx
    for j in range(WIDTH):
        out[j] = (
            w00 * table[t, k, j] + w01 * table[t, k + 1, j] + w10 * table[t + 1, k, j] + w11 * table[t + 1, k + 1, j]
        )


@njit(cache=True, error_model="numpy")
def one_at(table, soc, temp_c):
    """Look up `table` (T, K), clamped at the edges."""
    x = min(max(soc, 0.0), 1.0) * (table.shape[1] - 1)
    y = min(max((temp_c - TEMP_MIN_C) / TEMP_STEP_C, 0.0), table.shape[0] - 1.0)
    k = min(int(x), table.shape[1] - 2)
    t = min(int(y), table.shape[0] - 2)
    low = table[t, k] + (x - k) * (table[t, k + 1] - table[t, k])
    high = table[t + 1, k] + (x - k) * (table[t + 1, k + 1] - table[t + 1, k])
    return low + (y - t) * (high - low)


@njit(cache=True, error_model="numpy")
def ocv_at(table, soc, temp_c):
    """Look up OCV alone; beyond empty and full it goes on along the last step of the table."""
    x = soc * (table.shape[1] - 1)
    y = min(max((temp_c - TEMP_MIN_C) / TEMP_STEP_C, 0.0), table.shape[0] - 1.0)
    k = min(max(int(x), 0), table.shape[1] - 2)
    t = min(int(y), table.shape[0] - 2)
    fx, fy = x - k, y - t
    low = table[t, k, OCV] + fx * (table[t, k + 1, OCV] - table[t, k, OCV])
    high = table[t + 1, k, OCV] + fx * (table[t + 1, k + 1, OCV] - table[t + 1, k, OCV])
    return low + fy * (high - low)


@njit(cache=True, error_model="numpy")
def soc_at(table, ocv_v, temp_c):
    """Invert the OCV: the SOC (0..1) at which a cell group rests at `ocv_v`."""
    y = min(max((temp_c - TEMP_MIN_C) / TEMP_STEP_C, 0.0), table.shape[0] - 1.0)
    t = min(int(y), table.shape[0] - 2)
    fy = y - t
    low, high = 0, table.shape[1] - 1  # the knots that bracket it
    while high - low > 1:
        middle = (low + high) // 2
        if (1.0 - fy) * table[t, middle, OCV] + fy * table[t + 1, middle, OCV] <= ocv_v:
            low = middle
        else:
            high = middle
    v0 = (1.0 - fy) * table[t, low, OCV] + fy * table[t + 1, low, OCV]
    v1 = (1.0 - fy) * table[t, high, OCV] + fy * table[t + 1, high, OCV]
    return (low + min(max((ocv_v - v0) / (v1 - v0), 0.0), 1.0)) / (table.shape[1] - 1)
