"""Frames that are held back and sent again later, and what a run says in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.frames import BACKFILL, FrameBlock, concat
from schemas.tables import KEYS
from tests.support.fleet import NS

# Of an incident: a gap's incident keeps the id under which it was raised, whenever it began.
_SAME = {"incidents": ["pack_id", "opened_ns", "kind", "subject"]}
_NOT_SAID = {"incidents": ["id"], "frames": ["lane"]}  # how a record came, not what happened


def hold_back(
    block: FrameBlock, rows: NDArray[np.bool_], after_s: float, *, live_for_one: int = 0, lane: int = BACKFILL
) -> FrameBlock:
    """Send `rows` again, in order, once the others have come to `after_s` from the start; at the end at the latest.

    After each of them come `live_for_one` of the others.
    """
    live, held = block.take(np.flatnonzero(~rows)), block.take(np.flatnonzero(rows))
    held = held.with_frames(lane=np.full(len(held), lane, np.uint8))
    due = int(np.count_nonzero(live.t_ns - block.t_ns.min() < after_s * NS))
    place = np.minimum(due + live_for_one * np.arange(len(held)), len(live)) - 0.5
    order = np.argsort(np.concatenate([np.arange(len(live)), place]), kind="stable")
    return concat([live, held]).take(order)


def seconds(block: FrameBlock) -> NDArray[np.float64]:
    """Give each row's time from the first."""
    return np.asarray((block.t_ns - block.t_ns.min()) / NS)


def history(result: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Give what holds in the end: the newest revision of each record, but for withdrawn ones and filled gaps."""
    made = ((table, _newest(table, rows)) for table, rows in result.items())
    return {table: rows for table, rows in made if len(rows)}


def _newest(table: str, rows: pa.Table) -> pa.Table:
    if "revision" not in rows.schema.names:
        return rows
    keys = list(KEYS[table])
    newest: dict[tuple[Any, ...], tuple[int, int]] = {}
    names = zip(*(_plain(rows[k]) for k in keys), strict=True)
    for i, (key, revision) in enumerate(zip(names, _plain(rows["revision"]), strict=True)):
        assert newest.get(key, (-1,))[0] != revision, f"{table}: {key} has revision {revision} twice"
        newest[key] = max(newest.get(key, (-1, 0)), (revision, i))
    held = rows.take([i for _, i in newest.values()])
    if "withdrawn" in held.schema.names:
        held = held.filter(pc.invert(pc.fill_null(held["withdrawn"], False)))
    if table == "gaps":
        held = held.filter(pc.not_equal(held["missing"], 0))
    if table == "incidents":  # which stand, whether their newest revision raised them or not
        status = held.schema.get_field_index("status")
        stands = pc.replace_substring(held["status"], "update", "open")
        held = held.set_column(status, "status", stands.cast(held.schema.field(status).type))
    for name in ("revision", *_NOT_SAID.get(table, [])):
        at = held.schema.get_field_index(name)
        held = held.set_column(at, name, pa.nulls(len(held), held.schema.field(name).type))
    return held.combine_chunks().sort_by([(k, "ascending") for k in _SAME.get(table, keys)]).combine_chunks()


def _plain(column: pa.ChunkedArray) -> Sequence[Any]:
    values: Sequence[Any] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values
