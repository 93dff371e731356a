"""Columns of the simulation: the state of a fleet, and a block of frames under construction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PARKED, DRIVING, CHARGING = 0, 1, 2  # drive_state of a frame
AC, DC = 1, 2  # charge_type of a frame
SUB_STEP_S = 1.0  # of the drive

# Scalar state of a vehicle: columns of Fleet.s.
(
    MODE, PLACE, EVENT, LEFT_M, TRIP_M, SPEED, TARGET, ODO_M, AWAKE_S, CHECK_AT_S, PENDING_S, SOC_BMS, HYST_V,
    COOLANT_C, HEAT_W, PACK_V, UP_A, DOWN_A, T_MIN, T_MAX, SEQ, NOW_A, BEFORE_A, REST_S, CHARGE_TYPE, FULL, CHARGE_AT_S,
    BALANCING, V_LOW, BURNT, SOC, CHARGE_AH, R0_MEAN, CAPACITY_AH, SUM_V, SOC_LOW, SOC_HIGH, START_S, PUMP, AMBIENT_C,
) = range(40)  # fmt: skip
SCALARS = 40

# Fixed scalars of a vehicle: columns of Fleet.p.
PHASE_S, AC_W, HABIT, NIGHT_S, LOCAL_S, CLIMATE_W = range(6)
FIXED = 6


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
    capacity_as: NDArray[np.float32]  # (V, C) now, under faults
    per_as: NDArray[np.float32]  # (V, C) one over it
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
