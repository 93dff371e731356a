"""Cells that leave their pack, or their own place in it: spread, leak, step, resistance, capacity.

Spread since first seen: a slow mean of (cell − median) at low current, held against the pack (half-sample scale, so
that many bad cells cannot hide each other) and against its neighbours (single cells stand out from their module).
Leak: y = d_soc follows offset + slope × z of the pack's median cell, fitted per cell with one covariance shared by
all; what leaves that line for long fills a two-sided CUSUM (E. S. Page, Biometrika 41, 1954) in SOC × hours.
Resistance: against its own first days.  Capacity: against the pack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.findings import Found, emit, new_found
from operators.kernels.kinds import CELL, INDEX
from operators.kernels.thermal import median_of
from schemas.frames import LIVE, FrameBlock, missing_context
from schemas.pack import PackModel
from schemas.quality import FROZEN, STUCK, SWEEP_SKEW

SPREAD, LEAK, OFFSET = INDEX["cell_spread"], INDEX["leak"], INDEX["cell_offset"]
RESISTANCE, CAPACITY = INDEX["resistance"], INDEX["capacity"]

WATCHES = 4  # cells whose way out is timed, per pack
BLOCK = 6  # adjacent cells on one side are a block
_UNSET = np.int16(-32768)
_PER_UNIT = 1e4  # resistance baselines are stored in 1e-4
_HOUR_NS = 3_600_000_000_000
# Two bits each of cell_level: spread (0..3), leak (0..3: 1 offset, 2 leak, 3 strong leak), resistance, capacity.
_SPREAD_AT, _LEAK_AT, _R0_AT, _Q_AT = 0, 2, 4, 6


@dataclass(frozen=True, slots=True)
class ResidualsConfig:
    """Thresholds; V of a cell, SOC 0..1, h."""

    capacity_ah: float
    slope_v: float = 0.8  # V per unit SOC up to which a volt counts in full; at a knee it counts less
    rest_c_rate: float = 0.1
    sample_s: float = 120.0  # between samples of the spread
    settle_h: float = 6.0  # of watching before a spread may be raised
    spread_v: float = 0.015
    spread_local_v: float = 0.012
    block_v: float = 0.03
    spread_tau_h: float = 24.0  # of low-current time
    single_sigmas: float = 4.0
    block_sigmas: float = 3.0
    scale_floor_v: float = 0.0025
    look_s: float = 600.0  # between looks at d_soc
    leak_std: float = 0.02  # d_soc less certain than this is not looked at
    leak_slack: float = 0.004  # SOC that a cell may be off its line
    leak_sigmas: float = 4.0
    leak_raise_h: float = 0.006  # SOC × h
    leak_noise: float = 0.0015  # SOC, before the pack has shown its own
    leak_memory_s: float = 14 * 86_400.0
    r0_rise: float = 0.15
    r0_std: float = 0.04
    q_loss: float = 0.08
    q_std: float = 0.02

    def __post_init__(self) -> None:
        if self.capacity_ah <= 0:
            msg = f"capacity_ah must be > 0; got {self.capacity_ah}"
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> ResidualsConfig:
        """Take what depends on the pack model from it."""
        return cls(pack.nominal_ah)


@dataclass
class ResidualsState:
    """One slot per pack."""

    dv: NDArray[np.float32]  # (S, C) slow mean of cell − median at low current, V
    soc_offset: NDArray[np.float32]  # (S, C) own line of d_soc: at z = 0.5 …
    soc_slope: NDArray[np.float32]  # (S, C) … and per unit z
    cusum: NDArray[np.float32]  # (S, C) SOC × h, with the sign of the deviation
    r0_base: NDArray[np.int16]  # (S, C) own d_r0 in 1e-4
    cell_level: NDArray[np.uint8]  # (S, C) what is raised
    first_ns: NDArray[np.int64]  # (S,)
    sample_ns: NDArray[np.int64]  # (S,) last sample of the spread
    look_ns: NDArray[np.int64]  # (S,) last look at d_soc
    hour_ns: NDArray[np.int64]  # (S,) last look at spread, resistance, capacity
    dv_h: NDArray[np.float32]  # (S,) hours of low current seen
    r0_n: NDArray[np.int16]  # (S,) looks in the resistance baseline
    noise: NDArray[np.float32]  # (S,) variance of d_soc about its lines
    cov: NDArray[np.float64]  # (S, 3) of offset, both, slope; over the noise
    watch_cell: NDArray[np.int16]  # (S, WATCHES) −1 free
    watch_ns: NDArray[np.int64]  # (S, WATCHES) when it left its line
    watch_soc: NDArray[np.float32]  # (S, WATCHES) where it was then
    raise_soc: NDArray[np.float32]  # (S, WATCHES) where it was when an offset was raised
    bleed_mask: NDArray[np.uint64]  # (S, 2) cells whose bleed was on in this ten minutes and the ones before
    bleed_ns: NDArray[np.int64]  # (S,) start of this ten minutes

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> ResidualsState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        f4, i8, each, few = np.float32, np.int64, (slots, cells), (slots, WATCHES)
        return cls(
            np.zeros(each, f4),
            np.zeros(each, f4),
            np.zeros(each, f4),
            np.zeros(each, f4),
            np.full(each, _UNSET, np.int16),
            np.zeros(each, np.uint8),
            np.zeros(slots, i8),
            np.zeros(slots, i8),
            np.zeros(slots, i8),
            np.zeros(slots, i8),
            np.zeros(slots, f4),
            np.zeros(slots, np.int16),
            np.zeros(slots, f4),
            np.full((slots, 3), -1.0),
            np.full(few, -1, np.int16),
            np.zeros(few, i8),
            np.zeros(few, f4),
            np.zeros(few, f4),
            np.zeros((slots, 2), np.uint64),
            np.zeros(slots, i8),
        )


def step(cfg: ResidualsConfig, state: ResidualsState, block: FrameBlock, docv: NDArray[np.float64]) -> Found:
    """Look at the cells of each live, fresh row of `block`.

    Needs derived slot, dt_s, quality, v_med, z_med, d_soc, d_r0, d_q and their deviations.  `docv` (K,) is the
    slope of the OCV over SOC 0..1 in V per unit SOC.
    """
    d = block.derived
    mask = block.context.get("balancing_mask")
    if mask is None:
        mask = missing_context("balancing_mask", len(block))
    config = np.array(
        [
            1.0 / cfg.capacity_ah, cfg.slope_v, cfg.rest_c_rate, cfg.sample_s, cfg.settle_h, cfg.spread_v,
            cfg.spread_local_v, cfg.block_v, cfg.spread_tau_h, cfg.single_sigmas, cfg.block_sigmas,
            cfg.scale_floor_v, cfg.look_s, cfg.leak_std, cfg.leak_slack, cfg.leak_sigmas, cfg.leak_raise_h,
            cfg.leak_noise**2, cfg.leak_memory_s, cfg.r0_rise, cfg.r0_std, cfg.q_loss, cfg.q_std,
        ]
    )  # fmt: skip
    whole, real, count = _walk(
        d["slot"], block.t_ns, block.lane, d["quality"], block.current_a, block.cell_v, d["v_med"], d["z_med"],
        d["d_soc"], d["d_r0"], d["d_q"], d["d_soc_std"], d["d_r0_std"], d["d_q_std"], mask, docv, config,
        state.dv, state.soc_offset, state.soc_slope, state.cusum, state.r0_base, state.cell_level, state.first_ns,
        state.sample_ns, state.look_ns, state.hour_ns, state.dv_h, state.r0_n, state.noise, state.cov,
        (state.watch_cell, state.watch_ns, state.watch_soc, state.raise_soc), state.bleed_mask, state.bleed_ns,
        *new_found(),
    )  # fmt: skip
    return whole[:count], real[:count]


@njit(cache=True)
def _walk(
    slot, t_ns, lane, quality, current_a, cell_v, v_med, z_med, d_soc, d_r0, d_q, d_soc_std, d_r0_std, d_q_std,
    mask, docv, cfg,
    dv, soc_offset, soc_slope, cusum, r0_base, cell_level, first_ns, sample_ns, look_ns, hour_ns, dv_h, r0_n, noise,
    cov, watch, bleed_mask, bleed_ns, whole, real,
):  # fmt: skip
    (
        per_ah, slope_v, rest_c_rate, sample_s, settle_h, spread_v, local_v, block_v, tau_h, single_sigmas,
        block_sigmas, scale_floor_v, look_s, leak_std, slack0, leak_sigmas, leak_raise_h, noise0, memory_s,
        r0_rise, r0_std, q_loss, q_std,
    ) = cfg  # fmt: skip
    count = 0
    cells = cell_v.shape[1]
    order = np.empty(cells, np.float32)
    local = np.empty(cells, np.float32)
    bad = np.empty(cells, np.int8)
    near = np.empty(13, np.float32)
    for n in range(slot.size):
        if lane[n] != LIVE:
            continue
        s, t = slot[n], t_ns[n]
        if mask[n] != 0:
            _note_bleed(s, t, mask[n], bleed_mask, bleed_ns)
        if quality[n] & (FROZEN | SWEEP_SKEW):
            continue
        if first_ns[s] == 0:
            first_ns[s] = hour_ns[s] = t
        # --- spread of voltage at low current
        if t - sample_ns[s] >= sample_s * 1e9 and abs(current_a[n]) * per_ah <= rest_c_rate and v_med[n] == v_med[n]:
            _sample_spread(
                n, s, t, cell_v, v_med[n], z_med[n], docv, slope_v, tau_h, sample_ns, dv_h, dv,
                _bled(s, t, bleed_mask, bleed_ns),
            )  # fmt: skip
        # --- d_soc about its own line
        if t - look_ns[s] >= look_s * 1e9 and z_med[n] == z_med[n] and d_soc_std[n] <= leak_std:
            whole, real, count = _look_soc(
                n, s, t, d_soc, z_med[n], d_soc_std[n], per_ah, slack0, leak_sigmas, leak_raise_h, noise0, memory_s,
                look_ns, soc_offset, soc_slope, cusum, cell_level, noise, cov, watch,
                _bled(s, t, bleed_mask, bleed_ns), whole, real, count,
            )  # fmt: skip
        if t - hour_ns[s] < _HOUR_NS:
            continue
        hour_ns[s] = t
        if dv_h[s] >= settle_h:
            whole, real, count = _look_spread(
                n, s, t, dv, first_ns[s], cell_level, spread_v, local_v, block_v, single_sigmas, block_sigmas,
                scale_floor_v, order, local, bad, near, whole, real, count,
            )  # fmt: skip
        if d_r0_std[n] <= r0_std:
            whole, real, count = _look_r0(
                n, s, t, d_r0, d_r0_std[n], r0_base, r0_n, cell_level, r0_rise, whole, real, count
            )
        if d_q_std[n] <= q_std:
            for c in range(cells):
                x = d_q[n, c]
                was = (cell_level[s, c] >> _Q_AT) & 3
                bound = max(q_loss, 4.0 * d_q_std[n])
                level = 0 if x > -0.7 * bound or x != x else was
                if x <= -bound:
                    level = max(was, 2 if x <= -2.0 * bound else 1)
                if level != was:
                    _set(cell_level, s, c, _Q_AT, level)
                    whole, real, count = emit(whole, real, count, n, CAPACITY, CELL, c, level, t, -x, bound, d_q_std[n])
    return whole, real, count


@njit(cache=True)
def _set(cell_level, s, c, at, level):
    cell_level[s, c] = (cell_level[s, c] & ~(3 << at)) | (level << at)


@njit(cache=True)
def _note_bleed(s, t, mask, bleed_mask, bleed_ns):
    """Remember which bleeds were on, in two spans of ten minutes."""
    if t - bleed_ns[s] >= 600_000_000_000:
        bleed_mask[s, 1] = bleed_mask[s, 0] if t - bleed_ns[s] < 1_200_000_000_000 else np.uint64(0)
        bleed_mask[s, 0] = np.uint64(0)
        bleed_ns[s] = t
    bleed_mask[s, 0] |= mask


@njit(cache=True)
def _bled(s, t, bleed_mask, bleed_ns):
    """Give the cells whose own bleed, or a neighbour's (shared wire), was on in the last ten to twenty minutes."""
    on = np.uint64(0)
    if t - bleed_ns[s] < 1_200_000_000_000:
        on |= bleed_mask[s, 0]
        if t - bleed_ns[s] < 600_000_000_000:
            on |= bleed_mask[s, 1]
    return on | (on << np.uint64(1)) | (on >> np.uint64(1))


@njit(cache=True)
def _is_in(mask, c):
    return c < 64 and (mask >> np.uint64(c)) & np.uint64(1) != 0


@njit(cache=True)
def _sample_spread(n, s, t, cell_v, v_med, z, docv, slope_v, tau_h, sample_ns, dv_h, dv, bled):
    hours = min((t - sample_ns[s]) / _HOUR_NS, 0.25) if sample_ns[s] > 0 else 0.05
    sample_ns[s] = t
    dv_h[s] = min(dv_h[s] + hours, 1e4)
    weight = np.float32(max(hours / dv_h[s], hours / tau_h))  # a plain mean at first
    scale = np.float32(1.0)
    if z == z:
        slope = docv[min(max(int(z * (docv.size - 1) + 0.5), 0), docv.size - 1)]
        scale = np.float32(min(1.0, slope_v / slope))
    for c in range(cell_v.shape[1]):
        x = (cell_v[n, c] - v_med) * scale
        if x == x and not (bled and _is_in(bled, c)):
            dv[s, c] += weight * (x - dv[s, c])


@njit(cache=True)
def _look_soc(
    n, s, t, d_soc, z, std, per_ah, slack0, sigmas, raise_h, noise0, memory_s,
    look_ns, soc_offset, soc_slope, cusum, cell_level, noise, cov, watch, bled, whole, real, count,
):  # fmt: skip
    since_s = min((t - look_ns[s]) * 1e-9, 3600.0) if look_ns[s] > 0 else 0.0
    look_ns[s] = t
    prior = 0.05**2 / noise0  # spread of offsets and slopes before anything is known
    if cov[s, 0] < 0:
        noise[s] = noise0
        cov[s, 0], cov[s, 1], cov[s, 2] = prior, 0.0, 0.6 * prior
    x = z - 0.5
    p1 = cov[s, 0] + cov[s, 1] * x
    p2 = cov[s, 1] + cov[s, 2] * x
    spread = p1 + p2 * x
    alone = 3600.0 / max(since_s, 60.0)  # looks within an hour share the weight of one
    k1, k2 = np.float32(p1 / (spread + alone)), np.float32(p2 / (spread + alone))
    scale = np.sqrt(noise[s] * (1.0 + spread))
    slack = np.float32(max(slack0, sigmas * scale))
    hours = np.float32(since_s / 3600.0)
    x4 = np.float32(x)
    square, used = 0.0, 0
    for c in range(d_soc.shape[1]):
        y = d_soc[n, c]
        if y != y:
            continue
        e = y - soc_offset[s, c] - soc_slope[s, c] * x4
        if bled and _is_in(bled, c):
            soc_offset[s, c] += e  # charge is taken from it on purpose
            continue
        out = e if cusum[s, c] >= 0 else -e
        if cusum[s, c] == 0 and abs(e) <= slack:
            soc_offset[s, c] += k1 * e
            soc_slope[s, c] += k2 * e
            square += e * e
            used += 1
            continue
        if cusum[s, c] == 0:
            out = abs(e)
        sign = 1.0 if (cusum[s, c] > 0 or (cusum[s, c] == 0 and e > 0)) else -1.0
        filled = min(max(abs(cusum[s, c]) + (out - slack) * hours, 0.0), 4.0 * raise_h)
        if filled == 0.0 and out > slack:
            filled = np.float32(1e-6)  # the first look of a pack: no time has passed yet
        cusum[s, c] = sign * filled
        w = _watch(watch, s, c, t, e, filled > 0)
        was = (cell_level[s, c] >> _LEAK_AT) & 3
        level = was
        if filled == 0.0:
            level = 0
        elif filled >= raise_h and out > slack:
            rate, lasting_h, more = _way(watch, s, w, t, e)
            if e < 0 and (
                (was == 0 and lasting_h >= 1.0 and more >= 1.4) or (was == 1 and lasting_h >= 2.0 and more >= 1.5)
            ):
                level = 3 if rate / per_ah >= 1.0 else 2
            elif was == 0:
                level = 1
                if w >= 0:
                    watch[3][s, w] = e
        if level != was:
            _set(cell_level, s, c, _LEAK_AT, level)
            if was >= 2 or level >= 2:
                rate, _, _ = _way(watch, s, w, t, e)
                since = watch[1][s, w] if w >= 0 else t
                if level == 0:
                    rate = 0.0
                whole, real, count = emit(
                    whole,
                    real,
                    count,
                    n,
                    LEAK,
                    CELL,
                    c,
                    level,
                    since,
                    rate / per_ah,
                    slack0 / per_ah / 24.0,
                    scale / per_ah,
                )
            else:
                since = watch[1][s, w] if w >= 0 else t
                whole, real, count = emit(whole, real, count, n, OFFSET, CELL, c, level, since, e, slack, scale)
    cov[s, 0] -= k1 * p1
    cov[s, 1] -= k1 * p2
    cov[s, 2] -= k2 * p2
    grow = 1.0 + since_s / memory_s
    cov[s, 0] = min(cov[s, 0] * grow, prior)
    cov[s, 1] *= grow
    cov[s, 2] = min(cov[s, 2] * grow, 0.6 * prior)
    if used:
        weight = since_s / (since_s + 2.0 * 86_400.0)
        noise[s] = max(noise[s] + weight * (square / used - noise[s]), 0.25 * noise0)
    return whole, real, count


@njit(cache=True)
def _watch(watch, s, c, t, e, out):
    """Find or open the watch of a cell that is off its line, or close it; gives its place or −1."""
    cell, since, soc, raised = watch
    free = -1
    for w in range(cell.shape[1]):
        if cell[s, w] == c:
            if not out:
                cell[s, w] = -1
                return -1
            return w
        if cell[s, w] < 0 and free < 0:
            free = w
    if out and free >= 0:
        cell[s, free] = c
        since[s, free] = t
        soc[s, free] = e
        raised[s, free] = e
    return free if out else -1


@njit(cache=True)
def _way(watch, s, w, t, e):
    """Give how fast a watched cell moves out (SOC per h), for how long, and how many times further than it was."""
    if w < 0:
        return 0.0, 0.0, 0.0
    hours = (t - watch[1][s, w]) / _HOUR_NS
    rate = abs(e - watch[2][s, w]) / hours if hours > 0 else 0.0
    return rate, hours, e / watch[3][s, w] if watch[3][s, w] != 0 else 0.0


@njit(cache=True)
def _look_spread(
    n, s, t, dv, first_ns, cell_level, spread_v, local_v, block_v, single_sigmas, block_sigmas, floor_v,
    order, local, bad, near, whole, real, count,
):  # fmt: skip
    cells = dv.shape[1]
    if cells < 4:
        return whole, real, count
    order[:] = dv[s]
    order.sort()
    middle = np.float32(0.5) * (order[(cells - 1) // 2] + order[cells // 2])
    half = cells // 2
    width = np.float32(np.inf)  # of the shortest interval that holds half of the cells; 1.35 σ of a normal spread
    for k in range(cells - half):
        width = min(width, order[k + half] - order[k])
    scale = max(np.float32(width / 1.35), np.float32(floor_v))
    for c in range(cells):
        first = max(0, min(c - 6, cells - 13))
        last = min(cells, first + 13)
        local[c] = dv[s, c] - median_of(dv[s, first:last], near)
    order[:] = np.abs(local)
    order.sort()
    local_scale = max(np.float32(1.4826 * order[cells // 2]), np.float32(floor_v))
    # Blocks: a run on one side whose ends are out; a gap of two cells that lean the same way belongs to it.
    bad[:] = 0
    for side in (-1, 1):
        start, last, out = -1, -1, 0
        for c in range(cells + 1):
            x = side * (dv[s, c] - middle) if c < cells else np.float32(0.0)
            if c < cells and x > block_v and x > block_sigmas * scale:
                if start < 0:
                    start, out = c, 0
                last = c
                out += 1
            elif start >= 0 and (c == cells or c - last > 2 or x < 0.5 * block_sigmas * scale):
                if out >= BLOCK:
                    bad[start : last + 1] = 2 * side
                start = -1
    for c in range(cells):
        x = dv[s, c] - middle
        if bad[c] == 0 and (
            abs(x) > spread_v
            and abs(local[c]) > local_v
            and x * local[c] > 0
            and abs(local[c]) > single_sigmas * local_scale
        ):
            bad[c] = 1
        was = (cell_level[s, c] >> _SPREAD_AT) & 3
        level = was
        if bad[c]:
            level = max(was, 3 if abs(x) > 10.0 * spread_v else 2 if abs(x) > 3.0 * spread_v else 1)
        elif was and abs(local[c]) < 0.7 * local_v and abs(x) < 0.7 * block_v:
            level = 0
        if level != was:
            _set(cell_level, s, c, _SPREAD_AT, level)
            bound = max(np.float32(single_sigmas) * local_scale, np.float32(spread_v))
            if abs(bad[c]) == 2:
                bound = np.float32(block_sigmas) * scale
            whole, real, count = emit(
                whole,
                real,
                count,
                n,
                SPREAD,
                CELL,
                c,
                level,
                first_ns,
                x,
                bound,
                scale if abs(bad[c]) == 2 else local_scale,
            )
    return whole, real, count


@njit(cache=True)
def _look_r0(n, s, t, d_r0, std, r0_base, r0_n, cell_level, r0_rise, whole, real, count):
    learning = r0_n[s] < 72
    if learning:
        r0_n[s] += 1
    bound = max(r0_rise, 5.0 * std)
    for c in range(d_r0.shape[1]):
        y = d_r0[n, c]
        if y != y:
            continue
        if r0_base[s, c] == _UNSET:
            r0_base[s, c] = np.int16(min(max(y, -3.0), 3.0) * _PER_UNIT)
        x = y - r0_base[s, c] / _PER_UNIT
        was = (cell_level[s, c] >> _R0_AT) & 3
        if learning and abs(x) < 0.5 * bound and was == 0:
            r0_base[s, c] = np.int16(r0_base[s, c] + round(x / r0_n[s] * _PER_UNIT))
        level = was
        if r0_n[s] >= 6 and x >= bound:
            level = max(was, 3 if x >= 6.0 * bound else 2 if x >= 2.0 * bound else 1)
        elif x < 0.6 * bound:
            level = 0
        if level != was:
            _set(cell_level, s, c, _R0_AT, level)
            whole, real, count = emit(whole, real, count, n, RESISTANCE, CELL, c, level, t, x, bound, std)
    return whole, real, count
