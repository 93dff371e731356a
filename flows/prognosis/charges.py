"""Charges of many cells or packs as columns: the one shape for laboratory sets and for sessions of the field."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.checked import ConfigError

FOLDER = "soh_features"
_WHO = ("dataset", "cell", "cycle", "capacity")
_PART = re.compile(r"dataset_(\d+)", re.IGNORECASE)  # a set that is published in parts names them in its cells
_LAST = re.compile(r"[-_#/]*[^-_#/]*$")  # the cell's own number, at the end of its name
# Ah that SOH is a share of, by beginning of the set's name; any other set takes the median of its first capacities.
_NOMINAL_AH = (("XJTU", 2.0), ("MIT", 1.1), ("HUST", 1.1), ("TJU-3", 2.5), ("TJU", 3.5))

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Charges:
    """N charges of some cells, sorted by cell and time; NaN = not available."""

    set: str
    nominal_ah: float
    cells: tuple[str, ...]
    protocols: tuple[str, ...]  # of each cell
    cell: NDArray[np.int32]  # (N,) row → cell
    cycle: Floats  # (N,) cycles so far: counted, or charge moved over twice the nominal capacity
    columns: tuple[str, ...]
    x: Floats  # (N, K) measured columns
    capacity_ah: Floats  # (N,) measured after the charge

    def __len__(self) -> int:
        return self.cell.size

    @property
    def soh(self) -> Floats:
        """Give the measured capacity as a share of the nominal one (N,)."""
        return self.capacity_ah / self.nominal_ah

    def take(self, rows: NDArray[Any]) -> Charges:
        """Give some rows (a mask, or indices that keep the order)."""
        return replace(
            self, cell=self.cell[rows], cycle=self.cycle[rows], x=self.x[rows], capacity_ah=self.capacity_ah[rows]
        )

    def nth(self) -> NDArray[np.int64]:
        """Give each row's number within its cell, from 0."""
        start = np.r_[0, np.flatnonzero(np.diff(self.cell)) + 1]
        return np.asarray(np.arange(len(self)) - np.repeat(start, np.diff(np.r_[start, len(self)])))


def read_sets(data: Path, only: Iterable[str] = (), notes: list[str] | None = None) -> dict[str, Charges]:
    """Read every set of cells in `data` (or in its folder soh_features) by column layout.

    A file is Parquet or CSV with dataset, cell, cycle, capacity (Ah) and any further columns of numbers, one row a
    cycle; nothing depends on which cells are in it or on the number of files: what all of them have is read.  `only`
    names sets; raises ConfigError, also for a file of another kind, or with `notes` leaves that out and tells it there.
    """
    folder = data / FOLDER if (data / FOLDER).is_dir() else data
    files = sorted(f for f in folder.glob("*") if f.suffix in {".parquet", ".csv"})
    if not files:
        msg = f"--data must be a directory with Parquet or CSV files of charges, or with {FOLDER}/ in it; got {data}"
        raise ConfigError(msg)
    tables = []
    for file in files:
        try:
            tables.append(_read(file, notes))
        except ConfigError as wrong:
            if notes is None:
                raise
            notes.append(f"{FOLDER}/{file.name}: left out, {wrong}")
    common = set.intersection(*(set(t.column_names) for t in tables)) if tables else set()
    columns = tuple(n for n in (tables[0].column_names if tables else ()) if n in common and n not in _WHO)
    if not columns:
        msg = f"files of charges must have columns of numbers in common; got none ({folder})"
        raise ConfigError(msg)
    table = pa.concat_tables([t.select([*_WHO, *columns]) for t in tables], promote_options="permissive")
    dataset, cell = (np.asarray(table[k].to_pylist(), np.str_) for k in ("dataset", "cell"))
    name = np.array([set_of(d, c) for d, c in zip(dataset, cell, strict=True)])
    wanted = set(only) or set(np.unique(name).tolist())
    if unknown := wanted - set(name.tolist()):
        msg = f"--set must be one of {', '.join(np.unique(name))}; got {', '.join(sorted(unknown))} ({folder})"
        raise ConfigError(msg)
    x = np.column_stack([np.asarray(table[c], np.float64) for c in columns])
    cycle, capacity = (np.asarray(table[k], np.float64) for k in ("cycle", "capacity"))
    found = {}
    for one in sorted(wanted):
        rows = np.flatnonzero(name == one)
        found[one] = gather(one, cell[rows], cycle[rows], columns, x[rows], capacity[rows])
    return found


def gather(
    name: str, cell: NDArray[np.str_], cycle: Floats, columns: tuple[str, ...], x: Floats, capacity_ah: Floats
) -> Charges:
    """Sort rows by cell and cycle into one table, infinite values as NaN; raises ConfigError on a repeated cycle."""
    cells, index = np.unique(cell, return_inverse=True)
    order = np.lexsort((cycle, index))
    rank, cycle, capacity_ah = np.asarray(index[order], np.int32), cycle[order], capacity_ah[order]
    twice = np.flatnonzero((np.diff(rank) == 0) & (np.diff(cycle) == 0))
    if twice.size:
        msg = f"cycles of a cell must differ; got {cycle[twice[0]]:g} twice in {cells[rank[twice[0]]]} ({name})"
        raise ConfigError(msg)
    start = np.r_[0, np.flatnonzero(np.diff(rank)) + 1]
    nominal = next((ah for prefix, ah in _NOMINAL_AH if name.startswith(prefix)), float(np.median(capacity_ah[start])))
    x = np.where(np.isfinite(x[order]), x[order], np.nan)
    protocols = tuple(protocol_of(c) for c in cells.tolist())
    return Charges(name, nominal, tuple(cells.tolist()), protocols, rank, cycle, columns, x, capacity_ah)


def set_of(dataset: str, cell: str) -> str:
    """Name the set of a cell: its dataset, and which part where the cell's folder says so."""
    part = _PART.search(cell)
    return f"{dataset}-{part[1]}" if part else dataset


def protocol_of(cell: str) -> str:
    """Name what a cell was put through: its own name without the last number."""
    return _LAST.sub("", cell) or "one"


def _read(file: Path, notes: list[str] | None = None) -> pa.Table:
    """Read one file; raises ConfigError.  With `notes` further columns that are no numbers are told there instead."""
    from pyarrow import csv, parquet  # noqa: PLC0415 - 10 MB that a flow which asks a model does without

    try:
        table = parquet.read_table(file) if file.suffix == ".parquet" else csv.read_csv(file)
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"a set of charges must be Parquet or CSV; got {str(error).splitlines()[0]} ({file})"
        raise ConfigError(msg) from None
    if missing := [name for name in _WHO if name not in table.column_names]:
        msg = f"columns must include {', '.join(_WHO)}; {', '.join(missing)} missing ({file})"
        raise ConfigError(msg)
    wrong = [f.name for f in table.schema if f.name not in _WHO[:2] and not _is_number(f.type)]
    if notes is not None and wrong and not set(wrong) & set(_WHO):
        notes.append(f"{FOLDER}/{file.name}: columns left out that are no numbers: {', '.join(wrong)}")
        table, wrong = table.drop_columns(wrong), []
    if wrong or len(table.column_names) == len(_WHO):
        got = f"{wrong[0]} as {table.schema.field(wrong[0]).type}" if wrong else "none"
        msg = f"columns besides dataset and cell must be numbers, one or more; got {got} ({file})"
        raise ConfigError(msg)
    if not table.num_rows:
        msg = f"a set of charges must have rows; got none ({file})"
        raise ConfigError(msg)
    return table


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
