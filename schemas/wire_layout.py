"""Arrow messages that are laid out as one before: columns by their places, many messages at once.

A gateway sends the same columns again and again, so two parts of its messages repeat byte for byte: the schema with
the pack's names, and the record batch's metadata, which say where in the body each column lies.  A message both of
whose parts have been seen, and read in full, needs no parsing: its columns are cut out of all bodies at once.
Whatever is in any way unlike is read message by message in `wire_arrow`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.frames import FrameBlock
from schemas.message import Message, RefusedError
from schemas.pack import PackModel
from schemas.wire_arrow import LISTS, MALFORMED, TYPES, Opened, assemble, check_columns, strange
from schemas.wire_ipc import body_bytes

_HEADS = 1 << 17  # packs whose schemas are remembered
_LAYOUTS = 1 << 10
_SCALAR = -1  # the width of a column without a list
_PART = struct.Struct("<Ii")  # what each part of a stream begins with: a mark, and the length of its metadata


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns of a record batch lie: name → (offset in the body, dtype, values in a row; -1: no list)."""

    rows: int
    body: int  # bytes
    tail: bytes  # what follows the body: the end of the stream
    columns: dict[str, tuple[int, np.dtype[Any], int]]


@dataclass(frozen=True, slots=True)
class _Head:
    """What a message's schema says: whose frames these are, and the layouts known for its columns."""

    model: PackModel
    packs: list[str]
    vehicles: list[str]
    layouts: dict[bytes, Layout]


class Placed(NamedTuple):
    """A message whose layout is known."""

    order: int  # the message's place among those decoded together
    message: Message
    model: PackModel
    packs: list[str]
    vehicles: list[str]
    layout: Layout
    body: bytes


@dataclass(slots=True)
class Layouts:
    """What has been seen so far; forgets all where it grows too large."""

    _heads: dict[bytes, _Head] = field(default_factory=dict)
    _shapes: dict[tuple[str, bytes], dict[bytes, Layout]] = field(default_factory=dict)

    def find(self, order: int, message: Message, plain: bytes) -> Placed | None:
        """Give the message by its layout, None where it must be read in full."""
        try:
            begin = 8 + _PART.unpack_from(plain, 0)[1]
            body = begin + 8 + _PART.unpack_from(plain, begin)[1]
        except struct.error:
            return None
        head = self._heads.get(_digest(plain[:begin]))
        layout = None if head is None else head.layouts.get(plain[begin:body])
        if head is None or layout is None:
            return None
        end = body + layout.body
        if len(plain) != end + len(layout.tail) or not plain.endswith(layout.tail):
            return None
        return Placed(order, message, head.model, head.packs, head.vehicles, layout, plain[body:end])

    def learn(self, opened: Opened, plain: bytes) -> None:
        """Remember a message that has been read in full; one of version 2 is read so again."""
        if opened.scales is not None:
            return
        begin = 8 + _PART.unpack_from(plain, 0)[1]
        body = begin + 8 + _PART.unpack_from(plain, begin)[1]
        key = _digest(plain[:begin])
        head = self._heads.get(key)
        if head is None:
            shape = (opened.model.name, opened.batch.schema.remove_metadata().serialize().to_pybytes())
            if len(self._heads) >= _HEADS or len(self._shapes) >= _LAYOUTS:
                self._heads.clear()
                self._shapes.clear()
            layouts = self._shapes.setdefault(shape, {})
            head = self._heads[key] = _Head(opened.model, opened.packs, opened.vehicles, layouts)
        if plain[begin:body] not in head.layouts and len(head.layouts) < _LAYOUTS:
            layout = _layout(opened, plain, body)
            if layout is not None:
                head.layouts[plain[begin:body]] = layout


def _digest(schema: bytes) -> bytes:
    return blake2b(schema, digest_size=16).digest()


def _layout(opened: Opened, plain: bytes, body: int) -> Layout | None:
    """Say where the columns of a message lie; None where a body could make them invalid, or they are not ours."""
    batch = opened.batch
    try:
        check_columns(batch.schema, opened.model, {})
    except (RefusedError, *MALFORMED):
        return None
    size = body_bytes(plain)
    base = pa.py_buffer(plain).address + body
    columns: dict[str, tuple[int, np.dtype[Any], int]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name not in TYPES and name not in LISTS:
            return None
        width = column.type.list_size if name in LISTS else _SCALAR
        *validity, data = column.buffers()
        if data is None or any(v is not None for v in validity):
            return None
        dtype = np.dtype((column.type.value_type if name in LISTS else column.type).to_pandas_dtype())
        at, need = data.address - base, batch.num_rows * abs(width) * dtype.itemsize
        if at < 0 or at + need > size:
            return None
        columns[name] = (at, dtype, width)
    return Layout(batch.num_rows, size, plain[body + size :], columns)


def decode_placed(
    placed: Sequence[Placed],
) -> tuple[list[tuple[NDArray[np.int64], FrameBlock]], list[Placed]]:
    """Turn messages of known layouts into blocks, one a layout, with each row's order; and those with a bad row."""
    groups: dict[int, list[Placed]] = {}
    for one in placed:
        groups.setdefault(id(one.layout), []).append(one)
    blocks = []
    strangers: list[Placed] = []
    for group in groups.values():
        good, bad = _parted(group)
        strangers += bad
        if good:
            counts = np.full(len(good), good[0].layout.rows)
            columns = _columns(good)
            blocks.append(assemble(good, counts, columns, np.ones(counts.sum(), np.bool_)))
    return blocks, strangers


def _parted(group: list[Placed]) -> tuple[list[Placed], list[Placed]]:
    """Part messages all of whose rows can be used from the others."""
    layout = group[0].layout
    named = {"pack", "lane"} & layout.columns.keys()
    if not named:
        return group, []
    counts = np.full(len(group), layout.rows)
    no_pack, no_lane = strange(group, counts, _columns(group, named))
    bad = (no_pack | no_lane).reshape(len(group), layout.rows).any(axis=1)
    return [group[i] for i in np.flatnonzero(~bad)], [group[i] for i in np.flatnonzero(bad)]


def _columns(group: list[Placed], names: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Cut columns out of all bodies at once: all of them, or some."""
    layout = group[0].layout
    bodies = np.frombuffer(b"".join([one.body for one in group]), np.uint8).reshape(len(group), layout.body)
    columns = {}
    for name, (at, dtype, width) in layout.columns.items():
        if names and name not in names:
            continue
        part = np.ascontiguousarray(bodies[:, at : at + layout.rows * abs(width) * dtype.itemsize]).reshape(-1)
        values = part.view(dtype) if part.flags.writeable else part.view(dtype).copy()
        columns[name] = values if width == _SCALAR else values.reshape(-1, width)
    model, rows = group[0].model, len(group) * layout.rows
    for name, cells in (("cell_v", model.series), ("temp_c", model.probes)):
        if name not in columns and not names:
            columns[name] = np.full((rows, cells), np.nan, np.float32)
    return columns
