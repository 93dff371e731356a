"""One vehicle through one interval: current from what it does, then every cell group under that current."""

from __future__ import annotations

import numpy as np
from numba import njit

from replay.simulate.cell import (
    OCV,
    R0,
    RB,
    SOC_STEPS,
    ZERO_C_K,
    fold,
    hysteresis_after,
    soc_at,
    temp_after,
    temp_at,
    value_at,
)
from replay.simulate.duty import speed_after, traction_w
from replay.simulate.pack import DERATE_LOW_C
from replay.simulate.state import (
    AC_W,
    AMBIENT_C,
    BEFORE_A,
    BURNT,
    CAPACITY_AH,
    CHARGE_AH,
    CHARGE_TYPE,
    CHARGING,
    CLIMATE_W,
    COOLANT_C,
    DC,
    DOWN_A,
    DRIVING,
    HEAT_W,
    HYST_V,
    LEFT_M,
    MODE,
    NOW_A,
    ODO_M,
    PACK_V,
    PARKED,
    PUMP,
    R0_MEAN,
    REST_S,
    SOC,
    SOC_BMS,
    SOC_HIGH,
    SOC_LOW,
    SPEED,
    SUB_STEP_S,
    SUM_V,
    T_MAX,
    T_MIN,
    TARGET,
    TRIP_M,
    UP_A,
)

# Faults that act on the physics, by the number in Fleet.fault_kind.
SHORT, RESISTANCE, CAPACITY, COOLING, RUNAWAY = range(5)
MELT_C, BURN_C, BURN_S = 130.0, 150.0, 30.0  # separator fails; self-heating runs away; for so long
BURN_PER_AH_J = 1.6 * 3.7 * 3600.0  # heat of a burning group per Ah: the energy stored and that of its materials
DRAINED = -0.3  # SOC of a group that a short has emptied: its voltage, continued in a straight line, is near 0
HARD = 0.01  # a short of less than a hundred times the group's own resistance takes its share of the voltage


@njit(cache=True, error_model="numpy")
def _share(table, low_c, high_c):
    """Give the smaller derating of the coldest and the hottest group."""
    a = min(max(int(np.floor(low_c)) - DERATE_LOW_C, 0), table.size - 1)
    b = min(max(int(np.ceil(high_c)) - DERATE_LOW_C, 0), table.size - 1)
    return min(table[a], table[b])


@njit(cache=True, error_model="numpy", inline="always")
def _drive(s, p, tau_s, m, key, dt_s, drive):
    """Drive for `dt_s` in pieces of a second, folding each current into `drive`: charge A·s and ∫i² dt."""
    steps = max(int(np.ceil(dt_s / SUB_STEP_S)), 1)
    h = dt_s / steps
    up = min(m.charge_max_a * _share(m.derate_charge, s[T_MIN], s[T_MAX]), max(s[UP_A], 0.0))
    if s[SOC] > 0.95:
        up = 0.0
    down = max(-m.discharge_max_a * _share(m.derate_discharge, s[T_MIN], s[T_MAX]), min(s[DOWN_A], 0.0))
    volts = max(s[PACK_V], 0.5 * m.v_min)
    charge_as, square = 0.0, 0.0
    for j in range(steps):
        before = s[SPEED]
        if s[LEFT_M] > 0.0:
            s[SPEED], s[TARGET] = speed_after(before, s[TARGET], s[LEFT_M], s[TRIP_M], h, key, 1_000_000 + 4 * j)
        else:
            s[SPEED] = 0.0
        moved = 0.5 * (before + s[SPEED]) * h
        s[LEFT_M] -= moved
        s[ODO_M] += moved
        aux = 250.0 + p[CLIMATE_W] * min(abs(s[AMBIENT_C] - 21.0), 35.0)
        power = traction_w(s[SPEED], before, h, m.mass_kg) + aux if s[LEFT_M] > 0.0 else aux
        i = min(max(-power * m.scale / volts, down), up)
        charge_as += i * h
        square += i * i * h
        fold(i, h, tau_s, drive[0], drive[1])
        s[BEFORE_A] = s[NOW_A]
        s[NOW_A] = i
    return charge_as, square


@njit(cache=True, error_model="numpy", inline="always")
def _charge_a(s, p, m):
    """Give the charging current: charger, derating, taper of a DC charger, and constant voltage at the end."""
    limit = min(m.charge_max_a * _share(m.derate_charge, s[T_MIN], s[T_MAX]), max(s[UP_A], 0.0))
    volts = max(s[PACK_V], 0.5 * m.v_min)
    if s[CHARGE_TYPE] == DC:
        taper = min(1.0, max(0.2, 1.0 - (s[SOC_BMS] - 0.65) / 0.35))
        return min(limit, 50_000.0 * m.scale / volts * taper)
    return min(limit, p[AC_W] * m.scale / volts)


@njit(cache=True, error_model="numpy")
def _faults(f, t, v, packs_capacity, packs_r):
    """Set what the faults of vehicle `v` do at time `t`: share of cooling left, and heat on a group (W, index)."""
    for c in range(packs_r.size):  # loops: assigning slices costs seconds of compilation
        f.capacity_as[v, c] = packs_capacity[c]
        f.per_as[v, c] = 1.0 / packs_capacity[c]
        f.r_factor[v, c] = packs_r[c]
        f.shunt_s[v, c] = 0.0
    cooling, heat_w, heated = 1.0, 0.0, -1
    for n in range(f.fault_row[v], f.fault_row[v + 1]):
        start, end, ramp = f.fault_s[n, 0], f.fault_s[n, 1], f.fault_s[n, 2]
        if not start <= t < end:
            continue
        size, c, kind = f.fault_size[n], f.fault_subject[n], f.fault_kind[n]
        grown = min((t - start) / ramp, 1.0) if ramp > 0.0 else 1.0
        if kind == SHORT:
            f.shunt_s[v, c] += grown / size
        elif kind == RESISTANCE:
            f.r_factor[v, c] *= 1.0 + grown * size
        elif kind == CAPACITY:
            f.capacity_as[v, c] *= 1.0 - grown * size
            f.per_as[v, c] = 1.0 / f.capacity_as[v, c]
        elif kind == COOLING:
            cooling *= 1.0 - grown * size
        elif kind == RUNAWAY:
            heat_w, heated = grown * size, c
    return cooling, heat_w, heated


@njit(cache=True, error_model="numpy", inline="always")
def _cells(s, m, table, tau_s, dt_s, decay, drive, next_decay, charge_as, square,
           z, u, temp_c, v, bleed, burnt, capacity_as, per_as, r_factor, rb_factor, shunt_s, leak_a, shape_v,
           heat_factor, loss_factor, flow, heat_extra_w, heated, hurt):  # fmt: skip
    """Move all groups of one pack over an interval; leaves sums over the pack in `s`."""
    f4 = np.float32
    cells, branches, temps = z.size, tau_s.size, table.shape[0]
    period_s = f4(min(dt_s, 60.0))  # the next interval is as long, unless this one was sleep
    one, zero, now_a, hyst_v = f4(1.0), f4(0.0), f4(s[NOW_A]), f4(s[HYST_V])
    mean_a, mean_square = f4(charge_as / dt_s), f4(square / dt_s)
    leak_grow = f4(2.0 ** ((min(0.5 * (s[T_MIN] + s[T_MAX]), BURN_C) - 25.0) / 10.0))
    inertia, loss_w = f4(m.heat_capacity * heat_factor / dt_s), f4(m.loss * loss_factor * (1.0 + flow))
    beside_w, bleed_s, v_max, v_min = f4(m.neighbour), f4(1.0 / m.bleed_ohm), f4(m.v_max), f4(m.v_min)
    # Coolant warms on its way past the groups.
    rise = f4(s[HEAT_W] / (cells * 3.0 * m.heat_capacity / 1800.0) / cells * flow / (1.0 + flow))
    up, down, big = f4(1e9), f4(-1e9), 1e18
    low_as, room_as, soc_low, soc_high = big, big, big, -big
    t_min, t_max, sum_v, heat_sum, r_sum = f4(1e9), f4(-1e9), zero, zero, zero
    tiny = f4(1e-15)  # V: a resting branch must not fade into denormal numbers, which cost a hundred cycles each
    left_c, env_c = zero, f4((s[AMBIENT_C] + flow * s[COOLANT_C]) / (1.0 + flow))
    for c in range(cells):
        old_c = temp_c[c]
        lost_a = leak_a[c] * leak_grow + (shunt_s[c] + f4(bleed[c]) * bleed_s) * v[c]
        if shunt_s[c] > zero:  # whatever the interval, it takes no more than there is, and gives nothing back
            lost_a = min(max(lost_a, zero), max((z[c] - f4(DRAINED)) / (per_as[c] * f4(dt_s)), zero))
        z_c = z[c] + (charge_as - lost_a * dt_s) * per_as[c]
        z[c] = z_c
        k, wz = soc_at(z_c)
        j, wt = temp_at(old_c, temps)
        r0 = r_factor[c] * value_at(table, j, wt, k, wz, R0)
        held, r_all, kept = zero, r0, zero
        for b in range(branches):
            rb = rb_factor[c] * value_at(table, j, wt, k, wz, RB + b)
            x = decay[b] * u[c, b] + rb * drive[b] + tiny
            u[c, b] = x
            held += x
            kept += next_decay[b] * x
            r_all += rb * (one - next_decay[b])
        ocv = value_at(table, j, wt, k, wz, OCV) + shape_v[k] + wz * (shape_v[k + 1] - shape_v[k]) + hyst_v
        v_c = ocv + now_a * r0 + held
        heat = mean_square * r0 + mean_a * (held + (old_c + f4(ZERO_C_K)) * m.entropy_v_per_k[k])
        if hurt:
            if shunt_s[c] * r0 > HARD:
                v_c = max(v_c, zero)
                heat += lost_a * f4(0.5) * (max(v[c], zero) + v_c)
                v_c /= one + shunt_s[c] * r0
            else:
                heat += shunt_s[c] * v_c * v_c
            if c == heated and burnt[c] == zero:
                heat += f4(heat_extra_w)
            if burnt[c] > zero or old_c > BURN_C:
                part = min(dt_s / BURN_S, 1.0 - burnt[c])
                burnt[c] = max(burnt[c] + part, 1e-6)
                heat += f4(part * BURN_PER_AH_J * m.nominal_ah / dt_s)
                s[BURNT] = 1.0
                v_c = zero
            elif old_c > MELT_C:
                v_c *= max(one - (old_c - f4(MELT_C)) / f4(BURN_C - MELT_C), zero)
        around, count = zero, zero
        if c:
            around, count = left_c, one
        if c + 1 < cells:
            around, count = around + temp_c[c + 1], count + one
        near_c = env_c + rise * f4(c)
        new_c = temp_after(old_c, heat, inertia, loss_w * m.loss_at[c], near_c, beside_w, around, count)
        temp_c[c] = new_c
        left_c = old_c
        v[c] = v_c
        sum_v += v_c
        heat_sum += heat
        r_sum += r0
        t_min, t_max = min(t_min, new_c), max(t_max, new_c)
        soc_low, soc_high = min(soc_low, z_c), max(soc_high, z_c)
        low_as, room_as = min(low_as, z_c * capacity_as[c]), min(room_as, (1.0 - z_c) * capacity_as[c])
        # What the next interval may carry: voltage at its end, with the OCV moved by its charge.
        slope_v = f4(SOC_STEPS) * table[j, k, OCV, 1]
        base, conductance = ocv + kept, one / (r_all + slope_v * period_s * per_as[c])
        up, down = min(up, (v_max - base) * conductance), max(down, (v_min - base) * conductance)
    s[UP_A], s[DOWN_A], s[T_MIN], s[T_MAX], s[SUM_V], s[HEAT_W] = up, down, t_min, t_max, sum_v, heat_sum
    s[SOC_LOW], s[SOC_HIGH], s[R0_MEAN] = soc_low, soc_high, r_sum / cells
    s[CAPACITY_AH] = (low_as + room_as) / 3600.0
    s[SOC] = low_as / (low_as + room_as)


@njit(cache=True, error_model="numpy", inline="always")
def advance(f, packs, m, v, t, dt_s, ambient, key, standard):
    """Move one vehicle to time `t`, `dt_s` after where it stood."""
    s, p, tau_s = f.s[v], f.p[v], packs.tau_s[v]
    for b in range(tau_s.size):
        f.drive[0, b], f.drive[1, b] = 1.0, 0.0
    s[AMBIENT_C] = ambient
    if s[MODE] == DRIVING:
        charge_as, square = _drive(s, p, tau_s, m, key, dt_s, f.drive)
    else:
        i = _charge_a(s, p, m) if s[MODE] == CHARGING else 0.0
        fold(i, dt_s, tau_s, f.drive[0], f.drive[1])
        charge_as, square = i * dt_s, i * i * dt_s
        s[BEFORE_A], s[NOW_A] = i, i
        s[SPEED] = 0.0
    s[CHARGE_AH] = charge_as / 3600.0
    s[HYST_V] = hysteresis_after(s[HYST_V], packs.hysteresis_v[v], s[CHARGE_AH], packs.capacity_as[v, 0] / 3600.0)
    # Coolant: pumped while the contactors are closed, warmed below 8 °C, chilled above 30 °C.
    s[PUMP] = 1.0 if s[MODE] != PARKED else 0.0
    aim, tau = ambient, 5400.0
    if s[PUMP] > 0.0:
        tau = 400.0
        if s[T_MIN] < 8.0:
            aim = 28.0
        elif s[T_MAX] > 30.0:
            aim = min(max(ambient, 8.0), 18.0)
        else:
            aim = 0.5 * (s[T_MIN] + s[T_MAX])
    cooling, heat_w, heated, hurt = 1.0, 0.0, -1, f.fault_row[v + 1] > f.fault_row[v]
    if hurt:
        cooling, heat_w, heated = _faults(f, t, v, packs.capacity_as[v], packs.r_factor[v])
    for b in range(tau_s.size):
        f.drive32[0, b], f.drive32[1, b] = f.drive[0, b], f.drive[1, b]
    s[COOLANT_C] = aim + (s[COOLANT_C] - aim) * np.exp(-dt_s / tau)
    _cells(
        s, m, m.table, tau_s, dt_s, f.drive32[0], f.drive32[1], f.decay[v], charge_as, square,
        f.z[v], f.u[v], f.temp_c[v], f.v[v], f.bleed[v], f.burnt[v], f.capacity_as[v], f.per_as[v], f.r_factor[v],
        packs.rb_factor[v], f.shunt_s[v], packs.leak_a[v], packs.shape_v[v], packs.heat_factor[v], packs.loss_factor[v],
        m.flow * cooling if s[PUMP] > 0.0 else 0.0, heat_w, heated, hurt,
    )  # fmt: skip
    s[PACK_V] = s[SUM_V]
    for n in range(m.probe_cell.size):
        c = m.probe_cell[n]
        near = 0.5 * (f.temp_c[v, c] + f.temp_c[v, min(c + 1, f.temp_c.shape[1] - 1)])
        kept = f.probe_decay[v, n] if standard else np.exp(-dt_s / packs.probe_tau_s[v, n])
        f.probe[v, n] = near + (f.probe[v, n] - near) * kept
    # The vehicle's own SOC: counts what its sensor shows, drifts towards its own OCV reading at rest.
    shown_ah = (s[CHARGE_AH] * packs.gain[v]) + (packs.offset_a[v] * dt_s / 3600.0 if s[MODE] != PARKED else 0.0)
    s[SOC_BMS] += shown_ah / packs.bms_ah[v]
    s[REST_S] = s[REST_S] + dt_s if s[MODE] == PARKED else 0.0
    if s[REST_S] > 1800.0:
        s[SOC_BMS] += (s[SOC] + packs.bms_bias[v] - s[SOC_BMS]) * (1.0 - np.exp(-dt_s / 7200.0))
    s[SOC_BMS] = min(max(s[SOC_BMS], 0.0), 1.0)
