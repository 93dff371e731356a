"""When a pack drives, charges and parks: stretches of one mode, taken from current and speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.extremes import extremes
from operators.kernels.rows import copy, fill
from schemas.frames import LIVE, FrameBlock

PARK, DRIVE, CHARGE = 0, 1, 2
KINDS = ("park", "drive", "charge")

# Accumulator columns of one stretch.
ACC = (
    "frames", "covered_s", "current_as", "charge_in_as", "charge_out_as", "energy_in_ws", "energy_out_ws",
    "current_max_a", "cell_v_min", "cell_v_max", "temp_min_c", "temp_max_c", "temp_sum", "temp_n",
    "soc_start", "soc_start_std", "soc_end", "soc_end_std", "soc_bms_start", "soc_bms_end",
    "odo_start_km", "odo_end_km", "rest_before_s",
    "gap_max_s", "soc_jump", "soh_bms_min", "soh_bms_max", "soh_bms_end",
    "top_s", "top_as", "top_v1", "top_v2", "top_v3", "top_v4",
    "hold_s", "hold_as", "hold_i2", "hold_i3", "hold_i4",
)  # fmt: skip
(
    FRAMES, COVERED, I_S, AS_IN, AS_OUT, WS_IN, WS_OUT,
    I_MAX, CELL_LOW, CELL_HIGH, T_MIN, T_MAX, T_SUM, T_N,
    SOC_0, STD_0, SOC_1, STD_1, BMS_0, BMS_1, ODO_0, ODO_1, REST,
    GAP, JUMP, SOH_LOW, SOH_HIGH, SOH_1,
    TOP_S, TOP_AS, TOP_V, TOP_VV, TOP_V3, TOP_V4,
    HOLD_S, HOLD_AS, HOLD_II, HOLD_I3, HOLD_I4,
) = range(len(ACC))  # fmt: skip
_CURVE = (TOP_S, TOP_AS, TOP_V, TOP_VV, TOP_V3, TOP_V4, HOLD_S, HOLD_AS, HOLD_II, HOLD_I3, HOLD_I4)
_SUMS = (FRAMES, COVERED, I_S, AS_IN, AS_OUT, WS_IN, WS_OUT, T_SUM, T_N, *_CURVE)
_LOWS = (CELL_LOW, T_MIN, SOH_LOW)
_HIGHS = (CELL_HIGH, T_MAX, GAP, JUMP, SOH_HIGH)
_FIRSTS = (SOC_0, STD_0, BMS_0, ODO_0, REST)
_LASTS = (SOC_1, STD_1, BMS_1, ODO_1, SOH_1)
# The two parts of a charge that tell of age: the last 0.2 V up to full, and full while the current falls.
_TOP_V, _FULL_V = 0.2, 0.02
_HOLD_C = (0.05, 0.25)  # 1/h


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What makes a mode, and how long it must hold before a session ends."""

    rest_c: float = 0.02  # 1/h: below this share of capacity an hour the pack rests
    drive_c: float = 0.05  # 1/h: discharge above it drives, where no speed is known
    moving_kmh: float = 1.0
    hold_s: tuple[float, float, float] = (300.0, 30.0, 60.0)  # park, drive, charge
    max_gap_s: float = 120.0  # longer silences are not integrated across
    close_gap_s: float = 1800.0  # a longer silence ends a drive or a charge

    def __post_init__(self) -> None:
        """Refuse thresholds that are not positive."""
        for name in ("rest_c", "drive_c", "max_gap_s", "close_gap_s"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)


@dataclass(slots=True)
class SessionState:
    """One slot per pack: the open session, and the stretch in another mode that may end it."""

    acc: NDArray[np.float64]  # (S, 2, len(ACC)): the session, the stretch since the mode differs
    begin_ns: NDArray[np.int64]  # (S, 2)
    end_ns: NDArray[np.int64]  # (S, 2)
    mode: NDArray[np.int8]  # (S, 2); -1 none
    t_ns: NDArray[np.int64]  # (S,) newest frame
    current_a: NDArray[np.float32]  # (S,)
    pack_v: NDArray[np.float32]  # (S,)
    soc: NDArray[np.float64]  # (S,)
    rest_since_ns: NDArray[np.int64]  # (S,) -1 while current flows

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> SessionState:  # noqa: ARG003 - as every state
        """State of packs never seen."""
        return cls(
            np.full((slots, 2, len(ACC)), np.nan),
            np.zeros((slots, 2), np.int64),
            np.zeros((slots, 2), np.int64),
            np.full((slots, 2), -1, np.int8),
            np.zeros(slots, np.int64),
            np.full(slots, np.nan, np.float32),
            np.full(slots, np.nan, np.float32),
            np.full(slots, np.nan),
            np.full(slots, -1, np.int64),
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """M sessions: slot, mode, times and accumulators, in order of ending; `row` is the frame that ended it, -1 none."""

    slot: NDArray[np.int32]
    mode: NDArray[np.int8]
    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    acc: NDArray[np.float64]  # (M, len(ACC))
    row: NDArray[np.int64]


def step(
    cfg: SessionConfig, state: SessionState, block: FrameBlock, nominal_ah: float, full_v: float = np.nan
) -> tuple[Ended, NDArray[np.int8]]:
    """Follow each pack's mode; gives the sessions that ended, and the mode (N,) after each frame.

    Needs derived slot, cells_ok, soc, soc_std, v_med.  `nominal_ah` is the pack's capacity, `full_v` the voltage of a
    full cell group at rest (NaN: the parts of a charge that go by it stay empty).  Rows of one pack must be in
    time order; backfill rows are left out (mode -1).
    """
    n = len(block)
    d, context = block.derived, block.context
    nothing = np.full(n, np.nan, np.float32)
    mode = np.full(n, -1, np.int8)
    room = 2 * n  # a gap may end a session and the stretch after it at one frame
    out = (
        np.empty(room, np.int32), np.empty(room, np.int8), np.empty(room, np.int64), np.empty(room, np.int64),
        np.empty((room, len(ACC))), np.empty(room, np.int64),
    )  # fmt: skip
    m = _walk(
        d["slot"], block.t_ns, block.lane == LIVE, block.current_a, block.pack_v,
        d["cells_ok"] == block.cells, *extremes(block), context.get("speed_kmh", nothing),
        d["soc"], d["soc_std"], context.get("soc_bms", nothing), context.get("odo_km", np.full(n, np.nan)),
        context.get("soh_bms", nothing), d["v_med"], nominal_ah, full_v,
        state.acc, state.begin_ns, state.end_ns, state.mode, state.t_ns, state.current_a, state.pack_v, state.soc,
        state.rest_since_ns, cfg.rest_c * nominal_ah, cfg.drive_c * nominal_ah, cfg.moving_kmh,
        np.array(cfg.hold_s) * 1e9, int(cfg.max_gap_s * 1e9), int(cfg.close_gap_s * 1e9), mode, *out,
    )  # fmt: skip
    slot, kind, begin_ns, end_ns, acc, row = out
    return Ended(slot[:m], kind[:m], begin_ns[:m], end_ns[:m], acc[:m], row[:m]), mode


def open_sessions(state: SessionState, slots: NDArray[Any]) -> Ended:
    """Give the sessions of `slots` as they stand, the stretch in another mode included."""
    acc = state.acc[slots, 0].copy()
    for i, s in enumerate(slots.tolist()):
        if state.mode[s, 1] >= 0:
            _merge(acc[i], state.acc[s, 1])
    none = np.full(len(slots), -1, np.int64)
    return Ended(slots.astype(np.int32), state.mode[slots, 0], state.begin_ns[slots, 0], state.t_ns[slots], acc, none)


def end_all(state: SessionState) -> Ended:
    """End every open session, in slot order."""
    slots = np.flatnonzero(state.mode[:, 0] >= 0)
    ended = open_sessions(state, slots)
    state.mode[slots] = -1
    return ended


@njit(cache=True)
def _clear(acc):
    fill(acc, np.nan)
    for k in _SUMS:
        acc[k] = 0.0


@njit(cache=True)
def _merge(into, acc):
    """Append the stretch `acc` to `into`."""
    for k in _SUMS:
        into[k] += acc[k]
    for k in _LOWS:
        if not into[k] <= acc[k] and not np.isnan(acc[k]):
            into[k] = acc[k]
    for k in _HIGHS:
        if not into[k] >= acc[k] and not np.isnan(acc[k]):
            into[k] = acc[k]
    if not abs(into[I_MAX]) >= abs(acc[I_MAX]) and not np.isnan(acc[I_MAX]):
        into[I_MAX] = acc[I_MAX]
    for k in _FIRSTS:
        if np.isnan(into[k]):
            into[k] = acc[k]
    for k in _LASTS:
        if not np.isnan(acc[k]):
            into[k] = acc[k]


@njit(cache=True)
def _mode_of(current_a, speed_kmh, before, rest_a, drive_a, moving_kmh):
    """Say what a frame looks like; `before` where it says nothing."""
    if speed_kmh > moving_kmh:
        return DRIVE
    if np.isnan(current_a):
        return before
    if current_a > rest_a:
        # Without speed, a charging current inside a drive is taken for regeneration until it lasts.
        return CHARGE
    if np.isnan(speed_kmh) and current_a < -drive_a:
        return DRIVE
    if current_a < -rest_a and before == DRIVE:
        return DRIVE
    return PARK


@njit(cache=True)
def _curve(row, v, i_mean, dt_s, nominal_ah, full_v):
    """Add an interval to the moments, over time, of the voltage near full and of the current while it falls."""
    x, c_rate = v - full_v, i_mean / nominal_ah
    if not c_rate > 0.0:
        return
    if -_TOP_V <= x < -_FULL_V:
        row[TOP_S], row[TOP_AS] = dt_s, i_mean * dt_s
        row[TOP_V], row[TOP_VV], row[TOP_V3], row[TOP_V4] = x * dt_s, x * x * dt_s, x**3 * dt_s, x**4 * dt_s
    elif x >= -_FULL_V and _HOLD_C[0] <= c_rate <= _HOLD_C[1]:
        row[HOLD_S], row[HOLD_AS] = dt_s, i_mean * dt_s
        row[HOLD_II], row[HOLD_I3], row[HOLD_I4] = i_mean**2 * dt_s, i_mean**3 * dt_s, i_mean**4 * dt_s


@njit(cache=True)
def _walk(
    slot, t_ns, live, current_a, pack_v, complete, v_low, v_high, t_low, t_high, t_mean,
    speed_kmh, soc, soc_std, soc_bms, odo_km, soh_bms, v_med, nominal_ah, full_v,
    s_acc, s_begin, s_end, s_mode, s_t, s_current, s_pack_v, s_soc, s_rest, rest_a, drive_a, moving_kmh, hold_ns,
    max_gap_ns, close_gap_ns, mode, out_slot, out_mode, out_begin, out_end, out_acc, out_row,
):  # fmt: skip
    m = 0
    row = np.empty(len(ACC))
    for n in range(slot.size):
        if not live[n]:
            continue
        s = slot[n]
        first = s_mode[s, 0] < 0
        gap_ns = t_ns[n] - s_t[s]
        i = np.float64(current_a[n])
        looks = _mode_of(i, speed_kmh[n], max(s_mode[s, 0], PARK), rest_a, drive_a, moving_kmh)
        if not first and gap_ns > close_gap_ns and s_mode[s, 0] != PARK:
            # What a silence hides is not part of the drive or charge before it.
            if s_mode[s, 1] >= 0:
                _merge(s_acc[s, 0], s_acc[s, 1])
                s_end[s, 0] = s_end[s, 1]
            out_slot[m], out_mode[m], out_begin[m], out_end[m] = s, s_mode[s, 0], s_begin[s, 0], s_end[s, 0]
            out_row[m] = n
            copy(out_acc[m], s_acc[s, 0])
            m += 1
            s_mode[s, 0], s_mode[s, 1] = -1, -1
            first = True
        # This frame as a stretch of its own, with the interval before it.
        _clear(row)
        row[FRAMES] = 1
        if s_t[s] > 0 and 0 < gap_ns <= max_gap_ns and not np.isnan(i) and not np.isnan(s_current[s]):
            dt_s = gap_ns * 1e-9
            i_mean = 0.5 * (i + s_current[s])
            row[COVERED] = dt_s
            row[I_S] = i_mean * dt_s
            w = i_mean * 0.5 * (np.float64(pack_v[n]) + s_pack_v[s]) * dt_s
            if np.isnan(w):
                w = 0.0
            if i_mean > 0:
                row[AS_IN], row[WS_IN] = i_mean * dt_s, w
            else:
                row[AS_OUT], row[WS_OUT] = -i_mean * dt_s, -w
            row[JUMP] = abs(soc[n] - s_soc[s] - i_mean * dt_s / (3600.0 * nominal_ah))
            _curve(row, np.float64(v_med[n]), i_mean, dt_s, nominal_ah, full_v)
        if s_t[s] > 0 and not first:
            row[GAP] = gap_ns * 1e-9
        row[I_MAX] = i
        if complete[n]:
            row[CELL_LOW], row[CELL_HIGH] = v_low[n], v_high[n]
        if not np.isnan(t_mean[n]):
            row[T_SUM], row[T_N] = t_mean[n], 1.0
            row[T_MIN], row[T_MAX] = t_low[n], t_high[n]
        row[SOC_0], row[STD_0], row[SOC_1], row[STD_1] = soc[n], soc_std[n], soc[n], soc_std[n]
        row[BMS_0], row[BMS_1], row[ODO_0], row[ODO_1] = soc_bms[n], soc_bms[n], odo_km[n], odo_km[n]
        row[SOH_LOW], row[SOH_HIGH], row[SOH_1] = soh_bms[n], soh_bms[n], soh_bms[n]
        rests = not np.isnan(i) and abs(i) <= rest_a
        row[REST] = (t_ns[n] - s_rest[s]) * 1e-9 if s_rest[s] >= 0 else 0.0
        if not rests:
            s_rest[s] = -1
        elif s_rest[s] < 0:
            s_rest[s] = t_ns[n]

        if first:
            copy(s_acc[s, 0], row)
            s_begin[s, 0], s_end[s, 0], s_mode[s, 0], s_mode[s, 1] = t_ns[n], t_ns[n], looks, -1
        elif looks == s_mode[s, 0]:
            if s_mode[s, 1] >= 0:
                _merge(s_acc[s, 0], s_acc[s, 1])
                s_mode[s, 1] = -1
            _merge(s_acc[s, 0], row)
            s_end[s, 0] = t_ns[n]
        else:
            if s_mode[s, 1] == looks:
                _merge(s_acc[s, 1], row)
            else:
                if s_mode[s, 1] >= 0:  # a third mode: what was between belongs to the session
                    _merge(s_acc[s, 0], s_acc[s, 1])
                    s_end[s, 0] = s_end[s, 1]
                row[GAP] = np.nan  # what lies between two modes is a gap of neither
                copy(s_acc[s, 1], row)
                s_begin[s, 1], s_mode[s, 1] = t_ns[n], looks
            s_end[s, 1] = t_ns[n]
            if t_ns[n] - s_begin[s, 1] >= hold_ns[looks]:
                out_slot[m], out_mode[m], out_begin[m], out_end[m] = s, s_mode[s, 0], s_begin[s, 0], s_end[s, 0]
                out_row[m] = n
                copy(out_acc[m], s_acc[s, 0])
                m += 1
                copy(s_acc[s, 0], s_acc[s, 1])
                s_begin[s, 0], s_end[s, 0], s_mode[s, 0], s_mode[s, 1] = s_begin[s, 1], t_ns[n], looks, -1
        mode[n] = s_mode[s, 0]
        s_t[s], s_current[s], s_pack_v[s], s_soc[s] = t_ns[n], current_a[n], pack_v[n], soc[n]
    return m
