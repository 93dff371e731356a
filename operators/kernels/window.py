"""What each window of a pack held: one row of accumulators per pack, copied out when its window closes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels import power
from operators.kernels.extremes import extremes, where
from operators.kernels.rows import copy, fill
from schemas.frames import LIVE, FrameBlock

# Accumulator columns.  What a table takes as it is carries the table's column name.
ACC = (
    "frames", "complete_frames", "quality", "covered_s",
    "current_min_a", "current_max_a", "current_as", "pack_v_min", "pack_v_max", "pack_v_s", "pack_v_covered_s",
    "charge_in_as", "charge_out_as", "energy_in_ws", "energy_out_ws",
    "cell_v_min", "cell_v_max", "cell_min", "cell_max", "spread_max_v", "v_med_sum", "v_med_n",
    "temp_min_c", "temp_max_c", "temp_max_probe", "temp_sum", "temp_n", "speed_sum", "speed_n",
    "soc_start", "spread_soc", "spread_r0", "spread_capacity", "r0_high_cell", "capacity_low_cell",
    "spread_soc_std", "spread_r0_std", "spread_capacity_std",
)  # fmt: skip
# Columns of the last frame: a derived or context column, as it is.
LAST = (
    "mode", "soc", "soc_std", "soc_source", "soc_low_cell", "soc_high_cell", "soe_kwh", "soe_std_kwh",
    *power.NAMES, *power.STD_NAMES, *power.LIMIT_NAMES, "sop_discharge_cell", "sop_charge_cell",
    "current_offset_a", "current_offset_std_a", "r0_ohm", "r0_std_ohm",
    "soc_bms", "odo_km", "lat_deg", "lon_deg", "ambient_c",
)  # fmt: skip
_A = {name: i for i, name in enumerate(ACC)}
(
    FRAMES, COMPLETE, QUALITY, COVERED,
    I_MIN, I_MAX, I_S, V_MIN, V_MAX, V_S, V_COVERED,
    AS_IN, AS_OUT, WS_IN, WS_OUT,
    CELL_LOW_V, CELL_HIGH_V, CELL_LOW, CELL_HIGH, SPREAD, MED_SUM, MED_N,
    T_MIN, T_MAX, T_MAX_PROBE, T_SUM, T_N, SPEED_SUM, SPEED_N,
    SOC_START, SPREAD_SOC, SPREAD_R0, SPREAD_Q, R0_HIGH, Q_LOW, SPREAD_SOC_STD, SPREAD_R0_STD, SPREAD_Q_STD,
) = range(len(ACC))  # fmt: skip
_TWO = math.sqrt(2.0)


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """How long a window is, and across which silence values may be joined."""

    window_s: float = 60.0
    max_gap_s: float = 120.0  # longer silences are not integrated across

    def __post_init__(self) -> None:
        """Refuse lengths that stand still."""
        for name in ("window_s", "max_gap_s"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)


@dataclass(slots=True)
class WindowState:
    """One slot per pack: its open window, and the frame before."""

    acc: NDArray[np.float64]  # (S, len(ACC)) of the open window
    last: NDArray[np.float64]  # (S, len(LAST)) of the newest frame
    start_ns: NDArray[np.int64]  # (S,) of the open window, -1 where none
    t_ns: NDArray[np.int64]  # (S,) of the newest frame
    current_a: NDArray[np.float32]  # (S,)
    pack_v: NDArray[np.float32]  # (S,)
    shown_ns: NDArray[np.int64]  # (S,) newest frame that a provisional record has shown

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> WindowState:  # noqa: ARG003 - as every state
        """State of packs never seen."""
        return cls(
            np.full((slots, len(ACC)), np.nan),
            np.full((slots, len(LAST)), np.nan),
            np.full(slots, -1, np.int64),
            np.zeros(slots, np.int64),
            np.full(slots, np.nan, np.float32),
            np.full(slots, np.nan, np.float32),
            np.zeros(slots, np.int64),
        )


@dataclass(frozen=True, slots=True)
class Closed:
    """M closed windows: which slot, its accumulators and the values of its last frame, in order of closing."""

    slot: NDArray[np.int32]  # (M,)
    start_ns: NDArray[np.int64]  # (M,)
    acc: NDArray[np.float64]  # (M, len(ACC))
    last: NDArray[np.float64]  # (M, len(LAST))

    def column(self, name: str) -> NDArray[np.float64]:
        """Give one accumulator of all windows."""
        return self.acc[:, _A[name]]


def step(cfg: WindowConfig, state: WindowState, block: FrameBlock) -> Closed:
    """Add frames to their packs' windows; gives the windows that these frames closed.

    Needs derived slot, quality, cells_ok, soc, v_med, d_soc, d_r0, d_q with their standard deviations, and the LAST
    columns.  Rows of one pack must be in time order; backfill rows are left out.  Integrals are trapezoids over time,
    split at the window's edge by linear interpolation.
    """
    n = len(block)
    d = block.derived
    last = np.full((n, len(LAST)), np.nan)
    for i, name in enumerate(LAST):
        column = d.get(name, block.context.get(name))
        if column is not None:
            last[:, i] = column
    speed = block.context.get("speed_kmh")
    closed = np.empty((n, len(ACC))), np.empty((n, len(LAST))), np.empty(n, np.int32), np.empty(n, np.int64)
    m = _walk(
        d["slot"], block.t_ns, block.lane == LIVE, block.current_a, block.pack_v, block.cell_v, block.temp_c,
        np.full(n, np.nan, np.float32) if speed is None else speed, d["quality"], d["cells_ok"], *extremes(block),
        d["v_med"], d["soc"],
        d["d_soc"], d["d_r0"], d["d_q"], d["d_soc_std"], d["d_r0_std"], d["d_q_std"], last,
        state.acc, state.last, state.start_ns, state.t_ns, state.current_a, state.pack_v,
        int(cfg.window_s * 1e9), int(cfg.max_gap_s * 1e9), *closed,
    )  # fmt: skip
    return Closed(closed[2][:m], closed[3][:m], closed[0][:m], closed[1][:m])


def open_windows(state: WindowState, slots: NDArray[Any]) -> Closed:
    """Give the windows of `slots` as they stand, and leave them open."""
    return Closed(slots.astype(np.int32), state.start_ns[slots], state.acc[slots], state.last[slots])


def close_all(state: WindowState) -> Closed:
    """Close every open window, in slot order."""
    slots = np.flatnonzero(state.start_ns >= 0)
    closed = open_windows(state, slots)
    state.start_ns[slots] = -1
    return closed


@njit(cache=True)
def _spread(values):
    """Give max - min over valid values, and where the smallest and the largest are; -1 where none."""
    low, high, at_low, at_high = np.inf, -np.inf, -1, -1
    for c in range(values.size):
        if values[c] < low:
            low, at_low = values[c], c
        if values[c] > high:
            high, at_high = values[c], c
    return (high - low if at_low >= 0 else np.nan), at_low, at_high


@njit(cache=True)
def _lower(a, b):
    return b if np.isnan(a) or b < a else a


@njit(cache=True)
def _higher(a, b):
    return b if np.isnan(a) or b > a else a


@njit(cache=True)
def _integrate(acc, from_s, to_s, dt_s, i0, i1, v0, v1):
    """Add the part from_s..to_s of an interval of length dt_s, whose ends hold i0, v0 and i1, v1."""
    part_s = to_s - from_s
    if not part_s > 0:
        return
    ia = i0 + (i1 - i0) * (from_s / dt_s)
    ib = i0 + (i1 - i0) * (to_s / dt_s)
    i_mean = 0.5 * (ia + ib)
    if np.isnan(i_mean):
        return
    acc[COVERED] += part_s
    acc[I_S] += i_mean * part_s
    if i_mean > 0:
        acc[AS_IN] += i_mean * part_s
    else:
        acc[AS_OUT] -= i_mean * part_s
    va = v0 + (v1 - v0) * (from_s / dt_s)
    vb = v0 + (v1 - v0) * (to_s / dt_s)
    v_mean = 0.5 * (va + vb)
    if np.isnan(v_mean):
        return
    acc[V_COVERED] += part_s
    acc[V_S] += v_mean * part_s
    if i_mean > 0:
        acc[WS_IN] += i_mean * v_mean * part_s
    else:
        acc[WS_OUT] -= i_mean * v_mean * part_s


@njit(cache=True)
def _walk(
    slot, t_ns, live, current_a, pack_v, cell_v, temp_c, speed_kmh, quality, cells_ok,
    v_low, v_high, t_low, t_high, t_mean, v_med, soc, d_soc, d_r0, d_q, d_soc_std, d_r0_std, d_q_std, last,
    s_acc, s_last, s_start, s_t, s_current, s_pack_v, window_ns, max_gap_ns, out_acc, out_last, out_slot, out_start,
):  # fmt: skip
    cells = cell_v.shape[1]
    m = 0
    for n in range(slot.size):
        if not live[n]:
            continue
        s = slot[n]
        acc = s_acc[s]
        start = t_ns[n] - t_ns[n] % window_ns
        gap_ns = t_ns[n] - s_t[s]
        joined = s_t[s] > 0 and 0 < gap_ns <= max_gap_ns
        dt_s = gap_ns * 1e-9
        i0, v0 = np.float64(s_current[s]), np.float64(s_pack_v[s])
        i1, v1 = np.float64(current_a[n]), np.float64(pack_v[n])
        opens = s_start[s] != start
        if opens and s_start[s] >= 0:
            if joined:
                edge_s = min(s_start[s] + window_ns - s_t[s], gap_ns) * 1e-9
                _integrate(acc, 0.0, edge_s, dt_s, i0, i1, v0, v1)
            copy(out_acc[m], acc)
            copy(out_last[m], s_last[s])
            out_slot[m], out_start[m] = s, s_start[s]
            m += 1
        if opens:
            fill(acc, 0.0)
            for k in (I_MIN, I_MAX, V_MIN, V_MAX, CELL_LOW_V, CELL_HIGH_V, CELL_LOW, CELL_HIGH, SPREAD, T_MIN, T_MAX):
                acc[k] = np.nan
            acc[T_MAX_PROBE] = np.nan
            s_start[s] = start
            acc[SOC_START] = soc[n]
            acc[SPREAD_SOC], _, _ = _spread(d_soc[n])
            acc[SPREAD_R0], _, acc[R0_HIGH] = _spread(d_r0[n])
            acc[SPREAD_Q], acc[Q_LOW], _ = _spread(d_q[n])
            # of a difference between two groups, whose errors are their own
            acc[SPREAD_SOC_STD], acc[SPREAD_R0_STD] = _TWO * d_soc_std[n], _TWO * d_r0_std[n]
            acc[SPREAD_Q_STD] = _TWO * d_q_std[n]
        if joined:
            _integrate(acc, max(start - s_t[s], 0) * 1e-9, dt_s, dt_s, i0, i1, v0, v1)
        acc[FRAMES] += 1
        acc[QUALITY] = np.int64(acc[QUALITY]) | np.int64(quality[n])
        if not np.isnan(i1):
            acc[I_MIN], acc[I_MAX] = _lower(acc[I_MIN], i1), _higher(acc[I_MAX], i1)
        if not np.isnan(v1):
            acc[V_MIN], acc[V_MAX] = _lower(acc[V_MIN], v1), _higher(acc[V_MAX], v1)
        if cells > 0 and cells_ok[n] == cells:  # a minimum over some of the cells is not the pack's
            low, high = np.float64(v_low[n]), np.float64(v_high[n])
            acc[COMPLETE] += 1
            if not acc[CELL_LOW_V] <= low:
                acc[CELL_LOW_V], acc[CELL_LOW] = low, where(cell_v[n], v_low[n])
            if not acc[CELL_HIGH_V] >= high:
                acc[CELL_HIGH_V], acc[CELL_HIGH] = high, where(cell_v[n], v_high[n])
            acc[SPREAD] = _higher(acc[SPREAD], high - low)
        if not np.isnan(v_med[n]):
            acc[MED_SUM] += v_med[n]
            acc[MED_N] += 1
        if not np.isnan(t_mean[n]):
            acc[T_SUM] += t_mean[n]
            acc[T_N] += 1
            acc[T_MIN] = _lower(acc[T_MIN], np.float64(t_low[n]))
            if not acc[T_MAX] >= t_high[n]:
                acc[T_MAX], acc[T_MAX_PROBE] = t_high[n], where(temp_c[n], t_high[n])
        if not np.isnan(speed_kmh[n]):
            acc[SPEED_SUM] += speed_kmh[n]
            acc[SPEED_N] += 1
        copy(s_last[s], last[n])
        s_t[s], s_current[s], s_pack_v[s] = t_ns[n], current_a[n], pack_v[n]
    return m
