"""How each cell group differs from the pack's median: in SOC, in resistance, in capacity.

    v_c − v_median = OCV'(z) Δz_c + i R0 ρ_c        Δz_c falls by κ_c ΔAh / Q as charge passes

with ρ = R_c/R_median − 1 and κ = Q_c/Q_median − 1.  Three states per cell group, float32, and one covariance
that all groups of a pack share, because all see the same current: a gain per row, a few products per cell.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from operators.kernels.ocv import DOCV, OCV, ocv_at

# Columns of the shared covariance, counted from `base` in the state array `core`.
ZZ, ZR, ZQ, RR, RQ, QQ = range(6)
WIDTH = 6
# Rows of the state array `cell` (slots, 3, C), float32.
D_SOC, D_R0, D_Q = 0, 1, 2

_R0_MIN, _R0_MAX = np.float32(-0.8), np.float32(20.0)
_Q_MAX = np.float32(0.5)
_SOC_MAX = np.float32(1.0)
_TANGENT = np.float32(0.005)


@njit(cache=True, error_model="numpy")
def begin(core, s, base, cfg):
    """Set the shared covariance of a pack never seen."""
    core[s, base + ZZ] = cfg.spread_soc * cfg.spread_soc
    core[s, base + RR] = cfg.spread_r0 * cfg.spread_r0
    core[s, base + QQ] = cfg.spread_q * cfg.spread_q
    core[s, base + ZR] = core[s, base + ZQ] = core[s, base + RQ] = 0.0


@njit(cache=True, error_model="numpy")
def drift(core, s, base, cell, cfg, dt_s, d_z, d_var):
    """Let `d_z` of SOC, uncertain by the variance `d_var`, pass in `dt_s`: differences in capacity show."""
    if d_z != 0.0:
        k = np.float32(d_z)
        for c in range(cell.shape[2]):
            cell[s, D_SOC, c] -= k * cell[s, D_Q, c]
        core[s, base + ZZ] += d_z * (d_z * core[s, base + QQ] - 2.0 * core[s, base + ZQ])
        core[s, base + ZR] -= d_z * core[s, base + RQ]
        core[s, base + ZQ] -= d_z * core[s, base + QQ]
    core[s, base + ZZ] += d_var * core[s, base + QQ] + cfg.drift_soc * dt_s
    core[s, base + RR] += cfg.drift_r0 * dt_s
    core[s, base + QQ] += cfg.drift_q * dt_s
    # no more can be unknown than before the first frame
    f_z = math.sqrt(min(cfg.spread_soc * cfg.spread_soc / core[s, base + ZZ], 1.0))
    f_r = math.sqrt(min(cfg.spread_r0 * cfg.spread_r0 / core[s, base + RR], 1.0))
    f_q = math.sqrt(min(cfg.spread_q * cfg.spread_q / core[s, base + QQ], 1.0))
    core[s, base + ZZ] *= f_z * f_z
    core[s, base + ZR] *= f_z * f_r
    core[s, base + ZQ] *= f_z * f_q
    core[s, base + RR] *= f_r * f_r
    core[s, base + RQ] *= f_r * f_q
    core[s, base + QQ] *= f_q * f_q


@njit(cache=True, error_model="numpy")
def lift(cell, s, table, at, z, temp_c, out):
    """Write OCV of each cell group minus OCV of the median into `out` (C,), V.

    `at` (WIDTH,) holds the table's values at the median's SOC `z`.  Along the tangent for differences up to 0.5 %,
    from the table beyond.
    """
    slope, wide = np.float32(at[DOCV]), 0
    for c in range(cell.shape[2]):
        out[c] = slope * cell[s, D_SOC, c]
    for c in range(cell.shape[2]):
        wide += abs(cell[s, D_SOC, c]) > _TANGENT
    if wide:
        for c in range(cell.shape[2]):
            if abs(cell[s, D_SOC, c]) > _TANGENT:
                out[c] = ocv_at(table, z + cell[s, D_SOC, c], temp_c) - at[OCV]


@njit(cache=True, error_model="numpy")
def residuals(cell, s, cell_v, row, v_med, lifted, drop, resid):
    """Write cell voltage minus median minus what the states predict into `resid[row]`; NaN stays NaN.

    `lifted` (C,) is what `lift` gives, `drop` is i·R0 in V.
    """
    h_r = np.float32(drop)
    for c in range(cell_v.shape[1]):
        resid[row, c] = cell_v[row, c] - v_med - lifted[c] - h_r * cell[s, D_R0, c]


@njit(cache=True, error_model="numpy")
def correct(core, s, base, cell, cfg, resid, row, slope, drop, d_drop, dt_s, scratch):
    """Learn from the residuals of a row; cells that are NaN keep what they have.

    `d_drop` (V) is the step of i·R0 since the frame before: cells read one after another see it at different
    times.  Residuals count up to `cfg.cell_outlier` standard deviations, so that one bad reading moves little.
    """
    load, skew = cfg.cell_load_noise * drop, cfg.cell_skew * d_drop
    var = (cfg.cell_noise_v * cfg.cell_noise_v + load * load) * (1.0 + cfg.cell_noise_tau_s / dt_s) + skew * skew
    pz = slope * core[s, base + ZZ] + drop * core[s, base + ZR]
    pr = slope * core[s, base + ZR] + drop * core[s, base + RR]
    pq = slope * core[s, base + ZQ] + drop * core[s, base + RQ]
    total = slope * pz + drop * pr + var
    core[s, base + ZZ] -= pz * pz / total
    core[s, base + ZR] -= pz * pr / total
    core[s, base + ZQ] -= pz * pq / total
    core[s, base + RR] -= pr * pr / total
    core[s, base + RQ] -= pr * pq / total
    core[s, base + QQ] -= pq * pq / total
    bound = np.float32(cfg.cell_outlier * math.sqrt(total))
    k_z, k_r, k_q = np.float32(pz / total), np.float32(pr / total), np.float32(pq / total)
    for c in range(resid.shape[1]):
        e = resid[row, c]
        e = e if e == e else np.float32(0.0)
        e = min(e, bound)
        scratch[c] = max(e, -bound)
    for c in range(resid.shape[1]):
        cell[s, D_SOC, c] = _within(cell[s, D_SOC, c] + k_z * scratch[c], -_SOC_MAX, _SOC_MAX)
    for c in range(resid.shape[1]):
        cell[s, D_R0, c] = _within(cell[s, D_R0, c] + k_r * scratch[c], _R0_MIN, _R0_MAX)
    for c in range(resid.shape[1]):
        cell[s, D_Q, c] = _within(cell[s, D_Q, c] + k_q * scratch[c], -_Q_MAX, _Q_MAX)


@njit(cache=True, error_model="numpy", inline="always")
def _within(x, low, high):
    x = max(x, low)
    return min(x, high)


@njit(cache=True, error_model="numpy")
def usable(cell, s, z, ah, bits):
    """Find the charge that the pack can give and take: (left in the emptiest cell, room in the fullest, which, which).

    In units of the median cell group's capacity: min z_c Q_c and min (1 − z_c) Q_c.  `ah` (2, C) float32 is
    scratch and `bits` the same memory as int32: floats ≥ 0 sort as their bits do.
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    z32 = np.float32(z)
    for c in range(cell.shape[2]):
        zc = _within(z32 + cell[s, D_SOC, c], zero, one)
        ah[0, c] = zc * (one + cell[s, D_Q, c])
    for c in range(cell.shape[2]):
        zc = _within(z32 + cell[s, D_SOC, c], zero, one)
        ah[1, c] = (one - zc) * (one + cell[s, D_Q, c])
    low = smallest(bits, 0)
    high = smallest(bits, 1)
    return np.float64(ah[0, low]), np.float64(ah[1, high]), low, high


@njit(cache=True, error_model="numpy")
def smallest(bits, row):
    """Find the first cell with the smallest value in `bits[row]`."""
    least = np.int32(0x7FFFFFFF)
    for c in range(bits.shape[1]):
        least = min(least, bits[row, c])
    for c in range(bits.shape[1]):
        if bits[row, c] == least:
            return c
    return 0
