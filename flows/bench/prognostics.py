"""How long the prognostics step takes over many sessions, and what memory it needs, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from flows import prognostics
from flows.bench.core import one_core
from flows.judge import TrainedJudge
from flows.prognosis import learn
from flows.prognosis.charges import gather
from flows.prognosis.model import About, save
from flows.prognosis.serve import Served, served_by_hash
from flows.prognosis.soh import task
from flows.run import run_flow
from flows.session_rows import LakeSessions, lake_models
from flows.settings import RecoverySettings
from operators.session_records import full_v
from schemas.arrow import SCHEMAS
from schemas.pack import load_pack
from sinks.lake import LakeSink, publish_pending

MODEL = "generic-nmc@96c16t60ah"
_EACH = 10  # sessions of a pack: three charges, five drives, two of parking
_KINDS = ("charge", "drive", "park", "drive", "charge", "drive", "drive", "charge", "drive", "park")
_HOUR_NS = 3600 * 10**9
_CELL_V = 3.7  # of a charge, on average
_START_NS = 1_767_571_200 * 10**9
_COLUMNS = ("voltage_mean", "voltage_std", "cc_q", "cc_charge_time", "cv_q", "cv_charge_time")


def measure(sessions: int) -> dict[str, Any]:
    """Judge that many sessions of a tenth as many packs with a trained model: seconds on one core, MB at the peak."""
    with tempfile.TemporaryDirectory(prefix="ibms-bench-") as where:
        folder = Path(where)
        _make_lake(folder / "lake", sessions)
        sha = _train(folder / "models")
        command = [sys.executable, "-m", "flows.bench.prognostics", where, sha]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {
        "prognostics_100k_sessions_s": found["seconds"] * 100_000 / sessions,
        "prognostics_sessions_per_s": sessions / found["seconds"],
        "prognostics_peak_mb": found["mb"],
        "prognostics_imports_mb": found["imports_mb"],
    }


def _make_lake(lake: Path, sessions: int) -> None:
    draw = np.random.default_rng(1)
    packs, pack = sessions // _EACH, load_pack(MODEL)
    own = draw.normal(0, 0.03, (packs, pack.series)).astype(np.float32)
    capacity = pack.usable_ah * draw.uniform(0.77, 1.0, packs)
    sink = LakeSink(lake, "made", recovery=False)
    part = sink.build_part("lake", "lake", None)
    for k, kind in enumerate(_KINDS):
        part.write_batch([("sessions", _batch(k, kind, own, capacity, draw))])
    part.snapshot()
    part.close()


def _batch(k: int, kind: str, own: Any, capacity: Any, draw: np.random.Generator) -> pa.RecordBatch:  # noqa: ANN401 - columns
    n, cells = own.shape
    pack, charge = load_pack(MODEL), kind == "charge"
    begin = _START_NS + k * 12 * _HOUR_NS + draw.integers(0, _HOUR_NS, n)
    swing = draw.uniform(0.1, 0.6, n) if charge else np.zeros(n)
    charge_in = capacity * swing * draw.normal(1, 0.02, n)
    columns: dict[str, Any] = {
        "id": [f"{p:08d}-{k}" for p in range(n)],
        "revision": np.zeros(n, np.int32),
        "pack_id": pa.array([f"car-{p:08d}" for p in range(n)]).dictionary_encode(),
        "kind": [kind] * n,
        "start_ns": begin,
        "end_ns": begin + 3 * _HOUR_NS,
        "frames": np.full(n, 1080, np.int32),
        "provisional": np.zeros(n, np.bool_),
        "withdrawn": np.zeros(n, np.bool_),
        "soc_start": np.full(n, 0.3),
        "soc_end": 0.3 + swing,
        "charge_in_ah": charge_in,
        "energy_in_kwh": charge_in * pack.series * draw.normal(_CELL_V, 0.005, n) / 1e3,
        "r0_rel": draw.normal(1, 0.02, n),
        "temp_mean_c": draw.uniform(0, 40, n),
        "capacity_ah": capacity,
        "capacity_low_ah": capacity,
        "top_v_mean": np.full(n, full_v(pack) - 0.1),
        "top_v_std": np.full(n, 0.05),
        "top_ah": capacity * 0.2,
        **{name: np.full(n, value) for name, value in _CONSTANT.items()},
    }
    columns["vehicle_id"] = columns["pack_id"]
    columns["model"] = pa.array([MODEL] * n).dictionary_encode()
    if charge:
        for name, share in (("d_r0_cell", 1.0), ("d_q_cell", 0.2)):
            noisy = (own * share + draw.normal(0, 0.003, own.shape)).astype(np.float32)
            ends = pa.array(np.arange(n + 1, dtype=np.int32) * cells)
            columns[name] = pa.ListArray.from_arrays(ends, pa.array(noisy.reshape(-1)))
    made = [
        pa.nulls(n, field.type) if field.name not in columns else _as(columns[field.name], field.type)
        for field in SCHEMAS["sessions"]
    ]
    return pa.RecordBatch.from_arrays(made, schema=SCHEMAS["sessions"])


_CONSTANT = {
    "coverage": 1.0, "soc_start_std": 0.01, "soc_end_std": 0.01, "charge_out_ah": 0.0, "gap_max_s": 30.0,
    "soc_jump": 0.001, "top_s": 1200.0, "hold_s": 600.0, "hold_ah": 2.0,
}  # fmt: skip


def _as(values: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401 - a list, numpy or Arrow
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values).cast(kind)


def _train(models: Path) -> str:
    """Train a model of the usual size on cells that fade as drawn; gives its hash."""
    draw = np.random.default_rng(2)
    cells, cycles = 40, 300
    cycle = np.tile(np.arange(1.0, cycles + 1), cells)
    capacity = 2.0 * (1.0 - np.repeat(draw.uniform(2e-4, 1e-3, cells), cycles) * cycle)
    x = np.column_stack([capacity * draw.normal(1, 0.01, cycle.size) for _ in _COLUMNS])
    lab = gather("SET", np.repeat([f"P-{i}" for i in range(cells)], cycles), cycle, _COLUMNS, x, capacity)
    job = task(lab, "count")
    blend = learn.fit(job.x, job.soh - job.start, job.cell, 1)
    interval = learn.fit_interval(learn.predict(blend, job.x) + job.start, job.soh, job.cell)
    about = About("soh", lab.set, "count", lab.columns, job.names, lab.nominal_ah, 50, 0.0, 1, 0)
    return save(models, about, blend, interval).sha


def run(folder: Path, sha: str) -> dict[str, float]:
    """Judge the lake in `folder` with snapshots on, on one core."""
    judge = partial(TrainedJudge, Served(served_by_hash(folder / "models", sha), None))
    lake, out = folder / "lake", folder / "out"
    imports_mb = peak_mb()
    pa.set_memory_pool(pa.system_memory_pool())  # as flows.prognostics_run
    with one_core():
        began = perf_counter()
        sink = LakeSink(out, "bench", recovery=True)
        recovery = RecoverySettings(folder / "recovery")
        flow = prognostics.build(
            LakeSessions(lake, load_pack), sink, lake_models(lake), judge=judge, trained=sha, files=recovery.files
        )
        run_flow(flow, recovery, prognostics.SHARDS)
        publish_pending(out, "bench")
        seconds = perf_counter() - began
    return {
        "seconds": seconds,
        "mb": peak_mb(),
        "imports_mb": imports_mb,
    }


def peak_mb() -> float:
    """Give this process's own largest resident set; getrusage would count the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    from flows.cache import use_kernel_cache

    use_kernel_cache()
    sys.stdout.write(json.dumps(run(Path(sys.argv[1]), sys.argv[2])) + "\n")
