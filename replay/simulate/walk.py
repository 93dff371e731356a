"""The walk of all vehicles through time: one compiled loop that writes frames and their truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from replay.simulate.cell import OCV, R0, RB, ZERO_C_K, fold, hysteresis_after, soc_at, temp_at, value_at
from replay.simulate.draws import bits, normal, uniform
from replay.simulate.duty import speed_after, traction_w
from replay.simulate.pack import DERATE_LOW_C
from replay.simulate.tracks import HOME, position

PARKED, DRIVING, CHARGING = 0, 1, 2
AC, DC = 1, 2
SLEEP_STEP_S = 600.0  # a sleeping pack moves in steps of this
CHECK_S, CHECK_FOR_S = 4 * 3600.0, 60.0  # a sleeping vehicle wakes this often, for this long
SUB_STEP_S = 1.0  # of the drive

# Scalar state of a vehicle: columns of Fleet.s.
(
    MODE, PLACE, EVENT, LEFT_M, TRIP_M, SPEED, TARGET, ODO_M, AWAKE_S, CHECK_AT_S, PENDING_S, SOC_BMS, HYST_V, COOLANT_C,
    HEAT_W, PACK_V, UP_A, DOWN_A, T_MIN, T_MAX, SEQ, NOW_A, BEFORE_A, REST_S, CHARGE_TYPE, FULL, CHARGE_AT_S, BALANCING,
    V_LOW, BURNT, SOC, CHARGE_AH, R0_MEAN, CAPACITY_AH, SUM_V, SOC_LOW, SOC_HIGH, START_S, PUMP, ENV_STEP_C,
) = range(40)  # fmt: skip
SCALARS = 40

# Fixed scalars of a vehicle: columns of Fleet.p.
PHASE_S, AC_W, HABIT, NIGHT_S, LOCAL_S, CLIMATE_W, SEED_HOUR = range(7)
FIXED = 7

# Faults that act on the physics, by the number in Fleet.fault_kind.
SHORT, RESISTANCE, CAPACITY, COOLING, RUNAWAY = range(5)
MELT_C, BURN_C, BURN_S = 130.0, 150.0, 30.0  # separator fails; self-heating runs away; for so long
BURN_PER_AH_J = 3.7 * 3600.0  # heat of a burning group per Ah: about its stored energy


class Fleet(NamedTuple):
    """State of V vehicles of one model, in order of their phase."""

    s: NDArray[np.float64]  # (V, SCALARS)
    p: NDArray[np.float64]  # (V, FIXED)
    key: NDArray[np.uint64]  # (V,) of all draws
    z: NDArray[np.float64]  # (V, C) SOC
    u: NDArray[np.float32]  # (V, C, B) V
    temp_c: NDArray[np.float32]  # (V, C)
    v: NDArray[np.float32]  # (V, C) at the terminals
    bleed: NDArray[np.bool_]  # (V, C)
    burnt: NDArray[np.float32]  # (V, C) 0..1
    probe: NDArray[np.float32]  # (V, P) what lags behind the cell
    capacity_as: NDArray[np.float64]  # (V, C) now, under faults
    r_factor: NDArray[np.float32]  # (V, C) now, under faults
    shunt_s: NDArray[np.float32]  # (V, C) conductance of an internal short, 1/ohm
    decay: NDArray[np.float32]  # (V, B) of the branches over one period
    probe_decay: NDArray[np.float64]  # (V, P)
    drive: NDArray[np.float64]  # (2, B) scratch: decay, drive
    drive32: NDArray[np.float32]  # (2, B) the same, as the cells read it
    places: NDArray[np.float64]  # (V, 4, 2) degrees
    road_m: NDArray[np.float64]  # (V, 4, 4)
    ambient_c: NDArray[np.float32]  # (V, H) by the hour
    leave_s: NDArray[np.float64]  # (V, E)
    goal: NDArray[np.int8]  # (V, E)
    charge_to: NDArray[np.float32]  # (V, D)
    fast: NDArray[np.int8]  # (V, D)
    fault_row: NDArray[np.int64]  # (V + 1,) first fault of each vehicle
    fault_kind: NDArray[np.int8]  # (F,)
    fault_s: NDArray[np.float64]  # (F, 3) start, end, ramp
    fault_size: NDArray[np.float64]  # (F,)
    fault_subject: NDArray[np.int64]  # (F,)


class Out(NamedTuple):
    """Columns of a block under construction, and of its truth."""

    pack: NDArray[np.int32]
    tick: NDArray[np.int64]
    seq: NDArray[np.int64]
    current_a: NDArray[np.float32]
    pack_v: NDArray[np.float32]
    cell_v: NDArray[np.float32]
    temp_c: NDArray[np.float32]
    soc_bms: NDArray[np.float32]
    speed_kmh: NDArray[np.float32]
    odo_km: NDArray[np.float64]
    lat_deg: NDArray[np.float64]
    lon_deg: NDArray[np.float64]
    ambient_c: NDArray[np.float32]
    coolant_c: NDArray[np.float32]
    isolation_ohm: NDArray[np.float32]
    contactor_state: NDArray[np.int8]
    hvil: NDArray[np.int8]
    drive_state: NDArray[np.int8]
    charge_type: NDArray[np.int8]
    balancing_mask: NDArray[np.uint64]
    true_scalars: NDArray[np.float64]  # (N, 7) soc, soc_low, soc_high, capacity_ah, r0_ohm, current_a, temp_max_c
    true_soc_cell: NDArray[np.float32]  # (N, C), or (0, C) where not wanted
    true_r0_cell: NDArray[np.float32]
    true_capacity_cell: NDArray[np.float32]


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
        aux = 250.0 + p[CLIMATE_W] * min(abs(s[ENV_STEP_C] - 21.0), 35.0)
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
    f.capacity_as[v, :] = packs_capacity
    f.r_factor[v, :] = packs_r
    f.shunt_s[v, :] = 0.0
    cooling, heat_w, heated = 1.0, 0.0, -1
    for n in range(f.fault_row[v], f.fault_row[v + 1]):
        start, end, ramp = f.fault_s[n]
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
        elif kind == COOLING:
            cooling *= 1.0 - grown * size
        elif kind == RUNAWAY:
            heat_w, heated = grown * size, c
    return cooling, heat_w, heated


@njit(cache=True, error_model="numpy", inline="always")
def _cells(s, m, table, tau_s, dt_s, decay, drive, next_decay, charge_as, square,
           z, u, temp_c, v, bleed, burnt, capacity_as, r_factor, rb_factor, shunt_s, leak_a, shape_v,
           heat_factor, loss_factor, cooling, heat_extra_w, heated, hurt):  # fmt: skip
    """Move all groups of one pack over an interval; leaves sums over the pack in `s`."""
    f4 = np.float32
    cells, branches, temps = z.size, tau_s.size, table.shape[0]
    one, zero, now_a, hyst_v = f4(1.0), f4(0.0), f4(s[NOW_A]), f4(s[HYST_V])
    mean_a, mean_square = f4(charge_as / dt_s), f4(square / dt_s)
    leak_grow = f4(2.0 ** ((0.5 * (s[T_MIN] + s[T_MAX]) - 25.0) / 10.0))
    pump = 3.0 if s[PUMP] > 0.0 else 1.0
    capacity_w, loss_w = f4(m.heat_capacity * heat_factor / dt_s), f4(m.loss * loss_factor * pump * cooling)
    beside_w, bleed_s, v_max, v_min = f4(m.neighbour), f4(1.0 / m.bleed_ohm), f4(m.v_max), f4(m.v_min)
    # Coolant warms on its way past the groups.
    rise = f4(s[HEAT_W] / (cells * 3.0 * m.heat_capacity / 1800.0) / cells) if s[PUMP] > 0.0 else zero
    up, down, big = f4(1e9), f4(-1e9), 1e18
    low_as, room_as, soc_low, soc_high = big, big, big, -big
    t_min, t_max, sum_v, heat_sum, r_sum = f4(1e9), f4(-1e9), zero, zero, zero
    tiny = f4(1e-15)  # V: a resting branch must not fade into denormal numbers, which cost a hundred cycles each
    left_c, env_c = zero, f4(s[COOLANT_C])
    for c in range(cells):
        old_c = temp_c[c]
        lost_a = leak_a[c] * leak_grow + (shunt_s[c] + f4(bleed[c]) * bleed_s) * v[c]
        z_c = z[c] + (charge_as - lost_a * dt_s) / capacity_as[c]
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
        loss = loss_w * m.loss_at[c]
        gain = capacity_w * old_c + heat + loss * (env_c + rise * f4(c)) + beside_w * around
        new_c = gain / (capacity_w + loss + beside_w * count)  # as cell.temp_after
        temp_c[c] = new_c
        left_c = old_c
        v[c] = v_c
        sum_v += v_c
        heat_sum += heat
        r_sum += r0
        t_min, t_max = min(t_min, new_c), max(t_max, new_c)
        soc_low, soc_high = min(soc_low, z_c), max(soc_high, z_c)
        low_as, room_as = min(low_as, z_c * capacity_as[c]), min(room_as, (1.0 - z_c) * capacity_as[c])
        base, conductance = ocv + kept, one / r_all
        up, down = min(up, (v_max - base) * conductance), max(down, (v_min - base) * conductance)
    s[UP_A], s[DOWN_A], s[T_MIN], s[T_MAX], s[SUM_V], s[HEAT_W] = up, down, t_min, t_max, sum_v, heat_sum
    s[SOC_LOW], s[SOC_HIGH], s[R0_MEAN] = soc_low, soc_high, r_sum / cells
    s[CAPACITY_AH] = (low_as + room_as) / 3600.0
    s[SOC] = low_as / (low_as + room_as)


@njit(cache=True, error_model="numpy", inline="always")
def _advance(f, packs, m, v, t, dt_s, ambient, key, standard):
    """Move one vehicle to time `t`, `dt_s` after where it stood."""
    s, p, tau_s = f.s[v], f.p[v], packs.tau_s[v]
    f.drive[0, :], f.drive[1, :] = 1.0, 0.0
    s[ENV_STEP_C] = ambient
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
    f.drive32[:] = f.drive
    s[COOLANT_C] = aim + (s[COOLANT_C] - aim) * np.exp(-dt_s / tau)
    _cells(
        s, m, m.table, tau_s, dt_s, f.drive32[0], f.drive32[1], f.decay[v], charge_as, square,
        f.z[v], f.u[v], f.temp_c[v], f.v[v], f.bleed[v], f.burnt[v], f.capacity_as[v], f.r_factor[v], packs.rb_factor[v],
        f.shunt_s[v], packs.leak_a[v], packs.shape_v[v], packs.heat_factor[v], packs.loss_factor[v],
        cooling, heat_w, heated, hurt,
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


@njit(cache=True, error_model="numpy")
def _decide(f, v, t, key, m):
    """Choose what the vehicle does from `t` on: drive, charge, stay awake, sleep."""
    s, p = f.s[v], f.p[v]
    mode = s[MODE]
    if s[BURNT] > 0.0:
        s[MODE], s[SPEED], s[AWAKE_S] = PARKED, 0.0, 1e18
        return
    if mode == DRIVING:
        if s[LEFT_M] <= 0.0 and s[SPEED] == 0.0:
            s[MODE], s[PLACE] = PARKED, f.goal[v, int(s[EVENT])]
            s[EVENT] += 1
            s[AWAKE_S] = t + 180.0 + 720.0 * uniform(key, 900)
            s[CHARGE_AT_S] = t + 30.0 + 300.0 * uniform(key, 901)
            local = (t + p[LOCAL_S]) % 86_400.0
            if p[NIGHT_S] > 0.0 and 54_000.0 < local < p[NIGHT_S]:
                s[CHARGE_AT_S] = t + p[NIGHT_S] - local
            s[FULL] = 0.0
        return
    event = int(s[EVENT])
    day = min(int((t + p[LOCAL_S]) // 86_400.0), f.fast.shape[1] - 1)
    goal = f.goal[v, event]
    trip_m = f.road_m[v, int(s[PLACE]), goal]
    range_m = s[CAPACITY_AH] * m.v_max * f.z.shape[1] / m.scale / 0.24  # Wh over 0.24 Wh/m, heater on
    needed = 0.15 + trip_m / max(range_m, 1.0)
    due = t >= f.leave_s[v, event]
    if due and trip_m < 50.0:
        s[EVENT] += 1  # already there
        return
    if due and (s[SOC_BMS] >= needed or (s[FULL] > 0.0 and s[SOC] > 0.15)):
        s[MODE], s[LEFT_M], s[TRIP_M], s[START_S] = DRIVING, trip_m, trip_m, t
        s[CHARGE_TYPE], s[TARGET], s[FULL] = 0.0, 8.0, 0.0
        return
    aim = f.charge_to[v, day]
    if mode == CHARGING:
        ended = s[NOW_A] < m.nominal_ah / 40.0 and t - s[START_S] > 3600.0 and s[UP_A] < m.nominal_ah / 20.0
        if s[SOC_BMS] >= (aim if aim < 1.0 else 2.0) or ended:
            if ended and aim >= 1.0:
                s[SOC_BMS] = 1.0
            s[MODE], s[FULL], s[CHARGE_TYPE], s[AWAKE_S] = PARKED, 1.0, 0.0, t + 600.0
        return
    short = s[SOC_BMS] < needed or s[SOC_BMS] < 0.2
    at_home = s[PLACE] == HOME
    plug = at_home and t >= s[CHARGE_AT_S] and s[SOC_BMS] < min(aim - 0.04, p[HABIT])
    if s[FULL] == 0.0 and (plug or short or (not at_home and f.fast[v, day] == 1 and s[SOC_BMS] < 0.6)):
        s[MODE], s[START_S] = CHARGING, t
        s[CHARGE_TYPE] = AC if at_home else DC


@njit(cache=True, error_model="numpy", inline="always")
def _balance(s, m, v, bleed, noise_v, key):
    """Choose which groups bleed: near rest above 60 % while charging, what is well above the lowest."""
    on = s[MODE] == CHARGING and s[SOC_BMS] > 0.6 and s[NOW_A] < m.nominal_ah / 4.0
    s[BALANCING] = 1.0 if on else 0.0
    if not on:
        bleed[:] = False
        return
    for c in range(v.size):
        above = v[c] + noise_v * normal(key, 20_000 + c) - s[V_LOW]
        bleed[c] = above > (0.005 if bleed[c] else 0.010)


@njit(cache=True, error_model="numpy", inline="always")
def _emit(f, packs, m, v, out, n, tick, mode, key, ambient, period_s):
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


@njit(cache=True, error_model="numpy")
def walk(f, packs, m, out, tick, at, ticks, period_s, sleep):
    """Go on from vehicle `at` of `tick` until the block is full or time ends: next tick, next vehicle, rows written."""
    n, rows, vehicles = 0, out.seq.size, f.key.size
    while tick < ticks:
        while at < vehicles:
            if n == rows:
                return tick, at, n
            s = f.s[at]
            t = f.p[at, PHASE_S] + tick * period_s
            key = bits(f.key[at], np.uint64(tick))
            hour = min(int(t / 3600.0), f.ambient_c.shape[1] - 2)
            part = t / 3600.0 - hour
            ambient = f.ambient_c[at, hour] + part * (f.ambient_c[at, hour + 1] - f.ambient_c[at, hour])
            if tick:
                s[PENDING_S] += period_s
            if sleep and t >= s[CHECK_AT_S] + max(CHECK_FOR_S, period_s):
                s[CHECK_AT_S] += CHECK_S
            mode = s[MODE]
            awake = not sleep or mode != PARKED or t < s[AWAKE_S] or t >= s[CHECK_AT_S]
            due = t >= f.leave_s[at, int(s[EVENT])]
            if tick == 0:
                s[PENDING_S] = SUB_STEP_S  # from rest to a first voltage
            if s[PENDING_S] > 0.0 and (awake or due or s[PENDING_S] >= SLEEP_STEP_S):
                _advance(f, packs, m, at, t, s[PENDING_S], ambient, key, s[PENDING_S] == period_s)
                s[PENDING_S] = 0.0
            if awake:
                _balance(s, m, f.v[at], f.bleed[at], packs.noise_v[at], key)
                _emit(f, packs, m, at, out, n, tick, int(mode), key, ambient, period_s)
                n += 1
            if awake or due or s[PENDING_S] == 0.0:
                _decide(f, at, t, key, m)
            at += 1
        at = 0
        tick += 1
    return tick, at, n
