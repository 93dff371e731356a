"""Physics of one cell group: OCV, RC branches, hysteresis, heat, as compiled functions without state of their own.

Voltage of a group at SOC z and temperature T, current i positive into it:

    v = ocv(z, T) + h + i r0(z, T) + Σ u_b        τ_b du_b/dt = i rb(z, T) − u_b        dh/dq = γ (H sign(i) − h)

Each interval is solved exactly for a current that is constant in pieces (no step-size error): all groups of a pack
share i and τ, so the pieces are folded once per pack into a decay and a drive per branch.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OCV, R0, RB = 0, 1, 2  # columns of a cell table; branch b is at RB + b
SOC_STEPS, TEMP_LOW_C, TEMP_STEP_C = 200, -30.0, 5.0  # the axes of PackGrid
HYSTERESIS_RATE = 25.0  # γ per full charge: 4 % of capacity turns the branch round by 63 %
ZERO_C_K = 273.15


def cell_table(ocv_v: Floats, r0_ohm: Floats, rb_ohm: Floats) -> NDArray[np.float32]:
    """Interleave tables (T, K), (T, K) and (B, T, K) for look-up: (T, K − 1, 2 + B, 4).

    The last axis holds a value and its differences over SOC, over temperature and over both, so that one look-up
    reads one stretch of memory.
    """
    x = np.stack([ocv_v, r0_ohm, *rb_ohm], axis=-1)
    x = np.concatenate([x, x[-1:]])  # above the last temperature nothing changes
    d_soc, d_temp = np.diff(x, axis=1), np.diff(x, axis=0)
    parts = (x[:-1, :-1], d_soc[:-1], d_temp[:, :-1], np.diff(d_temp, axis=1))
    return np.ascontiguousarray(np.stack(parts, axis=-1), np.float32)


@njit(cache=True, error_model="numpy")
def soc_at(z):
    """Find SOC on the table's axis: lower index and weight; beyond 0..1 the edge is continued in a straight line."""
    x = np.float32(z) * np.float32(SOC_STEPS)
    k = min(max(np.int32(x), np.int32(0)), np.int32(SOC_STEPS - 1))
    return k, x - np.float32(k)


@njit(cache=True, error_model="numpy")
def temp_at(temp_c, temps):
    """Find a temperature on the table's axis of `temps` rows: lower index and weight, clamped at the edges."""
    x = (np.float32(temp_c) - np.float32(TEMP_LOW_C)) * np.float32(1.0 / TEMP_STEP_C)
    x = min(max(x, np.float32(0.0)), np.float32(temps - 1))
    j = np.int32(x)
    return j, x - np.float32(j)


@njit(cache=True, error_model="numpy")
def value_at(table, j, wt, k, wz, m):
    """Read column `m` of a cell table, bilinear."""
    return (table[j, k, m, 0] + wz * table[j, k, m, 1]) + wt * (table[j, k, m, 2] + wz * table[j, k, m, 3])


@njit(cache=True, error_model="numpy")
def fold(current_a, dt_s, tau_s, decay, drive):
    """Add a piece of constant current to an interval, in place: u after it = decay·u before + rb·drive."""
    for b in range(tau_s.size):
        e = np.exp(-dt_s / tau_s[b])
        decay[b] *= e
        drive[b] = drive[b] * e + current_a * (1.0 - e)


@njit(cache=True, error_model="numpy")
def hysteresis_after(h_v, amplitude_v, charge_ah, capacity_ah):
    """Move the hysteresis voltage by a net charge (Plett's one-state form), V."""
    if charge_ah == 0.0:
        return h_v
    end = amplitude_v if charge_ah > 0.0 else -amplitude_v
    return end + (h_v - end) * np.exp(-HYSTERESIS_RATE * abs(charge_ah) / capacity_ah)


@njit(cache=True, error_model="numpy")
def temp_after(temp_c, heat_w, inertia, loss, env_c, beside, around_c, count):
    """Move a group's temperature by one implicit step, stable at any dt.

    inertia = heat capacity over dt (W/K); loss (W/K) to env_c; beside (W/K) to each of `count` neighbours whose
    temperatures sum to around_c.  With T after it: inertia · ΔT = heat − loss (T − env) − beside (count T − around).
    """
    return (inertia * temp_c + heat_w + loss * env_c + beside * around_c) / (inertia + loss + beside * count)


@njit(cache=True, error_model="numpy")
def _trace(table, temp_c, tau_s, capacity_ah, soc0, hysteresis_v, t_s, current_a, u, v, soc):
    z, h = soc0, 0.0
    decay, drive = np.ones(tau_s.size), np.zeros(tau_s.size)
    j, wt = temp_at(temp_c, table.shape[0])
    for n in range(t_s.size):
        if n:
            dt_s = t_s[n] - t_s[n - 1]
            charge_ah = current_a[n] * dt_s / 3600.0
            z += charge_ah / capacity_ah
            h = hysteresis_after(h, hysteresis_v, charge_ah, capacity_ah)
            for b in range(tau_s.size):
                decay[b], drive[b] = 1.0, 0.0
            fold(current_a[n], dt_s, tau_s, decay, drive)
        k, wz = soc_at(z)
        v[n] = value_at(table, j, wt, k, wz, OCV) + h + current_a[n] * value_at(table, j, wt, k, wz, R0)
        for b in range(tau_s.size):
            u[b] = decay[b] * u[b] + value_at(table, j, wt, k, wz, RB + b) * drive[b]
            v[n] += u[b]
        soc[n] = z


def voltage_trace(
    table: NDArray[np.float32],
    tau_s: NDArray[np.float64],
    capacity_ah: float,
    t_s: NDArray[np.float64],
    current_a: NDArray[np.float64],
    *,
    temp_c: float = 25.0,
    soc0: float = 1.0,
    hysteresis_v: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give voltage (N,) and SOC (N,) of one rested group at a fixed temperature under a recorded current.

    `current_a[n]` holds from `t_s[n − 1]` to `t_s[n]`; `table` as `cell_table` makes it.
    """
    v, soc = np.empty(t_s.size), np.empty(t_s.size)
    u = np.zeros(tau_s.size)
    _trace(table, temp_c, tau_s, capacity_ah, soc0, hysteresis_v, t_s, current_a, u, v, soc)
    return v, soc
