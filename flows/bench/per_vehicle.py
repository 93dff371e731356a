"""The same job with one key per vehicle and numpy: what the columnar flow is measured against.

Written as one would with the framework's own means: a stateful step per vehicle, numpy over its cells, one Python
object per frame.  It does what the fleet flow does at its core: order and plausibility, EKF on the median cell, a
difference filter and CUSUM per cell, SOC of the usable pack, windows of a minute, one incident per cell that stays off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink
from numpy.typing import NDArray

from flows.bench.blocks import MODEL
from schemas.arrow import SCHEMAS
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.ids import hash64, record_id
from schemas.pack import PackModel, load_pack

_WINDOW_NS = 60 * 10**9
_CUSUM_V, _SLACK_V = 0.5, 0.003
_CELL_V = (0.5, 5.0)  # what a cell can have


@dataclass(slots=True)
class Frame:
    """One frame of one vehicle."""

    t_ns: int
    seq: int
    current_a: float
    pack_v: float
    cell_v: NDArray[np.float32]
    temp_c: NDArray[np.float32]


@dataclass(slots=True)
class Vehicle:
    """All that is kept of one vehicle."""

    name: str
    t_ns: int = 0
    seq: int = -1
    z: float = -1.0
    p: float = 0.04
    bias_v: float = 0.0
    current_a: float = 0.0
    pack_v: float = 0.0
    rc_v: list[float] = field(default_factory=lambda: [0.0, 0.0])
    d_soc: NDArray[np.float32] = field(default_factory=lambda: np.zeros(96, np.float32))
    d_r0: NDArray[np.float32] = field(default_factory=lambda: np.zeros(96, np.float32))
    up: NDArray[np.float32] = field(default_factory=lambda: np.zeros(96, np.float32))
    down: NDArray[np.float32] = field(default_factory=lambda: np.zeros(96, np.float32))
    open_cells: set[int] = field(default_factory=set)
    start_ns: int = -1
    acc: dict[str, float] = field(default_factory=dict)


def build(source: Source[Item], sink: Sink[Any]) -> Dataflow:
    """Join the flow: frames by vehicle, one stateful step, records to the lake."""
    pack = load_pack(MODEL)
    flow = Dataflow("per-vehicle")
    frames = op.flat_map("frames", op.input("source", flow, source), _frames)

    def step(vehicle: Vehicle | None, keyed: tuple[str, Frame]) -> tuple[Vehicle, list[tuple[str, dict[str, Any]]]]:
        state = vehicle or Vehicle(keyed[0])
        return state, _advance(pack, state, keyed[1])

    records = op.stateful_map("vehicle", op.map("keyed", frames, lambda kf: (kf[0], kf)), step)
    out = op.flat_map_batch("to-arrow", records, _to_arrow)
    op.output("lake", out, sink)
    return flow


def _frames(block: Item) -> list[tuple[str, Frame]]:
    assert isinstance(block, FrameBlock)
    columns = zip(block.pack.tolist(), block.t_ns.tolist(), block.seq.tolist(), block.current_a.tolist(),
                  block.pack_v.tolist(), block.cell_v, block.temp_c, strict=True)  # fmt: skip
    return [(block.packs[p], Frame(t, seq, i, v, cell_v, temp_c)) for p, t, seq, i, v, cell_v, temp_c in columns]


def _advance(pack: PackModel, s: Vehicle, f: Frame) -> list[tuple[str, dict[str, Any]]]:
    if f.seq <= s.seq or f.t_ns <= s.t_ns:
        return []
    dt_s = (f.t_ns - s.t_ns) / 1e9 if s.t_ns else 0.0
    v = f.cell_v
    low, high = float(v.min()), float(v.max())
    valid = low > _CELL_V[0] and high < _CELL_V[1]  # false where a cell is NaN
    if not valid:
        v = np.where((v > _CELL_V[0]) & (v < _CELL_V[1]), v, np.nan)
        low = high = float("nan")
    median = float(np.partition(v, 48)[48] if valid else np.nanmedian(v))
    slope_v, r0_ohm = _filter(pack, s, f, median, dt_s)
    # Every cell against it.
    off = v - np.float32(median) - (s.d_soc * np.float32(slope_v) + s.d_r0 * np.float32(r0_ohm * f.current_a))
    s.d_soc += np.float32(0.02 / slope_v) * off
    s.d_r0 += np.float32(1e-4 * f.current_a) * off
    s.up = np.maximum(s.up + off - _SLACK_V, 0)
    s.down = np.maximum(s.down - off - _SLACK_V, 0)
    out: list[tuple[str, dict[str, Any]]] = []
    if s.up.max() > _CUSUM_V or s.down.max() > _CUSUM_V:
        for cell in np.flatnonzero((s.up > _CUSUM_V) | (s.down > _CUSUM_V)).tolist():
            if cell not in s.open_cells:
                s.open_cells.add(cell)
                out.append(("incidents", _incident(s, f, cell, float(off[cell]))))
    least = min(max(s.z + float(s.d_soc.min()), 0.0), 1.0)
    room = 1 - min(max(s.z + float(s.d_soc.max()), 0.0), 1.0)
    usable = least / (least + room) if least + room else 0.5
    start = f.t_ns - f.t_ns % _WINDOW_NS
    if start != s.start_ns:
        if s.start_ns >= 0:
            out.append(("windows", _window(s)))
        s.start_ns, s.acc = start, {"frames": 0, "soc_start": usable, "as_in": 0.0, "as_out": 0.0, "ws": 0.0}
    a = s.acc
    a["frames"] += 1
    a["soc_end"] = usable
    for name, value in (("current", f.current_a), ("pack_v", f.pack_v), ("low", low), ("high", high),
                        ("temp_low", float(f.temp_c.min())), ("temp_high", float(f.temp_c.max()))):  # fmt: skip
        a[name + "_min"] = min(a.get(name + "_min", value), value)
        a[name + "_max"] = max(a.get(name + "_max", value), value)
    charge = 0.5 * (f.current_a + s.current_a) * dt_s if dt_s <= 120 else 0.0  # noqa: PLR2004 - as the fleet flow's gap
    a["as_in" if charge > 0 else "as_out"] += abs(charge)
    a["ws"] += charge * f.pack_v
    s.t_ns, s.seq, s.current_a, s.pack_v = f.t_ns, f.seq, f.current_a, f.pack_v
    return out


def _filter(pack: PackModel, s: Vehicle, f: Frame, median: float, dt_s: float) -> tuple[float, float]:
    """Advance the EKF on the median cell: charge in, voltage against the circuit model; gives OCV slope and R0."""
    grid = pack.grid()
    row = min(max(int((float(f.temp_c[0]) + 30) / 5), 0), 18)
    ocv, r0, slope = grid.ocv[row], grid.r0[row], grid.docv[row]
    if s.z < 0:
        s.z = float(np.interp(median, ocv, grid.soc))
    s.z += f.current_a * dt_s / 3600 / pack.usable_ah
    s.p += 2e-9 * dt_s
    at = min(max(int(s.z * 200), 0), 199)
    slope_v, r0_ohm = float(slope[at]), float(r0[at])
    rc_v = 0.0
    for k in range(2):
        decay = math.exp(-dt_s / float(grid.tau_s[k]))
        s.rc_v[k] = s.rc_v[k] * decay + float(grid.rb[k, row, at]) * f.current_a * (1 - decay)
        rc_v += s.rc_v[k]
    expected = float(ocv[at]) + (s.z * 200 - at) * float(ocv[at + 1] - ocv[at]) + f.current_a * r0_ohm + rc_v + s.bias_v
    residual = median - expected
    gain = s.p * slope_v / (s.p * slope_v**2 + 6e-5)
    s.z = min(max(s.z + gain * residual, 0.0), 1.0)
    s.p *= 1 - gain * slope_v
    s.bias_v += 1e-4 * residual
    return slope_v, r0_ohm


def _window(s: Vehicle) -> dict[str, Any]:
    a = s.acc
    return {
        "pack_id": s.name, "vehicle_id": s.name, "model": MODEL, "pack_hash": hash64(s.name), "start_ns": s.start_ns,
        "end_ns": s.start_ns + _WINDOW_NS, "revision": 0, "provisional": False, "frames": a["frames"],
        "current_min_a": a["current_min"], "current_max_a": a["current_max"], "pack_v_min": a["pack_v_min"],
        "pack_v_max": a["pack_v_max"], "cell_v_min": a["low_min"], "cell_v_max": a["high_max"],
        "temp_min_c": a["temp_low_min"], "temp_max_c": a["temp_high_max"], "charge_in_ah": a["as_in"] / 3600,
        "charge_out_ah": a["as_out"] / 3600, "energy_out_kwh": a["ws"] / 3.6e6, "soc_start": a["soc_start"],
        "soc_end": a["soc_end"], "spread_soc": float(np.ptp(s.d_soc)), "spread_r0": float(np.ptp(s.d_r0)),
    }  # fmt: skip


def _incident(s: Vehicle, f: Frame, cell: int, off_v: float) -> dict[str, Any]:
    subject = f"cell {cell + 1}"
    return {
        "id": record_id(s.name, "cell_spread", subject, f.t_ns), "revision": 0, "pack_id": s.name,
        "vehicle_id": s.name, "model": MODEL, "kind": "cell_spread", "subject": subject, "severity": 2,
        "status": "open", "opened_ns": f.t_ns, "updated_ns": f.t_ns, "cleared_ns": 0,
        "text": f"{subject} is {off_v * 1e3:.0f} mV off", "evidence": "{}", "provisional": False,
    }  # fmt: skip


def _to_arrow(keyed: list[tuple[str, list[tuple[str, dict[str, Any]]]]]) -> list[tuple[str, Any]]:
    tables: dict[str, list[dict[str, Any]]] = {}
    for _, records in keyed:
        for table, record in records:
            tables.setdefault(table, []).append(record)
    out = []
    for table, rows in tables.items():
        schema = SCHEMAS[table]
        plain = pa.schema([(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema])
        out.append(("lake", (table, pa.RecordBatch.from_pylist(rows, schema=plain))))
    return out
