"""How closely the offset of a current sensor is found: after three rests, or seven.

The vehicles are those of a simulated fleet that are awake for four hours a day or more.  At rest they sleep but for a
frame each two hours; their packs have 98, 100 or 102 % of the capacity that the estimator is told.  What the current
did between frames hides an offset: the same at ten seconds shows by how much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flows.accuracy.drives import followed
from operators.kernels.estimate import EstimateConfig
from replay.simulate.fleet import FleetConfig, simulate
from schemas.frames import FrameBlock, concat
from schemas.pack import load_pack

OFFSET_A = 0.7
_MODEL = "generic-nmc@24c4t60ah"
_VEHICLES = (357, 984, 1535, 1898, 2780, 2887)  # of the first 3,000
_CAPACITIES = (0.98, 1.0, 1.02)  # over what the estimator is told
_DAYS = 5.0
_LOOK_NS = 7_200 * 10**9  # between frames of a sleeping vehicle; the shortest rest that counts
_OPEN = 0  # contactor_state
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trace:
    """What a vehicle sent: its frames (N), the last row of each rest (R,), and its true capacity."""

    block: FrameBlock
    rest_ends: NDArray[np.intp]
    capacity_ah: float


def figures(vehicles: tuple[int, ...] = _VEHICLES, period_s: float = 2.0, days: float = _DAYS) -> dict[str, float]:
    """Give errors of the offset in A: the worst with contactors seen and by voltage alone, the RMS at 10 s frames."""
    near, far = ([trace(n, seconds, days) for n in vehicles] for seconds in (period_s, 10.0))
    return {
        "simulated_offset_contactors_seen_worst_a": float(np.abs(_errors(near, 3, contactors_seen=True)).max()),
        "simulated_offset_voltage_alone_worst_a": float(np.abs(_errors(near, 7, contactors_seen=False)).max()),
        "simulated_offset_voltage_alone_10s_rms_a": float(
            np.sqrt(np.mean(np.square(_errors(far, 7, contactors_seen=False))))
        ),
    }


def trace(number: int, period_s: float, days: float) -> Trace:
    """Simulate one vehicle of the fleet, asleep at rest."""
    cfg = FleetConfig(1, 24.0 * days, period_s, (_MODEL,), first=number, sleep=False, sensor_offset_a=OFFSET_A)
    parts = list(simulate(cfg))
    block = concat([b for b, _ in parts])
    resting = np.asarray(block.context["contactor_state"] == _OPEN)
    edges = np.flatnonzero(np.diff(resting, prepend=False, append=False)).reshape(-1, 2)  # each rest: first row, end
    kept = ~resting
    for first, end in edges.tolist():
        looks = (block.t_ns[first:end] - block.t_ns[first]) // _LOOK_NS
        kept[first:end] = np.diff(looks, prepend=-1) > 0
    long = block.t_ns[edges[:, 1] - 1] - block.t_ns[edges[:, 0]] >= _LOOK_NS
    return Trace(
        block.take(np.flatnonzero(kept)),
        np.cumsum(kept)[edges[long, 1] - 1] - 1,
        float(np.median(parts[0][1].capacity_ah)),
    )


def _errors(traces: list[Trace], rests: int, *, contactors_seen: bool) -> Floats:
    """Give how far off it is when the rest of that number ends, by vehicle and capacity told, A."""
    return np.array([_offset_a(t, c, rests, seen=contactors_seen) - OFFSET_A for t in traces for c in _CAPACITIES])


def _offset_a(trace: Trace, capacity: float, rests: int, *, seen: bool) -> float:
    pack, block = load_pack(_MODEL), trace.block
    contactors = block.context["contactor_state"] if seen else None
    out = followed(
        replace(pack, usable_ah=trace.capacity_ah / capacity), EstimateConfig(), np.diff(block.t_ns) / 1e9,
        block.current_a, block.pack_v, block.cell_v, block.temp_c, contactors,
    )  # fmt: skip
    return float(out["current_offset_a"][trace.rest_ends[rests - 1]])
