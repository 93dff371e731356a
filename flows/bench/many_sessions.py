"""A lake of many sessions, as drawn, and a model of the usual size that judges them: what the benchmark runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flows.prognosis import blend, learn
from flows.prognosis.charges import gather
from flows.prognosis.model import About, save
from flows.prognosis.soh import task
from operators.session_records import full_v
from schemas.arrow import SCHEMAS
from schemas.pack import load_pack
from sinks.lake import LakeSink

MODEL = "generic-nmc@96c16t60ah"
_EACH = 10  # sessions of a pack: three charges, five drives, two of parking
_KINDS = ("charge", "drive", "park", "drive", "charge", "drive", "drive", "charge", "drive", "park")
_HOUR_NS = 3600 * 10**9
_CELL_V = 3.7  # of a charge, on average
_START_NS = 1_767_571_200 * 10**9
_COLUMNS = ("voltage_mean", "voltage_std", "cc_q", "cc_charge_time", "cv_q", "cv_charge_time")


def make_lake(lake: Path, sessions: int) -> None:
    """Write that many sessions of a tenth as many packs: three charges, five drives and two of parking each."""
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
    "capacity_std_ah": 1.0, "r0_rel_std": 0.03, "d_soc_std": 0.005, "d_r0_std": 0.03, "d_q_std": 0.01,
}  # fmt: skip


def _as(values: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401 - a list, numpy or Arrow
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values).cast(kind)


def train(models: Path) -> str:
    """Train a model of the usual size on cells that fade as drawn; gives its hash."""
    draw = np.random.default_rng(2)
    cells, cycles = 40, 300
    cycle = np.tile(np.arange(1.0, cycles + 1), cells)
    capacity = 2.0 * (1.0 - np.repeat(draw.uniform(2e-4, 1e-3, cells), cycles) * cycle)
    x = np.column_stack([capacity * draw.normal(1, 0.01, cycle.size) for _ in _COLUMNS])
    lab = gather("SET", np.repeat([f"P-{i}" for i in range(cells)], cycles), cycle, _COLUMNS, x, capacity)
    job = task(lab, "count")
    fitted = learn.fit(job.x, job.soh - job.start, job.cell, 1)
    interval = learn.fit_interval(blend.predict(fitted, job.x) + job.start, job.soh, job.cell)
    about = About("soh", lab.set, "count", lab.columns, job.names, lab.nominal_ah, 50, 0.0, 1, 0)
    return save(models, about, fitted, interval).sha
