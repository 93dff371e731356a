"""Frames as Arrow: one message is one IPC stream of one record batch.

The schema's metadata hold `schema` (version), `model`, and `packs` and `vehicles` as JSON lists; `pack` is left
out where there is one pack, and so is a column without a value.  Version 2 has smaller columns (schemas.wire_delta).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from schemas.events import DeadLetter
from schemas.frames import BACKFILL, CONTEXT, LIVE, NO_SEQ, FrameBlock, make_block, missing_context, pack_table
from schemas.message import (
    EMPTY,
    NO_TIME,
    UNDECODABLE,
    VERSION,
    WRONG_TYPE,
    Message,
    Models,
    RefusedError,
    check_id,
    check_version,
    check_width,
    dead_letter,
)
from schemas.pack import PackModel
from schemas.wire_delta import delta_columns, scales_of, undone
from schemas.wire_ipc import check_stream

DELTA_VERSION = 2  # of a message whose columns are coded
ZSTD_LEVEL = 19  # 10 % smaller than the default, in 2 ms for ten frames
LANES = 2
ARROW = "application/vnd.apache.arrow.stream"
MALFORMED = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    MemoryError,
    struct.error,
)  # reading damaged bytes

TYPES: dict[str, pa.DataType] = {
    "pack": pa.int32(),
    "t_ns": pa.int64(),
    "seq": pa.int64(),
    "lane": pa.uint8(),
    "current_a": pa.float32(),
    "pack_v": pa.float32(),
    **{name: pa.from_numpy_dtype(dtype) for name, dtype in CONTEXT.items()},
}
LISTS = ("cell_v", "temp_c")
_MISSING = {"t_ns": 0, "seq": NO_SEQ, "lane": LIVE, "pack": -1}  # instead of null


def encode_arrow(block: FrameBlock, *, zstd: bool = False) -> bytes:
    """Write frames as one message; receive time and source position stay behind."""
    block = block.pruned()
    columns: dict[str, pa.Array] = {"t_ns": pa.array(block.t_ns)}
    if len(block.packs) > 1:
        columns["pack"] = pa.array(block.pack)
    for name, absent in (("seq", NO_SEQ), ("lane", LIVE)):
        if (getattr(block, name) != absent).any():
            columns[name] = pa.array(getattr(block, name))
    for name in ("current_a", "pack_v"):
        columns[name] = pa.array(getattr(block, name))
    for name in LISTS:
        values = getattr(block, name)
        if values.shape[1]:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    columns |= {name: pa.array(values) for name, values in block.context.items()}
    about = _about(block)
    plain = _written(_batch(columns, about))
    return bytes(pa.compress(plain, "zstd", asbytes=True)) if zstd else plain


def encode_delta(block: FrameBlock, level: int = ZSTD_LEVEL) -> bytes:
    """Write frames as one message of version 2: whole steps, changes from row to row, packed by zstd.

    A quarter to a half of the bytes of version 1 packed, for frames of one pack in the order of their times.
    """
    block = block.pruned()
    columns, scales = delta_columns(block)
    about = _about(block) | {"schema": str(DELTA_VERSION), "scale": orjson.dumps(scales)}
    return bytes(pa.Codec("zstd", level).compress(_written(_batch(columns, about)), asbytes=True))


def _about(block: FrameBlock) -> dict[str, str | bytes]:
    return {
        "schema": str(VERSION),
        "model": block.model,
        "packs": orjson.dumps(block.packs),
        "vehicles": orjson.dumps(block.vehicles),
    }


def _batch(columns: Mapping[str, pa.Array], about: Mapping[str, str | bytes]) -> pa.RecordBatch:
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=about)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def _written(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def decode_arrow(opened: list[Opened]) -> tuple[list[tuple[NDArray[np.int64], FrameBlock]], list[DeadLetter]]:
    """Turn opened messages into blocks, one for each set of columns, with each row's order; and the refused."""
    refused: list[DeadLetter] = []
    blocks = [made for group in _groups(opened, refused) if (made := _block(group, refused)) is not None]
    return blocks, refused


class Owned(Protocol):
    """A message and whose frames it holds."""

    @property
    def order(self) -> int:
        """Its place among those decoded together."""

    @property
    def message(self) -> Message:
        """The message itself."""

    @property
    def model(self) -> PackModel:
        """The model of its packs."""

    @property
    def packs(self) -> list[str]:
        """The packs that its rows index."""

    @property
    def vehicles(self) -> list[str]:
        """The vehicle of each."""


class Opened(NamedTuple):
    """An Arrow message whose bytes are sound and whose metadata are ours."""

    order: int  # the message's place among those decoded together
    message: Message
    batch: pa.RecordBatch
    model: PackModel
    packs: list[str]
    vehicles: list[str]
    scales: dict[str, int] | None  # of version 2


def open_arrow(order: int, message: Message, plain: bytes, models: Models) -> Opened:
    """Read an Arrow message as far as its own bytes go; raises RefusedError."""
    try:
        check_stream(plain)
        stream = pa.ipc.open_stream(plain)
        batch = stream.read_next_batch()
        batch.validate(full=True)
        more = next(iter(stream), None)
        about = stream.schema.metadata or {}
        names = {k: about.get(k, b"").decode() for k in (b"schema", b"model")}
        owned = [orjson.loads(about.get(k, b"null")) for k in (b"packs", b"vehicles")]
    except MALFORMED as bad:
        raise RefusedError(UNDECODABLE, f"no Arrow IPC stream of this schema: {one_line(bad)}") from None
    if more is not None:
        raise RefusedError(UNDECODABLE, "a message must hold one record batch; got more")
    coded = names[b"schema"] == str(DELTA_VERSION)
    if not coded:
        check_version(int(names[b"schema"]) if names[b"schema"].isdecimal() else names[b"schema"])
    model = models.get(names[b"model"])
    packs, vehicles = check_names(*owned)
    if not batch.num_rows:
        raise RefusedError(EMPTY, "a message must hold one or more frames")
    return Opened(
        order, message, batch, model, packs, vehicles, _check_coded(batch, about, len(packs)) if coded else None
    )


def check_names(packs: object, vehicles: object) -> tuple[list[str], list[str]]:
    """Give a message's packs and their vehicles; raises RefusedError where they are none."""
    if not isinstance(packs, list) or not isinstance(vehicles, list) or len(packs) != len(vehicles) or not packs:
        raise RefusedError(UNDECODABLE, "packs and vehicles must be JSON lists of equal length")
    for pack, vehicle in zip(packs, vehicles, strict=True):
        check_id(pack, "pack")
        check_id(vehicle, "vehicle")
    return packs, vehicles


def _check_coded(batch: pa.RecordBatch, about: Mapping[bytes, bytes], packs: int) -> dict[str, int]:
    """Give the scales of a message whose rows hang together; one of which a row is bad is refused as a whole."""
    ends = {"t_ns": None, "seq": None, "pack": packs, "lane": LANES}
    try:
        scales = scales_of(about, batch.schema)
        for name in ends.keys() & set(batch.schema.names):
            column, end = batch.column(name), ends[name]
            if column.type != TYPES[name] or column.null_count:
                raise RefusedError(WRONG_TYPE, f"{name} must be {TYPES[name]} without nulls")
            if end is not None and not all(0 <= value < end for value in set(column.to_pylist())):
                raise RefusedError(WRONG_TYPE, f"{name} must be in 0..{end - 1}")
    except MALFORMED as bad:
        raise RefusedError(UNDECODABLE, one_line(bad)) from None
    return scales


def one_line(bad: BaseException) -> str:
    """Give an error's text on one line, shortened."""
    return " ".join(str(bad).split())[:200] or type(bad).__name__


def _groups(opened: list[Opened], out: list[DeadLetter]) -> list[list[Opened]]:
    """Group messages of one model and one set of columns; those with wrong columns are refused."""
    groups: list[tuple[pa.Schema, PackModel, bool, list[Opened] | RefusedError]] = []
    for one in opened:
        for schema, model, coded, found in groups:
            if one.model is model and (one.scales is None) != coded and one.batch.schema.equals(schema):
                group = found
                break
        else:
            try:
                check_columns(one.batch.schema, one.model, one.scales or {})
                group = []
            except RefusedError as why:
                group = why
            except MALFORMED as bad:  # names that are no text
                group = RefusedError(UNDECODABLE, f"no columns of this schema: {one_line(bad)}")
            groups.append((one.batch.schema, one.model, one.scales is not None, group))
        if isinstance(group, list):
            group.append(one)
        else:
            out.append(dead_letter(one.message, RefusedError(group.reason, group.detail, one.packs[0])))
    return [found for _, _, _, found in groups if isinstance(found, list)]


def check_columns(schema: pa.Schema, model: PackModel, scales: Mapping[str, int]) -> None:
    """Refuse columns of other types or widths than ours; columns that we do not know pass."""
    names = schema.names
    if len(set(names)) < len(names):
        raise RefusedError(WRONG_TYPE, "every column must be there once")
    if "t_ns" not in names:
        raise RefusedError(NO_TIME, "column t_ns is missing")
    for name, kind in zip(names, schema.types, strict=True):
        if name in LISTS:
            good = (pa.int16(), pa.int32()) if name in scales else (pa.float32(),)
            if not pa.types.is_fixed_size_list(kind) or kind.value_type not in good:
                raise RefusedError(WRONG_TYPE, f"{name} must be fixed_size_list<float>; got {kind!s:.80}")
            check_width(name, kind.list_size, model, model.series if name == "cell_v" else model.probes)
        elif name in TYPES and kind != _coded_type(name, scales):
            raise RefusedError(WRONG_TYPE, f"{name} must be {TYPES[name]}; got {kind!s:.80}")


def _coded_type(name: str, scales: Mapping[str, int]) -> pa.DataType:
    wide = CONTEXT.get(name) is np.float64
    return TYPES[name] if name not in scales else pa.int64() if wide else pa.int32()


def _block(group: list[Opened], out: list[DeadLetter]) -> tuple[NDArray[np.int64], FrameBlock] | None:
    """Join messages with the same columns into one block, with each row's message; bad rows go to `out`."""
    batch = pa.concat_batches([one.batch for one in group]) if len(group) > 1 else group[0].batch
    counts = np.array([one.batch.num_rows for one in group])
    column = dict(zip(batch.schema.names, batch.columns, strict=True))
    if group[0].scales is not None:
        column = undone(column, [one.scales or {} for one in group], counts)
    model, n = group[0].model, batch.num_rows
    columns = {
        "cell_v": _matrix(column.get("cell_v"), n, model.series),
        "temp_c": _matrix(column.get("temp_c"), n, model.probes),
        **{name: _floats(column[name]) for name in ("current_a", "pack_v") if name in column},
        **{name: _whole(column[name], missing) for name, missing in _MISSING.items() if name in column},
        **{name: _filled(column[name], name) for name in CONTEXT if name in column},
    }
    of_row, row = rows_of(counts)
    no_time = _nulls(column["t_ns"])
    no_pack, no_lane = strange(group, counts, columns)
    reasons = (
        (no_time, NO_TIME, "t_ns is null"),
        (no_pack, WRONG_TYPE, "pack must index packs"),
        (no_lane, WRONG_TYPE, "lane must be 0 or 1"),
    )
    good = np.ones(n, np.bool_)
    for wrong, reason, detail in reasons:
        for i in np.flatnonzero(wrong & good).tolist():
            one = group[of_row[i]]
            local = int(columns["pack"][i]) if "pack" in columns else 0
            pack = one.packs[local] if 0 <= local < len(one.packs) else ""
            payload = _written(one.batch.slice(int(row[i]), 1))
            out.append(dead_letter(one.message, RefusedError(reason, detail, pack), int(row[i]), payload))
        good &= ~wrong
    return assemble(group, counts, columns, good) if good.any() else None


def rows_of(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give each row's message, and its place in it, of messages with so many rows."""
    of_row = np.repeat(np.arange(counts.size), counts)
    return of_row, np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def strange(
    group: Sequence[Owned], counts: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say which rows are of no pack of their message, and which of no lane."""
    no_pack = no_lane = np.zeros(counts.sum(), np.bool_)
    if "pack" in columns:
        owners = np.repeat(np.array([len(one.packs) for one in group]), counts)
        no_pack = (columns["pack"] < 0) | (columns["pack"] >= owners)
    if "lane" in columns:
        no_lane = columns["lane"] > BACKFILL
    return no_pack, no_lane


def assemble(
    group: Sequence[Owned],
    counts: NDArray[np.int64],
    columns: Mapping[str, NDArray[Any]],
    good: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], FrameBlock]:
    """Make a block of messages with the same columns, without the rows that are not `good`; gives each row's order."""
    of_row, row = rows_of(counts)
    owners = np.array([len(one.packs) for one in group])
    packs, vehicles, to_global = pack_table(
        (p for one in group for p in one.packs), (v for one in group for v in one.vehicles)
    )
    place = (np.cumsum(owners) - owners)[of_row]
    if "pack" in columns:
        place = np.where(good, place + columns["pack"], 0)
    messages = [one.message for one in group]
    order = np.array([one.order for one in group])
    block = make_block(
        group[0].model.name,
        packs,
        vehicles=vehicles,
        pack=to_global[place],
        recv_ns=np.array([m.recv_ns for m in messages], np.int64)[of_row],
        src_part=np.array([m.partition for m in messages], np.int32)[of_row],
        src_offset=np.array([m.offset for m in messages], np.int64)[of_row],
        src_row=row,
        context={name: columns[name] for name in CONTEXT if name in columns},
        **{name: values for name, values in columns.items() if name not in CONTEXT and name != "pack"},
    )
    if good.all():
        return order[of_row], block
    return order[of_row[good]], block.take(np.flatnonzero(good)).pruned()


def _nulls(column: pa.Array) -> NDArray[np.bool_]:
    if not column.null_count:
        return np.zeros(len(column), np.bool_)
    return np.asarray(column.is_null())


def _whole(column: pa.Array, missing: int) -> NDArray[Any]:
    return np.array(column.fill_null(missing) if column.null_count else column)  # a copy: Arrow's is read-only


def _floats(column: pa.Array) -> NDArray[Any]:
    return np.array(column.to_numpy(zero_copy_only=False))  # null becomes NaN


def _filled(column: pa.Array, name: str) -> NDArray[Any]:
    if issubclass(CONTEXT[name], np.floating):
        return _floats(column)
    return _whole(column, missing_context(name, 1)[0].item())


def _matrix(column: pa.Array | None, n: int, width: int) -> NDArray[np.float32]:
    if column is None:
        return np.full((n, width), np.nan, np.float32)
    values = column.values.slice(column.offset * width, n * width)
    matrix = _floats(values).reshape(n, width)
    if column.null_count:
        matrix[_nulls(column)] = np.nan
    return matrix
