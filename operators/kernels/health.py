"""How healthy is a pack, and how sure is that? Capacity, resistance and a trained model, fused charge by charge.

SOH is the capacity of the pack once balanced over that of a new one: what ages.  What imbalance and cold take away
beside it is told apart.

* capacity: a Kalman filter on ΔAh = Q ΔSOC with errors in both (total least squares, recursively: Plett, J. Power
  Sources 196 (2011) 2319, in its first-order form), a slow drift, and an error `bias` that all charges of a pack share;
* resistance: growth since the pack's own beginning, else against the pack file; weak, since capacity and resistance
  age together only roughly.  The beginning is what capacity said then: it counts where capacity has grown less sure;
* the model: what it says, with its own interval.

The interval is conformal: `conformal` times the fused standard deviation, a quantile of errors on simulated packs whose
capacity is known; a pack whose own charges fall outside too often or never widens or narrows it (adaptive conformal
inference: Gibbs and Candès, NeurIPS 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.evidence import OUTLIER
from schemas.pack import GRID_SOC, PackModel

Floats = NDArray[np.float64]
_YEAR_NS = 365.25 * 86_400e9

# Places in one slot's row of the state: numbers, and times in ns.
COLUMNS = (
    "soh", "var", "accepted", "rejected", "outliers", "cycles", "r", "r_seen", "r_base", "r_soh", "r_var", "imbalance",
    "widen", "bms", "bms_rows",
)  # fmt: skip
Q, P, N, REJECTED, OUT, CYCLES, R, R_N, R_BASE, R_SOH, R_VAR, IMBALANCE, WIDEN, BMS, BMS_ROWS = range(len(COLUMNS))
TIMES = ("newest", "accepted", "reset", "constant")
T, LAST_OK, RESET, CONSTANT = range(len(TIMES))

# What comes out of each row.
OUT_COLUMNS = (
    "soh", "soh_std", "soh_low", "soh_high", "soh_capacity", "soh_capacity_std", "soh_resistance", "soh_resistance_std",
    "loss_imbalance", "accepted", "rejected", "cycles", "gain", "bms_step", "bms_rows",
)  # fmt: skip
(
    O_SOH, O_STD, O_LOW, O_HIGH, O_CAP, O_CAP_STD, O_RES, O_RES_STD, O_IMB, O_N, O_REJ, O_CYCLES, O_GAIN, O_STEP,
    O_ROWS,
) = range(len(OUT_COLUMNS))  # fmt: skip
_WIDEN_MIN, _WIDEN_MAX = 0.7, 3.0


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """What is believed before, how errors are spread, and when a report is not believed."""

    prior: float = 0.9  # SOH of a pack never seen: between new and the end of its life
    prior_std: float = 0.1
    bias: float = 0.02  # SOH: what all charges of a pack share: OCV table, current sensor
    drift: float = 0.03  # SOH in a year
    gate: float = 4.0  # standard deviations beyond which a charge is an outlier
    restart: int = 8  # outliers in a row after which a young estimate begins again
    young: int = 5  # accepted charges
    fade_of_rise: float = 0.2  # SOH lost where R0 doubles
    file_std: float = 0.3  # SOH from R0 against the pack file
    own_std: float = 0.04  # and against the pack's own beginning
    base: int = 5  # values of R0 that make this beginning
    conformal: float = 1.7  # standard deviations that hold the truth in 90 of 100 packs
    coverage: float = 0.9
    learn: float = 0.02  # of the pack's own widening, a charge
    bms_step: float = 0.05  # SOH: a report that rises by this has been reset
    bms_rows: int = 1000  # frames with the same value to the bit
    whole: bool = False  # a charge says all that the estimate has learned so far, instead of adding to it

    def __post_init__(self) -> None:
        """Refuse what is not positive."""
        for name in self.__dataclass_fields__:
            if name != "whole" and not getattr(self, name) > 0:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> HealthConfig:
        """Take what depends on the chemistry: on a plateau the estimate's capacity speaks (see evidence)."""
        return cls(conformal=1.3, whole=True) if pack.chemistry == "lfp" else cls()


@dataclass(slots=True)
class HealthState:
    """One slot per pack."""

    x: Floats  # (S, len(COLUMNS))
    ns: NDArray[np.int64]  # (S, len(TIMES)), 0 = not yet, not open

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> HealthState:  # noqa: ARG003 - as every state
        """State of packs never seen."""
        x = np.zeros((slots, len(COLUMNS)))
        x[:, [Q, R, R_BASE, R_SOH, R_VAR, IMBALANCE, BMS]] = np.nan
        return cls(x, np.zeros((slots, len(TIMES)), np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """N sessions in columns, those of a pack in order of time; NaN = not available."""

    slot: NDArray[np.int32]
    t_ns: NDArray[np.int64]  # end
    charge: NDArray[np.bool_]  # is one, and is judged
    reasons: NDArray[np.uint32]  # against it
    soh: Floats  # what the charge says by itself
    soh_std: Floats
    r0_rel: Floats
    imbalance: Floats  # SOH that balancing would give back
    cycles: Floats  # full ones that passed
    model: Floats  # SOH that the trained model says
    model_std: Floats
    frames: Floats
    bms_min: Floats
    bms_max: Floats
    bms_end: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """What N sessions came to."""

    out: Floats  # (N, len(OUT_COLUMNS))
    reasons: NDArray[np.uint32]  # against each, outliers named
    accepted_ns: NDArray[np.int64]  # the pack's newest charge that counted, 0 none
    raised: NDArray[np.int8]  # (N, 2) soh_reset_suspected, not_a_measurement: 1 raised, -1 cleared
    opened_ns: NDArray[np.int64]  # (N, 2) since when


def follow(cfg: HealthConfig, state: HealthState, rows: Rows) -> Followed:
    """Advance `state` over sessions."""
    n = rows.slot.size
    made = Followed(
        np.full((n, len(OUT_COLUMNS)), np.nan), rows.reasons.copy(), np.zeros(n, np.int64), np.zeros((n, 2), np.int8),
        np.zeros((n, 2), np.int64),
    )  # fmt: skip
    _walk(
        rows.slot, rows.t_ns, rows.charge, made.reasons, rows.soh, rows.soh_std, rows.r0_rel, rows.imbalance,
        rows.cycles, rows.model, rows.model_std, rows.frames, rows.bms_min, rows.bms_max, rows.bms_end,
        state.x, state.ns, np.array([float(getattr(cfg, name)) for name in cfg.__dataclass_fields__]),
        made.out, made.accepted_ns, made.raised, made.opened_ns,
    )  # fmt: skip
    return made


(
    _PRIOR, _PRIOR_STD, _BIAS, _DRIFT, _GATE, _RESTART, _YOUNG, _FADE, _FILE_STD, _OWN_STD, _BASE, _CONFORMAL,
    _COVERAGE, _LEARN, _BMS_STEP, _BMS_ROWS, _WHOLE,
) = range(17)  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    slot, t_ns, charge, reasons, soh, soh_std, r0_rel, imbalance, cycles, model, model_std, frames, bms_min, bms_max,
    bms_end, xs, times, c, out, accepted_ns, raised, opened_ns,
):  # fmt: skip
    bias_var = c[_BIAS] * c[_BIAS]
    for n in range(slot.size):
        x, ns = xs[slot[n]], times[slot[n]]
        t = t_ns[n]
        if x[Q] != x[Q]:
            x[Q], x[P], x[WIDEN], ns[T] = c[_PRIOR], c[_PRIOR_STD] ** 2, 1.0, t
        years = max(t - ns[T], 0) / _YEAR_NS
        x[P] = min(x[P] + c[_DRIFT] * c[_DRIFT] * years, c[_PRIOR_STD] ** 2)
        ns[T] = max(ns[T], t)
        if cycles[n] == cycles[n]:
            x[CYCLES] += cycles[n]
        before = x[Q]
        gain = 0.0
        if charge[n]:
            if reasons[n] == 0:
                gain = _learn(x, c, soh[n], soh_std[n], bias_var)
                if gain > 0.0:
                    ns[LAST_OK] = t
                    if imbalance[n] == imbalance[n]:
                        x[IMBALANCE] = imbalance[n]
                else:
                    reasons[n] = OUTLIER
            if reasons[n] != 0:
                x[REJECTED] += 1.0
            if r0_rel[n] == r0_rel[n]:
                _resistance(x, c, r0_rel[n])
        o = out[n]
        o[O_CAP], o[O_CAP_STD] = x[Q], np.sqrt(x[P] + bias_var)
        shared = _from_resistance(x, c, o, bias_var)
        best, var = _fused(x[Q], x[P] + bias_var, o[O_RES], o[O_RES_STD], shared)
        best, var = _fused(best, var, model[n], model_std[n], 0.0)
        o[O_SOH], o[O_STD] = best, np.sqrt(var)
        half = c[_CONFORMAL] * x[WIDEN] * o[O_STD]
        o[O_LOW], o[O_HIGH] = max(o[O_SOH] - half, 0.0), o[O_SOH] + half
        o[O_IMB], o[O_N], o[O_REJ], o[O_CYCLES], o[O_GAIN] = x[IMBALANCE], x[N], x[REJECTED], x[CYCLES], gain
        accepted_ns[n] = ns[LAST_OK]
        if bms_end[n] == bms_end[n]:
            opened_ns[n, 0], opened_ns[n, 1] = ns[RESET], ns[CONSTANT]
            _audit(x, ns, c, t, frames[n], bms_min[n], bms_max[n], bms_end[n], x[Q] - before, o, raised[n])
            for k in range(2):
                if raised[n, k] > 0:
                    opened_ns[n, k] = t


@njit(cache=True, error_model="numpy")
def _learn(x, c, z, std, bias_var):
    """Take what a charge says into the capacity; gives the gain, 0 where it was an outlier."""
    var, e = std * std, z - x[Q]
    total = x[P] + var + bias_var
    if abs(e) > c[_GATE] * np.sqrt(total):
        x[OUT] += 1.0
        if x[OUT] >= c[_RESTART] and x[N] < c[_YOUNG]:
            # What came first was wrong rather than all that came since.
            x[Q], x[P], x[OUT], x[N] = c[_PRIOR], c[_PRIOR_STD] ** 2, 0.0, 0.0
        return 0.0
    if c[_WHOLE] > 0.0:  # with what was believed before any; that neighbours agree says nothing of the interval
        x[Q], x[P] = c[_PRIOR], c[_PRIOR_STD] ** 2
        gain = x[P] / (x[P] + var)
        x[Q] += gain * (z - x[Q])
        x[P] *= 1.0 - gain
        x[N] += 1.0
        x[OUT] = 0.0
        return gain
    # The pack's own widening: as many of its charges should lie inside as the interval promises.
    missed = abs(e) > c[_CONFORMAL] * x[WIDEN] * np.sqrt(x[P] + var)
    x[WIDEN] *= np.exp(c[_LEARN] * ((1.0 if missed else 0.0) - (1.0 - c[_COVERAGE])))
    x[WIDEN] = min(max(x[WIDEN], _WIDEN_MIN), _WIDEN_MAX)
    gain = x[P] / (x[P] + var)
    x[Q] += gain * e
    x[P] *= 1.0 - gain
    x[N] += 1.0
    x[OUT] = 0.0
    return gain


@njit(cache=True, error_model="numpy")
def _resistance(x, c, r):
    """Follow R0; the mean of the first values is the pack's beginning, at the SOH it had then."""
    x[R_N] += 1.0
    weight = max(1.0 / x[R_N], 0.1)
    x[R] = r if x[R_N] == 1.0 else x[R] + weight * (r - x[R])
    if x[R_N] == c[_BASE]:
        x[R_BASE], x[R_SOH], x[R_VAR] = x[R], x[Q], x[P]


@njit(cache=True, error_model="numpy")
def _from_resistance(x, c, o, bias_var):
    """Write what resistance says; give the variance that its error shares with the capacity's."""
    if x[R_BASE] == x[R_BASE]:
        rise = x[R] / x[R_BASE] - 1.0
        half = 0.5 * c[_FADE] * rise
        o[O_RES] = x[R_SOH] - c[_FADE] * rise
        o[O_RES_STD] = np.sqrt(x[R_VAR] + bias_var + c[_OWN_STD] * c[_OWN_STD] + half * half)
        return bias_var + min(x[P], x[R_VAR])
    if x[R_N] > 0.0:
        o[O_RES], o[O_RES_STD] = 1.0 - c[_FADE] * (x[R] - 1.0), c[_FILE_STD]
    return 0.0


@njit(cache=True, error_model="numpy")
def _fused(best, var, other, std, shared):
    """Join two estimates whose errors have the covariance `shared`; gives the best of both and its variance."""
    left = var - shared  # what the first does not know and the other may
    if not (other == other and std > 0.0 and left > 0.0):
        return best, var
    gain = left / (left + std * std - shared)
    return best + gain * (other - best), var - gain * left


@njit(cache=True, error_model="numpy")
def _audit(x, ns, c, t, frames, low, high, end, moved, o, raised):
    """Hold the vehicle's own SOH against what was measured, and against being no measurement at all."""
    was = x[BMS]
    step = end - (min(was, low) if was == was else low)
    o[O_STEP] = step
    if step >= c[_BMS_STEP] and moved < 0.5 * step and ns[RESET] == 0:
        ns[RESET], raised[0] = t, 1
    elif ns[RESET] > 0 and o[O_LOW] <= end <= o[O_HIGH]:
        ns[RESET], raised[0] = 0, -1
    if low != high:
        x[BMS_ROWS] = 0.0
    elif was != was or was == end:
        x[BMS_ROWS] += frames
    else:
        x[BMS_ROWS] = frames
    o[O_ROWS] = x[BMS_ROWS]
    if x[BMS_ROWS] >= c[_BMS_ROWS] and ns[CONSTANT] == 0:
        ns[CONSTANT], raised[1] = t, 1
    elif x[BMS_ROWS] < c[_BMS_ROWS] and ns[CONSTANT] > 0:
        ns[CONSTANT], raised[1] = 0, -1
    x[BMS] = end


def again(
    state: HealthState, slot: NDArray[np.int32], t_ns: NDArray[np.int64], revised: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Find the rows (N,) that correct what was judged already: revised, and no newer than their pack's newest."""
    return np.asarray(_again(slot, t_ns, revised, state.ns[:, T].copy()))


@njit(cache=True)
def _again(slot, t_ns, revised, newest):
    out = np.zeros(slot.size, np.bool_)
    for n in range(slot.size):
        s = slot[n]
        out[n] = revised[n] and t_ns[n] <= newest[s]
        newest[s] = max(newest[s], t_ns[n])
    return out


def cycles_before(state: HealthState, slot: NDArray[np.int32], cycles: Floats) -> Floats:
    """Give the full cycles of each row's pack before it; `cycles` (N,) pass in each, NaN none.  Changes nothing."""
    return np.asarray(_count(slot, cycles, state.x[:, CYCLES].copy()))


@njit(cache=True)
def _count(slot, cycles, so_far):
    out = np.empty(slot.size)
    for n in range(slot.size):
        s = slot[n]
        out[n] = so_far[s]
        if cycles[n] == cycles[n]:
            so_far[s] += cycles[n]
    return out


def cold_loss(pack: PackModel, c_rate: float = 1 / 3) -> tuple[Floats, Floats]:
    """Give temperatures and the share of a pack's charge that cannot be drawn there at `c_rate`, over that at 25 °C.

    A pack is empty where OCV − I (R0 + RC) falls to what it is of an empty pack at 25 °C.
    """
    grid = pack.grid()
    loaded = grid.ocv - c_rate * pack.usable_ah * (grid.r0 + grid.rb.sum(axis=0))
    v_empty = float(np.interp(25.0, grid.temp_c, loaded[:, 0]))
    # the first SOC from which on the voltage suffices, between the table's steps
    empty = np.array([float(np.interp(v_empty, np.maximum.accumulate(v), GRID_SOC)) for v in loaded])
    return grid.temp_c, np.maximum(empty - np.interp(25.0, grid.temp_c, empty), 0.0)
