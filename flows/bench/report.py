"""What `ibms bench` prints: speed by stage, and how right the estimates are on recordings."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from flows.accuracy.ev_faults import weak_cells
from flows.accuracy.lg_hg2 import mean_rmse_pct, soc_lg_hg2
from flows.accuracy.report import run_accuracy, run_anomaly, run_diagnosis
from flows.bench import models, prognostics, speed, training
from flows.bench.kafka import Sizes as KafkaSizes
from flows.bench.kafka import run_kafka
from flows.bench.restart import resume_s
from flows.bench.wire import wire_bytes
from replay.bench_can import bench_can
from replay.simulate.bench import bench as bench_simulate
from schemas.checked import ConfigError


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: vehicles, frames of each, 10 s apart, and how often the same frames run."""

    few: int = 10_000
    few_rounds: int = 60
    few_times: int = 5
    many: int = 100_000
    many_rounds: int = 12
    many_times: int = 6
    baseline_rounds: int = 12  # one key per vehicle takes so much longer
    baseline_times: int = 10  # of ours over the same frames
    runs: int = 3  # of which the median counts
    snapshot_s: float = 75.0  # of a run, so that two default epochs end in it
    resume_rounds: int = 4
    resume_epoch_s: float = 5.0
    sessions: int = 100_000
    simulated: int = 200
    simulated_h: float = 4.0


def _fleet_10k(_: Path, n: Sizes) -> dict[str, Any]:
    return {"fleet_10k_frames_per_s": speed.fleet_rate(n.few, n.few_rounds, n.few_times, n.runs)}


def _fleet_100k(_: Path, n: Sizes) -> dict[str, Any]:
    return {"fleet_100k_frames_per_s": speed.fleet_rate(n.many, n.many_rounds, n.many_times, n.runs)}


def _per_vehicle(_: Path, n: Sizes) -> dict[str, Any]:
    ratio, rate = speed.ratio_vs_per_vehicle(n.few, n.baseline_rounds, n.baseline_times, n.runs)
    return {"ratio_vs_per_vehicle": ratio, "per_vehicle_frames_per_s": rate}


def _stages(_: Path, n: Sizes) -> dict[str, Any]:
    spent, state_bytes = speed.stages(n.few, n.few_rounds)
    kernels = sum(us for name, us in spent.items() if name not in {"shard", "to-arrow"})
    whole = 1e6 / speed.fleet_rate(n.few, n.few_rounds, n.few_times, runs=1)
    return {
        "stages": {name: round(us, 3) for name, us in spent.items()} | {"end_to_end": round(whole, 3)},
        "end_to_end_over_kernel": whole / kernels,
        "state_bytes_per_vehicle": state_bytes,
    }


def _can(data: Path, _: Sizes) -> dict[str, Any]:
    return bench_can(data)


def _simulate(_: Path, n: Sizes) -> dict[str, Any]:
    return bench_simulate(n.simulated, n.simulated_h)


def _snapshots(_: Path, n: Sizes) -> dict[str, Any]:
    return {"snapshot_ratio": speed.snapshot_ratio(n.many, n.many_rounds, n.snapshot_s)}


def _resume(_: Path, n: Sizes) -> dict[str, Any]:
    return {"resume_100k_s": resume_s(n.many, n.resume_rounds, n.resume_epoch_s)}


def _soc(data: Path, _: Sizes) -> dict[str, Any]:
    rows = soc_lg_hg2(data)
    return {
        "soc_lg_hg2_mean_rmse_pct": mean_rmse_pct([r for r in rows if r.ambient_c >= 0]),
        "soc_lg_hg2": {f"{r.test} {r.ambient_c:g} °C": round(r.rmse_pct, 3) for r in rows},
    }


def _weak_cells(data: Path, _: Sizes) -> dict[str, Any]:
    return {"ev_faults_incidents": weak_cells(data)}


def _wire(data: Path, _: Sizes) -> dict[str, Any]:
    return wire_bytes(data)


def _prognostics(_: Path, n: Sizes) -> dict[str, Any]:
    return prognostics.measure(n.sessions)


def _models(data: Path, _: Sizes) -> dict[str, Any]:
    return models.models(data)


def _training(data: Path, _: Sizes) -> dict[str, Any]:
    return training.measure(data)


# Stage → what measures it, and the folder of recordings that it needs.
STAGES: dict[str, tuple[Callable[[Path, Sizes], dict[str, Any]], str]] = {
    "fleet_10k": (_fleet_10k, ""),
    "fleet_100k": (_fleet_100k, ""),
    "per_vehicle": (_per_vehicle, ""),
    "stages": (_stages, ""),
    "can": (_can, "can_traces"),
    "simulate": (_simulate, ""),
    "snapshots": (_snapshots, ""),
    "resume": (_resume, ""),
    "soc": (_soc, "lg_hg2"),
    "weak_cells": (_weak_cells, "ev_faults"),
    "wire": (_wire, "ev_faults"),
    "prognostics": (_prognostics, ""),
    "models": (_models, "soh_features"),
    "training": (_training, "soh_features"),
}

# What each figure should be: at least (+) or at most (-).
_GOALS: dict[str, tuple[float, str]] = {
    "fleet_10k_frames_per_s": (200_000, "≥"),
    "fleet_100k_frames_per_s": (150_000, "≥"),
    "ratio_vs_per_vehicle": (8, "≥"),
    "candump_can_frames_per_s": (400_000, "≥"),
    "decode_ratio_vs_cantools": (20, "≥"),
    "simulate_frames_per_s": (200_000, "≥"),
    "state_bytes_per_vehicle": (8_192, "≤"),
    "snapshot_ratio": (0.9, "≥"),
    "resume_100k_s": (4, "≤"),
    "soc_lg_hg2_mean_rmse_pct": (0.55, "≤"),
    "prognostics_100k_sessions_s": (60, "≤"),
    "prognostics_peak_mb": (400, "≤"),
    "training_all_cpu_s": (300, "≤"),
    "training_peak_mb": (1_300, "≤"),
}


def run_bench(
    stage: str | None,
    data: Path | None,
    vehicles: int = 50,
    healthy: int = 60,
    *,
    as_json: bool,
    bootstrap: str | None = None,
) -> None:
    """Run one stage or all, and print the figures; recordings are looked for in `data`, else in IBMS_DATA.

    `accuracy`, `anomaly`, `diagnosis` and `kafka` run only where they are asked for.  `vehicles` and `healthy` say how
    many are simulated for `diagnosis`, the first also for `anomaly`; `kafka` runs on the broker at `bootstrap`, else
    on one that it starts.
    """
    if stage == "kafka":
        run_kafka(bootstrap, KafkaSizes(), as_json=as_json)
        return
    if bootstrap is not None:
        msg = f"--bootstrap must be left out but for the stage kafka; got {bootstrap}"
        raise ConfigError(msg)
    recordings = data or Path(os.environ.get("IBMS_DATA", "../shared/data"))
    if stage == "accuracy":
        run_accuracy(recordings, as_json=as_json)
        return
    if stage == "diagnosis":
        run_diagnosis(vehicles, healthy, as_json=as_json)
        return
    if stage == "anomaly":
        run_anomaly(vehicles, as_json=as_json)
        return
    figures = measure(stage, recordings, Sizes())
    if as_json:
        sys.stdout.write(orjson.dumps(figures, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    else:
        _show(figures)


def measure(stage: str | None, data: Path, sizes: Sizes) -> dict[str, Any]:
    """Run one stage or all; gives the figures by name.

    Of all stages those without recordings are left out, with a line on standard error; one that was asked for must
    have them.  Raises ConfigError.
    """
    if stage is not None and stage not in STAGES:
        msg = f"stage must be accuracy, anomaly, diagnosis, kafka or one of {', '.join(STAGES)}; got {stage}"
        raise ConfigError(msg)
    console = Console(stderr=True, highlight=False)
    figures: dict[str, Any] = {}
    for name in STAGES if stage is None else [stage]:
        run, recordings = STAGES[name]
        if recordings and not (data / recordings).is_dir():
            msg = f"--data must be a directory of recordings with {recordings} in it; got {data}"
            if stage is not None:
                raise ConfigError(msg)
            console.print(f"{name}: left out, {msg}", markup=False, soft_wrap=True)
            continue
        with console.status(f"{name} …"):
            figures |= run(data, sizes)
    return figures


def _show(figures: dict[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores seen, one used; Python {platform.python_version()}")
    table = Table("figure", "measured", "goal", box=None)
    table.columns[1].justify = table.columns[2].justify = "right"
    for name, value in figures.items():
        if isinstance(value, dict):
            continue
        goal = f"{_GOALS[name][1]} {_number(_GOALS[name][0])}" if name in _GOALS else ""
        table.add_row(name, _number(value), goal)
    if table.row_count:
        console.print(table)
    for name, value in figures.items():
        if isinstance(value, dict):
            part = Table(name, "", box=None)
            for key, entry in value.items():
                part.add_row(key, "\n".join(entry) if isinstance(entry, list) else _number(entry))
            console.print(part)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits say enough
