"""A pack's frames as a lake keeps them, with those that were refused, in the order in which they were made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from replay.source import ROWS
from schemas.checked import ConfigError
from schemas.frames import CONTEXT, FrameBlock, concat, make_block, missing_context
from schemas.pack import load_pack
from schemas.wire import decode

_LATE = ("late", "backfill_no_copy", "backfill_overflow")  # frames that came when their place had been passed
# Frames that were refused, and whose numbers are therefore not missing: they are refused again.
_COUNTED = ("clock_past", "clock_future", "time_conflict")
_CLOCK = ("clock_past", "clock_future")


@dataclass(frozen=True, slots=True)
class Kept:
    """What a lake keeps of one pack."""

    pack: str
    model: str
    frames: int
    begin_ns: int
    end_ns: int
    stamped: bool  # frames have the broker's time
    letters: int  # dead letters whose frames take their place
    whole: bool  # no window of the pack is older than the first frame

    @classmethod
    def find(cls, con: duckdb.DuckDBPyConnection, pack: str) -> Kept:
        """Look for them; raises ConfigError where there are none."""
        row = con.execute(
            """SELECT count(*), count(DISTINCT model), any_value(model), min(epoch_ns(t_ns)), max(epoch_ns(t_ns)),
                max(epoch_ns(recv_ns)) > 0
            FROM frames WHERE pack_id = ?""",
            [pack],
        ).fetchone()
        assert row is not None
        frames, models, model, begin_ns, end_ns, stamped = row
        if models != 1:
            known = con.execute("SELECT count(*) FROM windows WHERE pack_id = ?", [pack]).fetchone()
            assert known is not None
            got = f"{models} pack models" if models else "no frames" if known[0] else "no frames, and no such pack"
            msg = f"the lake must keep frames of {pack}, of one pack model; it has {got} ([fleet] keep_frames = true)"
            raise ConfigError(msg)
        letters = con.execute(
            "SELECT count(*) FROM dead_letters WHERE pack_id = ? AND list_contains(?, reason)", [pack, list(_LATE)]
        ).fetchone()
        before = con.execute(
            "SELECT count(*) FROM windows WHERE pack_id = ? AND epoch_ns(end_ns) <= ?", [pack, begin_ns]
        ).fetchone()
        assert letters is not None
        assert before is not None
        return cls(pack, model, frames, begin_ns, end_ns, stamped, letters[0], not before[0])


def kept_frames(con: duckdb.DuckDBPyConnection, kept: Kept, rows: int = ROWS) -> Iterator[FrameBlock]:
    """Give blocks of the pack's frames in order of time, refused ones where they belong."""
    refused, places = _letters(con, kept)
    answer = con.execute(
        """SELECT * REPLACE (epoch_ns(t_ns) AS t_ns, epoch_ns(recv_ns) AS recv_ns) FROM frames
        WHERE pack_id = ? ORDER BY t_ns, seq""",
        [kept.pack],
    )
    done = 0
    for batch in answer.to_arrow_reader(rows):
        table = pa.Table.from_batches([batch]).combine_chunks()
        frames = [*_blocks(table, kept)]
        last_ns = int(frames[-1].t_ns[-1])
        upto = int(np.searchsorted(places, last_ns, side="right"))
        yield from _merged(frames, refused[done:upto], places[done:upto])
        done = upto
    yield from refused[done:]


def _blocks(table: pa.Table, kept: Kept) -> Iterator[FrameBlock]:
    """Cut where the pack moved to another vehicle."""
    pack = load_pack(kept.model)
    owners = table["vehicle_id"].to_pylist()
    changes = [i for i in range(1, len(owners)) if owners[i] != owners[i - 1]]
    for a, b in pairwise([0, *changes, len(owners)]):
        part = table.slice(a, b - a)
        columns = {n: _numbers(part[n]) for n in ("t_ns", "seq", "recv_ns", "src_part", "src_offset", "src_row")}
        columns |= {n: _numbers(part[n]).astype(np.float32) for n in ("current_a", "pack_v")}
        columns |= {"cell_v": _matrix(part["cell_v"], pack.series), "temp_c": _matrix(part["temp_c"], pack.probes)}
        _put_back(columns, part["raw"], pack.series, pack.probes)
        if kept.stamped:
            columns["recv_ns"] = np.where(columns["recv_ns"] > 0, columns["recv_ns"], columns["t_ns"])
        context = {n: _context(n, part[n]) for n in CONTEXT if part[n].null_count < len(part)}
        yield make_block(
            kept.model, [kept.pack], vehicles=[owners[a]], pack=np.zeros(b - a, np.int32), context=context, **columns
        )


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.combine_chunks().to_numpy(zero_copy_only=False))  # a null is NaN


def _matrix(column: pa.ChunkedArray, width: int) -> NDArray[np.float32]:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values.astype(np.float32).reshape(len(column), width))


def _put_back(columns: dict[str, NDArray[Any]], raw: pa.ChunkedArray, cells: int, probes: int) -> None:
    """Give the values that were taken out as impossible: they are judged again."""
    rows = np.flatnonzero(_numbers(raw.is_valid()))
    if not rows.size:
        return
    values = _matrix(raw.drop_null(), 2 + cells + probes)
    columns["current_a"][rows], columns["pack_v"][rows] = values[:, 0], values[:, 1]
    columns["cell_v"][rows], columns["temp_c"][rows] = values[:, 2 : 2 + cells], values[:, 2 + cells :]


def _context(name: str, column: pa.ChunkedArray) -> NDArray[Any]:
    out = missing_context(name, len(column))
    known = np.flatnonzero(_numbers(column.is_valid()))
    out[known] = _numbers(column.drop_null())
    return out


def _letters(con: duckdb.DuckDBPyConnection, kept: Kept) -> tuple[list[FrameBlock], NDArray[np.int64]]:
    """Read refused frames, one row each, in the order of their places: a wrong clock's is where its pack's line was."""
    rows = con.execute(
        """SELECT reason, epoch_ns(expected_ns), payload, content_type, source, "partition", "offset", "row"
        FROM dead_letters WHERE pack_id = ? AND list_contains(?, reason)""",
        [kept.pack, [*_LATE, *_COUNTED]],
    ).fetchall()
    found: list[tuple[int, int, FrameBlock]] = []
    for reason, expected_ns, payload, content_type, source, part, offset, row in rows:
        for item in decode(payload, content_type, source, part, offset):
            if not isinstance(item, FrameBlock) or len(item) != 1 or item.model != kept.model:
                continue
            place = expected_ns if reason in _CLOCK else int(item.t_ns[0])
            about: dict[str, Any] = {"src_row": np.array([row], np.int32), "lane": np.zeros(1, np.uint8)}
            if kept.stamped:
                about["recv_ns"] = np.array([place], np.int64)
            found.append((place, int(item.seq[0]), item.with_frames(**about)))
    found.sort(key=lambda f: f[:2])
    return [block for *_, block in found], np.array([place for place, *_ in found], np.int64)


def _merged(frames: list[FrameBlock], refused: list[FrameBlock], places: NDArray[np.int64]) -> Iterator[FrameBlock]:
    """Put refused rows where they belong, behind a kept frame of the same time; a block has one vehicle a pack."""
    for k, block in enumerate(frames):
        last = k == len(frames) - 1
        here = places >= 0 if last else places < int(block.t_ns[-1])
        mine = [b for b, use in zip(refused, here.tolist(), strict=True) if use]
        if mine:
            at = np.concatenate([block.t_ns, places[here]])
            owned = [b.with_frames(vehicles=block.vehicles) for b in mine]
            yield concat([block, *owned]).take(np.argsort(at, kind="stable"))
        else:
            yield block
        refused = [b for b, use in zip(refused, here.tolist(), strict=True) if not use]
        places = places[~here]
