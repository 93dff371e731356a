"""Measurement faults that show in single frames: sense wires, cells that stand still, missing cells, frozen frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.extremes import Extremes, where
from operators.kernels.findings import Found, collect, emit, hold
from operators.kernels.kinds import CELL, INDEX, PACK
from schemas.frames import LIVE, FrameBlock, missing_context
from schemas.quality import FROZEN, NO_CELLS, SUM_MISMATCH, SWEEP_SKEW

# Checks of a pack, and the kind each raises.
WIRE, STUCK, MISSING, FROZE, SUM, REPORT, FULL, STILL, CHECKS = 0, 1, 3, 4, 5, 6, 7, 8, 9  # STUCK has two places
_KIND = np.array(
    [
        INDEX[k]
        for k in (
            "sense_wire",
            "stuck_cell",
            "stuck_cell",
            "missing_cells",
            "frozen",
            "sum_mismatch",
            "soc_report",
            "soc_report_full",
            "soc_report_still",
        )
    ]
)
_CLEAR_S = 900.0
_STANDS_C = 0.02  # C-rate
_FULL = 0.995  # a report that a person reads as 100 %


@dataclass(frozen=True, slots=True)
class SensingConfig:
    """How large and how long a measurement fault must be."""

    wire_v: float = 0.03  # both cells of a pair differ from the median by this much, with opposite signs
    wire_balance: float = 0.3  # their deviations may differ by this share
    wire_for_s: float = 60.0
    stuck_range_v: float = 0.04  # the pack moved this far while the cell read one value
    stuck_for_s: float = 60.0
    missing_for_s: float = 60.0
    sum_for_s: float = 300.0
    report_jump: float = 0.1  # SOC that the vehicle's own may move beside the charge counted between two frames
    report_full: float = 0.04  # of the capacity, that may flow in after the report says full: .029 on healthy cars,
    report_still: float = 0.08  # and that may move while the report does not: .044 (60 simulated for a month)
    report_gap_s: float = 120.0
    min_samples: int = 4

    def __post_init__(self) -> None:
        if self.min_samples < 1:
            msg = f"min_samples must be ≥ 1; got {self.min_samples}"
            raise ValueError(msg)


@dataclass
class SensingState:
    """One slot per pack.

    The two candidates for a cell that stands still are the lowest and the highest cell of some frame: a cell
    that does not follow its pack becomes one of them.  So no cell's last value needs to be kept.
    """

    check_acc: NDArray[np.float32]  # (S, CHECKS)
    check_level: NDArray[np.int8]  # (S, CHECKS) 0 = not raised
    check_subject: NDArray[np.int16]  # (S, CHECKS)
    still_cell: NDArray[np.int16]  # (S, 2) candidates, −1 none
    still_v: NDArray[np.float32]  # (S, 2) what they read since
    still_ns: NDArray[np.int64]  # (S, 2) this time
    still_n: NDArray[np.int16]  # (S, 2) frames
    still_low_v: NDArray[np.float32]  # (S, 2) lowest and highest median cell meanwhile
    still_high_v: NDArray[np.float32]
    report: NDArray[np.float32]  # (S,) SOC that the vehicle reported last
    report_in: NDArray[np.float64]  # (S,) charge that has flowed in since it says full, and
    report_moved: NDArray[np.float64]  # (S,) that has moved since it last changed, over the capacity

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> SensingState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        f4 = np.float32
        return cls(
            np.zeros((slots, CHECKS), f4),
            np.zeros((slots, CHECKS), np.int8),
            np.full((slots, CHECKS), -1, np.int16),
            np.full((slots, 2), -1, np.int16),
            np.zeros((slots, 2), f4),
            np.zeros((slots, 2), np.int64),
            np.zeros((slots, 2), np.int16),
            np.zeros((slots, 2), f4),
            np.zeros((slots, 2), f4),
            np.full(slots, np.nan, f4),
            np.zeros(slots),
            np.zeros(slots),
        )


def step(cfg: SensingConfig, state: SensingState, block: FrameBlock, ext: Extremes, capacity_ah: float) -> Found:
    """Look for measurement faults in each live row of `block`.

    Needs derived slot, dt_s, quality, cells_ok, v_med; `ext` is of the same block, `capacity_ah` the pack's.
    """
    d = block.derived
    report = block.context.get("soc_bms", missing_context("soc_bms", len(block)))
    return collect(
        _walk, len(block), CHECKS,
        d["slot"], block.t_ns, d["dt_s"], block.lane, d["quality"], d["cells_ok"], block.current_a, block.pack_v,
        block.cell_v, d["v_med"], ext.v_low, ext.v_high, report, 1.0 / (3600.0 * capacity_ah),
        cfg.wire_v, cfg.wire_balance, cfg.wire_for_s, cfg.stuck_range_v, cfg.stuck_for_s, cfg.missing_for_s,
        cfg.sum_for_s, (cfg.report_jump, cfg.report_full, cfg.report_still), cfg.report_gap_s, cfg.min_samples,
        state.check_acc, state.check_level, state.check_subject, state.still_cell, state.still_v, state.still_ns,
        state.still_n, state.still_low_v, state.still_high_v, state.report, state.report_in, state.report_moved,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count,
    slot, t_ns, dt_s, lane, quality, cells_ok, current_a, pack_v, cell_v, v_med, v_low, v_high, soc_bms, per_as,
    wire_v, wire_balance, wire_for_s, stuck_range_v, stuck_for_s, missing_for_s, sum_for_s, reports, report_gap_s,
    min_samples,
    acc, level, subject, still_cell, still_v, still_ns, still_n, still_low_v, still_high_v, report,
    report_in, report_moved,
):  # fmt: skip
    cells = cell_v.shape[1]
    value = np.empty(CHECKS, np.float64)
    normal = np.empty(CHECKS, np.float64)
    sign = np.empty(CHECKS, np.int64)
    grade = np.empty(CHECKS, np.int64)
    for_s = np.array([wire_for_s, 0.0, 0.0, missing_for_s, 0.0, sum_for_s, 0.0, 0.0, 0.0])
    samples = np.array([min_samples, 1, 1, min_samples, 1, min_samples, 1, 1, 1])
    for n in range(start, slot.size):
        if count[0] + CHECKS > len(whole):
            return n
        if lane[n] != LIVE:
            continue
        s = slot[n]
        frozen = quality[n] & FROZEN
        for k in range(CHECKS):
            sign[k] = 0
        sign[FROZE] = 1 if frozen else -1
        grade[FROZE], value[FROZE], normal[FROZE] = 2, current_a[n], np.nan
        if not frozen:
            sign[MISSING] = 1 if cells_ok[n] < cells else -1
            grade[MISSING] = 3 if quality[n] & NO_CELLS else 2
            value[MISSING], normal[MISSING] = cells_ok[n], cells
            if pack_v[n] == pack_v[n] and cells_ok[n] == cells:
                sign[SUM] = 1 if quality[n] & SUM_MISMATCH else -1
                grade[SUM], normal[SUM] = 1, np.nan
            if soc_bms[n] == soc_bms[n]:
                moved = current_a[n] * dt_s[n] * per_as if dt_s[n] <= report_gap_s else np.nan
                # The current of a pack that stands is no larger than the sensor's error: hours of it are no charge.
                flows = moved if abs(current_a[n]) * per_as * 3600.0 > _STANDS_C else moved * 0.0
                _audit(
                    s, soc_bms[n], moved, flows, reports, report, report_in, report_moved, sign, grade, value, normal
                )
            if not quality[n] & SWEEP_SKEW and v_med[n] == v_med[n]:
                low, high = v_low[n], v_high[n]
                # A pair of neighbours with opposite signs and no sum: what lies between them is a wire.
                up, down = high - v_med[n], v_med[n] - low
                sign[WIRE] = -1
                grade[WIRE], normal[WIRE] = 2, wire_v
                if up > wire_v and down > wire_v and abs(up - down) < wire_balance * max(up, down):
                    top, bottom = where(cell_v[n], high), where(cell_v[n], low)
                    if abs(top - bottom) == 1:
                        pair = min(top, bottom)
                        if subject[s, WIRE] != pair and not level[s, WIRE]:
                            subject[s, WIRE] = pair
                            acc[s, WIRE] = 0.0
                        sign[WIRE] = 1 if subject[s, WIRE] == pair else 0
                        value[WIRE] = max(up, down)
                elif level[s, WIRE] and min(up, down) > 0.5 * wire_v:
                    sign[WIRE] = 0
                for k in range(2):
                    c = still_cell[s, k]
                    if c < 0 and abs((high if k else low) - v_med[n]) <= 0.4 * stuck_range_v:
                        sign[STUCK + k] = -1
                        continue
                    _stands_still(
                        s, k, n, t_ns[n], cell_v, v_med[n], high if k else low,
                        stuck_range_v, stuck_for_s, 2 * min_samples,
                        sign, level, subject, still_cell, still_v, still_ns, still_n, still_low_v, still_high_v,
                    )  # fmt: skip
                    grade[STUCK + k], value[STUCK + k] = 2, still_v[s, k]
                    normal[STUCK + k] = still_high_v[s, k] - still_low_v[s, k]
        for k in range(CHECKS):
            if sign[k] < 0 and acc[s, k] == 0 and not level[s, k]:
                continue
            was = level[s, k] > 0
            acc[s, k], now = hold(acc[s, k], was, sign[k], dt_s[n], for_s[k], samples[k], _CLEAR_S)
            if was and not now:
                level[s, k] = 0
                of = CELL if k < MISSING else PACK
                emit(whole, real, count, n, _KIND[k], of, subject[s, k], 0, t_ns[n], np.nan, np.nan, np.nan)
                if k == STUCK or k == STUCK + 1:
                    still_cell[s, k - STUCK] = -1
                subject[s, k] = -1
            elif now and sign[k] > 0 and grade[k] > level[s, k]:
                level[s, k] = grade[k]
                if k == SUM:
                    total = 0.0
                    for c in range(cells):
                        total += cell_v[n, c]
                    value[SUM] = total - pack_v[n]
                since = t_ns[n] - np.int64(for_s[k] * 1e9)
                if k == STUCK or k == STUCK + 1:
                    since = still_ns[s, k - STUCK]
                of = CELL if k < MISSING else PACK
                emit(whole, real, count, n, _KIND[k], of, subject[s, k], grade[k], since, value[k], normal[k], np.nan)
    return slot.size


@njit(cache=True, error_model="numpy")
def _audit(s, told, moved, flows, reports, report, report_in, report_moved, sign, grade, value, normal):
    """Hold the SOC that pack `s` reports, `told`, against the charge counted since its last report, `moved` (NaN: not).

    `flows` is the same, 0 where the pack stands.
    `reports`: how far it may jump beside that charge, what may flow in after it says full, and what may move while
    it stands still; wide enough for a vehicle that rounds, and for a capacity that has aged.
    """
    counted = report[s] + moved
    grade[REPORT] = grade[FULL] = grade[STILL] = 1
    value[REPORT], normal[REPORT] = told, counted
    if counted == counted:
        sign[REPORT] = 1 if abs(told - counted) > reports[0] else -1
    known, full = moved == moved, told >= _FULL and report[s] >= _FULL
    report_in[s] = max(report_in[s] + flows, 0.0) if known and full else 0.0
    sign[FULL] = 1 if report_in[s] > reports[1] else -1
    value[FULL], normal[FULL] = report_in[s], reports[1]
    # what flows in while it says full is the check above
    still = known and told == report[s] and not (full and report_moved[s] + flows > 0.0)
    report_moved[s] = report_moved[s] + flows if still else 0.0
    sign[STILL] = 1 if abs(report_moved[s]) > reports[2] else -1
    value[STILL], normal[STILL] = abs(report_moved[s]), reports[2]
    report[s] = told


@njit(cache=True, error_model="numpy")
def _stands_still(
    s, k, n, t_ns, cell_v, v_med, extreme, stuck_range_v, stuck_for_s, min_samples,
    sign, level, subject, still_cell, still_v, still_ns, still_n, still_low_v, still_high_v,
):  # fmt: skip
    """Follow candidate `k` of pack `s`; sets `sign` and `subject` of its check."""
    c = still_cell[s, k]
    if c >= 0 and cell_v[n, c] == still_v[s, k]:
        still_n[s, k] = min(still_n[s, k] + 1, 30000)
        still_low_v[s, k] = min(still_low_v[s, k], v_med)
        still_high_v[s, k] = max(still_high_v[s, k], v_med)
        if (
            still_high_v[s, k] - still_low_v[s, k] >= stuck_range_v
            and still_n[s, k] >= min_samples
            and t_ns - still_ns[s, k] >= stuck_for_s * 1e9
        ):
            sign[STUCK + k] = 1
            subject[s, STUCK + k] = c
        return
    sign[STUCK + k] = -1 if c < 0 or cell_v[n, c] == cell_v[n, c] else 0  # a missing value has not moved
    if level[s, STUCK + k] or sign[STUCK + k] == 0:
        return
    c = -1
    if abs(extreme - v_med) > 0.4 * stuck_range_v:  # a cell that does not follow is soon that far off
        c = where(cell_v[n], extreme)
        if c == still_cell[s, 1 - k]:
            c = -1
    still_cell[s, k] = c
    still_v[s, k] = extreme
    still_ns[s, k] = t_ns
    still_n[s, k] = 1
    still_low_v[s, k] = still_high_v[s, k] = v_med
