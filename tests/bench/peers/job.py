"""The job that every peer does: per-cell coulomb-counted SOC, spread and EWMA z-score of each vehicle.

Needs numpy, numba and orjson alone, so that each peer's own environment can import it.  Frames come as JSON, one a
message, 96 cells; a vehicle's come in order.  Voltage and current are float32, as our decoder keeps them; all that is
derived from them is float64.  A cell's SOC begins at its voltage on a line from 3.0 V to 4.2 V and follows the charge,
by each cell's own capacity; its z-score is how far its distance from the mean of all cells is from what that distance
has been lately, before this frame is counted in.  Every sixth frame of a vehicle gives a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from numba import njit

CELLS = 96
EVERY = 6  # frames of a vehicle from one result to the next
EPOCH_S = 5.0  # between durable states, in every peer
NAMES = ("soc_min", "soc_mean", "soc_max", "spread_v", "z", "z_cell")
_BATTERY = "Vehicle.Powertrain.TractionBattery"
_CURRENT, _CELL_V = f"{_BATTERY}.CurrentCurrent", f"{_BATTERY}.CellVoltage.CellVoltages"
_EMPTY_V, _FULL_V = 3.0, 4.2
_CELL_AS = 60.0 * 3600.0  # capacity of the largest cell, A·s; each next one has a thousandth less
_ALPHA = 0.02
_FLOOR_V2 = 1e-8
CLOCK_BYTES = 16


@njit(cache=True)
def advance(clock: Any, cells: Any, t_ns: int, current_a: float, cell_v: Any, out: Any) -> bool:
    """Take one frame into a vehicle's state; true where `out` holds a result.

    `clock` int64 (2): time of the last frame, frames so far.  `cells` float64 (3, C): SOC, EWMA of the distance from
    the mean (V), and of its square deviation (V²).  `out` float64 (6), as NAMES.
    """
    count = cell_v.size
    mean_v = 0.0
    low, high = math.inf, -math.inf
    for c in range(count):
        v = float(cell_v[c])
        mean_v += v
        low, high = min(low, v), max(high, v)
    mean_v /= count
    first = clock[1] == 0
    charge_as = 0.0 if first else current_a * ((t_ns - clock[0]) / 1e9)
    soc_sum, soc_min, soc_max = 0.0, math.inf, -math.inf
    z, z_cell = 0.0, -1
    for c in range(count):
        off = float(cell_v[c]) - mean_v
        if first:
            soc = (float(cell_v[c]) - _EMPTY_V) / (_FULL_V - _EMPTY_V)
            cells[1, c] = off
        else:
            soc = cells[0, c] + charge_as / (_CELL_AS * (1.0 - 0.001 * c))
        soc = min(max(soc, 0.0), 1.0)
        cells[0, c] = soc
        soc_sum += soc
        soc_min, soc_max = min(soc_min, soc), max(soc_max, soc)
        away = off - cells[1, c]
        own = away / math.sqrt(cells[2, c] + _FLOOR_V2)
        if abs(own) > abs(z):
            z, z_cell = own, c
        cells[1, c] += _ALPHA * away
        cells[2, c] = (1.0 - _ALPHA) * (cells[2, c] + _ALPHA * away * away)
    clock[0] = t_ns
    clock[1] += 1
    if clock[1] % EVERY:
        return False
    out[0], out[1], out[2], out[3], out[4], out[5] = soc_min, soc_sum / count, soc_max, high - low, z, z_cell
    return True


def read(value: bytes) -> tuple[str, int, float, Any]:
    """Give vehicle, time (ns), current (A) and cell voltages of a message."""
    message = orjson.loads(value)
    frame = message["frames"][0]
    cell_v = np.array(frame[_CELL_V], np.float32)
    return message["pack"], frame["t_ns"], float(np.float32(frame[_CURRENT])), cell_v


def new_state() -> tuple[Any, Any]:
    """Give the state of a vehicle that has sent nothing."""
    return np.zeros(2, np.int64), np.zeros((3, CELLS))


def pack(state: tuple[Any, Any]) -> bytes:
    """Write a state as bytes."""
    return bytes(state[0].tobytes() + state[1].tobytes())


def unpack(data: bytes | None) -> tuple[Any, Any]:
    """Read a state that `pack` wrote; a new one for None."""
    if data is None:
        return new_state()
    clock = np.frombuffer(data, np.int64, 2).copy()
    return clock, np.frombuffer(data, np.float64, 3 * CELLS, CLOCK_BYTES).reshape(3, CELLS).copy()


def stepper() -> Callable[[tuple[Any, Any], bytes], bytes | None]:
    """Give what takes a message into a state, and gives a result as JSON where one is due."""
    out = np.zeros(len(NAMES))
    advance(*new_state(), 0, 0.0, np.zeros(CELLS, np.float32), out)  # compiled before the first frame

    def step(state: tuple[Any, Any], value: bytes) -> bytes | None:
        vehicle, t_ns, current_a, cell_v = read(value)
        if not advance(*state, t_ns, current_a, cell_v, out):
            return None
        return result(vehicle, t_ns, out)

    return step


def result(vehicle: str, t_ns: int, values: Any) -> bytes:
    """Write a result."""
    return orjson.dumps({"vehicle": vehicle, "t_ns": t_ns, **dict(zip(NAMES, values.tolist(), strict=True))})
