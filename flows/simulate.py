"""What `ibms simulate` does: a simulated fleet's frames and truth as Parquet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shlex import quote

from flows.progress import of_span, watched
from flows.settings import SimulateSettings
from flows.truth import write_truth
from replay.frames_file import write_frames
from replay.simulate.faults import FIELDS, KINDS, Fault
from replay.simulate.fleet import FleetConfig, simulate
from replay.simulate.schedule import schedule
from schemas.checked import ConfigError
from schemas.frames import FrameBlock
from schemas.pack import load_pack


def run_simulate(settings: SimulateSettings, path: Path) -> None:
    """Write frames to `path` and their true SOC beside it; say which faults were scheduled."""
    cfg = fleet_config(settings)
    check_place(path)
    truth = path.with_suffix(".truth.parquet")
    span = of_span(cfg.start_ns, cfg.start_ns + int(cfg.hours * 3600e9))

    def blocks() -> Iterator[FrameBlock]:
        yield from watched(write_truth(simulate(cfg), truth), "simulate", span)

    written = write_frames(blocks(), path)
    sys.stdout.write(f"{written:,} frames of {cfg.vehicles:,} vehicles → {path}\ntrue SOC → {truth}\n")
    for fault in cfg.faults:
        subject = f"{fault.subject_kind} {fault.subject + 1}" if fault.subject >= 0 else ""
        size = f", {fault.size:g} {_unit(fault)}".rstrip() if fault.size else ""
        sys.stdout.write(
            f"  {fault.kind:<18} vehicle {fault.vehicle:>6} {subject:<9} "
            f"{fault.start_s / 3600:7.2f} h to {fault.end_s / 3600:7.2f} h{size}\n"
        )
    sys.stdout.write(f"next: ibms replay {quote(str(path))}\n")


def check_place(path: Path) -> None:
    """Raise ConfigError for a file that has no directory to be in."""
    if not path.parent.is_dir() or path.is_dir():
        msg = f"--frames must be a file in a directory that exists; got {path}"
        raise ConfigError(msg)


def _unit(fault: Fault) -> str:
    units = KINDS[fault.kind].units or (FIELDS[fault.field],)
    return fault.unit or units[0]


def fleet_config(settings: SimulateSettings) -> FleetConfig:
    """Make the simulator's configuration, faults on one vehicle in ten; raises ConfigError."""
    s = settings
    for model in s.models:
        load_pack(model)
    try:
        cfg = FleetConfig(s.vehicles, s.hours, s.period_s, s.models, s.seed)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return replace(cfg, faults=schedule(cfg, max(1, cfg.vehicles // 10))) if s.faults else cfg
