"""Records as Arrow: what a flow emits, in the columns of the lake's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from schemas.arrow_columns import names, numbers, repeated
from schemas.events import DeadLetter, Event, Gap, GatewayReport, Incident, Item, Rows, Session, Tick
from schemas.frames import FrameBlock
from schemas.ids import hash64
from schemas.tables import TABLES

LakeItem = tuple[str, pa.RecordBatch] | Tick

_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "bool": pa.bool_(),
    "i8": pa.int8(),
    "i16": pa.int16(),
    "i32": pa.int32(),
    "i64": pa.int64(),
    "u32": pa.uint32(),
    "u64": pa.uint64(),
    "f32": pa.float32(),
    "f64": pa.float64(),
    "f32[]": pa.list_(pa.float32()),
    "time": pa.timestamp("ns"),
    "bytes": pa.binary(),
}
# The lake's times reach from 1677-09-22 to 2262-04-11; the ends of int64 mean infinity.  A vehicle may stamp others.
_TIMES_NS = (-9_223_286_400_000_000_000, 2**63 - 2)
_NAMES = pa.dictionary(pa.int32(), pa.string())  # text that repeats: who, provenance
_REPEATED = frozenset({"pack_id", "vehicle_id", "model", "pack_file", "code_version", "params", "models"})
_OBJECTS = frozenset({"evidence", "causes"})  # numbers by name, as JSON
_MADE_BY = ("pack_file", "code_version", "params", "models")
_EVENT_TABLES: dict[type, str] = {
    Session: "sessions",
    Incident: "incidents",
    Gap: "gaps",
    DeadLetter: "dead_letters",
    GatewayReport: "gateway_reports",
}


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a record: `pack_files` maps pack model to its file's hash; the rest as in TABLES."""

    pack_files: Mapping[str, str]
    code_version: str
    params: str
    models: str = ""


def _schema(table: str) -> pa.Schema:
    """Name and type each column of a table; text that repeats is dictionary-encoded."""
    return pa.schema([(c.name, _NAMES if c.name in _REPEATED else _TYPES[c.type]) for c in TABLES[table]])


SCHEMAS: dict[str, pa.Schema] = {table: _schema(table) for table in TABLES}


def to_arrow(items: Iterable[Item], provenance: Provenance) -> list[LakeItem]:
    """Give items as (table, record batch), ticks as they are.

    Rows of one table and model share a batch, and so do events of one table.

    NaN ("not available") becomes null, so that SQL's aggregates leave it out.  Columns that a step did
    not fill are null.  A table that the lake does not have is an error of the flow's wiring: assert.
    """
    out: list[LakeItem] = []
    events: dict[str, list[Event]] = {}
    rows: dict[tuple[str, str, tuple[str, ...]], list[Rows]] = {}
    for item in items:
        if isinstance(item, Rows):
            if len(item):
                rows.setdefault((item.table, item.model, tuple(item.data)), []).append(item)
        elif isinstance(item, FrameBlock):
            if len(item):
                out.append(("frames", _frames(item)))
        elif isinstance(item, Tick):
            out.append(item)
        else:
            events.setdefault(_EVENT_TABLES[type(item)], []).append(item)
    out.extend((parts[0].table, _rows(_joined(parts), provenance)) for parts in rows.values())
    out.extend((table, _events(table, records, provenance)) for table, records in events.items())
    return out


def _joined(parts: list[Rows]) -> Rows:
    """Join the rows of many shards: sixty columns cost the same for one shard as for all."""
    if len(parts) == 1:
        return parts[0]
    tables: dict[tuple[str, ...], int] = {}  # pack table → where it begins in the joint one
    packs: list[str] = []
    vehicles: list[str] = []
    for part in parts:
        if tables.setdefault(part.packs + part.vehicles, len(packs)) == len(packs):
            packs += part.packs
            vehicles += part.vehicles
    return Rows(
        parts[0].table,
        parts[0].model,
        tuple(packs),
        tuple(vehicles),
        np.concatenate([p.pack + np.int32(tables[p.packs + p.vehicles]) for p in parts]),
        {k: np.concatenate([p.data[k] for p in parts]) for k in parts[0].data},
    )


def _rows(rows: Rows, provenance: Provenance) -> pa.RecordBatch:
    assert rows.table in SCHEMAS, f"{rows.table} is no table of the lake: {sorted(SCHEMAS)}"
    columns = _who(rows.model, rows.packs, rows.vehicles, rows.pack, provenance)
    if "pack_hash" not in rows.data and "pack_hash" in SCHEMAS[rows.table].names:
        columns["pack_hash"] = numbers(np.array([hash64(p) for p in rows.packs], np.int64)[rows.pack], pa.int64())
    return _batch(rows.table, len(rows), columns, rows.data)


def _frames(block: FrameBlock) -> pa.RecordBatch:
    columns = _who(block.model, block.packs, block.vehicles, block.pack, None)
    named = ("t_ns", "seq", "lane", "recv_ns", "current_a", "pack_v", "cell_v", "temp_c")
    source = ("src_part", "src_offset", "src_row")
    data = {name: getattr(block, name) for name in (*named, *source)}
    data |= {k: block.derived[k] for k in ("quality", "soc", "soc_std", "revision") if k in block.derived}
    data["lane"] = block.derived.get("resent", block.lane)
    data |= block.context
    if "raw" in block.derived:
        columns["raw"] = _where_given(block.derived["raw"])
    return _batch("frames", len(block), columns, data)


def _where_given(rows: NDArray[np.float32]) -> pa.Array:
    """Give rows as lists, those that are NaN throughout as null."""
    given = ~np.isnan(rows).all(axis=1)
    ends = numbers(np.concatenate([[0], np.cumsum(given * rows.shape[1])]).astype(np.int32), pa.int32())
    values = numbers(np.ascontiguousarray(rows[given]).reshape(-1), pa.float32())
    bits = pa.py_buffer(np.packbits(given, bitorder="little"))
    return pa.Array.from_buffers(pa.list_(pa.float32()), len(rows), [bits, ends.buffers()[1]], children=[values])


def _who(
    model: str,
    packs: tuple[str, ...],
    vehicles: tuple[str, ...],
    pack: NDArray[np.int32],
    provenance: Provenance | None,
) -> dict[str, pa.Array]:
    """Fill who and provenance by dictionary: no text is made per row."""
    columns = {"pack_id": repeated(pack, packs), "vehicle_id": repeated(pack, vehicles)}
    constant = {"model": model}
    if provenance is not None:
        constant |= _provenance(model, provenance)
    zeros = np.zeros(len(pack), np.int32)
    return columns | {name: repeated(zeros, [text]) for name, text in constant.items()}


def _provenance(model: str, provenance: Provenance) -> dict[str, str]:
    return {
        "pack_file": provenance.pack_files.get(model, ""),
        "code_version": provenance.code_version,
        "params": provenance.params,
        "models": provenance.models,
    }


def _batch(table: str, n: int, ready: Mapping[str, pa.Array], data: Mapping[str, NDArray[Any]]) -> pa.RecordBatch:
    schema = SCHEMAS[table]
    unknown = set(data) - set(schema.names)
    assert not unknown, f"{table} has no columns {sorted(unknown)}"
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in ready:
            columns.append(ready[name])
        elif name in data:
            columns.append(_column(data[name], kind))
        else:
            columns.append(pa.nulls(n, kind))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Turn a numpy column into Arrow; (N, C) becomes a list of C per row."""
    if pa.types.is_string(kind):
        return names(values.tolist())
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0 becomes 0: a Parquet dictionary holds one of them for both
    if pa.types.is_list(kind):
        n, c = values.shape
        ends = numbers(np.arange(n + 1, dtype=np.int32) * np.int32(c), pa.int32())
        return pa.ListArray.from_arrays(ends, numbers(values.reshape(-1), kind.value_type))
    if pa.types.is_timestamp(kind):
        values = np.clip(values, *_TIMES_NS)
    return numbers(values, kind)


def _events(table: str, events: list[Event], provenance: Provenance) -> pa.RecordBatch:
    schema = SCHEMAS[table]
    models = [getattr(e, "model", "") for e in events]
    made = {model: _provenance(model, provenance) for model in set(models)}
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in _MADE_BY:
            columns.append(_encoded([made[model][name] for model in models]))
            continue
        values: Any = list(map(attrgetter(name), events))
        if pa.types.is_floating(kind):
            values = np.array(values, np.float64) + 0.0
        if pa.types.is_timestamp(kind):
            values = [min(max(v, _TIMES_NS[0]), _TIMES_NS[1]) for v in values]
        if name in _OBJECTS:
            values = [orjson.dumps(dict(v), option=orjson.OPT_SORT_KEYS).decode() for v in values]
        if kind == _NAMES:
            columns.append(_encoded(values))
        else:
            columns.append(pa.array(values, kind, from_pandas=True))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _encoded(texts: list[str]) -> pa.DictionaryArray:
    return pa.array(texts, pa.string()).dictionary_encode()
