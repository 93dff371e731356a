"""Hard limits: each frame against the pack's RSL and MSL rows, from the first frame on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.extremes import Extremes, where
from operators.kernels.findings import Found, collect, emit, hold
from operators.kernels.kinds import CELL, INDEX, PACK, PROBE
from schemas.frames import LIVE, FrameBlock, missing_context
from schemas.limits import Limit
from schemas.pack import PackModel
from schemas.quality import FROZEN

ROWS = 24  # RSL and MSL rows of one pack model, at most
_CLEAR_S = 900.0  # without a bad sample: what comes back sooner is the same fault

# quantity, side → number of the value in the kernel, kind of finding, what its subject is
_WATCHED: dict[tuple[str, bool], tuple[int, str, int]] = {
    ("cell_v", True): (0, "cell_overvoltage", CELL),
    ("cell_v", False): (1, "cell_undervoltage", CELL),
    ("temp_c", True): (2, "overtemperature", PROBE),
    ("temp_c", False): (3, "undertemperature", PROBE),
    ("pack_v", True): (6, "pack_overvoltage", PACK),
    ("pack_v", False): (6, "pack_undervoltage", PACK),
    ("isolation_ohm_per_v", False): (7, "isolation", PACK),
    ("cell_dev_v", True): (8, "cell_deviation", CELL),
    ("temp_dev_c", True): (9, "probe_deviation", PROBE),
}
_CURRENT = {"charge": (4, "overcurrent_charge", PACK), "discharge": (5, "overcurrent_discharge", PACK)}


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """The rows of one pack model as columns, K rows each.

    MOL rows only describe operation and are left out; sum_mismatch_v is `clean`'s, which knows the pack's own
    offset.  Severity: 3 for MSL, 2 for RSL, 1 where the action is only to inform.
    """

    value: NDArray[np.int64]
    kind: NDArray[np.int64]
    subject_kind: NDArray[np.int64]
    level: NDArray[np.int64]
    over: NDArray[np.bool_]
    direction: NDArray[np.int64]  # 1 charge, −1 discharge, 0 any
    bound: NDArray[np.float64]
    hysteresis: NDArray[np.float64]
    for_s: NDArray[np.float64]
    min_samples: NDArray[np.int64]
    pack_max_v: float  # isolation is stated per volt of it

    @classmethod
    def of(cls, pack: PackModel) -> LimitsConfig:
        """Read the rows of a pack model.  Raises ValueError where there are more than ROWS."""
        rows = [r for r in pack.limits if r.tier != "MOL" and _watched(r) is not None]
        if len(rows) > ROWS:
            msg = f"limits may have at most {ROWS} RSL and MSL rows; got {len(rows)} ({pack.name})"
            raise ValueError(msg)
        seen = [w for r in rows if (w := _watched(r)) is not None]
        top = [r.bound for r in pack.limits if r.quantity == "cell_v" and r.over]
        return cls(
            value=np.array([w[0] for w in seen], np.int64),
            kind=np.array([INDEX[w[1]] for w in seen], np.int64),
            subject_kind=np.array([w[2] for w in seen], np.int64),
            level=np.array([3 if r.tier == "MSL" else 1 if r.action == "inform" else 2 for r in rows], np.int64),
            over=np.array([r.over for r in rows], np.bool_),
            direction=np.array([{"charge": 1, "discharge": -1, "any": 0}[r.direction] for r in rows], np.int64),
            bound=np.array([r.bound for r in rows], np.float64),
            hysteresis=np.array([r.hysteresis for r in rows], np.float64),
            for_s=np.array([r.for_s for r in rows], np.float64),
            min_samples=np.array([r.min_samples for r in rows], np.int64),
            pack_max_v=pack.series * max(top, default=float(pack.ocv.v.max())),
        )


def _watched(row: Limit) -> tuple[int, str, int] | None:
    return _CURRENT.get(row.direction) if row.quantity == "current_a" else _WATCHED.get((row.quantity, row.over))


@dataclass
class LimitsState:
    """One slot per pack: the debounce of each row."""

    limit_acc: NDArray[np.float32]  # (S, ROWS)
    limit_raised: NDArray[np.bool_]  # (S, ROWS)

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> LimitsState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        return cls(np.zeros((slots, ROWS), np.float32), np.zeros((slots, ROWS), np.bool_))


def step(cfg: LimitsConfig, state: LimitsState, block: FrameBlock, ext: Extremes) -> Found:
    """Hold each live, fresh row of `block` against the limits; findings on raise, on worsening and on clearing.

    Needs derived slot, dt_s, quality, v_med; `ext` is of the same block.  A value that is not available
    neither raises nor clears.
    """
    d = block.derived
    isolation = block.context.get("isolation_ohm")
    if isolation is None:
        isolation = missing_context("isolation_ohm", len(block))
    return collect(
        _walk, len(block), ROWS,
        d["slot"], block.t_ns, d["dt_s"], block.lane, d["quality"], block.current_a, block.pack_v,
        block.cell_v, block.temp_c, d["v_med"], isolation, *ext,
        cfg.value, cfg.kind, cfg.subject_kind, cfg.level, cfg.over, cfg.direction, cfg.bound, cfg.hysteresis,
        cfg.for_s, cfg.min_samples, cfg.pack_max_v, state.limit_acc, state.limit_raised,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count,
    slot, t_ns, dt_s, lane, quality, current_a, pack_v, cell_v, temp_c, v_med,
    isolation_ohm, v_lows, v_highs, t_lows, t_highs, t_means,
    value_of, kind_of, subject_kind_of, level_of, over, direction, bound, hysteresis, for_s, min_samples, pack_max_v,
    acc, raised,
):  # fmt: skip
    value = np.empty(10, np.float64)
    for n in range(start, slot.size):
        if count[0] + ROWS > len(whole):
            return n
        if lane[n] != LIVE or quality[n] & FROZEN:
            continue
        s = slot[n]
        v_low, v_high, t_low, t_high, t_mean = v_lows[n], v_highs[n], t_lows[n], t_highs[n], t_means[n]
        value[0], value[1], value[2], value[3] = v_high, v_low, t_high, t_low
        value[4], value[5] = current_a[n], -current_a[n]
        value[6], value[7] = pack_v[n], isolation_ohm[n] / pack_max_v
        value[8] = max(v_high - v_med[n], v_med[n] - v_low)
        value[9] = max(t_high - t_mean, t_mean - t_low)
        for k in range(value_of.size):
            x = value[value_of[k]]
            sign = 0
            if over[k]:
                if x >= bound[k]:
                    sign = 1
                elif x < bound[k] - hysteresis[k]:
                    sign = -1
            elif x <= bound[k]:
                sign = 1
            elif x > bound[k] + hysteresis[k]:
                sign = -1
            if sign == 1 and direction[k] * current_a[n] < 0:
                sign = 0  # the row is about the other direction; a current that is not known is both
            if sign <= 0 and acc[s, k] == 0 and not raised[s, k]:
                continue
            was = raised[s, k]
            acc[s, k], raised[s, k] = hold(acc[s, k], was, sign, dt_s[n], for_s[k], min_samples[k], _CLEAR_S)
            if raised[s, k] == was:
                continue
            others = 0  # the worst of the other rows of this kind that are raised
            for j in range(value_of.size):
                if j != k and kind_of[j] == kind_of[k] and raised[s, j]:
                    others = max(others, level_of[j])
            if was and others == 0:
                level = 0
            elif not was and level_of[k] > others:
                level = level_of[k]
            else:
                continue
            subject = -1
            if value_of[k] == 0 or value_of[k] == 1:
                subject = where(cell_v[n], np.float32(x))
            elif value_of[k] == 2 or value_of[k] == 3:
                subject = where(temp_c[n], np.float32(x))
            elif value_of[k] == 8:
                subject = where(cell_v[n], v_high if v_high - v_med[n] >= v_med[n] - v_low else v_low)
            elif value_of[k] == 9:
                subject = where(temp_c[n], t_high if t_high - t_mean >= t_mean - t_low else t_low)
            since = t_ns[n] - np.int64(for_s[k] * 1e9)
            emit(whole, real, count, n, kind_of[k], subject_kind_of[k], subject, level, since, x, bound[k], np.nan)
    return slot.size
