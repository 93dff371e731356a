"""Cells whose resistance has risen, or whose capacity is lost.

Resistance is held against the cell's own, learned while its estimate gets sharper; capacity against the pack.  Both are
looked at every hour, and only cells that stand out from their neighbourhood count: cells fail alone.  Half of its
threshold is where a cell leaves its normal, and since then it is on its way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.findings import ONSETS, Found, collect, emit, onset
from operators.kernels.kinds import CELL, INDEX
from operators.kernels.robust import NEAR, is_alone
from schemas.frames import LIVE, FrameBlock
from schemas.pack import PackModel
from schemas.quality import FROZEN, SWEEP_SKEW

_RESISTANCE, _CAPACITY = INDEX["resistance"], INDEX["capacity"]
_UNSET = np.int16(-32768)
_PER_UNIT = 1e4  # resistance baselines are stored in 1e-4
_HOUR_NS = 3_600_000_000_000
_MOST = 4  # more cells that lack capacity at once are a matter of the estimate
_R0_AT, _Q_AT = 0, 2  # two bits each of aging_level


@dataclass(frozen=True, slots=True)
class AgingConfig:
    """Thresholds as shares of the pack's median."""

    r0_std: float = 0.08  # d_r0 less certain than this is not looked at
    r0_rise: float = 0.15
    r0_sigmas: float = 6.0
    q_std: float = 0.012
    q_loss: float = 0.07
    settle: int = 5  # looks before anything may be raised

    def __post_init__(self) -> None:
        if min(self.r0_rise, self.q_loss) <= 0:
            msg = f"r0_rise and q_loss must be > 0; got {self.r0_rise}, {self.q_loss}"
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> AgingConfig:
        """Take what depends on the pack model from it."""
        # On a plateau a millivolt is percents, whatever the estimate thinks of itself.
        return cls(q_loss=0.12) if pack.chemistry == "lfp" else cls()


@dataclass
class AgingState:
    """One slot per pack."""

    r0_base: NDArray[np.int16]  # (S, C) own d_r0 in 1e-4
    aging_level: NDArray[np.uint8]  # (S, C) what is raised
    hour_ns: NDArray[np.int64]  # (S,) last look
    hours: NDArray[np.uint8]  # (S,) looks, up to `settle`
    r0_base_std: NDArray[np.float32]  # (S,) of d_r0 when the baseline was learned
    onset_of: NDArray[np.int16]  # (S, ONSETS) cell whose resistance, or C + cell whose capacity, is leaving; −1 free
    onset_min: NDArray[np.int32]  # (S, ONSETS) see findings.onset

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> AgingState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        return cls(
            np.full((slots, cells), _UNSET, np.int16),
            np.zeros((slots, cells), np.uint8),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.uint8),
            np.full(slots, np.inf, np.float32),
            np.full((slots, ONSETS), -1, np.int16),
            np.zeros((slots, ONSETS), np.int32),
        )


def step(cfg: AgingConfig, state: AgingState, block: FrameBlock) -> Found:
    """Look at resistance and capacity in the live, fresh rows of `block`, once an hour.

    Needs derived slot, quality, d_r0, d_q and their standard deviations.
    """
    d = block.derived
    return collect(
        _walk, len(block), 2 * block.cells,
        d["slot"], block.t_ns, block.lane, d["quality"], d["d_r0"], d["d_q"], d["d_r0_std"], d["d_q_std"],
        cfg.r0_std, cfg.r0_rise, cfg.r0_sigmas, cfg.q_std, cfg.q_loss, cfg.settle,
        state.r0_base, state.aging_level, state.hour_ns, state.hours, state.r0_base_std,
        (state.onset_of, state.onset_min),
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count,
    slot, t_ns, lane, quality, d_r0, d_q, d_r0_std, d_q_std,
    r0_std, r0_rise, r0_sigmas, q_std, q_loss, settle,
    r0_base, aging_level, hour_ns, hours, r0_base_std, onsets,
):  # fmt: skip
    cells = d_r0.shape[1]
    x = np.empty(cells, np.float32)
    near = np.empty(NEAR, np.float32)
    for n in range(start, slot.size):
        if count[0] + 2 * cells > len(whole):
            return n
        if lane[n] != LIVE or quality[n] & (FROZEN | SWEEP_SKEW):
            continue
        s, t = slot[n], t_ns[n]
        if hour_ns[s] == 0:
            hour_ns[s] = t
        if t - hour_ns[s] < _HOUR_NS:
            continue
        hour_ns[s] = t
        hours[s] = min(hours[s] + 1, settle)
        settled = hours[s] >= settle
        if d_r0_std[n] <= r0_std:
            _look_r0(
                n, s, t, d_r0, d_r0_std[n], settled, r0_rise, r0_sigmas, r0_base, r0_base_std, aging_level, onsets, x,
                near, whole, real, count,
            )  # fmt: skip
        if d_q_std[n] <= q_std:
            _look_q(n, s, t, d_q, d_q_std[n], settled, q_loss, aging_level, onsets, x, near, whole, real, count)
    return slot.size


@njit(cache=True, error_model="numpy")
def _set(aging_level, s, c, at, level):
    aging_level[s, c] = (aging_level[s, c] & ~(3 << at)) | (level << at)


@njit(cache=True, error_model="numpy")
def _look_r0(
    n, s, t, d_r0, std, settled, r0_rise, r0_sigmas, r0_base, r0_base_std, aging_level, onsets, x, near,
    whole, real, count,
):  # fmt: skip
    """Hold d_r0 of pack `s` against its own; a much sharper estimate replaces what was learned."""
    fresh = std <= 0.6 * r0_base_std[s]
    known = max(std, min(r0_base_std[s], np.float32(1.0)))
    bound = np.float32(max(r0_rise, r0_sigmas * np.sqrt(std * std + known * known)))
    for c in range(d_r0.shape[1]):
        y = d_r0[n, c]
        was = (aging_level[s, c] >> _R0_AT) & 3
        base = np.float32(r0_base[s, c] / _PER_UNIT)
        if y == y and (r0_base[s, c] == _UNSET or (fresh and was == 0 and abs(y - base) < bound)):
            r0_base[s, c] = np.int16(round(min(max(y, np.float32(-3.0)), np.float32(3.0)) * _PER_UNIT))
            base = y
        x[c] = y - base
    for c in range(d_r0.shape[1]):
        was = (aging_level[s, c] >> _R0_AT) & 3
        level = was
        since = onset(onsets[0][s], onsets[1][s], c, t, x[c], 0.5 * bound, settled)
        sure = settled or x[c] >= 2.0 * bound
        if x[c] >= bound and (was > 0 or (sure and is_alone(x, c, near))):
            level = max(was, 3 if x[c] >= 1.0 + bound else 2 if x[c] >= 2.0 * bound else 1)
        elif x[c] < 0.6 * bound:
            level = 0
        if level != was:
            _set(aging_level, s, c, _R0_AT, level)
            emit(whole, real, count, n, _RESISTANCE, CELL, c, level, since if since >= 0 else t, x[c], bound, std)
    if fresh:
        r0_base_std[s] = std


@njit(cache=True, error_model="numpy")
def _look_q(n, s, t, d_q, std, settled, q_loss, aging_level, onsets, x, near, whole, real, count):
    """Hold d_q of pack `s` against the pack."""
    bound = np.float32(max(q_loss, 5.0 * std))
    off = 0
    for c in range(d_q.shape[1]):
        x[c] = -d_q[n, c]
        off += abs(x[c]) > 0.7 * bound
    for c in range(d_q.shape[1]):
        was = (aging_level[s, c] >> _Q_AT) & 3
        level = 0 if x[c] < 0.7 * bound else was
        since = onset(onsets[0][s], onsets[1][s], x.size + c, t, x[c], 0.5 * bound, settled)
        if x[c] >= bound and (was > 0 or (settled and off <= _MOST and is_alone(x, c, near))):
            level = max(was, 2 if x[c] >= 3.0 * bound else 1)
        if level != was:
            _set(aging_level, s, c, _Q_AT, level)
            emit(whole, real, count, n, _CAPACITY, CELL, c, level, since if since >= 0 else t, x[c], bound, std)
