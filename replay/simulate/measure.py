"""What the vehicle's BMS makes of it: bleed resistors, and frames as its sensors see the pack."""

from __future__ import annotations

import numpy as np
from numba import njit

from replay.simulate.cell import R0, soc_at, temp_at, value_at
from replay.simulate.draws import normal
from replay.simulate.state import (
    BALANCING,
    BEFORE_A,
    BURNT,
    CAPACITY_AH,
    CHARGE_TYPE,
    CHARGING,
    COOLANT_C,
    DRIVING,
    EVENT,
    LEFT_M,
    MODE,
    NOW_A,
    ODO_M,
    PARKED,
    PLACE,
    R0_MEAN,
    SEQ,
    SOC,
    SOC_BMS,
    SOC_HIGH,
    SOC_LOW,
    SPEED,
    SUB_STEP_S,
    SUM_V,
    T_MAX,
    TRIP_M,
    V_LOW,
)
from replay.simulate.tracks import position


@njit(cache=True, error_model="numpy", inline="always")
def balance(s, m, v, bleed, noise_v, key):
    """Choose which groups bleed: near rest above 60 % while charging, what is well above the lowest."""
    on = s[MODE] == CHARGING and s[SOC_BMS] > 0.6 and s[NOW_A] < m.nominal_ah / 4.0
    s[BALANCING] = 1.0 if on else 0.0
    if not on:
        for c in range(v.size):
            bleed[c] = False
        return
    for c in range(v.size):
        above = v[c] + noise_v * normal(key, 20_000 + c) - s[V_LOW]
        bleed[c] = above > (0.005 if bleed[c] else 0.010)


@njit(cache=True, error_model="numpy", inline="always")
def emit(f, packs, m, v, out, n, tick, mode, key, ambient, period_s):
    """Write one frame as the vehicle's BMS measures it, and the truth beside it."""
    s, cells = f.s[v], f.z.shape[1]
    noise = packs.noise_v[v]
    slope = (s[NOW_A] - s[BEFORE_A]) / min(period_s, SUB_STEP_S) * packs.sweep_s[v] * s[R0_MEAN]
    low, mask = 1e9, np.uint64(0)
    for c in range(cells):
        x = f.v[v, c] + packs.sense_v[v, c] + noise * normal(key, 1000 + c) - slope * (1.0 - (c + 1.0) / cells)
        if s[BALANCING] > 0.0:  # current in the sense wires
            wire = 2.0 * f.bleed[v, c]
            if c:
                wire -= 1.0 * f.bleed[v, c - 1]
            if c + 1 < cells:
                wire -= 1.0 * f.bleed[v, c + 1]
            x -= 1.5e-3 * wire
            if f.bleed[v, c] and c < 64:
                mask |= np.uint64(1) << np.uint64(c)
        x = max(np.floor(x * 1000.0 + 0.5) * 1e-3, 0.0)
        out.cell_v[n, c] = x
        low = min(low, x)
    s[V_LOW] = low
    step_c = packs.probe_step_c[v]
    for j in range(m.probe_cell.size):
        x = f.probe[v, j] + packs.probe_c[v, j] + 0.12 * normal(key, 10_000 + j)
        out.temp_c[n, j] = np.floor(x / step_c + 0.5) * step_c if x < 150.0 else np.nan
    i = s[NOW_A] * packs.gain[v] + packs.offset_a[v] + 0.3 * m.current_step_a * normal(key, 902)
    out.current_a[n] = np.floor(i / m.current_step_a + 0.5) * m.current_step_a
    x = s[SUM_V] + m.sum_offset_v + packs.pack_offset_v[v] + 0.3 * m.pack_step_v * normal(key, 903)
    out.pack_v[n] = max(np.floor(x / m.pack_step_v + 0.5) * m.pack_step_v, 0.0)
    out.pack[n], out.tick[n], out.seq[n] = v, tick, int(s[SEQ])
    s[SEQ] += 1
    out.soc_bms[n] = np.floor(s[SOC_BMS] * 200.0 + 0.5) / 200.0
    out.speed_kmh[n] = np.floor(s[SPEED] * 36.0 + 0.5) * 0.1
    out.odo_km[n] = np.floor(s[ODO_M] * 0.01) * 0.1
    lat, lon = f.places[v, int(s[PLACE]), 0], f.places[v, int(s[PLACE]), 1]
    if s[MODE] == DRIVING:
        share = min(max(1.0 - s[LEFT_M] / max(s[TRIP_M], 1.0), 0.0), 1.0)
        lat, lon = position(f.places[v], int(s[PLACE]), int(f.goal[v, int(s[EVENT])]), share)
    out.lat_deg[n] = lat + 2.5e-5 * normal(key, 904)
    out.lon_deg[n] = lon + 2.5e-5 * normal(key, 905)
    out.ambient_c[n] = np.floor(2.0 * (ambient + 0.4 * normal(key, 906)) + 0.5) * 0.5
    out.coolant_c[n] = np.floor(2.0 * s[COOLANT_C] + 0.5) * 0.5
    isolation = packs.isolation_ohm[v] * (1.0 + 0.03 * normal(key, 907))
    out.isolation_ohm[n] = isolation if s[BURNT] == 0.0 else 0.01 * isolation
    out.contactor_state[n] = 2 if mode != PARKED else 0
    out.hvil[n] = 1
    out.drive_state[n] = mode
    out.charge_type[n] = int(s[CHARGE_TYPE]) if mode == CHARGING else 0
    out.balancing_mask[n] = mask
    true = out.true_scalars[n]
    true[0], true[1], true[2], true[3] = s[SOC], s[SOC_LOW], s[SOC_HIGH], s[CAPACITY_AH]
    true[4], true[5], true[6] = s[R0_MEAN], s[NOW_A], s[T_MAX]
    if out.true_soc_cell.shape[0]:
        for c in range(cells):
            out.true_soc_cell[n, c] = f.z[v, c]
            k, wz = soc_at(f.z[v, c])
            j, wt = temp_at(f.temp_c[v, c], m.table.shape[0])
            out.true_r0_cell[n, c] = f.r_factor[v, c] * value_at(m.table, j, wt, k, wz, R0)
            out.true_capacity_cell[n, c] = f.capacity_as[v, c] / 3600.0
