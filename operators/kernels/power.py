"""What a pack can still do: energy to the discharge limit, and power for 2, 10 and 30 s with what binds it.

Power follows the circuit model to the end of the pulse: with R_t = R0 + Σ R_b (1 − exp(−t/τ_b)) + OCV' t / Q the
current that brings the limiting cell group to its voltage limit is |OCV − V_limit| / R_t, and power is that current
times the pack's voltage under it.  How sure that is follows from the filter's covariance, by the slopes of power at the
limit that binds (delta method).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from operators.kernels.imbalance import D_R0, smallest
from operators.kernels.ocv import BRANCHES, DOCV, ENERGY, OCV, R0, RB, look_up, one_at

VOLTAGE, CURRENT, TEMPERATURE, CHARGE = 0, 1, 2, 3  # what binds
PULSES_S = (10.0, 2.0, 30.0)  # the first says which cell groups bind: what differs between them is common to all
PULSES = len(PULSES_S)
NAMES = tuple(f"sop_{way}_{s:.0f}s_w" for s in PULSES_S for way in ("discharge", "charge"))
LIMIT_NAMES = tuple(name.replace("_w", "_limit") for name in NAMES)
STD_NAMES = tuple(name.replace("_w", "_std_w") for name in NAMES)
_MODEL = 0.03  # of a pulse's resistance that fitted tables miss (leaf_cell, 10 … 40 °C)

_HALVINGS = 7
_SWINGS = 4.0  # rms of a load over its mean: 2.7 on LA92
_LEAST_A = 1e-6
_LEAST_OHM = 1e-12  # of a branch that a pack file does not have
_R_MIN = np.float32(0.1)  # of the median resistance: no cell is taken for better than that


@njit(cache=True, error_model="numpy", inline="always")
def binding(cell, low, high, work, bits, lift, share, pair):
    """Find the cell groups that reach their limit with the least current: (discharging, charging).

    `low` and `high` are V between the median cell group at the end of a pulse without current and its limits,
    `work[lift]` how far each OCV is above the median's.  Writes the median's resistance over that of each into
    `work[share]`; `work[pair]` and the next are overwritten; `bits` is the same memory as int32.
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    a, b = np.float32(low), np.float32(high)
    for c in range(cell.shape[1]):
        r = one + cell[D_R0, c]
        work[share, c] = one / (r if r > _R_MIN else _R_MIN)
    for c in range(cell.shape[1]):
        x = (a + work[lift, c]) * work[share, c]
        work[pair, c] = x if x > zero else zero
    for c in range(cell.shape[1]):
        x = (b - work[lift, c]) * work[share, c]
        work[pair + 1, c] = x if x > zero else zero
    return smallest(bits, pair, cell.shape[1]), smallest(bits, pair + 1, cell.shape[1])


@njit(cache=True, error_model="numpy")
def pulse(at, core, u, scale, kept, per_a):
    """Give (resistance of a pulse in ohm, RC voltages left at its end in V, their variance) of the median cell group.

    `u` is the first column of the RC voltages in `core`, their variances follow them, `kept` (BRANCHES,) is exp(−t/τ),
    `per_a` the SOC that an ampere takes during the pulse: OCV falls by it, which a recorded pulse shows as resistance.
    """
    r, left, var = at[R0], 0.0, 0.0
    for b in range(BRANCHES):
        r += at[RB + b] * (1.0 - kept[b])
        left += core[u + b] * kept[b]
        var += core[u + BRANCHES + b] * kept[b] * kept[b]
    return (1.0 + scale) * r + at[DOCV] * per_a, (1.0 + scale) * left, var


@njit(cache=True, error_model="numpy")
def sop(volts, cells, r_pulse, rest_v, allowed_a, derated, charge_a):
    """Give (power in W ≥ 0, what binds it, the current) from the current that each limit allows.

    `volts` is the current to the voltage limit, `allowed_a` the pack's, times `derated` (0..1, by temperature),
    `charge_a` what the charge left (or the room left) gives for the pulse; `rest_v` is the median cell group's
    voltage at the end without the pulse's current, `r_pulse` signed: + where the current lowers the voltage.
    """
    amps, limit = volts, VOLTAGE
    if allowed_a < amps:
        amps, limit = allowed_a, CURRENT
    if derated < 1.0 and allowed_a * derated < amps:
        amps, limit = allowed_a * derated, TEMPERATURE
    if charge_a < amps:
        amps, limit = charge_a, CHARGE
    return max(amps * cells * (rest_v - amps * r_pulse), 0.0), limit, amps


@njit(cache=True, error_model="numpy")
def sop_std(way, limit, amps, cells, r_pulse, rest_v, slope_v, per_v, whole_a, u_left, u_var, doubt):
    """Give the standard deviation of a power in W, by its slopes where it binds.

    `way` is 1 discharging, −1 charging; `slope_v` is OCV'; `per_v` what the voltage limit allows more per V of rest
    voltage, A; `whole_a` what a whole charge gives for the pulse; `u_left` and `u_var` as `pulse` gives them.  `doubt`:
    variances of the median's SOC and of its distance to a cell group, covariance of SOC with the slow voltage error,
    variance of that; covariance of the scale of resistances, in proportion, with SOC and voltage error, variance of
    that; variance of a cell group's resistance and of the capacity, in proportion.
    """
    z_var, apart_var, zb, b_var, zs, bs, s_var, cell_r_var, q_var = doubt
    per_a = rest_v - 2.0 * way * amps * r_pulse  # of power, W per cell group
    by_v, by_r, by_z, by_q = amps, way * amps * amps * r_pulse, 0.0, 0.0
    r_var = _MODEL * _MODEL
    if limit == VOLTAGE:
        by_v += way * per_a * per_v
        by_r += per_a * amps
        r_var += cell_r_var
    elif limit == CHARGE:
        by_z, by_q = way * per_a * whole_a, per_a * amps
    by_z += by_v * slope_v
    by_s = by_v * u_left - by_r
    var = by_z * by_z * (z_var + apart_var) + by_v * by_v * (b_var + u_var) + by_s * by_s * s_var
    var += 2.0 * (by_z * by_v * zb + by_s * (by_z * zs + by_v * bs))
    return cells * math.sqrt(max(var, 0.0) + by_r * by_r * r_var + by_q * by_q * q_var)


@njit(cache=True, error_model="numpy")
def soe(table, r_to, z, left, temp_c, scale, amps, loss_v, v_min, at):
    """Give the energy of one Ah·cell group's worth of charge above the limit, in V (times Ah and groups: Wh).

    From SOC `z` down by `left`, or to where the cell under `amps` reaches `v_min`, less the loss on the way:
    `loss_v`, heat per charge, here, and elsewhere as the steady-state resistance, whose integral is `r_to`.  `at`
    (WIDTH,) holds the table's values at `z`, and is overwritten.
    """
    top, r_here = at[ENERGY], _steady(at)
    low, high = max(z - left, 0.0), z
    if _loaded(table, low, temp_c, scale, amps, at) < v_min:
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            if _loaded(table, middle, temp_c, scale, amps, at) < v_min:
                low = middle
            else:
                high = middle
        low = 0.5 * (low + high)
    look_up(table, low, temp_c, at)
    way = one_at(r_to, z, temp_c) - one_at(r_to, low, temp_c)
    return max(top - at[ENERGY] - loss_v * way / r_here, 0.0)


@njit(cache=True, error_model="numpy")
def heat(at, core, u, scale, i):
    """Give the heat in W of the median cell group under current `i`: i² R0 and u² / R of each branch."""
    watts = i * i * at[R0]
    for b in range(BRANCHES):
        watts += core[u + b] * core[u + b] / max(at[RB + b], _LEAST_OHM)
    return (1.0 + scale) * watts


@njit(cache=True, error_model="numpy")
def loss(at, heat_w, scale, amps):
    """Give the heat per charge in V under a load of mean current `amps` ≥ 0 that has lately made `heat_w`.

    Where the load has mostly gone to and fro, its heat says little about the one to come, and counts less.
    """
    rms = math.sqrt(heat_w / ((1.0 + scale) * _steady(at)))  # A, were it constant
    least = max(amps, rms / _SWINGS, _LEAST_A)
    return heat_w * amps / (least * least)


@njit(cache=True, error_model="numpy")
def _steady(at):
    r = at[R0]
    for b in range(BRANCHES):
        r += at[RB + b]
    return r


@njit(cache=True, error_model="numpy")
def _loaded(table, z, temp_c, scale, amps, at):
    look_up(table, z, temp_c, at)
    return at[OCV] - (1.0 + scale) * _steady(at) * amps


@njit(cache=True, error_model="numpy")
def mean(before_w, watts, dt_s, memory_s):
    """Average power exponentially over the past `memory_s`."""
    return watts + (before_w - watts) * math.exp(-dt_s / memory_s)


@njit(cache=True, error_model="numpy")
def allowed(temp_c, row, charge_share, discharge_share):
    """Give the shares (0..1) of the largest charge and discharge currents: the coldest and hottest probes bind."""
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for p in range(temp_c.shape[1]):
        t = temp_c[row, p]
        low = t if t < low else low  # false for NaN
        high = t if t > high else high
    if low > high:
        return 1.0, 1.0
    charge = min(derating(charge_share, low), derating(charge_share, high))
    return charge, min(derating(discharge_share, low), derating(discharge_share, high))


@njit(cache=True, error_model="numpy")
def derating(shares, temp_c):
    """Look up the share (0..1) of the largest current at a temperature; `shares` (K,) from −60 °C by 1 K."""
    x = min(max(temp_c + 60.0, 0.0), shares.size - 1.0)
    k = min(int(x), shares.size - 2)
    return shares[k] + (x - k) * (shares[k + 1] - shares[k])
