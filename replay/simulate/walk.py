"""The walk of all vehicles through time: one compiled loop that writes frames and their truth."""

from __future__ import annotations

import numpy as np
from numba import njit

from replay.simulate.advance import advance
from replay.simulate.draws import bits, uniform
from replay.simulate.measure import balance, emit
from replay.simulate.state import (
    AC,
    AWAKE_S,
    BURNT,
    CAPACITY_AH,
    CHARGE_AT_S,
    CHARGE_TYPE,
    CHARGING,
    CHECK_AT_S,
    DC,
    DRIVING,
    EVENT,
    FULL,
    HABIT,
    LEFT_M,
    LOCAL_S,
    MODE,
    NIGHT_S,
    NOW_A,
    PARKED,
    PENDING_S,
    PHASE_S,
    PLACE,
    SOC,
    SOC_BMS,
    SPEED,
    START_S,
    SUB_STEP_S,
    TARGET,
    TRIP_M,
    UP_A,
)
from replay.simulate.tracks import HOME

SLEEP_STEP_S = 600.0  # a sleeping pack moves in steps of this
WH_PER_M = 0.24  # of a car with the heater on, for planning
CHECK_S, CHECK_FOR_S = 4 * 3600.0, 60.0  # a sleeping vehicle wakes this often, for this long


@njit(cache=True, error_model="numpy")
def _decide(s, p, leave_s, goals, road_m, charge_to, fast, range_m_per_ah, nominal_ah, t, key):
    """Choose what a vehicle does from `t` on: drive, charge, stay awake, sleep."""
    mode = s[MODE]
    if s[BURNT] > 0.0:
        s[MODE], s[SPEED], s[AWAKE_S] = PARKED, 0.0, 1e18
        return
    if mode == DRIVING:
        if s[LEFT_M] <= 0.0 and s[SPEED] == 0.0:
            s[MODE], s[PLACE] = PARKED, goals[int(s[EVENT])]
            s[EVENT] += 1
            s[AWAKE_S] = t + 180.0 + 720.0 * uniform(key, 900)
            s[CHARGE_AT_S] = t + 30.0 + 300.0 * uniform(key, 901)
            local = (t + p[LOCAL_S]) % 86_400.0
            if p[NIGHT_S] > 0.0 and 54_000.0 < local < p[NIGHT_S]:
                s[CHARGE_AT_S] = t + p[NIGHT_S] - local
            s[FULL] = 0.0
        return
    event = int(s[EVENT])
    day = min(int((t + p[LOCAL_S]) // 86_400.0), fast.size - 1)
    goal = goals[event]
    trip_m = road_m[int(s[PLACE]), goal]
    needed = 0.15 + trip_m / max(s[CAPACITY_AH] * range_m_per_ah, 1.0)
    due = t >= leave_s[event]
    if due and trip_m < 50.0:
        s[EVENT] += 1  # already there
        return
    if due and (s[SOC_BMS] >= needed or (s[FULL] > 0.0 and s[SOC] > 0.15)):
        s[MODE], s[LEFT_M], s[TRIP_M], s[START_S] = DRIVING, trip_m, trip_m, t
        s[CHARGE_TYPE], s[TARGET], s[FULL] = 0.0, 8.0, 0.0
        return
    aim = charge_to[day]
    if mode == CHARGING:
        ended = s[NOW_A] < nominal_ah / 40.0 and t - s[START_S] > 3600.0 and s[UP_A] < nominal_ah / 20.0
        if s[SOC_BMS] >= (aim if aim < 1.0 else 2.0) or ended:
            if ended and aim >= 1.0:
                s[SOC_BMS] = 1.0
            s[MODE], s[FULL], s[CHARGE_TYPE], s[AWAKE_S] = PARKED, 1.0, 0.0, t + 600.0
        return
    short = s[SOC_BMS] < needed or s[SOC_BMS] < 0.2
    at_home = s[PLACE] == HOME
    plug = at_home and t >= s[CHARGE_AT_S] and s[SOC_BMS] < min(aim - 0.04, p[HABIT])
    if s[FULL] == 0.0 and (plug or short or (not at_home and fast[day] == 1 and s[SOC_BMS] < 0.6)):
        s[MODE], s[START_S] = CHARGING, t
        s[CHARGE_TYPE] = AC if at_home else DC


@njit(cache=True, error_model="numpy")
def walk(f, packs, m, out, tick, at, ticks, period_s, sleep):
    """Go on from vehicle `at` of `tick` until the block is full or time ends: next tick, next vehicle, rows written."""
    n, rows, vehicles = 0, out.seq.size, f.key.size
    range_m_per_ah = m.v_max * f.z.shape[1] / m.scale / WH_PER_M
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
                advance(f, packs, m, at, t, s[PENDING_S], ambient, key, s[PENDING_S] == period_s)
                s[PENDING_S] = 0.0
            if awake:
                balance(s, m, f.v[at], f.bleed[at], packs.noise_v[at], key)
                emit(f, packs, m, at, out, n, tick, int(mode), key, ambient, period_s)
                n += 1
            if awake or due or s[PENDING_S] == 0.0:
                _decide(
                    s, f.p[at], f.leave_s[at], f.goal[at], f.road_m[at], f.charge_to[at], f.fast[at],
                    range_m_per_ah, m.nominal_ah, t, key,
                )  # fmt: skip
            at += 1
        at = 0
        tick += 1
    return tick, at, n
