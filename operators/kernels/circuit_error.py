"""What a pack's circuit model misses, learned charge by charge, and kept only while it helps.

A charge shows its mean voltage: energy over charge.  The circuit says

    V = (1/Δz) ∫ OCV(z, T) dz + i · r · (1/Δz) ∫ (R0 + Σ R)(z, T) dz

with i weighted by charge and r the R0 that the estimate found over the pack file's.  What it misses, per cell group, is
learned by Bayesian linear regression on FEATURES (recursive; Bishop, Pattern Recognition and Machine Learning, 2006,
section 3.3).  Each charge is predicted before it is learned from, with and without what was learned, and only what
beats the circuit alone over the newest charges is kept.  A Page-Hinkley test on what is left then finds a change:
everything is learned anew from the newest charges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels import ocv
from operators.kernels.drift import DriftConfig, DriftState, walk
from schemas.pack import PackModel

Floats = NDArray[np.float64]

# What the error of a cell group's voltage is linear in: an OCV that is off, tilted or shifted by cold; ohms that are
# off, at 25 °C and in the cold.
FEATURES = ("offset", "soc", "cold", "current", "current_cold")
COUNT = len(FEATURES)
_WARM_C, _COLD_C = 25.0, 25.0  # `cold` is 1 so far below
_CHARGE_C = (0.0, 45.0)  # where packs charge, and weights were learned

COLUMNS = ("charges", "judged", "circuit_square", "residual_square", "kept")
_N, _JUDGED, _CIRCUIT, _RESIDUAL, _KEPT = range(len(COLUMNS))
NEWEST = 8  # charges from which everything is learned anew
EVENTS = ("", "kept", "dropped", "retrained")
KEPT, DROPPED, RETRAINED = 1, 2, 3

# What comes out of each charge, V per cell group, then the number of charges and what happened.
OUT_COLUMNS = ("v_residual", "circuit_rmse_v", "residual_rmse_v", "kept", "charges", "event", "moved_v")
O_SAID, O_CIRCUIT, O_RESIDUAL, O_KEPT, O_CHARGES, O_EVENT, O_MOVED = range(len(OUT_COLUMNS))


@dataclass(frozen=True, slots=True)
class CircuitErrorConfig:
    """What is expected before, over how many charges errors are compared, and when what was learned is kept."""

    prior_v: float = 0.02  # standard deviation of each weight
    noise_v: float = 0.004  # and of one charge whose SOC is known
    newest: float = 0.05  # weight of the newest charge in both mean squares
    fewest: int = 10  # charges that were predicted before a word on either
    better: float = 0.7  # of the circuit's mean square, below which what was learned is kept

    def __post_init__(self) -> None:
        """Refuse what is not positive, and shares above 1."""
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not value > 0 or (name in {"newest", "better"} and value > 1):
                msg = f"{name} must be > 0{' and ≤ 1' if name in {'newest', 'better'} else ''}; got {value}"
                raise ValueError(msg)


# In standard deviations of one charge: a shift by two of them is found within about ten charges.
DRIFT = DriftConfig(min_instances=10, delta=0.25, threshold=15.0, alpha=1.0)


@dataclass(slots=True)
class CircuitErrorState:
    """One slot per pack."""

    x: Floats  # (S, len(COLUMNS))
    newest_ns: NDArray[np.int64]  # (S,)
    weights: Floats  # (S, COUNT) V per cell group
    spread: Floats  # (S, COUNT, COUNT) their covariance
    recent: Floats  # (S, NEWEST, 2 + COUNT) the newest charges: error, its standard deviation, features
    drift: DriftState

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> CircuitErrorState:
        """State of packs never seen."""
        return cls(
            np.zeros((slots, len(COLUMNS))),
            np.full(slots, -(2**63), np.int64),
            np.zeros((slots, COUNT)),
            np.zeros((slots, COUNT, COUNT)),
            np.zeros((slots, NEWEST, 2 + COUNT)),
            DriftState.empty(slots, cells, probes),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Charges:
    """N charges in columns, those of a pack in order of time; a row with NaN says nothing and changes nothing."""

    slot: NDArray[np.int32]
    t_ns: NDArray[np.int64]  # end
    v: Floats  # mean over the charge that flowed, per cell group
    current_a: Floats  # weighted by charge, + into the battery
    soc_start: Floats
    soc_end: Floats
    soc_std: Floats  # standard deviation that both share: through the slope of the OCV it is one of the voltage
    temp_c: Floats
    r_scale: Floats  # R0 over the pack file's


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """What N charges came to: the circuit's word (N,), V, what was known (N, len(OUT_COLUMNS)), weights after it."""

    v_circuit: Floats
    out: Floats
    weights: Floats  # (N, COUNT)


def follow(cfg: CircuitErrorConfig, state: CircuitErrorState, pack: PackModel, rows: Charges) -> Followed:
    """Advance `state` over charges; one that is no newer than its pack's newest is passed over: NaN comes out."""
    v_circuit, x = circuit_v(pack, rows), features(pack, rows)
    noise_v = np.hypot(cfg.noise_v, ocv_slope_v(pack, rows) * rows.soc_std)
    n = rows.slot.size
    made = Followed(v_circuit, np.full((n, len(OUT_COLUMNS)), np.nan), np.full((n, COUNT), np.nan))
    d, s = DRIFT, state.drift
    _walk(
        rows.slot, rows.t_ns, rows.v - v_circuit, noise_v, x,
        state.x, state.newest_ns, state.weights, state.spread, state.recent,
        cfg.prior_v**2, cfg.noise_v, cfg.newest, cfg.fewest, cfg.better,
        d.min_instances, d.delta, d.threshold, d.alpha,
        s.drift_n, s.drift_mean, s.drift_up, s.drift_up_min, s.drift_down, s.drift_down_max, made.out, made.weights,
    )  # fmt: skip
    return made


def circuit_v(pack: PackModel, rows: Charges) -> Floats:
    """Give the mean voltage (N,) that the circuit says, per cell group."""
    grid = pack.grid()
    table = np.ascontiguousarray(ocv.table(grid)[..., ocv.ENERGY])
    i = rows.current_a * rows.r_scale
    return np.asarray(_circuit(table, ocv.resistance_to(grid), i, rows.soc_start, rows.soc_end, rows.temp_c))


def ocv_slope_v(pack: PackModel, rows: Charges) -> Floats:
    """Give the mean slope (N,) of the OCV over each charge, V per unit SOC."""
    table = np.ascontiguousarray(ocv.table(pack.grid())[..., ocv.OCV])
    nothing = np.zeros_like(table)
    return np.asarray(_circuit(table, nothing, rows.current_a, rows.soc_start, rows.soc_end, rows.temp_c))


def features(pack: PackModel, rows: Charges) -> Floats:
    """Give the features (N, COUNT) of each charge."""
    return np.asarray(_features(rows.current_a / pack.nominal_ah, 0.5 * (rows.soc_start + rows.soc_end), rows.temp_c))


@njit(cache=True, error_model="numpy")
def _circuit(energy, resistance, current_a, z0, z1, temp_c):
    out = np.empty(z0.size)
    for n in range(z0.size):
        rest = ocv.one_at(energy, z1[n], temp_c[n]) - ocv.one_at(energy, z0[n], temp_c[n])
        drop = ocv.one_at(resistance, z1[n], temp_c[n]) - ocv.one_at(resistance, z0[n], temp_c[n])
        out[n] = (rest + current_a[n] * drop) / (z1[n] - z0[n])
    return out


@njit(cache=True, error_model="numpy")
def _features(c_rate, soc, temp_c):
    out = np.empty((soc.size, COUNT))
    for n in range(soc.size):
        fill_features(c_rate[n], soc[n], temp_c[n], out[n])
    return out


@njit(cache=True, error_model="numpy")
def fill_features(c_rate, soc, temp_c, x):
    """Write FEATURES at a current (1/h, + into the battery), SOC and temperature into `x` (COUNT,)."""
    cold = (_WARM_C - temp_c) / _COLD_C
    x[0], x[1], x[2], x[3], x[4] = 1.0, soc - 0.5, cold, c_rate, c_rate * cold


@njit(cache=True, error_model="numpy")
def rest_v(weights, soc, temp_c):
    """Give what the weights add to a cell group's OCV, within SOC and temperatures at which packs charge."""
    cold = (_WARM_C - min(max(temp_c, _CHARGE_C[0]), _CHARGE_C[1])) / _COLD_C
    return weights[0] + weights[1] * (min(max(soc, 0.0), 1.0) - 0.5) + weights[2] * cold


@njit(cache=True, error_model="numpy")
def ohm(weights, nominal_ah, temp_c, r0_ohm):
    """Give what the weights add to a cell group's R0, of which they leave half at least."""
    cold = (_WARM_C - min(max(temp_c, _CHARGE_C[0]), _CHARGE_C[1])) / _COLD_C
    return max((weights[3] + weights[4] * cold) / nominal_ah, -0.5 * r0_ohm)


@njit(cache=True, error_model="numpy")
def _walk(
    slot, t_ns, error_v, noise_v, x, state, newest_ns, weights, spread, recent, prior, least_v, newest, fewest, better,
    min_instances, delta, threshold, alpha, d_n, d_mean, d_up, d_up_min, d_down, d_down_max, out, learned,
):  # fmt: skip
    share, changed, off = np.empty((1, 1), np.float32), np.empty((1, 1), np.bool_), np.empty((1, 1))
    for n in range(slot.size):
        s = slot[n]
        e = error_v[n] + 0.0 * (x[n].sum() + noise_v[n])
        if e != e or t_ns[n] <= newest_ns[s]:
            continue
        newest_ns[s] = t_ns[n]
        a, w, p, o = state[s], weights[s], spread[s], out[n]
        if a[_N] == 0.0:
            _forget(w, p, prior)
        said = _dot(w, x[n])
        left = e - said
        o[O_SAID], o[O_EVENT], o[O_MOVED] = said, 0.0, 0.0
        a[_JUDGED] += 1.0
        weight = least_v * least_v / (noise_v[n] * noise_v[n])  # one whose SOC is unsure says less of either
        rate = max(1.0 / a[_JUDGED], newest) * weight
        a[_CIRCUIT] += rate * (e * e - a[_CIRCUIT])
        a[_RESIDUAL] += rate * (left * left - a[_RESIDUAL])
        if a[_JUDGED] >= fewest:
            if a[_KEPT] == 0.0 and a[_RESIDUAL] < better * a[_CIRCUIT]:
                a[_KEPT], o[O_EVENT] = 1.0, KEPT
            elif a[_KEPT] > 0.0 and a[_RESIDUAL] >= a[_CIRCUIT]:
                a[_KEPT], o[O_EVENT] = 0.0, DROPPED
        o[O_CIRCUIT], o[O_RESIDUAL] = np.sqrt(a[_CIRCUIT]), np.sqrt(a[_RESIDUAL])
        at = int(a[_N]) % NEWEST
        recent[s, at, 0], recent[s, at, 1] = e, noise_v[n]
        recent[s, at, 2:] = x[n]
        a[_N] += 1.0
        off[0, 0], changed[0, 0] = left / noise_v[n], False
        was = d_mean[s, 0]
        if a[_JUDGED] > fewest:  # before, the error falls because it is learned
            walk(
                slot[n : n + 1], off, min_instances, delta, threshold, alpha, d_n, d_mean, d_up, d_up_min, d_down,
                d_down_max, share, changed,
            )  # fmt: skip
        if changed[0, 0]:
            o[O_EVENT], o[O_MOVED] = RETRAINED, _anew(a, w, p, recent[s], prior) - was * least_v
        else:
            _learn(w, p, x[n], left, noise_v[n])
        o[O_KEPT], o[O_CHARGES] = a[_KEPT], a[_N]
        learned[n] = w


@njit(cache=True, error_model="numpy")
def _dot(w, x):
    total = 0.0
    for k in range(COUNT):
        total += w[k] * x[k]
    return total


@njit(cache=True, error_model="numpy")
def _forget(w, p, prior):
    for k in range(COUNT):
        w[k] = 0.0
        for j in range(COUNT):
            p[k, j] = prior if j == k else 0.0


@njit(cache=True, error_model="numpy")
def _learn(w, p, x, left, noise_v):
    """Take one charge into weights and covariance; `left` is its error less what the weights say."""
    gain = np.empty(COUNT)
    total = noise_v * noise_v
    for k in range(COUNT):
        gain[k] = _dot(p[k], x)
        total += x[k] * gain[k]
    for k in range(COUNT):
        w[k] += gain[k] / total * left
    for k in range(COUNT):
        for j in range(k + 1):
            p[k, j] -= gain[k] * gain[j] / total
            p[j, k] = p[k, j]


@njit(cache=True, error_model="numpy")
def _anew(a, w, p, recent, prior):
    """Learn from the newest charges alone; gives their mean error by the old weights, V."""
    mean = 0.0
    count = min(int(a[_N]), NEWEST)
    for k in range(count):
        mean += (recent[k, 0] - _dot(w, recent[k, 2:])) / count
    _forget(w, p, prior)
    for k in range(count):
        _learn(w, p, recent[k, 2:], recent[k, 0] - _dot(w, recent[k, 2:]), recent[k, 1])
    a[_KEPT] = a[_JUDGED] = a[_CIRCUIT] = a[_RESIDUAL] = 0.0
    return mean
