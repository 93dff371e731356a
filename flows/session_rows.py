"""How sessions come into the prognostics flow: as columns, from the lake in order of time, or from Kafka."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Message as Polled
from numpy.typing import NDArray

from operators.session_step import SESSIONS
from operators.shard import Packs
from schemas.arrow import SCHEMAS
from schemas.events import DeadLetter, Item, Rows
from schemas.headers import pack_headers
from schemas.ids import dead_letter_id
from schemas.pack import PackError
from sinks import ducklake

CHUNK = 2_048  # sessions that are read at once
_SLICE = 4_096  # sessions that are sorted at once, or those of a minute
_SORT_MEMORY = "128MB"
_MINUTE_NS = 60 * 10**9
_NEW = "NOT coalesce(provisional, false) AND (epoch_ns(end_ns), id) > ($1::BIGINT, $2)"
Cursor = tuple[int, str]  # end and id of the newest session that was read
_BEGINNING: Cursor = (-(2**63), "")
_WHO = ("id", "pack_id", "vehicle_id", "model", "kind")
_CELLS = ("d_r0_cell", "d_q_cell")
_TIMES = ("start_ns", "end_ns")
_NUMBERS = tuple(
    f.name for f in SCHEMAS["sessions"] if pa.types.is_floating(f.type) or f.name in {"frames", "revision"}
)
_COLUMNS = (*_WHO, *_TIMES, *_NUMBERS, *_CELLS)
_MARKER = "ibms.marker"
_I64 = 2**63


class LakeSessions(FixedPartitionedSource[Item, Cursor]):
    """Final sessions of a lake, by their end; a run that resumes goes on after the newest that it has read."""

    def __init__(self, lake: Path, packs: Packs) -> None:
        """Keep where; nothing is opened before the flow runs."""
        self._lake, self._packs = lake, packs

    def list_parts(self) -> list[str]:
        """Name the only partition: sessions of all packs are in one order."""
        return ["lake"]

    def build_part(self, step_id: str, for_part: str, resume_state: Cursor | None) -> _Partition:
        """Open the lake for reading."""
        return _Partition(self._lake, self._packs, resume_state or _BEGINNING)


class _Partition(StatefulSourcePartition[Item, Cursor]):
    def __init__(self, lake: Path, packs: Packs, cursor: Cursor) -> None:
        self._con = ducklake.attach(lake)
        self._spill = tempfile.TemporaryDirectory(prefix="ibms-sessions-")
        # Sorting a large lake must not take the memory of a serving process; beyond this it goes to disk.
        self._con.execute(f"SET threads = 1; SET memory_limit = '{_SORT_MEMORY}'")
        self._con.execute(f"SET temp_directory = '{self._spill.name}'")
        self._packs, self._cursor = packs, cursor
        have = {row[0] for row in self._con.execute("DESCRIBE sessions").fetchall()}
        self._columns = ", ".join(name if name in have else f"NULL AS {name}" for name in _COLUMNS)
        self._slices = self._sliced()
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def _sliced(self) -> Iterator[tuple[int, int]]:
        """Cut the time into whole minutes that hold some chunks each: a slice is sorted at once."""
        minutes = self._con.execute(
            f"SELECT epoch_ns(date_trunc('minute', end_ns)), count(*) FROM sessions WHERE {_NEW} GROUP BY 1 ORDER BY 1",
            list(self._cursor),
        ).fetchall()
        begin, held = None, 0
        for minute, count in minutes:
            begin, held = minute if begin is None else begin, held + count
            if held >= _SLICE:
                yield begin, minute + _MINUTE_NS
                begin, held = None, 0
        if begin is not None:
            yield begin, minutes[-1][0] + _MINUTE_NS

    def next_batch(self) -> list[Item]:
        batch = next(self._batches, None)
        if batch is None:
            begin, end = next(self._slices)  # its StopIteration is the end of input
            self._batches = self._con.execute(
                f"""SELECT {self._columns} FROM sessions
                WHERE {_NEW} AND end_ns >= make_timestamp_ns($3) AND end_ns < make_timestamp_ns($4)
                ORDER BY end_ns, id""",
                [*self._cursor, begin, end],
            ).to_arrow_reader(CHUNK)
            return []
        if not batch.num_rows:
            return []
        last = batch.slice(batch.num_rows - 1)
        self._cursor = (_ns(last["end_ns"])[0].item(), last["id"][0].as_py())
        columns = {name: batch.column(name) for name in _COLUMNS}
        return [rows for rows in _of_arrow(columns, self._packs)]  # noqa: C416 - a list of Items, not of Rows

    def snapshot(self) -> Cursor:
        return self._cursor

    def close(self) -> None:
        self._con.close()
        self._spill.cleanup()


def lake_models(lake: Path) -> tuple[str, ...]:
    """Name the pack models whose sessions a lake holds."""
    with ducklake.attach(lake) as con:
        return tuple(row[0] for row in con.execute("SELECT DISTINCT model FROM sessions ORDER BY 1").fetchall())


def decode_sessions(packs: Packs) -> Any:  # noqa: ANN401 - a function of polled messages
    """Give what turns the messages of one poll into sessions, and those that are none into dead letters."""

    def decode(polled: Sequence[Polled]) -> list[Item]:
        good: list[dict[str, Any]] = []
        items: list[Item] = []
        for message in polled:
            headers: Any = message.headers() or []
            if any(name == _MARKER for name, _ in headers):
                continue
            record, why = _read(message.value() or b"", packs)
            if why:
                items.append(_letter(message, why))
            elif not (record["provisional"] or record["withdrawn"]):
                good.append(record)
        if good:
            columns = {name: [record.get(name) for record in good] for name in _COLUMNS}
            items += _of_lists(columns, packs)
        return items

    return decode


def _read(data: bytes, packs: Packs) -> tuple[dict[str, Any], str]:
    """Give a session's values, or why it is none."""
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as bad:
        return {}, f"must be JSON; got {bad}"
    if not isinstance(record, dict):
        return {}, f"must be a JSON object; got {type(record).__name__}"
    why = next(filter(None, (_wrong(name, record.get(name)) for name in _COLUMNS)), "")
    if not why:
        try:
            cells = packs(record["model"]).series
        except PackError as bad:
            return {}, str(bad)
        wrong = [name for name in _CELLS if len(record.get(name) or ()) not in {0, cells}]
        why = f"{wrong[0]} must hold {cells} numbers, or none; got {len(record[wrong[0]])}" if wrong else ""
    return {"provisional": False, "withdrawn": False, **record}, why


def _wrong(name: str, value: object) -> str:
    """Say what is wrong with a value of a session; "" where nothing is."""
    if name in _WHO:
        good, accepted = isinstance(value, str) and bool(value), "a text"
    elif name in _TIMES or name == "revision":
        good, accepted = type(value) is int and abs(value) < _I64, "a whole number"
    elif name in _CELLS:
        good, accepted = value is None or (isinstance(value, list) and all(map(_number, value))), "a list of numbers"
    else:
        good, accepted = _number(value), "a number or null"
    return "" if good else f"{name} must be {accepted}; got {value!r:.80}"


def _number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _letter(message: Polled, why: str) -> DeadLetter:
    topic, part, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
    key: Any = message.key()
    headers: Any = message.headers() or []
    return DeadLetter(
        dead_letter_id(topic, part, offset, 0), topic, part, offset, 0, "undecodable", f"session {why}", "", 0, 0,
        "application/json", message.value() or b"",
        pack_headers(key.encode() if isinstance(key, str) else key, headers),
    )  # fmt: skip


def _of_arrow(columns: Mapping[str, Any], packs: Packs) -> Iterator[Rows]:
    # no `cast` and no `take`: they load 10 MB of Arrow that nothing else needs
    plain: dict[str, Any] = {}
    for name, column in columns.items():
        if name in _TIMES:
            plain[name] = _ns(column)
        elif name in _NUMBERS:
            plain[name] = column.to_numpy(zero_copy_only=False).astype(np.float64)
        else:
            plain[name] = column.to_pylist() if name in _WHO else column
    yield from _split(plain, packs)


def _of_lists(columns: Mapping[str, list[Any]], packs: Packs) -> Iterator[Rows]:
    plain: dict[str, Any] = dict(columns)
    for name in _TIMES:
        plain[name] = np.array(columns[name], np.int64)
    for name in _NUMBERS:
        plain[name] = np.array([np.nan if v is None else v for v in columns[name]], np.float64)
    for name in _CELLS:
        plain[name] = pa.array(columns[name], pa.list_(pa.float32()))
    yield from _split(plain, packs)


def _ns(column: Any) -> NDArray[np.int64]:  # noqa: ANN401 - an Arrow array of times in ns
    return np.asarray(column.view(pa.int64()).to_numpy())


def _split(plain: Mapping[str, Any], packs: Packs) -> Iterator[Rows]:
    """Give sessions in rows of one model, in which a pack has one vehicle."""
    models, pack_ids, vehicles = (plain[k] for k in ("model", "pack_id", "vehicle_id"))
    groups: dict[str, list[list[int]]] = {}
    owners: dict[str, dict[str, str]] = {}
    for n, (model, pack, vehicle) in enumerate(zip(models, pack_ids, vehicles, strict=True)):
        parts, owner = groups.setdefault(model, [[]]), owners.setdefault(model, {})
        if owner.setdefault(pack, vehicle) != vehicle:  # it has moved
            parts.append([])
            owners[model] = owner = {pack: vehicle}
        parts[-1].append(n)
    for model, parts in groups.items():
        for part in parts:
            yield _rows(model, np.array(part), plain, packs(model).series)


def _rows(model: str, at: NDArray[np.int64], plain: Mapping[str, Any], cells: int) -> Rows:
    table: dict[str, int] = {}
    owner: dict[str, str] = {}
    index = np.empty(at.size, np.int32)
    for i, n in enumerate(at.tolist()):
        pack = plain["pack_id"][n]
        index[i] = table.setdefault(pack, len(table))
        owner[pack] = plain["vehicle_id"][n]
    data: dict[str, NDArray[Any]] = {name: plain[name][at] for name in (*_TIMES, *_NUMBERS)}
    data["id"] = np.array([plain["id"][n] for n in at.tolist()])
    data["charge"] = np.array([plain["kind"][n] == "charge" for n in at.tolist()])
    data["revision"] = np.nan_to_num(data["revision"]).astype(np.int64)
    for name in _CELLS:
        data[name] = _per_cell(plain[name], at, cells)
    return Rows(SESSIONS, model, tuple(table), tuple(owner[p] for p in table), index, data)


def _per_cell(column: Any, at: NDArray[np.int64], cells: int) -> NDArray[np.float32]:  # noqa: ANN401 - an Arrow array of lists
    """Give lists per cell as (N, C), NaN where there is none or one of another length."""
    out = np.full((at.size, cells), np.nan, np.float32)
    if not pa.types.is_list(column.type):  # a lake from before there were any
        return out
    ends = column.offsets.to_numpy()[at], column.offsets.to_numpy()[at + 1]
    whole = np.flatnonzero(ends[1] - ends[0] == cells)
    if whole.size and cells:
        flat = column.values.to_numpy(zero_copy_only=False)
        out[whole] = flat[ends[0][whole, None] + np.arange(cells)]
    return out
