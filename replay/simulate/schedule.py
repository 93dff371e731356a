"""A default schedule of faults for a fleet, and a count of what a schedule holds."""

from __future__ import annotations

import numpy as np

from replay.simulate.faults import NOT_A_CLOCK, Fault
from replay.simulate.fleet import FleetConfig, calendar_of, model_name
from schemas.pack import load_pack

_PATIENCE = 50  # vehicles looked at until one drives within the time


def schedule(cfg: FleetConfig, n: int) -> tuple[Fault, ...]:
    """Draw `n` faults, one a vehicle as far as there are vehicles: each kind in turn, when its vehicle is awake.

    Slow faults go on to the end; those of the stream last ten minutes from the middle of a trip's first hour.
    """
    draws = np.random.default_rng((cfg.seed, 0, 9))
    free = list(draws.permutation(np.arange(cfg.first, cfg.first + cfg.vehicles)))
    faults: list[Fault] = []
    while len(faults) < n:
        vehicle, start_s = _awake(cfg, free)
        if not free:
            free = list(draws.permutation(np.arange(cfg.first, cfg.first + cfg.vehicles)))
        faults.append(_fault(cfg, len(faults) % len(_KINDS), vehicle, start_s, draws))
    return tuple(faults)


def _awake(cfg: FleetConfig, free: list[int]) -> tuple[int, float]:
    """Take the next vehicle that leaves in the middle part of the time, and say when; else the last one looked at."""
    end_s, vehicle = cfg.hours * 3600.0, 0
    for _ in range(min(_PATIENCE, len(free))):
        vehicle = int(free.pop())
        leave_s = calendar_of(cfg, vehicle).leave_s
        good = leave_s[(leave_s >= 0.1 * end_s) & (leave_s <= 0.75 * end_s)]
        if good.size:
            return vehicle, float(good[0])
    return vehicle, 0.3 * end_s


_KINDS = (
    "internal_short", "frozen_frame", "sensor_bias", "dropped", "rising_resistance", "clock_jump", "open_sense_wire",
    "duplicated", "cooling_fault", "missing_cells", "stuck_value", "late", "capacity_loss", "spoofed_field",
    "out_of_order", "thermal_runaway",
)  # fmt: skip


def _fault(cfg: FleetConfig, kind: int, vehicle: int, start_s: float, draws: np.random.Generator) -> Fault:
    name, end_s = _KINDS[kind], cfg.hours * 3600.0
    pack = load_pack(model_name(cfg, vehicle))
    cell, probe = int(draws.integers(pack.series)), int(draws.integers(max(pack.probes, 1)))
    if (name == "open_sense_wire" and pack.series < 2) or (name == "stuck_value" and not pack.probes):
        name = "sensor_bias"  # the pack has no such part
    wire = min(cell, pack.series - 2)
    brief_s = min(start_s + 60.0 + 600.0, end_s)
    slow, brief = (vehicle, start_s, end_s), (vehicle, min(start_s + 60.0, brief_s - 1.0), brief_s)
    sizes = {
        "internal_short": lambda: Fault(name, *slow, cell, draws.uniform(4.0, 12.0) * 60.0 / pack.nominal_ah),
        "rising_resistance": lambda: Fault(name, *slow, cell, draws.uniform(1.0, 2.0), ramp_s=0.5 * (end_s - start_s)),
        "capacity_loss": lambda: Fault(name, *slow, cell, 0.25, ramp_s=0.5 * (end_s - start_s)),
        "cooling_fault": lambda: Fault(name, *slow, size=1.0),
        "thermal_runaway": lambda: Fault(name, *slow, cell, 40.0 * pack.nominal_ah),
        "sensor_bias": lambda: Fault(name, *slow, cell, 0.02, field="cell_v"),
        "stuck_value": lambda: Fault(name, *slow, probe, field="temp_c"),
        "open_sense_wire": lambda: Fault(name, *slow, wire, draws.uniform(0.05, 0.15)),
        "missing_cells": lambda: Fault(name, *brief, min(cell, max(pack.series - 15, 0)), min(15, pack.series)),
        "frozen_frame": lambda: Fault(name, *brief),
        "spoofed_field": lambda: Fault(name, *brief, size=1.0, field="soc_bms"),
        "clock_jump": lambda: Fault(name, *brief, size=300.0) if vehicle % 2 else Fault(name, *brief, unit=NOT_A_CLOCK),
        "dropped": lambda: Fault(name, *brief),
        "duplicated": lambda: Fault(name, *brief, size=4.0, share=0.3),
        "late": lambda: Fault(name, *brief, size=60.0),
        "out_of_order": lambda: Fault(name, *brief, size=4.0),
    }
    return sizes[name]()
