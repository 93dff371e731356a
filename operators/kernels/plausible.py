"""Which values of a released frame can be true: impossible ones become NaN, doubtful frames are flagged.

The walk sums voltages in whole units of 10 µV: integer sums vectorise and do not depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.frames import LIVE
from schemas.quality import (
    CELL_RANGE,
    CELL_RATE,
    CURRENT_RANGE,
    FROZEN,
    INCOMPLETE,
    NO_CELLS,
    PACK_V_RANGE,
    SUM_MISMATCH,
    SWEEP_SKEW,
    TEMP_RANGE,
)  # fmt: skip

_UNITS_PER_V = np.float32(1e5)
_NAN_BITS = np.uint32(0x7FC00000)


@dataclass(frozen=True, slots=True)
class PlausibleConfig:
    """What a pack can do at most."""

    cell_v_min: float = 0.5
    cell_v_max: float = 5.0
    temp_c_min: float = -50.0
    temp_c_max: float = 150.0
    hot_c: float = 90.0  # where another probe, or the pack just before, was this hot, temp_c_max does not hold
    current_a_max: float = 3000.0
    pack_v_max: float = 1500.0
    rate_v: float = 0.3  # a cell's own move beside the pack's between two frames
    rate_window_s: float = 10.0
    sum_v: float = 3.0
    sum_part: float = 0.03  # of the pack voltage; the larger bound holds
    sum_learn_v: float = 0.02  # how far the learned offset moves with a frame: it settles at the median
    step_c: float = 0.2  # a current step, in multiples of the nominal capacity per hour
    skew_v: float = 0.010  # over all cells
    skew_part: float = 0.25  # of the pack's own move: a resistance that differs along the pack does less
    frozen_c: float = 0.02  # a current that must move something
    frozen_repeats: int = 3
    frozen_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for low, high in (("cell_v_min", "cell_v_max"), ("temp_c_min", "temp_c_max")):
            if not getattr(self, low) < getattr(self, high):
                msg = f"{low} must be < {high} ({getattr(self, high)}); got {getattr(self, low)}"
                raise ValueError(msg)
        for name in ("current_a_max", "pack_v_max", "rate_v", "sum_v", "step_c", "frozen_repeats"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)


PAST = np.dtype(
    [
        ("content", "i8"),  # of the last frame
        ("still_s", "f8"),  # how long the content has stood still
        ("still", "i4"),  # and for how many frames
        ("current_a", "f4"),
        ("offset_v", "f4"),  # pack sensor beside the sum of the cells
        ("hottest_c", "f4"),
    ],
    align=True,
)


@dataclass(slots=True)
class PlausibleState:
    """One slot per pack: its last frame."""

    past: NDArray[Any]  # (S,) PAST
    cell_v: NDArray[np.float32]  # (S, C)

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> PlausibleState:  # noqa: ARG003 - the shape of all states
        """State of packs never seen."""
        past = np.zeros(slots, PAST)
        past["current_a"] = past["hottest_c"] = np.nan
        return cls(past, np.full((slots, cells), np.nan, np.float32))


@lru_cache
def _keys(width: int) -> NDArray[np.uint64]:
    """Draw odd multipliers for `width` words (splitmix64)."""
    z = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def screen(
    cfg: PlausibleConfig,
    current_a: NDArray[np.float32],
    pack_v: NDArray[np.float32],
    cell_v: NDArray[np.float32],
    temp_c: NDArray[np.float32],
) -> tuple[NDArray[np.int64], bool]:
    """Hash each frame's content (N,), and say whether any value is out of its range.

    Multilinear hashing (Lemire and Kaser, Computer Journal 57 (2014) 1624): the upper half of the sum of
    words × keys is universal, so two contents share it with probability 2^-32.
    """
    content = np.empty(len(cell_v), np.int64)
    i_bits, p_bits, v_bits, t_bits = (x.view(np.uint32) for x in (current_a, pack_v, cell_v, temp_c))
    bounds = (cfg.cell_v_min, cfg.cell_v_max, cfg.temp_c_min, cfg.temp_c_max, cfg.current_a_max, cfg.pack_v_max)
    odd = _screen(
        current_a, pack_v, cell_v, temp_c, i_bits, p_bits, v_bits, t_bits,
        _keys(2 + cell_v.shape[1] + temp_c.shape[1]), content, np.array(bounds, np.float32),
    )  # fmt: skip
    return content, bool(odd)


@njit(cache=True, error_model="numpy")
def _screen(current_a, pack_v, cell_v, temp_c, current_bits, pack_bits, cell_bits, temp_bits, keys, content, bounds):
    cells, probes = cell_v.shape[1], temp_c.shape[1]
    v_min, v_max, t_min, t_max, i_max, p_max = bounds
    odd = 0
    for n in range(content.size):
        i, p = current_a[n], pack_v[n]
        h = keys[cells + probes] * np.uint64(current_bits[n] if i == i else _NAN_BITS)
        h += keys[cells + probes + 1] * np.uint64(pack_bits[n] if p == p else _NAN_BITS)
        odd += (abs(i) > i_max) | (p <= 0) | (p > p_max)
        for c in range(cells):
            v = cell_v[n, c]
            odd += (v < v_min) | (v > v_max)
            h += keys[c] * np.uint64(cell_bits[n, c] if v == v else _NAN_BITS)
        for c in range(probes):
            t = temp_c[n, c]
            odd += (t < t_min) | (t > t_max)
            h += keys[cells + c] * np.uint64(temp_bits[n, c] if t == t else _NAN_BITS)
        content[n] = np.int64(h)
    return odd


def step(
    cfg: PlausibleConfig,
    state: PlausibleState,
    nominal_ah: float,
    slot: NDArray[np.int32],
    lane: NDArray[np.uint8],
    content: NDArray[np.int64],
    dt_s: NDArray[np.float64],
    flags: NDArray[np.uint32],
    frames: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
) -> tuple[NDArray[np.uint32], NDArray[np.int16]]:
    """Check released frames in order: (quality flags added to `flags`, valid cells), (N,) each.

    `frames` = (current_a, pack_v, cell_v, temp_c); impossible values in it are overwritten with NaN.
    `dt_s` NaN: nothing came before.  Frames of the backfill lane are checked alone and not remembered.
    """
    quality, cells_ok = flags.copy(), np.empty(len(flags), np.int16)
    bounds = np.array(
        [
            cfg.cell_v_min, cfg.cell_v_max, cfg.temp_c_min, cfg.temp_c_max, cfg.hot_c, cfg.current_a_max,
            cfg.pack_v_max, cfg.rate_v, cfg.rate_window_s, cfg.sum_v, cfg.sum_part, cfg.sum_learn_v,
            cfg.step_c * nominal_ah, cfg.skew_v, cfg.skew_part, cfg.frozen_c * nominal_ah, cfg.frozen_repeats,
            cfg.frozen_s,
        ],
        np.float32,
    )  # fmt: skip
    _walk(slot, lane, content, dt_s, *frames, state.past, state.cell_v, bounds, quality, cells_ok)
    return quality, cells_ok


@njit(cache=True, error_model="numpy")
def _walk(slot, lane, content, dt_s, current_a, pack_v, cell_v, temp_c, past, last_v, bounds, quality, cells_ok):
    (v_min, v_max, t_min, t_max, hot_c, i_max, p_max, rate_v, window_s, sum_v, sum_part, learn_v, step_a, skew_v,
     skew_part, frozen_a, frozen_repeats, frozen_s) = bounds  # fmt: skip
    cells = cell_v.shape[1]
    zero, nan = np.float32(0), np.float32(np.nan)
    for n in range(slot.size):
        s, flags = slot[n], quality[n]
        r = past[s]
        live = lane[n] == LIVE
        i, p = current_a[n], pack_v[n]
        if abs(i) > i_max:
            current_a[n] = i = nan
            flags |= CURRENT_RANGE
        if p <= 0 or p > p_max:
            pack_v[n] = p = nan
            flags |= PACK_V_RANGE
        total, valid, impossible = np.int32(0), np.int32(0), np.int32(0)
        for c in range(cells):
            v = cell_v[n, c]
            good = (v >= v_min) & (v <= v_max)
            valid += good
            impossible += (v == v) & (not good)
            total += np.int32((v if good else zero) * _UNITS_PER_V)
        if impossible > 0:
            flags |= CELL_RANGE
            for c in range(cells):
                v = cell_v[n, c]
                if not (v >= v_min and v <= v_max):
                    cell_v[n, c] = nan
        cells_ok[n] = valid
        if valid < cells:
            flags |= INCOMPLETE
            if 2 * valid < cells:
                flags |= NO_CELLS
        hottest, flags = _temperatures(temp_c, n, t_min, t_max, hot_c, r.hottest_c if live else nan, flags)
        if live:
            first = np.isnan(dt_s[n])
            still = (not first) & (content[n] == r.content) & (abs(i) > frozen_a)
            r.still = r.still + 1 if still else 0
            r.still_s = r.still_s + dt_s[n] if still else 0.0
            if r.still >= frozen_repeats and r.still_s > frozen_s - 1e-6:  # a sum of periods
                flags |= FROZEN
            stepped = abs(i - r.current_a) > step_a
            if valid == cells and p == p and not stepped:
                off = p - total / _UNITS_PER_V - r.offset_v
                if abs(off) > max(sum_v, sum_part * p):
                    flags |= SUM_MISMATCH
                r.offset_v += min(max(off, -learn_v), learn_v)
            if dt_s[n] <= window_s:
                flags |= _moves(cell_v, n, last_v, s, rate_v, stepped, skew_v, skew_part)
            for c in range(cells):
                last_v[s, c] = cell_v[n, c]
            r.content, r.current_a, r.hottest_c = content[n], i, hottest
        quality[n] = flags


@njit(cache=True, error_model="numpy")
def _temperatures(temp_c, n, t_min, t_max, hot_c, hottest_before, flags):
    """Drop impossible temperatures, unless the pack is burning; gives the hottest that is left."""
    hottest, beyond = np.float32(np.nan), False
    for c in range(temp_c.shape[1]):
        t = temp_c[n, c]
        if t < t_min or t > t_max:
            beyond = True
        elif not t <= hottest and t == t:
            hottest = t
    if beyond:
        burning = hottest > hot_c or hottest_before > hot_c
        for c in range(temp_c.shape[1]):
            t = temp_c[n, c]
            if t > t_max and burning:
                hottest = max(hottest, t) if hottest == hottest else t
            elif t < t_min or t > t_max:
                temp_c[n, c] = np.nan
                flags |= TEMP_RANGE
    return hottest, flags


@njit(cache=True, error_model="numpy")
def _moves(cell_v, n, last_v, s, rate_v, stepped, skew_v, skew_part):
    """Compare each cell's move since the last frame with the mean move: too fast, or slanting along the pack."""
    cells = cell_v.shape[1]
    zero = np.float32(0)
    total, count = np.int32(0), np.int32(0)
    for c in range(cells):
        d = cell_v[n, c] - last_v[s, c]
        total += np.int32((d if d == d else zero) * _UNITS_PER_V)
        count += d == d
    if count == 0:
        return np.uint32(0)
    mean = np.float32(total) / count / _UNITS_PER_V
    fast = np.int32(0)
    for c in range(cells):
        fast += abs(cell_v[n, c] - last_v[s, c] - mean) > rate_v
    flags = np.uint32(CELL_RATE) if fast > 0 else np.uint32(0)
    if stepped and count > 2:
        # least-squares slope of the moves over the cell's place x = 2c - (C - 1), in whole numbers
        sx, sxx, sxd = np.int64(0), np.int64(0), np.int64(0)
        for c in range(cells):
            d = cell_v[n, c] - last_v[s, c]
            x = np.int64(2 * c - (cells - 1)) if d == d else np.int64(0)
            sx += x
            sxx += x * x
            sxd += x * np.int64((d if d == d else zero) * _UNITS_PER_V)
        slant = 2.0 * (cells - 1) * (sxd - sx * mean * _UNITS_PER_V) / (sxx - sx * (sx / count)) / _UNITS_PER_V
        if abs(slant) > max(skew_v, skew_part * abs(mean)):
            flags |= np.uint32(SWEEP_SKEW)
    return flags
