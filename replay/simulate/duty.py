"""What a vehicle does all day: a calendar of trips, and how it is driven."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from replay.simulate.draws import normal, uniform
from replay.simulate.tracks import FAR, HOME, SHOP, WORK
from replay.simulate.weather import DAY_S

_MONDAY_DAY = 4  # 1970-01-05
_NEVER_S = 1e18


class Calendar(NamedTuple):
    """Trips in order of departure, and what is plugged in when."""

    place: int  # at the start
    leave_s: NDArray[np.float64]  # (E + 1,) since the start; the last is never
    goal: NDArray[np.int8]  # (E + 1,) place
    charge_to: NDArray[np.float32]  # (D,) SOC, by local day
    fast: NDArray[np.int8]  # (D,) 1: a DC charge while away


def calendar(draws: np.random.Generator, start_ns: int, hours: float, utc_h: int) -> Calendar:
    """Draw the trips of one vehicle: commutes on weekdays, errands, sometimes far away at a weekend."""
    local_s = start_ns / 1e9 + utc_h * 3600.0
    days = int(np.ceil((hours + 24.0) / 24.0)) + 1
    midnight_s = -(local_s % DAY_S)
    leave: list[float] = []
    goal: list[int] = []
    charge_to: list[float] = []
    fast: list[bool] = []
    for day in range(days):
        weekday = (int(local_s // DAY_S) + day - _MONDAY_DAY) % 7
        draw, habit = draws.random(4), draws.random(2)
        hour = draws.standard_normal(4)
        stops = _weekday(draw, hour) if weekday < 5 else _weekend(draw, hour)
        leave += [midnight_s + day * DAY_S + h * 3600.0 for h, _ in stops]
        goal += [g for _, g in stops]
        charge_to.append(0.8 if habit[0] < 0.84 else 0.9 if habit[0] < 0.92 else 1.0)
        fast.append(habit[1] < 0.08)
    before = sum(t < 0 for t in leave)
    return Calendar(
        goal[before - 1] if before else HOME,
        np.array([*leave[before:], _NEVER_S]),
        np.array([*goal[before:], HOME], np.int8),
        np.array(charge_to, np.float32),
        np.array(fast, np.int8),
    )


def _weekday(draw: NDArray[np.float64], hour: NDArray[np.float64]) -> list[tuple[float, int]]:
    stops: list[tuple[float, int]] = []
    if draw[0] < 0.9:
        back = 17.2 + 0.6 * hour[1]
        stops += [(7.6 + 0.5 * hour[0], WORK)]
        stops += [(back, SHOP), (back + 1.0, HOME)] if draw[1] < 0.25 else [(back, HOME)]
    if draw[2] < 0.25:
        stops += [(20.2 + 0.2 * hour[2], SHOP), (21.2 + 0.2 * hour[3], HOME)]
    return stops


def _weekend(draw: NDArray[np.float64], hour: NDArray[np.float64]) -> list[tuple[float, int]]:
    if draw[0] < 0.25:
        return [(9.0 + 0.7 * hour[0], FAR), (16.5 + 0.7 * hour[1], HOME)]
    if draw[0] < 0.8:
        return [(10.5 + 0.8 * hour[0], SHOP), (13.5 + 0.6 * hour[1], HOME)]
    return []


@njit(cache=True)
def speed_after(speed, target, left_m, trip_m, dt_s, key, n):
    """Drive on for `dt_s`: speed and target speed (m/s), as town and motorway traffic make them.

    Draws `n`…`n + 2` of `key` are used.
    """
    if trip_m > 12_000.0 and 0.15 * trip_m < left_m < 0.85 * trip_m:
        if target < 19.0 or uniform(key, n) < dt_s / 60.0:
            target = 20.0 + 13.0 * uniform(key, n + 1)
    elif target > 17.0 or uniform(key, n) < dt_s / (22.0 if target > 0.0 else 15.0):
        pick = uniform(key, n + 1)
        target = 0.0 if pick < 0.22 else 7.0 + 9.5 * (pick - 0.22)
    want = min(target, np.sqrt(2.0 * max(left_m, 0.0)) + 1.0)  # brake with 1 m/s² towards the goal
    accel = min(max((want - speed) / 3.5, -2.5), 1.8) + 0.15 * normal(key, n + 2) * (speed > 0.0)
    return max(speed + accel * dt_s, 0.0), target


@njit(cache=True)
def traction_w(speed, speed_before, dt_s, mass_kg):
    """Give the power at the battery for a speed change, W, + to drive: inertia, rolling, air, losses."""
    v = 0.5 * (speed + speed_before)
    force = mass_kg * ((speed - speed_before) / dt_s + 0.01 * 9.81 * (v > 0.0)) + 0.38 * v * v
    power = force * v
    return power / 0.88 if power > 0.0 else 0.62 * power
