"""Thermal events: rapid heating together with collapsing or vanishing cells.

After GB 38031-2025, C.5.3.7, made fit for vehicles: a (a cell below 0.75 of the median, or cells that became
implausible) or b (a probe at its maximum), and c (3 K between samples that are 3 s … 2 min apart: 1 °C/s for 3 s where
sampling is fast); or a and b.  A probe far above its maximum is an
event by itself, and so is a collapse together with a sudden loss of isolation: vented electrolyte conducts before the
next probe is warm.  Invalid values are evidence: the frames of a thermal event look invalid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.extremes import Extremes, where
from operators.kernels.findings import Found, collect, emit, hold
from operators.kernels.kinds import INDEX, PACK, PROBE
from schemas.frames import LIVE, FrameBlock, missing_context
from schemas.pack import PackModel
from schemas.quality import CELL_RANGE, CELL_RATE, FROZEN, NO_CELLS, TEMP_RANGE

_EVENT = INDEX["thermal_event"]
_CLEAR_S = 1800.0
_INVALID = CELL_RANGE | CELL_RATE | NO_CELLS
_HOT_NS, _RISE_NS = 300_000_000_000, 60_000_000_000  # how long b and c count after they were seen


@dataclass(frozen=True, slots=True)
class ThermalConfig:
    """Thresholds of one pack model, °C."""

    temp_max_c: float = 60.0  # the maker's maximum: the MSL row
    far_c: float = 25.0  # above it: an event whatever the cells say
    rise_c: float = 3.0
    collapse: float = 0.75  # of the median cell

    def __post_init__(self) -> None:
        if self.rise_c <= 0:
            msg = f"rise_c must be > 0; got {self.rise_c}"
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> ThermalConfig:
        """Take the maximum temperature from a pack model."""
        top = [r.bound for r in pack.limits if (r.quantity, r.tier, r.over) == ("temp_c", "MSL", True)]
        return cls(min(top, default=60.0))


@dataclass
class ThermalState:
    """One slot per pack."""

    ref_c: NDArray[np.float32]  # (S, P) a moment ago, NaN before the first
    ref_ns: NDArray[np.int64]  # (S,)
    rise_ns: NDArray[np.int64]  # (S,) last time that c held
    hot_ns: NDArray[np.int64]  # (S,) last time that b held
    event_acc: NDArray[np.float32]  # (S,) time without a sign of it
    event_n: NDArray[np.int8]  # (S,) samples in a row; −1 raised
    usual_ohm: NDArray[np.float32]  # (S,) isolation, slowly followed; NaN before the first
    loss_ns: NDArray[np.int64]  # (S,) last time that it was a fifth of that

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> ThermalState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        return cls(
            np.full((slots, probes), np.nan, np.float32),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.float32),
            np.zeros(slots, np.int8),
            np.full(slots, np.nan, np.float32),
            np.zeros(slots, np.int64),
        )


def step(cfg: ThermalConfig, state: ThermalState, block: FrameBlock, ext: Extremes) -> Found:
    """Look for thermal events in each live, fresh row of `block`.

    Needs derived slot, dt_s, quality, v_med; `ext` is of the same block.
    """
    d = block.derived
    isolation = block.context.get("isolation_ohm", missing_context("isolation_ohm", len(block)))
    return collect(
        _walk, len(block), 1,
        d["slot"], block.t_ns, d["dt_s"], block.lane, d["quality"], block.temp_c, d["v_med"],
        ext.v_low, ext.t_high, isolation,
        cfg.temp_max_c, cfg.far_c, cfg.rise_c, cfg.collapse,
        state.ref_c, state.ref_ns, state.rise_ns, state.hot_ns, state.event_acc, state.event_n,
        state.usual_ohm, state.loss_ns,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count,
    slot, t_ns, dt_s, lane, quality, temp_c, v_med, v_low, t_high, isolation_ohm,
    temp_max_c, far_c, rise_c, collapse,
    ref_c, ref_ns, rise_ns, hot_ns, event_acc, event_n, usual_ohm, loss_ns,
):  # fmt: skip
    for n in range(start, slot.size):
        if count[0] + 1 > len(whole):
            return n
        if lane[n] != LIVE or quality[n] & FROZEN:
            continue
        s, t = slot[n], t_ns[n]
        since_s = (t - ref_ns[s]) * 1e-9
        if since_s >= 3.0:
            steepest = -np.inf
            for p in range(temp_c.shape[1]):
                v = temp_c[n, p]
                if v == v:
                    steepest = max(steepest, v - ref_c[s, p] if ref_c[s, p] == ref_c[s, p] else -np.inf)
                    ref_c[s, p] = v
            ref_ns[s] = t
            if steepest >= rise_c and since_s <= 120.0:
                rise_ns[s] = t
        hottest, lowest = t_high[n], v_low[n]
        if hottest >= temp_max_c:
            hot_ns[s] = t
        was_hot = hot_ns[s] > 0 and t - hot_ns[s] <= _HOT_NS
        a = lowest < collapse * v_med[n] or quality[n] & _INVALID != 0
        b = hottest >= temp_max_c or (was_hot and quality[n] & TEMP_RANGE != 0)
        c = rise_ns[s] > 0 and t - rise_ns[s] <= _RISE_NS
        ohm = isolation_ohm[n]
        if ohm == ohm:
            if ohm < 0.2 * usual_ohm[s]:
                loss_ns[s] = t
            if usual_ohm[s] != usual_ohm[s]:
                usual_ohm[s] = ohm
            usual_ohm[s] += np.float32(0.01) * (ohm - usual_ohm[s])
        lost = loss_ns[s] > 0 and t - loss_ns[s] <= _HOT_NS
        event = (a and lost) or (a and b) or (a and c) or (b and c) or hottest >= temp_max_c + far_c
        if event_n[s] >= 0:
            event_n[s] = min(event_n[s] + 1, 100) if event else 0
            if event_n[s] >= 2:
                event_n[s] = -1
                event_acc[s] = 0.0
                at = where(temp_c[n], hottest)
                emit(whole, real, count, n, _EVENT, PROBE if at >= 0 else PACK, at, 4, t, hottest, temp_max_c, np.nan)
        else:
            event_acc[s], raised = hold(event_acc[s], True, 1 if event else -1, dt_s[n], 0.0, 1, _CLEAR_S)  # noqa: FBT003 - numba takes no keywords here
            if not raised:
                event_n[s] = 0
                emit(whole, real, count, n, _EVENT, PACK, -1, 0, t, hottest, temp_max_c, np.nan)
    return slot.size
