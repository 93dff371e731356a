"""What `ibms simulate` does: a simulated fleet's frames and truth as Parquet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from flows.progress import watched
from flows.truth import write_truth
from replay.frames_file import write_frames
from replay.simulate.fleet import FleetConfig, simulate
from replay.simulate.schedule import schedule
from schemas.events import Item
from schemas.frames import FrameBlock


def run_simulate(
    vehicles: int, hours: float, period_s: float, pack: str, seed: int, path: Path, *, faults: bool
) -> None:
    """Write frames to `path` and their true SOC beside it; say which faults were scheduled."""
    cfg = FleetConfig(vehicles=vehicles, hours=hours, period_s=period_s, models=(pack,), seed=seed)
    if faults:
        cfg = replace(cfg, faults=schedule(cfg, max(1, cfg.vehicles // 10)))
    truth = path.with_suffix(".truth.parquet")
    count = 0

    def blocks() -> Iterator[FrameBlock]:
        nonlocal count
        made: Iterator[Item] = write_truth(simulate(cfg), truth)
        for block in watched(made, "simulate", from_ns=cfg.start_ns, to_ns=cfg.start_ns + int(hours * 3600e9)):
            assert isinstance(block, FrameBlock)
            count += len(block)
            yield block

    write_frames(blocks(), path)
    sys.stdout.write(f"{count:,} frames of {vehicles:,} vehicles → {path}\ntrue SOC → {truth}\n")
    for fault in cfg.faults:
        subject = f" {fault.subject + 1}" if fault.subject >= 0 else ""
        sys.stdout.write(
            f"  {fault.kind:<20}{subject:>4} of vehicle {fault.vehicle:>6}: "
            f"{fault.start_s / 3600:7.2f} h to {fault.end_s / 3600:7.2f} h, {fault.size:g} {fault.unit}\n"
        )
