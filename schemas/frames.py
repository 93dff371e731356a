"""What flows: frames of many packs as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.ids import shard_of

LIVE, BACKFILL = 0, 1  # values of the lane column
NO_SEQ = -1  # the vehicle counts no frames
NO_RECV = 0  # no broker stamped the frame: a replay

_COLUMNS: dict[str, type[np.generic]] = {
    "pack": np.int32,
    "t_ns": np.int64,
    "seq": np.int64,
    "current_a": np.float32,
    "pack_v": np.float32,
    "lane": np.uint8,
    "recv_ns": np.int64,
    "src_part": np.int32,
    "src_offset": np.int64,
    "src_row": np.int32,
}
_DEFAULTS: dict[str, float] = {
    "seq": NO_SEQ,
    "current_a": np.nan,
    "pack_v": np.nan,
    "lane": LIVE,
    "recv_ns": NO_RECV,
    "src_part": 0,
    "src_offset": 0,
    "src_row": 0,
}

# Columns that a vehicle may have beside the fixed ones.  Floats are NaN where not available,
# integers -1 (masks 0).
CONTEXT: dict[str, type[np.generic]] = {
    "soc_bms": np.float32,  # 0..1, as the vehicle's own BMS says
    "soh_bms": np.float32,  # 0..1
    "speed_kmh": np.float32,
    "odo_km": np.float64,
    "lat_deg": np.float64,
    "lon_deg": np.float64,
    "altitude_m": np.float32,
    "ambient_c": np.float32,
    "coolant_c": np.float32,
    "isolation_ohm": np.float32,
    "link_v": np.float32,
    "current2_a": np.float32,  # second sensor, same sign as current_a
    "contactor_state": np.int8,  # 0 open, 1 precharge, 2 closed
    "hvil": np.int8,  # 1 closed loop, 0 open
    "drive_state": np.int8,  # 0 parked, 1 driving, 2 charging
    "charge_type": np.int8,  # 0 none, 1 AC, 2 DC
    "alarm_level": np.int8,  # the vehicle's own alarm, 0..4
    "balancing_mask": np.uint64,  # bit c: the bleed of cell group c is on (first 64 groups)
    "humidity_pct": np.float32,
    "pressure_kpa": np.float32,
    "vibration_g": np.float32,
}


@dataclass(frozen=True, slots=True, eq=False)
class FrameBlock:
    """N frames of packs that share one pack model, in arrival order.

    One row is one series string at one time: C cell groups, P temperature probes.  Current is
    positive into the battery (as COVESA VSS); NaN means "not available".  `packs` and `vehicles`
    are parallel; `pack` indexes both.  `context` holds optional columns named in CONTEXT, `derived`
    what the steps of a flow have added.  Every array has N rows and is C-contiguous.
    """

    model: str
    packs: tuple[str, ...]
    vehicles: tuple[str, ...]
    pack: NDArray[np.int32]
    t_ns: NDArray[np.int64]
    seq: NDArray[np.int64]
    current_a: NDArray[np.float32]
    pack_v: NDArray[np.float32]
    cell_v: NDArray[np.float32]
    temp_c: NDArray[np.float32]
    lane: NDArray[np.uint8]
    recv_ns: NDArray[np.int64]
    src_part: NDArray[np.int32]
    src_offset: NDArray[np.int64]
    src_row: NDArray[np.int32]
    context: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    derived: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """N."""
        return self.t_ns.size

    @property
    def cells(self) -> int:
        """C, the number of cell groups in series."""
        return int(self.cell_v.shape[1])

    @property
    def probes(self) -> int:
        """P, the number of temperature probes."""
        return int(self.temp_c.shape[1])

    def take(self, rows: NDArray[np.integer[Any]] | slice) -> FrameBlock:
        """Give the rows in that order, with the same pack table; a slice shares memory."""
        return replace(
            self,
            **{n: getattr(self, n)[rows] for n in _ROW_FIELDS},
            context={k: v[rows] for k, v in self.context.items()},
            derived={k: v[rows] for k, v in self.derived.items()},
        )

    def with_derived(self, **columns: NDArray[Any]) -> FrameBlock:
        """Give the same frames with derived columns added or replaced."""
        for name, column in columns.items():
            assert len(column) == len(self), f"{name} has {len(column)} rows, the block {len(self)}"
        return replace(self, derived={**self.derived, **columns})

    def with_frames(self, **columns: Any) -> FrameBlock:  # noqa: ANN401 - columns differ in dtype
        """Give the same frames with fixed columns replaced."""
        return replace(self, **columns)

    def pruned(self) -> FrameBlock:
        """Drop packs that have no row from the pack table."""
        used, pack = np.unique(self.pack, return_inverse=True)
        if used.size == len(self.packs):
            return self
        return replace(
            self,
            packs=tuple(self.packs[i] for i in used.tolist()),
            vehicles=tuple(self.vehicles[i] for i in used.tolist()),
            pack=pack.astype(np.int32),
        )

    def by_shard(self, shards: int) -> Iterator[tuple[str, FrameBlock]]:
        """Cut into (shard key, block) by pack, rows kept in order; keys in ascending order.

        A part's pack table holds the packs of its shard, in the order of this block's.
        """
        if not len(self):
            return
        table = _shards_of(self.packs, self.vehicles, shards)
        of_row = table.shard[self.pack]
        order = np.argsort(of_row, kind="stable")
        # All rows are moved once; the parts are views.
        sorted_ = replace(self.take(order), pack=table.place[self.pack[order]])
        present, starts = np.unique(of_row[order], return_index=True)
        ends = [*starts[1:].tolist(), len(self)]
        for shard, a, b in zip(present.tolist(), starts.tolist(), ends, strict=True):
            packs, vehicles = table.members[shard]
            yield f"{self.model}/{shard:03d}", replace(sorted_.take(slice(a, b)), packs=packs, vehicles=vehicles)


@dataclass(frozen=True, slots=True)
class _Shards:
    """A pack table cut by shard: each pack's shard and place in it (both (packs,)), and each shard's packs."""

    shard: NDArray[np.int32]
    place: NDArray[np.int32]
    members: Mapping[int, tuple[tuple[str, ...], tuple[str, ...]]]


@lru_cache(maxsize=256)  # a source that keeps its table has it cut once
def _shards_of(packs: tuple[str, ...], vehicles: tuple[str, ...], shards: int) -> _Shards:
    shard = np.fromiter((shard_of(p, shards) for p in packs), np.int32, len(packs))
    place = np.empty(len(packs), np.int32)
    members = {}
    for s in np.unique(shard).tolist():
        mine = np.flatnonzero(shard == s)
        place[mine] = np.arange(mine.size)
        members[s] = (tuple(packs[i] for i in mine.tolist()), tuple(vehicles[i] for i in mine.tolist()))
    return _Shards(shard, place, members)


_ROW_FIELDS = tuple(
    f.name for f in fields(FrameBlock) if f.name not in {"model", "packs", "vehicles", "context", "derived"}
)


def make_block(
    model: str,
    packs: Sequence[str],
    *,
    vehicles: Sequence[str] | None = None,
    context: Mapping[str, NDArray[Any]] | None = None,
    **columns: Any,  # noqa: ANN401 - columns differ in dtype
) -> FrameBlock:
    """Build a FrameBlock from array-likes, with checks; absent columns get their "not available".

    Needs `pack`, `t_ns`, `cell_v` (N, C), `temp_c` (N, P).  `vehicles` defaults to `packs`.
    Raises ValueError that names the column, what it got and what is accepted.
    """
    t_ns = np.ascontiguousarray(columns.pop("t_ns"), np.int64)
    n = t_ns.size
    table, owners = _names(packs, vehicles)
    rows: dict[str, Any] = {"t_ns": t_ns}
    for name in ("cell_v", "temp_c"):
        rows[name] = np.ascontiguousarray(columns.pop(name), np.float32)
        if rows[name].ndim != 2 or len(rows[name]) != n:  # noqa: PLR2004 - rows and columns
            msg = f"{name} must be (N={n}, columns); got shape {rows[name].shape}"
            raise ValueError(msg)
    for name, dtype in _COLUMNS.items():
        if name == "t_ns":
            continue
        value = columns.pop(name, _DEFAULTS.get(name))
        if value is None:
            msg = f"column {name} is missing"
            raise ValueError(msg)
        rows[name] = np.full(n, value, dtype) if np.ndim(value) == 0 else np.ascontiguousarray(value, dtype)
        if rows[name].shape != (n,):
            msg = f"{name} must have {n} rows; got shape {rows[name].shape}"
            raise ValueError(msg)
    if columns:
        msg = f"unknown columns {sorted(columns)}; accepted: {sorted([*_COLUMNS, 'cell_v', 'temp_c'])}"
        raise ValueError(msg)
    if n and not (rows["pack"].min() >= 0 and rows["pack"].max() < len(table)):
        msg = f"pack must index packs (0..{len(table) - 1}); got {rows['pack'].min()}..{rows['pack'].max()}"
        raise ValueError(msg)
    return FrameBlock(model, table, owners, context=_context(context or {}, n), **rows)


def _names(packs: Sequence[str], vehicles: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    table = tuple(packs)
    owners = table if vehicles is None else tuple(vehicles)
    if len(set(table)) < len(table):
        twice = next(p for i, p in enumerate(table) if p in table[:i])
        msg = f"packs must name each pack once; got {twice!r} twice"
        raise ValueError(msg)
    if len(owners) != len(table):
        msg = f"vehicles must be as long as packs ({len(table)}); got {len(owners)}"
        raise ValueError(msg)
    return table, owners


def _context(columns: Mapping[str, NDArray[Any]], n: int) -> dict[str, NDArray[Any]]:
    for name, column in columns.items():
        if name not in CONTEXT:
            msg = f"unknown context column {name}; accepted: {sorted(CONTEXT)}"
            raise ValueError(msg)
        if np.shape(column) != (n,):
            msg = f"context column {name} must have {n} rows; got shape {np.shape(column)}"
            raise ValueError(msg)
    return {k: np.ascontiguousarray(columns[k], CONTEXT[k]) for k in sorted(columns)}


def pack_table(packs: Iterable[str], vehicles: Iterable[str]) -> tuple[list[str], list[str], NDArray[np.int32]]:
    """Name each pack once, with the last vehicle given for it; gives also the place of each pack given."""
    place: dict[str, int] = {}
    owner: dict[str, str] = {}
    places = []
    for pack, vehicle in zip(packs, vehicles, strict=True):
        places.append(place.setdefault(pack, len(place)))
        owner[pack] = vehicle
    return list(place), [owner[p] for p in place], np.array(places, np.int32)


def missing_context(name: str, n: int) -> NDArray[Any]:
    """Give `n` rows of "not available" in the dtype of a context column."""
    dtype = CONTEXT[name]
    if np.issubdtype(dtype, np.floating):
        return np.full(n, np.nan, dtype)
    return np.full(n, 0 if np.issubdtype(dtype, np.unsignedinteger) else -1, dtype)


def concat(blocks: Sequence[FrameBlock]) -> FrameBlock:
    """Join blocks of one model, in order; pack tables are merged, derived columns dropped."""
    first = blocks[0]
    if len(blocks) == 1:
        return replace(first, derived={})
    packs: dict[str, int] = {}
    vehicles: list[str] = []
    index: list[NDArray[np.int32]] = []
    for block in blocks:
        if (block.model, block.cells, block.probes) != (first.model, first.cells, first.probes):
            got = f"{block.model} ({block.cells} cells, {block.probes} probes)"
            msg = f"blocks must share {first.model} ({first.cells} cells, {first.probes} probes); got {got}"
            raise ValueError(msg)
        if index and block.packs is first.packs and block.vehicles is first.vehicles:
            index.append(block.pack)  # packs are named once, so the first block's places are the joined ones
            continue
        remap = np.empty(len(block.packs), np.int32)
        for i, (pack, vehicle) in enumerate(zip(block.packs, block.vehicles, strict=True)):
            at = packs.setdefault(pack, len(packs))
            if at == len(vehicles):
                vehicles.append(vehicle)
            vehicles[at] = vehicle  # the newest owner of a pack that moved
            remap[i] = at
        index.append(remap[block.pack])
    rows: dict[str, Any] = {n: np.concatenate([getattr(b, n) for b in blocks]) for n in _ROW_FIELDS if n != "pack"}
    names = sorted({k for b in blocks for k in b.context})
    context = {k: np.concatenate([b.context.get(k, missing_context(k, len(b))) for b in blocks]) for k in names}
    return FrameBlock(first.model, tuple(packs), tuple(vehicles), pack=np.concatenate(index), context=context, **rows)
