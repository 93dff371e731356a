"""Telemetry tables (Parquet, CSV) as frames, by a mapping that says what each column means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from replay.table_time import NS, times
from replay.tabular import ROWS, BadPart, Part, TableFile, batches, numbers, open_table, row_of, texts
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from schemas.frames import CONTEXT, FrameBlock, make_block, missing_context, pack_table
from schemas.ids import dead_letter_id
from schemas.mapping import MATRICES, RELATIVE, Choice, ColumnMap, TableMap, load_mapping, mapping_names
from schemas.message import NO_TIME, UNDECODABLE, Packs
from schemas.pack import PackError, PackModel, load_pack
from schemas.wire_json import JSON

START_NS = 1_577_836_800 * NS  # 2020-01-01T00:00Z, where relative times begin unless told otherwise
_NUMBERED = 2000  # columns that a pattern may name
_COMPARED = 200  # rows by which an offset is chosen


def read_table(
    path: str | Path,
    mapping: TableMap,
    model: str = "",
    vehicle: str = "",
    *,
    start_ns: int = START_NS,
    part: int = 0,
    packs: Packs = load_pack,
    rows: int = ROWS,
) -> Iterator[FrameBlock | DeadLetter]:
    """Read a table as blocks of about `rows` frames, in the order of the file unless the mapping says otherwise.

    `model` "" is the mapping's own; a generic one takes cells and probes from the file.  `vehicle` "" is that of
    the file, or its name.  Relative times begin at `start_ns`.  `part` is the file's number among several; a row's
    number is its src_offset.  A row without a time is a DeadLetter.  Raises ConfigError before the first frame
    where the file, its columns or the model do not fit.
    """
    table = open_table(path)
    sources = {c.target: _sources(table, mapping, c) for c in mapping.columns}
    sources = {target: names for target, names in sources.items() if names}
    of_rows = [mapping.time.column, *([mapping.split.column] if mapping.split else [])]
    for name in of_rows:
        _require(table, mapping, name)
    use_vehicle = mapping.vehicle if not vehicle and mapping.vehicle in table.names else ""
    pack = _model(table, mapping, model, {t: len(sources.get(t, ())) for t in MATRICES}, packs)
    maps = {c.target: c for c in mapping.columns if c.target in sources}
    columns = [
        *of_rows,
        *([use_vehicle] if use_vehicle else []),
        *(n for names in sources.values() for n in names if n),
    ]
    table.check(columns)
    choices = {t: _choose(table, mapping, maps[t], sources[t]) for t in maps}
    plan = _Plan(table, mapping, pack, vehicle or _stem(table.path), use_vehicle, maps, sources, choices, columns, part)
    return _read(plan, start_ns, rows)


def find_mapping(path: str | Path) -> TableMap:
    """Find the one shipped mapping whose columns a table has; raises ConfigError where none or several fit."""
    table = open_table(path)
    fits = []
    for mapping in map(load_mapping, mapping_names()):
        try:
            for column in mapping.columns:
                _sources(table, mapping, column)
            for name in (mapping.time.column, *([mapping.split.column] if mapping.split else [])):
                _require(table, mapping, name)
        except ConfigError:
            continue
        fits.append(mapping)
    if len(fits) != 1:
        which = f"fits {', '.join(m.name for m in fits)}" if fits else f"fits none of {', '.join(mapping_names())}"
        msg = f"map must say what the columns of the table mean: it {which} ({table.path})"
        raise ConfigError(msg)
    return fits[0]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one file is read: for each column of a FrameBlock its map, its columns in the file and its choice."""

    table: TableFile
    mapping: TableMap
    pack: PackModel
    vehicle: str
    vehicle_column: str
    maps: dict[str, ColumnMap]
    sources: dict[str, list[str]]
    choices: dict[str, Choice]
    columns: list[str]
    part: int


@dataclass(slots=True)
class _Line:
    """Where relative time stands: the zero of each stretch or pack, and each vehicle's last time."""

    start_ns: int
    zero: dict[tuple[str, str], int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)


def _require(table: TableFile, mapping: TableMap, name: str) -> None:
    if name not in table.names:
        have = ", ".join(table.names[:8]) + (", …" if len(table.names) > 8 else "")  # noqa: PLR2004 - enough to recognise it
        msg = f"table must have a column {name}, as {mapping.file} says; it has {have} ({table.path})"
        raise ConfigError(msg)


def _sources(table: TableFile, mapping: TableMap, column: ColumnMap) -> list[str]:
    """Name the columns of the file; "" for one of a numbered row that the file leaves out."""
    have = set(table.names)
    if column.pattern:
        named = [column.pattern.format(n=n) for n in range(column.first, column.first + _NUMBERED)]
        there = [i for i, name in enumerate(named) if name in have]
        if there:
            return [name if name in have else "" for name in named[: there[-1] + 1]]
        missing = named[0]
    else:
        absent = [name for name in column.columns if name not in have]
        if not absent:
            return list(column.columns)
        missing = absent[0]
    if not column.optional:
        _require(table, mapping, missing)
    return []


def _model(table: TableFile, mapping: TableMap, name: str, size: dict[str, int], packs: Packs) -> PackModel:
    """Give the pack model, a generic one in the size of the file; refuse one that the columns do not fit."""
    name = name or mapping.model
    cells, probes = size["cell_v"], size["temp_c"]
    ah = f"{mapping.nominal_ah:g}ah" if mapping.nominal_ah else ""
    pack = packs(name)
    if "@" not in name:
        try:
            pack = packs(f"{name}@{cells or pack.series}c{probes}t{ah}")
        except PackError:
            pass  # not a generic one: its own size
        else:
            if not cells:
                msg = f"pack must say its cells, as in {name}@96c{probes}t: {table.path} has no column for them"
                raise ConfigError(msg)
    if cells not in {0, pack.series}:
        msg = f"pack must have as many cells as the table; {pack.name} has {pack.series}, {table.path} has {cells}"
        raise ConfigError(msg)
    if probes > pack.probes:
        msg = f"pack must have as many probes as the table; {pack.name} has {pack.probes}, {table.path} has {probes}"
        raise ConfigError(msg)
    return pack


def _choose(table: TableFile, mapping: TableMap, column: ColumnMap, names: list[str]) -> Choice:
    """Take that choice by which the largest of the columns comes nearest to the reference."""
    if len(column.choices) == 1:
        return column.choices[0]
    _require(table, mapping, column.reference)
    table.check([column.reference])
    there = [n for n in names if n]
    off: list[list[float]] = [[] for _ in column.choices]
    for part in batches(table, [*there, column.reference]):
        if isinstance(part, BadPart):
            continue
        at = {name: numbers(part.batch.column(name)) for name in {*there, column.reference}}
        for i, choice in enumerate(column.choices):
            value = np.stack([_converted(at[name], column, choice) for name in there])
            highest = np.where(np.isnan(value), -np.inf, value).max(axis=0)
            error = np.abs(highest - at[column.reference])
            off[i] += error[np.isfinite(error)].tolist()
        if min(map(len, off)) >= _COMPARED:
            break
    if not any(off):
        msg = f"column {column.reference} must show which offset {column.target} has; it has no numbers ({table.path})"
        raise ConfigError(msg)
    medians = [float(np.median(found)) if found else np.inf for found in off]
    return column.choices[int(np.argmin(medians))]


def _read(plan: _Plan, start_ns: int, rows: int) -> Iterator[FrameBlock | DeadLetter]:
    line = _Line(start_ns)
    split = plan.mapping.split
    spans: list[tuple[int, int | None]] = _spans(plan) if split is not None and split.by_time else [(0, None)]
    for begin, end in spans:
        for part in batches(plan.table, plan.columns, begin, end, rows):
            if isinstance(part, BadPart):
                kind = "text/csv" if part.payload else "application/octet-stream"
                yield _letter(plan, part.row, UNDECODABLE, part.detail, part.payload, kind, row=1)
            else:
                yield from _frames(plan, part, line)


def _spans(plan: _Plan) -> list[tuple[int, int | None]]:
    """Find the stretches of the file and order them by their first time; reads two columns only."""
    split = plan.mapping.split
    assert split is not None
    found: list[tuple[int, str, int]] = []  # first time, value, first row
    for part in batches(plan.table, [plan.mapping.time.column, split.column]):
        if isinstance(part, BadPart):
            continue
        codes, values = texts(part.batch.column(split.column))
        t_ns, good = times(part.batch.column(plan.mapping.time.column), plan.mapping.time)
        for a, b in _runs(codes):
            inside = np.flatnonzero(good[a:b])
            value = values[codes[a]]
            if inside.size and (not found or found[-1][1] != value):
                found.append((int(t_ns[a + inside[0]]), value, int(part.rows[a])))
    if not found:
        return [(0, None)]
    begins = [0, *(row for _, _, row in found[1:])]
    spans = list(zip([t for t, _, _ in found], begins, [*begins[1:], None], strict=True))
    return [(a, b) for _, a, b in sorted(spans, key=lambda s: (s[0], s[1]))]


def _runs(codes: NDArray[np.integer[Any]]) -> list[tuple[int, int]]:
    cuts = np.flatnonzero(np.diff(codes)) + 1
    return list(zip([0, *cuts.tolist()], [*cuts.tolist(), len(codes)], strict=True)) if len(codes) else []


def _frames(plan: _Plan, part: Part, line: _Line) -> Iterator[FrameBlock | DeadLetter]:
    batch, split = part.batch, plan.mapping.split
    n = batch.num_rows
    t_ns, good = times(batch.column(plan.mapping.time.column), plan.mapping.time)
    nobody = (np.zeros(n, np.int32), [plan.vehicle])
    owner, vehicles = texts(batch.column(plan.vehicle_column)) if plan.vehicle_column else nobody
    piece, pieces = texts(batch.column(split.column)) if split else (np.zeros(n, np.int32), [""])
    vehicles = [v or plan.vehicle for v in vehicles]
    both, which = np.unique(owner.astype(np.int64) * len(pieces) + piece, return_inverse=True)
    which = which.reshape(-1).astype(np.int32)
    pairs = [(vehicles[b // len(pieces)], pieces[b % len(pieces)]) for b in both.tolist()]
    if plan.mapping.time.format in RELATIVE:
        for a, b in _runs(which):
            _place(plan, t_ns[a:b], good[a:b], pairs[which[a]], line)
    for i in np.flatnonzero(~good).tolist():
        payload = orjson.dumps(row_of(batch, i), default=str)
        column = plan.mapping.time.column
        yield _letter(plan, int(part.rows[i]), NO_TIME, f"column {column} holds no time", payload, JSON)
    if not good.any():
        return
    names = [f"{v}/{p or '-'}" if split and split.packs else v for v, p in pairs]
    packs, owners, place = pack_table(names, [v for v, _ in pairs])  # stretches share a pack
    block = make_block(
        plan.pack.name,
        packs,
        vehicles=owners,
        pack=place[which],
        t_ns=t_ns,
        cell_v=_matrix(plan, batch, "cell_v", plan.pack.series),
        temp_c=_matrix(plan, batch, "temp_c", plan.pack.probes),
        src_part=plan.part,
        src_offset=part.rows,
        context={target: _context(plan, batch, target) for target in plan.maps if target in CONTEXT},
        **{t: _column(plan, batch, t) for t in ("current_a", "pack_v") if t in plan.maps},
        **({"seq": np.nan_to_num(_column(plan, batch, "seq"), nan=-1.0)} if "seq" in plan.maps else {}),
    )
    yield block if good.all() else block.take(np.flatnonzero(good)).pruned()


def _place(plan: _Plan, t_ns: NDArray[np.int64], good: NDArray[np.bool_], pair: tuple[str, str], line: _Line) -> None:
    """Put a stretch of relative times onto its vehicle's line, in place."""
    split = plan.mapping.split
    vehicle = pair[0]
    zero = line.zero.get(pair)
    if zero is None:
        zero = line.start_ns
        if split is not None and not split.packs and vehicle in line.last:
            after = line.last[vehicle] + round(split.gap_s * NS)
            zero = -(-after // NS) * NS  # stretches begin at whole seconds
        line.zero[pair] = zero
    good &= np.abs(t_ns) < 2**62 - abs(zero)
    t_ns[good] += zero
    if good.any():
        line.last[vehicle] = max(line.last.get(vehicle, zero), int(t_ns[good].max()))


def _letter(
    plan: _Plan, at: int, reason: str, detail: str, payload: bytes, content_type: str, row: int = 0
) -> DeadLetter:
    source = plan.table.path.name
    return DeadLetter(
        id=dead_letter_id(source, plan.part, at, row),
        source=source,
        partition=plan.part,
        offset=at,
        row=row,
        reason=reason,
        detail=detail,
        pack_id="",
        t_ns=0,
        expected_ns=0,
        content_type=content_type,
        payload=payload,
    )


def _converted(value: NDArray[np.float64], column: ColumnMap, choice: Choice) -> NDArray[np.float64]:
    """Turn values of the file into those of a FrameBlock; NaN where not available."""
    if column.values is not None:
        coded = np.full(value.shape, np.nan)
        for code, meaning in column.values.items():
            coded[value == code] = meaning
        value = coded
    elif choice.invalid:
        value = np.where(np.isin(value, choice.invalid), np.nan, value)
    value = value * column.scale + choice.offset
    value = -value if column.negate else value
    return np.where((value >= column.low) & (value <= column.high), value, np.nan)


def _column(plan: _Plan, batch: pa.RecordBatch, target: str) -> NDArray[np.float64]:
    return _converted(numbers(batch.column(plan.sources[target][0])), plan.maps[target], plan.choices[target])


def _matrix(plan: _Plan, batch: pa.RecordBatch, target: str, width: int) -> NDArray[np.float32]:
    values = np.full((width, batch.num_rows), np.nan, np.float32)
    for i, name in enumerate(plan.sources.get(target, ())):
        if name:
            values[i] = _converted(numbers(batch.column(name)), plan.maps[target], plan.choices[target])
    return np.ascontiguousarray(values.T)


def _context(plan: _Plan, batch: pa.RecordBatch, target: str) -> NDArray[Any]:
    value, dtype = _column(plan, batch, target), CONTEXT[target]
    if issubclass(dtype, np.floating):
        return value.astype(dtype)
    assert issubclass(dtype, np.integer)
    fits = (value >= float(np.iinfo(dtype).min)) & (value <= float(np.iinfo(dtype).max))
    return np.where(fits, np.where(fits, value, 0).astype(dtype), missing_context(target, 1)).astype(dtype)


def _stem(path: Path) -> str:
    """Name a file without its endings."""
    return path.name.split(".")[0] or path.name
