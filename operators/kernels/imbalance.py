"""How each cell group differs from the pack's median: in SOC, in resistance, in capacity.

    v_c − v_median = OCV(z + Δz_c) − OCV(z) + i R0 ρ_c        Δz_c falls by κ_c ΔAh / Q as charge passes

with ρ = R_c/R_median − 1 and κ = Q_c/Q_median − 1.  Three states per cell group, float32, and one covariance
that all groups of a pack share, because all see the same current: a gain per row, a few products per cell.
Loops over cells are short and touch few arrays each: that is what makes them vector code.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from operators.kernels.ocv import DOCV, OCV, ocv_at

# Places of the shared covariance, counted from `base` in `core`, one slot's row of the state array.
ZZ, ZR, ZQ, RR, RQ, QQ = range(6)
WIDTH = 6
# Rows of `cell` (3, C), one slot's part of the state array, float32.
D_SOC, D_R0, D_Q = 0, 1, 2

_R0_MIN, _R0_MAX = np.float32(-0.8), np.float32(20.0)
_Q_MAX = np.float32(0.5)
_SOC_MAX = np.float32(1.0)
_TANGENT = np.float32(0.005)
_SECANT = 0.005
_ONE, _TWO, _ZERO = np.float32(1.0), np.float32(2.0), np.float32(0.0)
_FLAT = np.float32(0.02)  # of the median's slope: what a cell learns on the flattest part


@njit(cache=True, error_model="numpy")
def begin(core, base, cfg):
    """Set the shared covariance of a pack never seen."""
    core[base + ZZ] = cfg.spread_soc * cfg.spread_soc
    core[base + RR] = cfg.spread_r0 * cfg.spread_r0
    core[base + QQ] = cfg.spread_q * cfg.spread_q
    core[base + ZR] = core[base + ZQ] = core[base + RQ] = 0.0


@njit(cache=True, error_model="numpy", inline="always")
def drift(core, base, cell, cfg, dt_s, d_z, d_var):
    """Let `d_z` of SOC, uncertain by the variance `d_var`, pass in `dt_s`: differences in capacity show."""
    if d_z != 0.0:
        k = np.float32(d_z)
        for c in range(cell.shape[1]):
            cell[D_SOC, c] -= k * cell[D_Q, c]
    zq, qq = core[base + ZQ], core[base + QQ]
    core[base + ZZ] += d_z * (d_z * qq - 2.0 * zq) + d_var * qq + cfg.drift_soc * dt_s
    core[base + ZR] -= d_z * core[base + RQ]
    core[base + ZQ] -= d_z * qq
    core[base + RR] += cfg.drift_r0 * dt_s
    core[base + QQ] += cfg.drift_q * dt_s
    _bound(core, base + ZZ, base + ZR, base + ZQ, cfg.spread_soc)
    _bound(core, base + RR, base + ZR, base + RQ, cfg.spread_r0)
    _bound(core, base + QQ, base + ZQ, base + RQ, cfg.spread_q)


@njit(cache=True, error_model="numpy")
def _bound(core, own, with_a, with_b, std):
    """Keep a variance from exceeding what was unknown before the first frame, and its covariances in step."""
    if core[own] > std * std:
        shrink = std / math.sqrt(core[own])
        core[own] = std * std
        core[with_a] *= shrink
        core[with_b] *= shrink


@njit(cache=True, error_model="numpy", inline="always")
def lift(cell, table, at, z, temp_c, work, line):
    """Write OCV of each cell group minus OCV of the median into `work[line]`, V.

    `at` (WIDTH,) holds the table's values at the median's SOC `z`.  Along the tangent for differences up to 0.5 %,
    from the table beyond.
    """
    slope = np.float32(at[DOCV])
    for c in range(cell.shape[1]):
        work[line, c] = slope * cell[D_SOC, c]
    wide = 0
    for c in range(cell.shape[1]):
        wide += abs(cell[D_SOC, c]) > _TANGENT
    if wide:
        for c in range(cell.shape[1]):
            if abs(cell[D_SOC, c]) > _TANGENT:
                work[line, c] = ocv_at(table, z + cell[D_SOC, c], temp_c) - at[OCV]


@njit(cache=True, error_model="numpy", inline="always")
def residuals(cell, cell_v, row, v_med, work, line, drop, out, k):
    """Write cell voltage minus median minus what the states predict into `out[k, row]`; NaN stays NaN.

    `work[line]` is what `lift` gives, `drop` is i·R0 in V.
    """
    h_r = np.float32(drop)
    for c in range(cell_v.shape[1]):
        work[line + 1, c] = work[line, c] + h_r * cell[D_R0, c]
    for c in range(cell_v.shape[1]):
        out[k, row, c] = cell_v[row, c] - v_med - work[line + 1, c]


@njit(cache=True, error_model="numpy")
def bend_v(core, base, cell, table, z, temp_c, slope, unsure):
    """Give by how much the curve's bend may falsify `lift`, V, where the median's SOC `z` is unsure by so much.

    Over a knee the slope at a cell's own place is not the median's, `slope`: a small error of z is then a large one of
    what the cell should show.  Taken at the farthest cell, or as far as cells may be.
    """
    far = np.float32(math.sqrt(core[base + ZZ]))
    for c in range(cell.shape[1]):
        x = abs(cell[D_SOC, c])
        far = x if x > far else far
    low, high = z - far, z + far
    below = (ocv_at(table, low + _SECANT, temp_c) - ocv_at(table, low - _SECANT, temp_c)) / (2.0 * _SECANT)
    above = (ocv_at(table, high + _SECANT, temp_c) - ocv_at(table, high - _SECANT, temp_c)) / (2.0 * _SECANT)
    return max(abs(below - slope), abs(above - slope)) * unsure


@njit(cache=True, error_model="numpy", inline="always")
def correct(core, base, cell, cfg, resid, k, row, slope, drop, d_drop, bend, dt_s, work, lifts, line):
    """Learn from the residuals in `resid[k, row]`; cells that are NaN keep what they have.

    `slope` is OCV' in V per unit SOC; `d_drop` (V) is the step of i·R0 since the frame before: cells read one after
    another see it at different times; `bend` (V) is as `bend_v`.  Residuals count up to `cfg.cell_outlier` standard
    deviations, so that one bad reading moves little.  A cell on another part of the curve than the median, by
    `work[lifts]` as `lift` gave it, learns with its own slope where that is steeper, and as much less as it is
    flatter.  `work[line]` is overwritten.
    """
    load, skew = cfg.cell_load_noise * drop, cfg.cell_skew * d_drop
    var = (cfg.cell_noise_v * cfg.cell_noise_v + load * load + bend * bend) * (
        1.0 + cfg.cell_noise_tau_s / dt_s
    ) + skew * skew
    pz = slope * core[base + ZZ] + drop * core[base + ZR]
    pr = slope * core[base + ZR] + drop * core[base + RR]
    pq = slope * core[base + ZQ] + drop * core[base + RQ]
    total = slope * pz + drop * pr + var
    # A channel's own error does not average out: however long a pack rests, SOC is no better known than by that.
    known, least = core[base + ZZ], cfg.cell_bias_v * cfg.cell_bias_v / (slope * slope)
    core[base + ZZ] = max(known - pz * pz / total, min(known, least))
    core[base + ZR] -= pz * pr / total
    core[base + ZQ] -= pz * pq / total
    core[base + RR] -= pr * pr / total
    core[base + RQ] -= pr * pq / total
    core[base + QQ] -= pq * pq / total
    bound = np.float32(cfg.cell_outlier * math.sqrt(total))
    k_z, k_r, k_q = np.float32(pz / total), np.float32(pr / total), np.float32(pq / total)
    h = np.float32(slope)
    for c in range(cell.shape[1]):
        d = cell[D_SOC, c]
        own = _TWO * work[lifts, c] / (d if abs(d) > _TANGENT else _ONE) - h  # from the chord: the slope at the cell
        own = own if own > _FLAT * h else _FLAT * h
        share = own / h if own < h else h / own
        e = resid[k, row, c]
        e = e if e == e else _ZERO
        e = e * share if abs(d) > _TANGENT else e
        e = e if e < bound else bound
        work[line, c] = e if e > -bound else -bound
    for c in range(cell.shape[1]):
        x = cell[D_SOC, c] + k_z * work[line, c]
        x = x if x < _SOC_MAX else _SOC_MAX
        cell[D_SOC, c] = x if x > -_SOC_MAX else -_SOC_MAX
    for c in range(cell.shape[1]):
        x = cell[D_R0, c] + k_r * work[line, c]
        x = x if x < _R0_MAX else _R0_MAX
        cell[D_R0, c] = x if x > _R0_MIN else _R0_MIN
    for c in range(cell.shape[1]):
        x = cell[D_Q, c] + k_q * work[line, c]
        x = x if x < _Q_MAX else _Q_MAX
        cell[D_Q, c] = x if x > -_Q_MAX else -_Q_MAX


@njit(cache=True, error_model="numpy", inline="always")
def usable(cell, z, work, bits, line):
    """Find the charge that the pack can give and take: (left in the emptiest cell, room in the fullest, which, which).

    In units of the median cell group's capacity: min z_c Q_c and min (1 − z_c) Q_c.  `work[line]` and
    the next are overwritten; `bits` is the same memory as int32.
    """
    z32 = np.float32(z)
    for c in range(cell.shape[1]):
        x = z32 + cell[D_SOC, c]
        x = x if x > _ZERO else _ZERO
        x = x if x < _ONE else _ONE
        work[line, c] = x * (_ONE + cell[D_Q, c])
    for c in range(cell.shape[1]):
        x = z32 + cell[D_SOC, c]
        x = x if x > _ZERO else _ZERO
        x = x if x < _ONE else _ONE
        work[line + 1, c] = (_ONE - x) * (_ONE + cell[D_Q, c])
    low = smallest(bits, line, cell.shape[1])
    high = smallest(bits, line + 1, cell.shape[1])
    return np.float64(work[line, low]), np.float64(work[line + 1, high]), low, high


@njit(cache=True, error_model="numpy")
def smallest(bits, line, cells):
    """Find the first of `cells` values ≥ 0 in `bits[line]` that is smallest: such floats sort as their bits do."""
    least = np.int32(0x7FFFFFFF)
    for c in range(cells):
        b = bits[line, c]
        least = b if b < least else least
    for c in range(cells):
        if bits[line, c] == least:
            return c
    return 0


@njit(cache=True, error_model="numpy", inline="always")
def report(cell, out, row):
    """Write the three differences of each cell group into `out[0 … 2, row]`."""
    for k in range(3):
        for c in range(cell.shape[1]):
            out[k, row, c] = cell[k, c]
