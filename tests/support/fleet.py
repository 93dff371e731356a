"""A small fleet whose frames go wrong in every way, the fleet flow over them, and its results in comparable form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, Source, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from numpy.typing import NDArray

from flows import fleet
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from replay.simulate.faults import Fault
from replay.simulate.fleet import START_NS, FleetConfig, simulate
from replay.source import ReplaySource
from schemas.arrow import SCHEMAS, LakeItem
from schemas.events import Item, Tick
from schemas.frames import FrameBlock, concat
from schemas.tables import KEYS

MODEL = "generic-nmc@8c2t60ah"
NS = 10**9
SETTINGS = FleetSettings(window_s=10.0, state_s=60.0)
BEGIN_NS = START_NS + 7 * 3600 * NS  # people drive to work


# -- frames


def drive(vehicles: int, hours: float, period_s: float, *, seed: int = 3, faults: tuple[Fault, ...] = ()) -> FrameBlock:
    """Simulate vehicles that never sleep; every frame has its source position."""
    cfg = FleetConfig(vehicles, hours, period_s, (MODEL,), seed, BEGIN_NS, faults, sleep=False, sensor_offset_a=0.0)
    return concat([block for block, _ in simulate(cfg)])


def spoil(block: FrameBlock, seconds: tuple[float, float], what: str) -> FrameBlock:
    """Spoil every third pack for `seconds` from the start: "wire" open, "cells" missing, "impossible", "frozen"."""
    t = (block.t_ns - block.t_ns.min()) / NS
    rows = np.flatnonzero((t >= seconds[0]) & (t < seconds[1]) & (block.pack % 3 == 0))
    cell_v, columns = block.cell_v.copy(), {}
    if what == "wire":
        cell_v[rows, 2] -= 0.3
        cell_v[rows, 3] += 0.3
    elif what == "cells":
        cell_v[rows, :5] = np.nan
    elif what == "impossible":
        cell_v[rows, 2] = 6.5535
    else:
        first = {p: rows[block.pack[rows] == p][0] for p in np.unique(block.pack[rows]).tolist()}
        source = np.array([first[p] for p in block.pack[rows].tolist()], np.int64)
        cell_v[rows] = cell_v[source]
        for name in ("current_a", "pack_v", "temp_c"):
            columns[name] = getattr(block, name).copy()
            columns[name][rows] = columns[name][source]
        columns["current_a"][rows] = -25.0
    return block.with_frames(cell_v=cell_v, **columns)


def arrive(block: FrameBlock, delay_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order rows by the time at which each comes when it is delayed."""
    return np.argsort(block.t_ns + (delay_s * NS).astype(np.int64), kind="stable")


def disturb(
    block: FrameBlock, seed: int, *, duplicates: float = 0.05, delayed: float = 0.05, dropped: float = 0.0
) -> tuple[FrameBlock, NDArray[np.int64]]:
    """Repeat, delay (≤ 4 s) and drop shares of the frames; gives the frames as they come, and the dropped rows."""
    draw = np.random.default_rng(seed)
    n = len(block)
    kept = np.flatnonzero(draw.random(n) >= dropped)
    late = np.where(draw.random(n) < delayed, draw.uniform(0.0, 4.0, n), 0.0)
    again = kept[draw.random(kept.size) < duplicates]
    rows = np.concatenate([kept, again])
    delay = np.concatenate([late[kept], draw.uniform(0.0, 4.0, again.size)])
    at = block.t_ns[rows] + (delay * NS).astype(np.int64)
    return block.take(rows[np.argsort(at, kind="stable")]), np.setdiff1d(np.arange(n), kept)


def stamp(block: FrameBlock, rows: Sequence[int], t_ns: Sequence[int]) -> FrameBlock:
    """Give frames other times; their content stays."""
    wrong = block.t_ns.copy()
    wrong[list(rows)] = t_ns
    return block.with_frames(t_ns=wrong)


def cut(block: FrameBlock, at: Iterable[int]) -> list[FrameBlock]:
    """Cut into blocks before the rows `at`; empty blocks are as good as others."""
    edges = [0, *sorted(at), len(block)]
    return [block.take(slice(a, b)).pruned() for a, b in pairwise(edges)]


def cut_every(block: FrameBlock, rows: int) -> list[FrameBlock]:
    return cut(block, range(rows, len(block), rows))


# -- the flow


class Collect(DynamicSink[tuple[str, LakeItem]]):
    """Keep records in a list: a bytewax without recovery in this process."""

    def __init__(self) -> None:
        self.items: list[LakeItem] = []

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Collected:
        return _Collected(self.items)


class _Collected(StatelessSinkPartition[tuple[str, LakeItem]]):
    def __init__(self, items: list[LakeItem]) -> None:
        self._items = items

    def write_batch(self, items: list[tuple[str, LakeItem]]) -> None:
        self._items += [item for _, item in items]


class Pausing(FixedPartitionedSource[Item, int]):
    """Items with a pause (s) after the n-th, n from 1; resumed by position.  Knows when it `ended`."""

    def __init__(self, items: Sequence[Item], pauses: dict[int, float], started: Path | None = None) -> None:
        self.items, self.pauses, self.started, self.ended = items, pauses, started, False

    def list_parts(self) -> list[str]:
        return ["replay"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Pausing:
        if self.started is not None:
            self.started.touch()
        return _Pausing(self, resume_state or 0)


class _Pausing(StatefulSourcePartition[Item, int]):
    def __init__(self, source: Pausing, done: int) -> None:
        self._source, self._done = source, done
        self._awake: datetime | None = None

    def next_batch(self) -> list[Item]:
        source = self._source
        if self._done >= len(source.items):
            source.ended = True
            raise StopIteration
        self._done += 1
        pause_s = source.pauses.get(self._done, 0.0)
        self._awake = datetime.now(UTC) + timedelta(seconds=pause_s) if pause_s else None
        return [source.items[self._done - 1]]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        return self._done


def flow_into(
    sink: Any,
    source: Source[Item],
    settings: FleetSettings = SETTINGS,
    ticks: Source[Tick] | None = None,
    recovery: RecoverySettings | None = None,
) -> Dataflow:
    """Build the real flow."""
    return fleet.build(settings, source, sink, (MODEL,), ticks=ticks, files=recovery.files if recovery else None)


def run(
    blocks: Sequence[Item],
    settings: FleetSettings = SETTINGS,
    *,
    source: Source[Item] | None = None,
    ticks: Source[Tick] | None = None,
    recovery: RecoverySettings | None = None,
    sink: Collect | None = None,
) -> dict[str, pa.Table]:
    """Run the fleet flow in this process to the end of input; gives its final records by table."""
    sink = sink or Collect()
    flow = flow_into(sink, source or ReplaySource(lambda: blocks), settings, ticks, recovery)
    run_flow(flow, recovery or RecoverySettings(), settings.shards)
    return final(sink.items)


# -- results


def final(items: Iterable[LakeItem]) -> dict[str, pa.Table]:
    """Give the final records by table, sorted by (id, revision)."""
    batches: dict[str, list[pa.RecordBatch]] = {}
    for item in items:
        if not isinstance(item, Tick):
            batches.setdefault(item[0], []).append(item[1])
    return {table: _sorted(table, pa.Table.from_batches(b).unify_dictionaries()) for table, b in batches.items()}


def _sorted(table: str, rows: pa.Table) -> pa.Table:
    rows = rows.cast(
        pa.schema([(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in SCHEMAS[table]])
    )
    if "provisional" in rows.schema.names:
        rows = rows.filter(pa.compute.invert(rows["provisional"].fill_null(False)))
    keys = [*KEYS[table], *(["revision"] if "revision" in rows.schema.names else [])]
    return rows.combine_chunks().sort_by([(k, "ascending") for k in keys]).combine_chunks()


def differences(a: dict[str, pa.Table], b: dict[str, pa.Table]) -> list[str]:
    """Say where two results differ in any bit: table, column, first row."""
    found = []
    for table in sorted(a.keys() | b.keys()):
        if table not in a or table not in b or len(a[table]) != len(b[table]):
            counts = [len(x[table]) if table in x else 0 for x in (a, b)]
            found.append(f"{table}: {counts[0]} rows, {counts[1]} rows")
            continue
        for name in a[table].schema.names:
            x, y = (_bits(t[table][name].combine_chunks()) for t in (a, b))
            if x != y:
                row = next(i for i, (p, q) in enumerate(zip(x, y, strict=True)) if p != q)
                key = [a[table][k][row].as_py() for k in ("pack_id", *KEYS[table])]
                found.append(f"{table}.{name}: row {row} {key}: {a[table][name][row]} != {b[table][name][row]}")
    return found


def _bits(column: Any) -> list[Any]:
    """Give comparable values: floats by their bits, so that 0.0 is not −0.0 and every NaN is itself."""
    kind = column.type
    if pa.types.is_list(kind):
        lengths = [None if v is None else len(v) for v in column.to_pylist()]
        return [lengths, _bits(column.flatten())]
    if pa.types.is_floating(kind):
        width = {32: pa.int32(), 64: pa.int64()}[kind.bit_width]
        return column.view(width).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_timestamp(kind):
        return column.view(pa.int64()).to_pylist()  # type: ignore[no-any-return]
    return column.to_pylist()  # type: ignore[no-any-return]


def counts(result: dict[str, pa.Table]) -> dict[str, int]:
    return {table: len(rows) for table, rows in sorted(result.items())}
