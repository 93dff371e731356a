"""What a pack can still do: energy to the discharge limit, and power for ten seconds with what binds it.

Power follows the circuit model to the end of the pulse: with R_t = R0 + Σ R_b (1 − exp(−t/τ_b)) + OCV' t / Q the
current that brings the limiting cell group to its voltage limit is |OCV − V_limit| / R_t, and power is that current
times the pack's voltage under it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from operators.kernels.imbalance import D_R0, smallest
from operators.kernels.ocv import BRANCHES, DOCV, ENERGY, OCV, R0, RB, look_up

VOLTAGE, CURRENT, TEMPERATURE, CHARGE = 0, 1, 2, 3  # what binds

_HALVINGS = 7
_R_MIN = np.float32(0.1)  # of the median resistance: no cell is taken for better than that


@njit(cache=True, error_model="numpy", inline="always")
def headroom(cell, low, high, work, bits, lift, share, pair):
    """Find the room of the cell groups that limit a pulse: (V above the discharge limit, V below the charge limit).

    `low` and `high` are those of the median cell group at the end of a pulse without current, `work[lift]` how far
    each OCV is above the median's.  The room of each is divided by its resistance over the median's.
    `work[share]`, `work[pair]` and the next are overwritten; `bits` is the same memory as int32.
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
    first, second = smallest(bits, pair, cell.shape[1]), smallest(bits, pair + 1, cell.shape[1])
    return np.float64(work[pair, first]), np.float64(work[pair + 1, second])


@njit(cache=True, error_model="numpy")
def pulse(at, core, u, scale, kept, per_a):
    """Give (resistance of a pulse in ohm, RC voltages left at its end in V) of the median cell group.

    `u` is the first column of the RC voltages in `core`, `kept` (BRANCHES,) is exp(−t/τ), `per_a` the SOC that an
    ampere takes during the pulse: OCV falls by it, which a recorded pulse shows as resistance.
    """
    r, left = at[R0], 0.0
    for b in range(BRANCHES):
        r += at[RB + b] * (1.0 - kept[b])
        left += core[u + b] * kept[b]
    return (1.0 + scale) * r + at[DOCV] * per_a, (1.0 + scale) * left


@njit(cache=True, error_model="numpy")
def sop(volts, cells, r_pulse, rest_v, allowed_a, derated, charge_a):
    """Give (power in W ≥ 0, what binds it) from the current that each limit allows.

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
    return max(amps * cells * (rest_v - amps * r_pulse), 0.0), limit


@njit(cache=True, error_model="numpy")
def soe(table, z, left, temp_c, scale, amps, v_min, at):
    """Give the energy of one Ah·cell group's worth of charge above the limit, in V (times Ah and groups: Wh).

    From SOC `z` down by `left`, or to where the cell under `amps` reaches `v_min`, less the loss in the
    steady-state resistance on the way.  `at` (WIDTH,) holds the table's values at `z`, and is overwritten.
    """
    top, r_high = at[ENERGY], _steady(at)
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
    bottom, r_low = at[ENERGY], _steady(at)
    look_up(table, 0.5 * (low + z), temp_c, at)
    r = (r_low + 4.0 * _steady(at) + r_high) / 6.0  # Simpson over the way
    return max(top - bottom - (1.0 + scale) * r * amps * (z - low), 0.0)


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
def mean_power(before_w, watts, dt_s, memory_s):
    """Average discharge power exponentially over the past `memory_s`."""
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
