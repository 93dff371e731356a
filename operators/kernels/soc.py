"""SOC of a pack's median cell group: a Kalman filter on SOC and on what falsifies it for long.

    v = OCV(z, T) + M h + b + (1 + s) (i R0 + Σ u)          dz = (i / Q − o) (1 + q) dt

Estimated are SOC z, a slow voltage error b (of the OCV table and of the hysteresis), the resistances' scale s, the
capacity that is missing q = Q/Q_true − 1, and the current sensor's offset o.  The RC voltages u and the hysteresis h
(one-state model, Plett, J. Power Sources 134 (2004) 277) follow the current alone.

What an error that lasts can hide must not be averaged away.  b stays as uncertain as the table is until
SOC moves on to another part of the curve: where OCV is flat, frames may come for years and tell nothing.
Errors of the RC model last as long as its branches, so their variance is scaled by 1 + τ / dt, and a cell learns as
much per hour from 1 s frames as from 10 s frames.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from operators.kernels.ocv import BRANCHES, DOCV, OCV, R0, RB, ocv_at

# The estimated numbers, and their place in the covariance.
Z, BIAS, SCALE, FADE, OFFSET = range(5)
_STATES = 5

# Places in `core`, one slot's row (CORE,) of the state array, float64.  The estimated numbers come first.
P = _STATES  # upper triangle of their covariance, row by row
P_ZZ, P_BB, P_SS, P_QQ, P_OO = P, P + 5, P + 9, P + 12, P + 14
STARTED = P + 15  # 0 before the first usable frame
TEMP_C = STARTED + 1  # last known temperature
CURRENT_A = TEMP_C + 1  # of the frame before; NaN where unknown
LOST_S = CURRENT_A + 1  # time without known current, until it is known again
U = LOST_S + 1  # voltages of the RC branches, BRANCHES of them
U_VAR = U + BRANCHES  # V², what is not known of each
H = U_VAR + BRANCHES  # hysteresis, −1 … 1
PACK_OFFSET_V = H + 1  # pack_v / C − median cell
POWER_W = PACK_OFFSET_V + 1  # mean discharge power, exponentially over the past
HEAT_W = POWER_W + 1  # mean heat of the median cell group, alike: what a load that swings loses beyond its mean
SOC_END = HEAT_W + 1

P_ZZ_MAX = 1.0 / 12.0  # of a SOC about which nothing is known
_P_ZZ_MIN = 1e-8
_CHORD_FROM = 0.01  # standard deviation of SOC below which the tangent will do
_GRID = 201  # SOCs that the first voltage is weighed against
_SURPRISE = 9.0  # standard deviations², beyond which a voltage after a silence says that charge has passed
_FADE_MIN, _FADE_MAX = -0.3, 1.0
_OFFSET_MAX = 0.03


@njit(cache=True, error_model="numpy")
def start(core, table, at, cell, cfg, v, i, temp_c, by_cell, soc_bms):
    """Begin a pack at its first usable frame: every SOC weighed by how well it explains the voltage.

    `at` holds the table's values (WIDTH,) at any SOC and this temperature.  What the load hides is uncertainty.  The
    vehicle's own SOC `soc_bms` (NaN: none), trusted to `cfg.bms_std`, tells where the voltage does not, and
    is never looked at again.  With `cfg.initial_soc` that SOC is taken instead.  Says whether `v` has been used up.
    """
    load = i if i == i else 0.0
    # what went before is unknown: the branches may hold the drop of this load, or of one as usual
    usual = abs(load) + cfg.unknown_c_rate * cell.capacity_ah
    for k in range(SOC_END):
        core[k] = 0.0
    for b in range(BRANCHES):
        core[U_VAR + b] = (at[RB + b] * usual) ** 2
    core[STARTED] = 1.0
    core[TEMP_C] = temp_c
    core[CURRENT_A] = i
    table_var = _table_var(cell, cfg, 0.0) + cell.hysteresis_v * cell.hysteresis_v
    core[P_BB] = table_var
    core[P_SS] = cfg.scale * cfg.scale
    core[P_QQ] = cell.fade * cell.fade
    core[P_OO] = cfg.offset * cfg.offset
    if cfg.initial_soc == cfg.initial_soc:
        core[Z] = cfg.initial_soc
        core[P_ZZ] = cfg.initial_soc_std * cfg.initial_soc_std
        return False
    drop = load * at[R0]
    rest = cfg.noise_v * cfg.noise_v + drop * drop * core[P_SS]
    if i != i:
        rest += (at[R0] * usual) ** 2
    if not by_cell:
        rest += cfg.pack_noise_v * cfg.pack_noise_v
    for b in range(BRANCHES):
        rest += core[U_VAR + b]
    known_bms = 0.0 <= soc_bms <= 1.0
    # moments of SOC and of the table's error over all SOCs, in two passes: the best first, then weights below 1
    best = -math.inf
    total = m_z = m_zz = m_e = m_ee = m_ze = 0.0
    for weigh in range(2):
        for k in range(_GRID):
            z = k / (_GRID - 1.0)
            slope = (ocv_at(table, z + 0.0025, temp_c) - ocv_at(table, z - 0.0025, temp_c)) / 0.005
            bias_var = _table_var(cell, cfg, slope) + cell.hysteresis_v * cell.hysteresis_v
            var = rest + bias_var
            e = v - drop - ocv_at(table, z, temp_c)
            likely = -0.5 * (e * e / var + math.log(var))
            if known_bms:
                likely -= 0.5 * ((z - soc_bms) / cfg.bms_std) ** 2
            if weigh == 0:
                best = max(best, likely)
                continue
            w, e = math.exp(likely - best), e * bias_var / var
            total += w
            m_z += w * z
            m_zz += w * z * z
            m_e += w * e
            m_ee += w * (e * e + bias_var * rest / var)
            m_ze += w * z * e
    z, bias = m_z / total, m_e / total
    core[Z], core[BIAS] = z, bias
    core[P_ZZ] = max(m_zz / total - z * z, 1.0 / (12.0 * _GRID * _GRID))
    core[P_BB] = max(m_ee / total - bias * bias, 0.0)
    core[P + BIAS] = m_ze / total - z * bias
    return True


@njit(cache=True, error_model="numpy")
def move(core, cell, cfg, dt_s, i):
    """Count charge over the `dt_s` before this frame, whose current is `i`; NaN is unknown.

    Returns (change of SOC, variance of what is not known of it, mean current; NaN where nobody knows it).  Over an
    interval that is too long, or that has an unknown end, nothing is counted and the uncertainty grows with time.
    """
    i_before = core[CURRENT_A]
    core[CURRENT_A] = i
    full_as = 3600.0 * cell.capacity_ah
    d_var = cfg.soc_noise * dt_s
    if i == i and i_before == i_before and dt_s <= cfg.hold_s:
        mean_a = 0.5 * (i + i_before)
        missed = min(cfg.between * math.sqrt(max(dt_s / cfg.between_s, 1.0)), 1.0)
        rough = missed * (i - i_before) * dt_s / full_as
        by_q = mean_a * dt_s / full_as - core[OFFSET] * dt_s / 3600.0
        by_o = -(1.0 + core[FADE]) * dt_s / 3600.0
        d_z = by_q * (1.0 + core[FADE])
        d_var += rough * rough
        core[LOST_S] = 0.0
        core[P_ZZ] += by_q * (2.0 * core[P + FADE] + by_q * core[P_QQ] + 2.0 * by_o * core[P_QQ + 1])
        core[P_ZZ] += by_o * (2.0 * core[P + OFFSET] + by_o * core[P_OO])
        core[P + BIAS] += by_q * core[P_BB + 2] + by_o * core[P_BB + 3]
        core[P + SCALE] += by_q * core[P_SS + 1] + by_o * core[P_SS + 2]
        core[P + FADE] += by_q * core[P_QQ] + by_o * core[P_QQ + 1]
        core[P + OFFSET] += by_q * core[P_QQ + 1] + by_o * core[P_OO]
        core[Z] = min(max(core[Z] + d_z, 0.0), 1.0)
        return d_z, d_var, mean_a
    # who falls silent at rest sleeps until the next frame: `wake` doubts it where the voltage does
    asleep = i == i and abs(i_before) < cfg.rest_c_rate * cell.capacity_ah  # false where that is unknown
    rate = cfg.unseen_c_rate if asleep else cfg.unknown_c_rate
    lost = core[LOST_S]
    # the same unknown current all along: the standard deviation grows with time, however it was cut
    d_var += (rate / 3600.0) ** 2 * ((lost + dt_s) * (lost + dt_s) - lost * lost)
    core[LOST_S] = 0.0 if i == i and i_before == i_before else lost + dt_s
    return 0.0, d_var, math.nan


@njit(cache=True, error_model="numpy")
def relax(core, cell, cfg, at, decay, dt_s, d_z, d_var, mean_a):
    """Advance what follows the current, and the covariance, over `dt_s`.

    `at` (WIDTH,): table values here; `decay` (BRANCHES,): exp(−dt/τ) of each branch.
    """
    unknown = mean_a != mean_a
    drive, hidden, passed = mean_a, 0.0, abs(d_z)
    if unknown:
        passed = math.sqrt(max(d_var - cfg.soc_noise * dt_s, 0.0))
        drive, hidden = 0.0, min(passed * 3600.0 / max(dt_s, 1.0), cfg.unknown_c_rate) * cell.capacity_ah
    for b in range(BRANCHES):
        a, gain = decay[b], (1.0 - decay[b]) * at[RB + b]
        core[U + b] = a * core[U + b] + gain * drive
        core[U_VAR + b] = a * a * core[U_VAR + b] + gain * gain * hidden * hidden
    cold = cfg.bias_c * at[R0] * cell.capacity_ah
    fresh_var = _table_var(cell, cfg, at[DOCV]) + cold * cold
    if passed > 0.0 and cell.hysteresis_v > 0.0:
        keep = 1.0 / (1.0 + passed * cfg.hysteresis_rate)
        if unknown:
            fresh_var += cell.hysteresis_v * cell.hysteresis_v
        else:
            core[H] = keep * core[H] + (1.0 - keep) * (1.0 if d_z > 0.0 else -1.0)
    # along the curve the table's error is another one
    b_keep = 1.0 / ((1.0 + dt_s / cfg.bias_tau_s) * (1.0 + passed / cfg.bias_soc))
    s_keep = 1.0 / (1.0 + dt_s / cfg.scale_tau_s)
    core[BIAS] *= b_keep
    core[SCALE] *= s_keep
    core[P + BIAS] *= b_keep
    core[P + SCALE] *= s_keep
    core[P_BB + 1] *= b_keep * s_keep
    core[P_BB + 2] *= b_keep
    core[P_BB + 3] *= b_keep
    core[P_SS + 1] *= s_keep
    core[P_SS + 2] *= s_keep
    core[P_BB] += (fresh_var - core[P_BB]) * (1.0 - b_keep * b_keep)
    core[P_SS] += (cfg.scale * cfg.scale - core[P_SS]) * (1.0 - s_keep * s_keep)
    core[P_QQ] = min(core[P_QQ] + cfg.drift_q * dt_s, max(core[P_QQ], cell.fade * cell.fade))
    core[P_OO] = min(core[P_OO] + cfg.drift_offset * dt_s, max(core[P_OO], cfg.offset * cfg.offset))
    core[P_ZZ] += d_var
    _bound(core)


@njit(cache=True, error_model="numpy")
def _bound(core):
    """Keep the variance of SOC below that of knowing nothing."""
    if core[P_ZZ] > P_ZZ_MAX:
        shrink = math.sqrt(P_ZZ_MAX / core[P_ZZ])
        for k in range(1, _STATES):
            core[P + k] *= shrink
        core[P_ZZ] = P_ZZ_MAX


@njit(cache=True, error_model="numpy")
def wake(core, cell, cfg, at, v, i, silence_s):
    """Doubt that nothing flowed in a silence, where the first voltage `v` after it, under `i`, says otherwise."""
    drop = i * at[R0]
    innov = v - (at[OCV] + cell.hysteresis_v * core[H] + core[BIAS] + (1.0 + core[SCALE]) * drop)
    var = at[DOCV] * (at[DOCV] * core[P_ZZ] + 2.0 * core[P + BIAS]) + core[P_BB] + cfg.noise_v * cfg.noise_v
    var += drop * drop * (cfg.skew * cfg.skew + core[P_SS])
    for b in range(BRANCHES):
        var += core[U_VAR + b]
    if innov * innov > _SURPRISE * var:
        core[P_ZZ] += (cfg.unknown_c_rate * silence_s / 3600.0) ** 2
        _bound(core)


@njit(cache=True, error_model="numpy")
def correct(core, table, tau_s, cell, cfg, at, v, i, d_drop, extra_var, dt_s):
    """Learn from the voltage `v` of the median cell group under current `i`; the innovation and its variance, V, V².

    `at` (WIDTH,) holds the table's values here; `d_drop` is the step of i·R0 in V since the
    frame before (cells are read one after another), `extra_var` V² what the source of `v` adds to the noise.  The
    slope of OCV is that over one standard deviation of SOC to both sides (central differences: Nørgaard et al.,
    Automatica 36 (2000) 1627), and what the curve bends between counts as noise.
    """
    drop = i * at[R0]
    branches = lasting = 0.0
    for b in range(BRANCHES):
        u = core[U + b]
        drop += u
        rough = cfg.branch_noise * u
        lasting += core[U_VAR + b]
        branches += rough * rough * (1.0 + tau_s[b] / dt_s)
    innov = v - (at[OCV] + cell.hysteresis_v * core[H] + core[BIAS] + (1.0 + core[SCALE]) * drop)
    full = cfg.noise_c * at[R0] * cell.capacity_ah
    load, skew = cfg.load_noise * drop, cfg.skew * d_drop
    lasting += extra_var + cfg.noise_v * cfg.noise_v + full * full + load * load
    h, z, std = at[DOCV], core[Z], math.sqrt(core[P_ZZ])
    if std > _CHORD_FROM:
        # where SOC is not well known, the tangent here says little about the curve there: take the chord
        low, high = max(z - std, 0.0), min(z + std, 1.0)
        v_low, v_high = ocv_at(table, low, core[TEMP_C]), ocv_at(table, high, core[TEMP_C])
        h = (v_high - v_low) / (high - low)
        bend = v_low + h * (z - low) - at[OCV]
        # beside a plateau the mean voltage of where SOC may be is that of the chord: a knee, seen or missed, tells
        innov -= cell.plateau * bend
        lasting += bend * bend
    var = branches + lasting * (1.0 + cfg.noise_tau_s / dt_s) + skew * skew
    seen_z = h * core[P_ZZ] + core[P + BIAS] + drop * core[P + SCALE]
    seen_b = h * core[P + BIAS] + core[P_BB] + drop * core[P_BB + 1]
    seen_s = h * core[P + SCALE] + core[P_BB + 1] + drop * core[P_SS]
    seen_q = h * core[P + FADE] + core[P_BB + 2] + drop * core[P_SS + 1]
    seen_o = h * core[P + OFFSET] + core[P_BB + 3] + drop * core[P_SS + 2]
    total = h * seen_z + seen_b + drop * seen_s + var
    bound = cfg.outlier * math.sqrt(total)
    e = min(max(innov, -bound), bound) / total
    _take(core, (seen_z, seen_b, seen_s, seen_q, seen_o), total, e)
    return innov, total


@njit(cache=True, error_model="numpy")
def see_offset(core, cell, cfg, i, dt_s):
    """Learn the current sensor's offset from what it shows, `i`, where no current can flow."""
    total = core[P_OO] + cfg.open_noise * cfg.open_noise * (1.0 + cfg.open_tau_s / dt_s)
    seen = (core[P + OFFSET], core[P_BB + 3], core[P_SS + 2], core[P_QQ + 1], core[P_OO])
    _take(core, seen, total, (i / cell.capacity_ah - core[OFFSET]) / total)


@njit(cache=True, error_model="numpy")
def _take(core, seen, total, e):
    """Move what is estimated by an innovation over its variance, `e`; `seen` is its covariance with each number."""
    core[Z] = min(max(core[Z] + seen[Z] * e, 0.0), 1.0)
    core[BIAS] += seen[BIAS] * e
    core[SCALE] = max(core[SCALE] + seen[SCALE] * e, -0.8)
    core[FADE] = min(max(core[FADE] + seen[FADE] * e, _FADE_MIN), _FADE_MAX)
    core[OFFSET] = min(max(core[OFFSET] + seen[OFFSET] * e, -_OFFSET_MAX), _OFFSET_MAX)
    k = P
    for a in range(_STATES):
        part = seen[a] / total
        for b in range(a, _STATES):
            core[k] -= part * seen[b]
            k += 1
    core[P_ZZ] = max(core[P_ZZ], _P_ZZ_MIN)


@njit(cache=True, error_model="numpy")
def _table_var(cell, cfg, slope):
    """Give the variance of the slow voltage error where OCV has that slope: table and hysteresis, V²."""
    own = cfg.borrowed_v if cell.borrowed else cfg.bias_v
    along = cfg.borrowed_soc * slope if cell.borrowed else 0.0
    loop = cfg.hysteresis_share * cell.hysteresis_v
    return own * own + along * along + loop * loop


@njit(cache=True, error_model="numpy")
def decays(tau_s, dt_s, out):
    """Write exp(−dt/τ) of each branch into `out` (BRANCHES,)."""
    for b in range(tau_s.size):
        out[b] = math.exp(-dt_s / tau_s[b])


def fresh(core: np.ndarray) -> None:
    """Set the values of slots never used."""
    core[:, TEMP_C] = 25.0
    core[:, CURRENT_A] = np.nan
