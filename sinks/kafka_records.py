"""How records of the lake's tables become Kafka messages, and how a message says which records it holds.

Windows stay columns: one Arrow message holds the rows of one Kafka partition.  Every other record is a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from schemas.arrow import SCHEMAS
from schemas.headers import Headers, unpack_headers
from schemas.ids import record_id
from schemas.kafka_partition import partition_of
from schemas.wire_arrow import ARROW

RecordId = tuple[Any, ...]  # of one record, whatever messages it shares: (table, id … , revision)

WRITER = "ibms.writer"  # header: which sink wrote it; a sink reads back only its own
ID, REVISION = "ibms.id", "ibms.revision"
MARKER = "ibms.marker"  # header of an empty message by which a resumed sink finds the end; readers pass over it
JSON = "application/json"
PAYLOAD_MAX = 4_000_000  # bytes of a dead letter's value; a larger one is cut, and says so
ROWS_MAX = 2_000  # windows in a message: about 0.5 MB
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = {"sessions": "end_ns", "incidents": "updated_ns", "gaps": "to_ns", "evidence": "t_ns", "identity": "t_ns"}


class Record(NamedTuple):
    """One message to be written, and the records it holds."""

    key: bytes | None
    value: bytes
    headers: Headers
    partition: int  # -1: by key


def window_ids(batch: pa.RecordBatch) -> list[RecordId]:
    """Name each window: (table, pack hash, start, revision, provisional)."""
    columns = [batch.column(name) for name in ("pack_hash", "start_ns", "revision", "provisional")]
    columns[1] = columns[1].cast(pa.int64())
    return [("windows", *row) for row in zip(*(c.to_pylist() for c in columns), strict=True)]


def window_messages(batches: list[pa.RecordBatch], partitions: int, writer: str) -> Iterator[Record]:
    """Give windows as Arrow messages, each of the rows of one partition, in order."""
    rows = pa.Table.from_batches([_plain(b) for b in batches]).combine_chunks()
    vehicles = rows.column("vehicle_id").to_pylist()
    where = np.fromiter((partition_of(v, partitions) for v in vehicles), np.int64, len(vehicles))
    order = np.argsort(where, kind="stable")
    ends = np.flatnonzero(np.diff(where[order], append=-1)) + 1
    start = 0
    for end in ends.tolist():
        for at in range(start, end, ROWS_MAX):
            part = order[at : min(at + ROWS_MAX, end)]
            sink = pa.BufferOutputStream()
            made = rows.take(pa.array(part)).combine_chunks()
            with pa.ipc.new_stream(sink, made.schema) as out:
                out.write_table(made)
            headers: Headers = [
                ("content-type", ARROW.encode()),
                ("ibms.table", b"windows"),
                ("ibms.rows", str(len(part)).encode()),
                (WRITER, writer.encode()),
            ]
            yield Record(None, sink.getvalue().to_pybytes(), headers, int(where[part[0]]))
        start = end


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Write names out: a dictionary would bring every pack's name into every message."""
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def row_records(table: str, batch: pa.RecordBatch, writer: str) -> Iterator[tuple[RecordId, Record]]:
    """Give each row of a table other than windows as a message of its own, with its record's name.

    The topic of states keeps the newest message of a pack: a state of the past that is corrected would stand in the
    place of a newer one, so it goes to the lake alone.
    """
    for row in _rows(table, batch):
        if table == "states" and row["revision"] > 0:
            continue
        if table == "dead_letters":
            yield (table, row["id"], 0, False), _dead_letter(row, writer)
        elif table == "states":
            name = record_id(row["pack_id"], "state", "–", row["t_ns"])
            yield (table, name, row["revision"], False), _state(table, row, name, writer)
        elif table in {"health", "twins", "forecasts"}:
            yield (table, row["session_id"], row["revision"], False), _state(table, row, row["session_id"], writer)
        else:
            provisional = bool(row.get("provisional"))
            name = row["session_id"] if table == "evidence" else row["id"]
            yield (table, name, row["revision"], provisional), _event(table, row, name, writer)


def _rows(table: str, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Give rows as plain values, times as integers; a list per cell stays an array, which JSON takes at once."""
    schema = SCHEMAS[table]
    columns = [_values(column, kind) for column, kind in zip(batch.columns, schema.types, strict=True)]
    for row in zip(*columns, strict=True):
        yield dict(zip(schema.names, row, strict=True))


def _values(column: pa.Array, kind: pa.DataType) -> Sequence[Any]:
    """Give a column as plain values; `to_pylist` makes an Arrow object of each, and takes six times as long."""
    if pa.types.is_list(kind) and not column.null_count:
        values = column.flatten().to_numpy(zero_copy_only=False)
        ends = (column.offsets.to_numpy() - column.offsets[0].as_py()).tolist()
        return [values[a:b] for a, b in pairwise(ends)]
    if pa.types.is_dictionary(column.type) and not column.null_count:
        names = column.dictionary.to_pylist()
        return [names[i] for i in column.indices.to_numpy().tolist()]
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    if not pa.types.is_primitive(column.type) or pa.types.is_boolean(column.type):
        return list(column.to_pylist())
    plain: list[Any] = (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False).tolist()
    if column.null_count:
        for i in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            plain[i] = None
    return plain


def _state(table: str, row: Mapping[str, Any], name: str, writer: str) -> Record:
    headers = [("content-type", JSON.encode()), *_named(table, name, row["revision"], writer)]
    return Record(row["pack_id"].encode(), orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY), headers, -1)


def _event(table: str, row: dict[str, Any], name: str, writer: str) -> Record:
    """Give a CloudEvent in binary mode (CloudEvents 1.0.2, Kafka protocol binding 1.0.2, section 3.2).

    (source, id) tells events apart, so the id holds the revision too.
    """
    if table == "incidents":
        row |= {name: orjson.loads(row[name]) for name in ("evidence", "causes")}
    kind = table.removesuffix("s")
    if table == "evidence":
        detail = "accepted" if row["accepted"] else "rejected"
    else:
        detail = row["status"] if table == "incidents" else row["kind"]
    cloud = {
        "ce_specversion": "1.0",
        "ce_id": f"{name}/{row['revision']}" + ("/provisional" if row.get("provisional") else ""),
        "ce_source": f"/ibms/{writer}",
        "ce_type": f"ibms.{kind}.{detail}",
        "ce_subject": row["pack_id"],
        "ce_time": _time(row[_TIME[table]]),
        "content-type": JSON,
    }
    headers: Headers = [(k, v.encode()) for k, v in cloud.items()]
    headers += _named(table, name, row["revision"], writer)
    if row.get("provisional"):
        headers.append(("ibms.provisional", b"true"))
    return Record(row["vehicle_id"].encode(), orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY), headers, -1)


def _time(t_ns: int) -> str:
    """Write a time as RFC 3339, to the microsecond, without floats; 1970 where Python has no such year."""
    seconds, rest = divmod(t_ns, 10**9)
    try:
        text = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        text, rest = _EPOCH, 0
    return f"{text:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


def _dead_letter(row: Mapping[str, Any], writer: str) -> Record:
    """Give what was refused: key, value and headers as they came, then why and where from."""
    key, headers = unpack_headers(row["headers"])
    value: bytes = row["payload"]
    why = {
        "error.reason": row["reason"],
        "error.detail": row["detail"],
        "error.topic": row["source"],
        "error.partition": row["partition"],
        "error.offset": row["offset"],
        "error.row": row["row"],
        "error.content_type": row["content_type"],
        "error.pack": row["pack_id"],
        "error.t_ns": row["t_ns"],
        "error.expected_ns": row["expected_ns"],
    }
    if len(value) > PAYLOAD_MAX:
        why["error.cut_from_bytes"] = len(value)
        value = value[:PAYLOAD_MAX]
    headers += [(name, str(what).encode()) for name, what in why.items()]
    headers += _named("dead_letters", row["id"], 0, writer)
    if key is None and row["pack_id"]:
        key = row["pack_id"].encode()
    return Record(key, value, headers, -1)


def _named(table: str, name: str, revision: int, writer: str) -> Headers:
    texts = (("ibms.table", table), (ID, name), (REVISION, str(revision)), (WRITER, writer))
    return [(k, v.encode()) for k, v in texts]


def ids_in(value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None, writer: str) -> list[RecordId]:
    """Say which records a message holds: none where another wrote it."""
    held = {name: what or b"" for name, what in headers or ()}
    if held.get(WRITER) != writer.encode() or MARKER in held:
        return []
    table = held["ibms.table"].decode()
    if table == "windows":
        return [name for b in pa.ipc.open_stream(value) for name in window_ids(b)]
    return [(table, held[ID].decode(), int(held[REVISION]), "ibms.provisional" in held)]
