"""Cells that sit apart from their pack at low current: single weak cells, and blocks.

A slow mean of (cell − median) at low current is held against two scales that bad cells cannot inflate.  A single cell
must stand out from the pack and from its neighbours, in median absolute deviations: packs differ by module, and a
module is no weak cell.  A block is a run of cells beyond the half-sample scale, the shortest interval that holds half
of the cells (the shorth; Rousseeuw and Leroy, Statistica Neerlandica 42 (1988) 103).
What is there from the first day is spread since first seen, not a cell's own normal; a cell that parts from its
neighbours later has done so since it was half as far from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.findings import ONSETS, Found, collect, emit, onset
from operators.kernels.kinds import CELL, INDEX
from operators.kernels.robust import NEAR, median_of, sort
from schemas.frames import LIVE, FrameBlock, missing_context
from schemas.pack import PackModel
from schemas.quality import FROZEN, SWEEP_SKEW

_SPREAD = INDEX["cell_spread"]
_NEAR_V = np.float32(0.01)  # deviations below it are on the median's own part of the curve
_BLOCK = 6  # adjacent cells on one side
_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class SpreadConfig:
    """Thresholds in V of a cell; slope_v is V per unit SOC."""

    capacity_ah: float
    slope_v: float = 0.8  # up to this slope of the OCV a volt counts in full; at a knee it counts less
    rest_c_rate: float = 0.1
    sample_s: float = 120.0
    settle_h: float = 6.0  # of low current before anything may be raised
    tau_h: float = 24.0  # of low current that the mean reaches back
    single_v: float = 0.015
    local_v: float = 0.012
    single_sigmas: float = 4.0
    block_v: float = 0.03
    block_sigmas: float = 3.0
    by_charge: bool = False  # a plateau hides charge: what the estimator knows of it counts, not the voltage
    known_soc: float = 0.01  # standard deviation up to which it knows
    floor_v: float = 0.0025  # no scale is smaller: sensors differ
    bleed_s: float = 600.0  # current in a sense wire falsifies two cells; so long after it they count again

    def __post_init__(self) -> None:
        if self.capacity_ah <= 0:
            msg = f"capacity_ah must be > 0; got {self.capacity_ah}"
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> SpreadConfig:
        """Take what depends on the pack model from it."""
        if pack.chemistry == "lfp":
            # Known charge is a mean already.  2.4 % of it: without balancing, sound cells part by 2 % in a month.
            return cls(pack.nominal_ah, settle_h=1.0, tau_h=6.0, single_v=0.019, local_v=0.015, by_charge=True)
        return cls(pack.nominal_ah)


@dataclass
class SpreadState:
    """One slot per pack."""

    dv: NDArray[np.float32]  # (S, C) slow mean of cell − median, V
    spread_level: NDArray[np.int8]  # (S, C) 0 = not raised
    first_ns: NDArray[np.int64]  # (S,)
    sample_ns: NDArray[np.int64]  # (S,) last sample, 0 before the first
    hour_ns: NDArray[np.int64]  # (S,) last look
    bleed_ns: NDArray[np.int64]  # (S,) last time that a bleed was on
    dv_h: NDArray[np.float32]  # (S,) hours of low current seen
    parting: NDArray[np.int16]  # (S, ONSETS) cell that parts from its neighbours, −1 free
    parting_min: NDArray[np.int32]  # (S, ONSETS) see findings.onset

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> SpreadState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        return cls(
            np.zeros((slots, cells), np.float32),
            np.zeros((slots, cells), np.int8),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.float32),
            np.full((slots, ONSETS), -1, np.int16),
            np.zeros((slots, ONSETS), np.int32),
        )


def step(cfg: SpreadConfig, state: SpreadState, block: FrameBlock, docv: NDArray[np.float64]) -> Found:
    """Watch the spread over the live, fresh rows of `block`.

    Needs derived slot, quality, v_med, z_med, d_soc, d_soc_std.  `docv` (K,) is the slope of the OCV over SOC 0..1,
    V per unit SOC.
    """
    d = block.derived
    mask = block.context.get("balancing_mask")
    return collect(
        _walk, len(block), block.cells,
        d["slot"], block.t_ns, block.lane, d["quality"], block.current_a, block.cell_v, d["v_med"], d["z_med"],
        d["d_soc"], d["d_soc_std"],
        missing_context("balancing_mask", len(block)) if mask is None else mask, docv,
        1.0 / cfg.capacity_ah, cfg.slope_v, cfg.rest_c_rate, cfg.sample_s, cfg.settle_h, cfg.tau_h, cfg.single_v,
        cfg.local_v, cfg.single_sigmas, cfg.block_v, cfg.block_sigmas, cfg.floor_v, cfg.bleed_s,
        cfg.by_charge, cfg.known_soc,
        state.dv, state.spread_level, state.first_ns, state.sample_ns, state.hour_ns, state.bleed_ns, state.dv_h,
        (state.parting, state.parting_min),
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count,
    slot, t_ns, lane, quality, current_a, cell_v, v_med, z_med, d_soc, d_soc_std, mask, docv,
    per_ah, slope_v, rest_c_rate, sample_s, settle_h, tau_h, single_v, local_v, single_sigmas, block_v, block_sigmas,
    floor_v, bleed_s, by_charge, known_soc,
    dv, level, first_ns, sample_ns, hour_ns, bleed_ns, dv_h, parting,
):  # fmt: skip
    cells = cell_v.shape[1]
    order = np.empty(cells, np.float32)
    local = np.empty(cells, np.float32)
    bad = np.empty(cells, np.int8)
    near = np.empty(NEAR, np.float32)
    for n in range(start, slot.size):
        if count[0] + cells > len(whole):
            return n
        if lane[n] != LIVE:
            continue
        s, t = slot[n], t_ns[n]
        if mask[n] != 0:
            bleed_ns[s] = t
        if quality[n] & (FROZEN | SWEEP_SKEW) or v_med[n] != v_med[n]:
            continue
        if first_ns[s] == 0:
            first_ns[s] = hour_ns[s] = t
        if (
            t - sample_ns[s] < sample_s * 1e9
            or not abs(current_a[n]) * per_ah <= rest_c_rate
            or t - bleed_ns[s] < bleed_s * 1e9
            or (by_charge and not d_soc_std[n] <= known_soc)
        ):
            continue
        hours = min((t - sample_ns[s]) / _HOUR_NS, 0.25) if sample_ns[s] > 0 else 0.05
        sample_ns[s] = t
        dv_h[s] = min(dv_h[s] + hours, 1e4)
        weight = np.float32(max(hours / dv_h[s], hours / tau_h))  # a plain mean at first
        at, scale = -1, np.float32(1.0)
        if z_med[n] == z_med[n]:
            at = min(max(int(z_med[n] * (docv.size - 1) + 0.5), 0), docv.size - 1)
            scale = np.float32(min(1.0, slope_v / docv[at]))
        for c in range(cells):
            x = cell_v[n, c] - v_med[n]
            if by_charge:
                x = np.float32(slope_v) * d_soc[n, c]
            else:
                x = x * scale if at < 0 or abs(x) < _NEAR_V else _evened(x, docv, at, slope_v)
            if x == x:
                dv[s, c] += weight * (x - dv[s, c])
        if t - hour_ns[s] >= _HOUR_NS and dv_h[s] >= settle_h and cells >= 4:
            hour_ns[s] = t
            _look(
                n, s, t, dv, first_ns[s], dv_h[s] < 2.0 * settle_h, parting, level,
                single_v, local_v, single_sigmas, block_v, block_sigmas, floor_v,
                order, local, bad, near, whole, real, count,
            )  # fmt: skip
    return slot.size


@njit(cache=True, error_model="numpy")
def _evened(x, docv, at, slope_v):
    """Give the deviation `x` from a median at place `at` of the curve as it would be where the slope is `slope_v`.

    A cell far from the median may sit on a knee that the median has not reached: its charge differs by the way along
    the curve.  Where the curve is flatter than `slope_v`, a volt stays a volt.
    """
    left, step, soc, side = abs(x), 1.0 / (docv.size - 1), 0.0, 1 if x > 0 else -1
    while 0 <= at < docv.size and docv[at] * step < left:
        left -= docv[at] * step
        soc += step
        at += side
    soc += left / docv[min(max(at, 0), docv.size - 1)]
    return np.float32(side * min(abs(x), slope_v * soc))


@njit(cache=True, error_model="numpy")
def _look(
    n, s, t, dv, first_ns, early, parting, level, single_v, local_v, single_sigmas, block_v, block_sigmas, floor_v,
    order, local, bad, near, whole, real, count,
):  # fmt: skip
    """Hold the means of pack `s` against their scales."""
    cells = dv.shape[1]
    half = cells // 2
    for c in range(cells):
        order[c] = dv[s, c]
    sort(order, cells)
    middle = np.float32(0.5) * (order[(cells - 1) // 2] + order[half])
    width = np.float32(np.inf)  # 1.35 σ of a normal spread
    for k in range(cells - half):
        width = min(width, order[k + half] - order[k])
    scale = max(np.float32(width / 1.35), np.float32(floor_v))
    for c in range(cells):
        first = max(0, min(c - NEAR // 2, cells - NEAR))
        local[c] = dv[s, c] - median_of(dv[s, first : min(cells, first + NEAR)], near)
    for c in range(cells):
        order[c] = abs(local[c])
    sort(order, cells)
    local_scale = max(np.float32(1.4826 * order[half]), np.float32(floor_v))
    block_bound = max(np.float32(block_v), np.float32(block_sigmas) * scale)
    for c in range(cells):
        order[c] = abs(dv[s, c] - middle)
    sort(order, cells)
    # Where a pack falls into modules, the half-sample scale is that of one module alone.
    block_bound = max(block_bound, np.float32(2.0 * 1.4826) * order[half])
    # A block is a run on one side; up to two cells between that lean the same way belong to it.
    for c in range(cells):
        bad[c] = 0
    for side in (-1, 1):
        start, last, out = -1, -1, 0
        for c in range(cells + 1):
            x = side * (dv[s, c] - middle) if c < cells else np.float32(0.0)
            if c < cells and x > block_bound:
                if start < 0:
                    start, out = c, 0
                last = c
                out += 1
            elif start >= 0 and (c == cells or c - last > 2 or x < 0.5 * block_bound):
                if out >= _BLOCK:
                    for k in range(start, last + 1):
                        bad[k] = 2 * side
                start = -1
    for c in range(cells):
        x = dv[s, c] - middle
        if (
            bad[c] == 0
            and abs(x) > single_v
            and abs(local[c]) > local_v
            and x * local[c] > 0
            and abs(local[c]) > single_sigmas * local_scale
        ):
            bad[c] = 1
        was = level[s, c]
        now = was
        bound = max(np.float32(single_sigmas) * local_scale, np.float32(local_v))
        at = first_ns if early else t
        since = onset(parting[0][s], parting[1][s], c, at, abs(local[c]), 0.5 * bound, not early)
        if bad[c]:
            now = max(was, 3 if abs(x) > 10.0 * single_v else 2 if abs(x) > 3.0 * single_v else 1)
        elif was and abs(local[c]) < 0.7 * local_v and abs(x) < 0.7 * block_v:
            now = 0
        if now != was:
            level[s, c] = now
            sigma = scale if abs(bad[c]) == 2 else local_scale
            bound = max(np.float32(single_sigmas) * sigma, np.float32(single_v))
            if abs(bad[c]) == 2:
                bound = block_bound
            if since < 0 or abs(bad[c]) == 2:
                since = first_ns
            emit(whole, real, count, n, _SPREAD, CELL, c, now, max(since, first_ns), x, bound, sigma)
