"""SOC of a pack's median cell group: a Kalman filter on SOC, a slow voltage bias and a resistance scale.

    v = OCV(z, T) + M h + b + (1 + s) (i R0 + Σ u)

z, b and s are estimated; the RC voltages u and the hysteresis h (one-state model, Plett, J. Power Sources
134 (2004) 277) follow the current alone.  b and s return slowly to zero, so their uncertainty stays bounded
and years of frames do not make the filter believe its own tables.  What one sample may say is limited by model
errors that last longer than a sample: its variance is scaled by 1 + noise_tau_s / dt, and so a cell learns as
much per hour from 1 s frames as from 10 s frames.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from operators.kernels.ocv import BRANCHES, DOCV, OCV, R0, RB, ocv_at, soc_at

# Columns of the state array `core` (slots, CORE), float64.
STARTED = 0  # 0 before the first usable frame
TEMP_C = 1  # last known temperature
CURRENT_A = 2  # of the frame before; NaN where unknown
LOST_S = 3  # time without known current, until it is known again
Z = 4
BIAS_V = 5
SCALE = 6
P_ZZ, P_ZB, P_ZS, P_BB, P_BS, P_SS = 7, 8, 9, 10, 11, 12
U = 13  # voltages of the RC branches, BRANCHES of them
U_VAR = U + BRANCHES  # V², what is not known of each
H = U_VAR + BRANCHES  # hysteresis, −1 … 1
H_VAR = H + 1
PACK_OFFSET_V = H_VAR + 1  # pack_v / C − median cell
POWER_W = PACK_OFFSET_V + 1  # mean discharge power, exponentially over the past
SOC_END = POWER_W + 1

P_ZZ_MAX = 1.0 / 12.0  # of a SOC about which nothing is known
_P_ZZ_MIN = 1e-8
_CHORD_FROM = 0.01  # standard deviation of SOC below which the tangent will do


@njit(cache=True, error_model="numpy")
def start(core, s, table, at, cell, cfg, v, i, temp_c, by_cell):
    """Begin a pack at its first usable frame: SOC from OCV, with what the load hides as uncertainty.

    `at` holds the table's values (WIDTH,) at any SOC and this temperature.  With `cfg.initial_soc` that SOC is taken
    instead.  Says whether `v` has been used up.
    """
    load = i if i == i else 0.0
    # what went before is unknown: the branches may hold the drop of this load, or of one as usual
    usual = abs(load) + cfg.unknown_c_rate * cell.capacity_ah
    for b in range(BRANCHES):
        core[s, U + b] = 0.0
        core[s, U_VAR + b] = (at[RB + b] * usual) ** 2
    core[s, STARTED] = 1.0
    core[s, TEMP_C] = temp_c
    core[s, CURRENT_A] = i
    core[s, LOST_S] = 0.0
    core[s, BIAS_V] = core[s, SCALE] = core[s, H] = 0.0
    core[s, H_VAR] = 1.0
    core[s, P_ZB] = core[s, P_ZS] = core[s, P_BS] = 0.0
    core[s, P_BB] = _bias_var(cell, cfg)
    core[s, P_SS] = cfg.scale * cfg.scale
    if cfg.initial_soc == cfg.initial_soc:
        core[s, Z] = cfg.initial_soc
        core[s, P_ZZ] = cfg.initial_soc_std * cfg.initial_soc_std
        return False
    z = soc_at(table, v - load * at[R0], temp_c)
    drop = load * at[R0]
    var = cfg.noise_v * cfg.noise_v + cell.hysteresis_v * cell.hysteresis_v
    var += core[s, P_BB] + drop * drop * core[s, P_SS]
    if i != i:
        var += (at[R0] * usual) ** 2
    if not by_cell:
        var += cfg.pack_noise_v * cfg.pack_noise_v
    for b in range(BRANCHES):
        var += core[s, U_VAR + b]
    std, h = 0.01, 1.0
    for _ in range(3):  # the slope over what is not known, and what is not known by that slope
        low, high = max(z - std, 0.0), min(z + std, 1.0)
        h = (ocv_at(table, high, temp_c) - ocv_at(table, low, temp_c)) / (high - low)
        std = min(math.sqrt(var) / h, math.sqrt(P_ZZ_MAX))
    core[s, Z] = z
    core[s, P_ZZ] = std * std
    core[s, P_ZB] = -core[s, P_BB] / h * (std * std * h * h / var)
    core[s, P_ZS] = -drop * core[s, P_SS] / h * (std * std * h * h / var)
    return True


@njit(cache=True, error_model="numpy", inline="always")
def move(core, s, cell, cfg, dt_s, i):
    """Count charge over the `dt_s` before this frame, whose current is `i`; NaN is unknown.

    Returns (change of SOC, its variance, mean current; NaN where nobody knows it).  Over an interval that is
    too long, or that has an unknown end, nothing is counted and the uncertainty grows with time.
    """
    i_before = core[s, CURRENT_A]
    core[s, CURRENT_A] = i
    if i == i and i_before == i_before and dt_s <= cfg.hold_s:
        mean_a = 0.5 * (i + i_before)
        d_z = mean_a * dt_s / (3600.0 * cell.capacity_ah)
        rough = cfg.between * (i - i_before) * dt_s / (3600.0 * cell.capacity_ah)
        d_var = rough * rough + cfg.soc_noise * dt_s
        core[s, LOST_S] = 0.0
    else:
        mean_a = math.nan
        d_z = 0.0
        rest_a = cfg.rest_c_rate * cell.capacity_ah
        parked = abs(i) < rest_a and abs(i_before) < rest_a  # false where either is unknown
        rate = (cfg.rest_c_rate if parked else cfg.unknown_c_rate) / 3600.0
        lost = core[s, LOST_S]
        # the same unknown current all along: the standard deviation grows with time, however it was cut
        d_var = rate * rate * ((lost + dt_s) * (lost + dt_s) - lost * lost) + cfg.soc_noise * dt_s
        core[s, LOST_S] = lost + dt_s
        if i == i and i_before == i_before:
            core[s, LOST_S] = 0.0
    core[s, Z] = min(max(core[s, Z] + d_z, 0.0), 1.0)
    return d_z, d_var, mean_a


@njit(cache=True, error_model="numpy", inline="always")
def relax(core, s, cell, cfg, at, decay, dt_s, d_z, d_var, mean_a):
    """Advance what follows the current, and the covariance, over `dt_s`.

    `at` (WIDTH,): table values here; `decay` (BRANCHES,): exp(−dt/τ) of each branch.
    """
    unknown = mean_a != mean_a
    drive, hidden = mean_a, 0.0
    if unknown:
        rate = math.sqrt(max(d_var - cfg.soc_noise * dt_s, 0.0)) * 3600.0 / max(dt_s, 1.0)
        drive, hidden = 0.0, min(rate, cfg.unknown_c_rate) * cell.capacity_ah
    for b in range(BRANCHES):
        a, gain = decay[b], (1.0 - decay[b]) * at[RB + b]
        core[s, U + b] = a * core[s, U + b] + gain * drive
        core[s, U_VAR + b] = a * a * core[s, U_VAR + b] + gain * gain * hidden * hidden
    if cell.hysteresis_v > 0.0 and d_z != 0.0:
        keep = math.exp(-abs(d_z) * cfg.hysteresis_rate)
        core[s, H] = keep * core[s, H] + (1.0 - keep) * (1.0 if d_z > 0.0 else -1.0)
        core[s, H_VAR] *= keep * keep
    if unknown:
        core[s, H_VAR] = min(core[s, H_VAR] + math.sqrt(d_var) * cfg.hysteresis_rate, 1.0)
    b_keep = 1.0 / (1.0 + dt_s / cfg.bias_tau_s)
    s_keep = 1.0 / (1.0 + dt_s / cfg.scale_tau_s)
    core[s, BIAS_V] *= b_keep
    core[s, SCALE] *= s_keep
    core[s, P_ZB] *= b_keep
    core[s, P_ZS] *= s_keep
    core[s, P_BS] *= b_keep * s_keep
    core[s, P_BB] += (_bias_var(cell, cfg) - core[s, P_BB]) * (1.0 - b_keep * b_keep)
    core[s, P_SS] += (cfg.scale * cfg.scale - core[s, P_SS]) * (1.0 - s_keep * s_keep)
    core[s, P_ZZ] += d_var
    if core[s, P_ZZ] > P_ZZ_MAX:  # no more can be unknown than everything
        shrink = math.sqrt(P_ZZ_MAX / core[s, P_ZZ])
        core[s, P_ZB] *= shrink
        core[s, P_ZS] *= shrink
        core[s, P_ZZ] = P_ZZ_MAX


@njit(cache=True, error_model="numpy", inline="always")
def correct(core, s, table, cell, cfg, at, v, i, d_drop, extra_var, dt_s):
    """Learn from the voltage `v` of the median cell group under current `i`; the innovation in V.

    `at` (WIDTH,) holds the table's values here; `d_drop` is the step of i·R0 in V since the
    frame before (cells are read one after another), `extra_var` V² what the source of `v` adds to the noise.  The
    slope of OCV is that over one standard deviation of SOC to both sides (central differences: Nørgaard et al.,
    Automatica 36 (2000) 1627), and what the curve bends between counts as noise.
    """
    drop = i * at[R0]
    lasting = extra_var
    for b in range(BRANCHES):
        drop += core[s, U + b]
        lasting += core[s, U_VAR + b]
    innov = v - (at[OCV] + cell.hysteresis_v * core[s, H] + core[s, BIAS_V] + (1.0 + core[s, SCALE]) * drop)
    load, skew = cfg.load_noise * drop, cfg.skew * d_drop
    lasting += cfg.noise_v * cfg.noise_v + load * load
    lasting += cell.hysteresis_v * cell.hysteresis_v * core[s, H_VAR]
    var = lasting * (1.0 + cfg.noise_tau_s / dt_s) + skew * skew
    h, z, std = at[DOCV], core[s, Z], math.sqrt(core[s, P_ZZ])
    if std > _CHORD_FROM:
        # where SOC is not well known, the tangent here says little about the curve there: take the chord
        low, high = max(z - std, 0.0), min(z + std, 1.0)
        v_low, v_high = ocv_at(table, low, core[s, TEMP_C]), ocv_at(table, high, core[s, TEMP_C])
        h = (v_high - v_low) / (high - low)
        bend = v_low + h * (z - low) - at[OCV]
        var += bend * bend
    bound = cfg.outlier * math.sqrt(_spread(core, s, h, drop) + var)
    e = min(max(innov, -bound), bound)
    pz = h * core[s, P_ZZ] + core[s, P_ZB] + drop * core[s, P_ZS]
    pb = h * core[s, P_ZB] + core[s, P_BB] + drop * core[s, P_BS]
    ps = h * core[s, P_ZS] + core[s, P_BS] + drop * core[s, P_SS]
    total = h * pz + pb + drop * ps + var
    core[s, Z] = min(max(z + pz / total * e, 0.0), 1.0)
    core[s, BIAS_V] += pb / total * e
    core[s, SCALE] = max(core[s, SCALE] + ps / total * e, -0.8)
    core[s, P_ZZ] = max(core[s, P_ZZ] - pz * pz / total, _P_ZZ_MIN)
    core[s, P_ZB] -= pz * pb / total
    core[s, P_ZS] -= pz * ps / total
    core[s, P_BB] -= pb * pb / total
    core[s, P_BS] -= pb * ps / total
    core[s, P_SS] -= ps * ps / total
    return innov


@njit(cache=True, error_model="numpy")
def _bias_var(cell, cfg):
    bias_v = cfg.borrowed_v if cell.borrowed else cfg.bias_v
    return bias_v * bias_v


@njit(cache=True, error_model="numpy")
def _spread(core, s, h, drop):
    """Give the variance of the predicted voltage, for slope `h` and overpotential `drop`."""
    pz = h * core[s, P_ZZ] + 2.0 * (core[s, P_ZB] + drop * core[s, P_ZS])
    return h * pz + core[s, P_BB] + drop * (2.0 * core[s, P_BS] + drop * core[s, P_SS])


@njit(cache=True, error_model="numpy")
def decays(tau_s, dt_s, out):
    """Write exp(−dt/τ) of each branch into `out` (BRANCHES,)."""
    for b in range(tau_s.size):
        out[b] = math.exp(-dt_s / tau_s[b])


def fresh(core: np.ndarray) -> None:
    """Set the values of slots never used."""
    core[:, TEMP_C] = 25.0
    core[:, CURRENT_A] = np.nan
