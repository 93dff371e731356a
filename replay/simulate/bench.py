"""How fast the simulator is."""

from __future__ import annotations

import time

from replay.simulate.fleet import START_NS, FleetConfig, simulate

_MODEL = "generic-nmc@96c16t60ah"
_MORNING_NS = START_NS + 7 * 3_600_000_000_000  # vehicles drive, charge and park


def bench(vehicles: int = 200, hours: float = 4.0) -> dict[str, float]:
    """Measure frames/s of `simulate` on one core at 96 cells and 16 probes, blocks and truth included.

    Frames of 10 s from every vehicle, awake or not.  Compilation and the drawing of vehicles are left out.
    """
    cfg = FleetConfig(vehicles=vehicles, hours=hours, models=(_MODEL,), start_ns=_MORNING_NS, sleep=False)
    blocks = simulate(cfg)
    next(blocks)  # compiles, and draws the vehicles
    start = time.perf_counter()
    frames = sum(len(block) for block, _ in blocks)
    return {"simulate_frames_per_s": frames / (time.perf_counter() - start)}
