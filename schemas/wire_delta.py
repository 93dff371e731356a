"""How frames become small: columns as whole numbers of their sensor's step, and of these the change from row to row.

Version 2 of an Arrow message (schemas.wire_arrow).  Its metadata hold `scale`, JSON: column → whole steps a unit (1000:
millivolts).  Of such a column, and of `t_ns` and `seq`, the first row is the value and every other row the difference
from the row before.  Nothing is lost: a column whose values are no multiples of a step stays as it is.  A null is "not
available", and its value counts as no change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from schemas.frames import CONTEXT, LIVE, NO_SEQ, FrameBlock

SCALES = (1, 2, 4, 5, 10, 20, 40, 50, 100, 200, 400, 1000, 2000, 4000, 10_000, 1_000_000, 10_000_000)
WHOLE = ("t_ns", "seq")  # coded without a scale
SCALE_MAX = 10**9
_STEPS_END = 1 << 30  # so that any change fits 32 bits
_SHORT_END = 1 << 15
_EXACT = 1 << 53  # whole numbers that a double holds


def delta_columns(block: FrameBlock) -> tuple[dict[str, pa.Array], dict[str, int]]:
    """Code a block's columns; gives them and their scales.  What is nowhere available is left out."""
    columns: dict[str, pa.Array] = {"t_ns": pa.array(_changes(block.t_ns))}
    scales: dict[str, int] = {}
    if len(block.packs) > 1:
        columns["pack"] = pa.array(block.pack)
    if (block.seq != NO_SEQ).any():
        columns["seq"] = pa.array(_changes(block.seq))
    if (block.lane != LIVE).any():
        columns["lane"] = pa.array(block.lane)
    named = {name: getattr(block, name) for name in ("current_a", "pack_v", "cell_v", "temp_c")}
    for name, values in (named | dict(block.context)).items():
        if values.dtype.kind != "f":
            columns[name] = pa.array(values)
        elif not np.isnan(values).all():
            scale = _scale(values)
            column = _column(values) if scale is None else _coded(values, scale)
            columns[name] = column
            if scale is not None:
                scales[name] = scale
    return columns, scales


def _scale(values: NDArray[np.floating[Any]]) -> int | None:
    """Find the steps a unit of which every value is a whole multiple, exactly; None where there are none."""
    given = values[~np.isnan(values)]
    exact = given.astype(np.float64)
    end = _EXACT if values.dtype == np.float64 else _STEPS_END
    for scale in SCALES:
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.rint(exact * scale)
            if (np.abs(whole) < end).all() and ((whole / scale).astype(values.dtype) == given).all():
                return scale
    return None


def _coded(values: NDArray[np.floating[Any]], scale: int) -> pa.Array:
    unknown = np.isnan(values)
    whole = np.rint(np.where(unknown, 0.0, values.astype(np.float64)) * scale).astype(np.int64)
    if unknown.any():  # hold what was known last, so that nothing changes
        row = np.where(unknown, 0, np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1)))
        whole = np.take_along_axis(whole, np.maximum.accumulate(row, axis=0), axis=0)
    changes = _changes(whole)
    kind: type[np.signedinteger[Any]] = np.int64 if values.dtype == np.float64 else np.int32
    if values.ndim > 1 and np.abs(changes).max() < _SHORT_END:
        kind = np.int16
    return _column(changes.astype(kind), unknown if unknown.any() else None)


def _column(values: NDArray[Any], unknown: NDArray[np.bool_] | None = None) -> pa.Array:
    flat = pa.array(values.reshape(-1), mask=None if unknown is None else unknown.reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _changes(whole: NDArray[np.int64]) -> NDArray[np.int64]:
    changes = whole.copy()
    with np.errstate(over="ignore"):
        changes[1:] -= whole[:-1]
    return changes


def scales_of(about: Mapping[bytes, bytes], schema: pa.Schema) -> dict[str, int]:
    """Read the scales of a message; raises ValueError where they are none, or do not fit its columns."""
    told = orjson.loads(about.get(b"scale", b"null"))
    if not isinstance(told, dict) or not all(type(v) is int and 0 < v <= SCALE_MAX for v in told.values()):
        msg = f"scale must be an object of whole numbers in 1..{SCALE_MAX}"
        raise ValueError(msg)
    for name, kind in zip(schema.names, schema.types, strict=True):
        value = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
        floats = name in {"current_a", "pack_v", "cell_v", "temp_c"} or CONTEXT.get(name) in {np.float32, np.float64}
        if floats and pa.types.is_integer(value) != (name in told):
            msg = f"scale must name the columns of whole numbers; got {name}: {kind!s:.40}"
            raise ValueError(msg)
    return told


def undone(
    columns: Mapping[str, pa.Array], scales: Sequence[Mapping[str, int]], counts: NDArray[np.int64]
) -> dict[str, pa.Array]:
    """Give the columns of messages joined, `counts` rows each, as version 1 has them."""
    first = np.repeat(np.cumsum(counts) - counts, counts)
    out = dict(columns)
    for name, column in columns.items():
        if name in WHOLE:
            out[name] = pa.array(_summed(np.asarray(column), first))
        elif name in scales[0]:
            flat, width = _flat(column)
            unknown = np.asarray(flat.is_null())
            whole = _summed(np.asarray(flat.fill_null(0)).astype(np.int64).reshape(-1, width), first)
            scale = np.repeat(np.array([told[name] for told in scales], np.float64), counts)
            values = (whole / scale[:, None]).astype(CONTEXT.get(name, np.float32)).reshape(-1)
            values[unknown] = np.nan
            made = pa.array(values)
            is_list = pa.types.is_fixed_size_list(column.type)
            out[name] = pa.FixedSizeListArray.from_arrays(made, width) if is_list else made
    return out


def _flat(column: pa.Array) -> tuple[pa.Array, int]:
    if not pa.types.is_fixed_size_list(column.type):
        return column, 1
    width = column.type.list_size
    return column.values.slice(column.offset * width, len(column) * width), width


def _summed(changes: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Undo the differences (N,) or (N, C); `first` (N,) is the first row of each row's message."""
    total = np.cumsum(changes, axis=0)
    before = np.concatenate([np.zeros((1, *changes.shape[1:]), np.int64), total[:-1]])
    return np.asarray(total - before[first], np.int64)
