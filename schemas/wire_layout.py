"""Arrow messages that are laid out as one before: columns by their places, many messages at once.

A gateway sends the same columns again and again, so two parts of its messages repeat byte for byte: the schema, but
for the pack's names, and the record batch's metadata, which say where in the body each column lies.  A message both of
whose parts have been seen, and read in full, needs no parsing: its columns are cut out of all bodies at once.
Whatever is in any way unlike is read message by message in `wire_arrow`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from schemas.frames import FrameBlock
from schemas.message import Message, RefusedError
from schemas.pack import PackModel
from schemas.wire_arrow import LISTS, MALFORMED, TYPES, Opened, assemble, check_columns, check_names, strange
from schemas.wire_ipc import body_bytes

_NAMES = 1 << 17  # of packs that are remembered
_ALIKE = 64  # schemas of one length
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
    """What a message's schema says but for names, which may be any of the same length, and the layouts known for it.

    `first` and `second` are where the names lie, `packs_first` says which are the packs'; `parts` is what lies before,
    between and behind them.
    """

    model: PackModel
    parts: tuple[bytes, bytes, bytes]
    first: slice
    second: slice
    packs_first: bool
    layouts: dict[bytes, Layout]

    def names(self, plain: bytes) -> tuple[bytes, bytes] | None:
        """Give the packs and vehicles of a message as it writes them; None where its schema is another."""
        before, between, behind = self.parts
        if not (
            plain.startswith(before)
            and plain.startswith(between, self.first.stop)
            and plain.startswith(behind, self.second.stop)
        ):
            return None
        found = plain[self.first], plain[self.second]
        return found if self.packs_first else found[::-1]


class Placed(NamedTuple):
    """A message whose layout is known."""

    order: int  # the message's place among those decoded together
    message: Message
    model: PackModel
    packs: list[str]
    vehicles: list[str]
    layout: Layout
    body: bytes


@dataclass(frozen=True, slots=True)
class _Alike:
    """What messages share that differ in names and body alone: which bytes stand where."""

    head: _Head
    layout: Layout
    before: bytes
    names: slice  # both, and what lies between them
    behind: bytes  # the rest of the schema, and the metadata of the batch
    body: slice
    known: dict[bytes, tuple[list[str], list[str]]]  # what names say


@dataclass(slots=True)
class Layouts:
    """What has been seen so far; forgets all where it grows too large."""

    _heads: dict[int, list[_Head]] = field(default_factory=dict)  # by the length of the schema
    _shapes: dict[tuple[str, bytes], dict[bytes, Layout]] = field(default_factory=dict)
    _names: dict[tuple[bytes, bytes], tuple[list[str], list[str]] | None] = field(default_factory=dict)
    _alike: dict[int, _Alike] = field(default_factory=dict)  # the newest of a size: the next is mostly like it
    _noted: int = 0  # names in them

    def find(self, order: int, message: Message, plain: bytes) -> Placed | None:
        """Give the message by its layout, None where it must be read in full."""
        alike = self._alike.get(len(plain))
        if (
            alike is not None
            and (names := alike.known.get(plain[alike.names])) is not None
            and plain.startswith(alike.before)
            and plain.startswith(alike.behind, alike.names.stop)
            and plain.endswith(alike.layout.tail)
        ):
            return Placed(order, message, alike.head.model, names[0], names[1], alike.layout, plain[alike.body])
        return self._search(order, message, plain)

    def _search(self, order: int, message: Message, plain: bytes) -> Placed | None:
        """Find the message's layout among all."""
        try:
            begin = 8 + _PART.unpack_from(plain, 0)[1]
            body = begin + 8 + _PART.unpack_from(plain, begin)[1]
        except struct.error:
            return None
        for head in self._heads.get(begin, ()):
            written = head.names(plain)
            if written is not None:
                break
        else:
            return None
        layout, names = head.layouts.get(plain[begin:body]), self._read(written)
        if layout is None or names is None:
            return None
        end = body + layout.body
        if len(plain) != end + len(layout.tail) or not plain.endswith(layout.tail):
            return None
        alike = self._alike.get(len(plain))
        if self._noted >= _NAMES:
            self._alike.clear()
            self._noted, alike = 0, None
        if alike is None or alike.head is not head or alike.layout is not layout:
            named = slice(head.first.start, head.second.stop)
            alike = _Alike(head, layout, head.parts[0], named, plain[named.stop : body], slice(body, end), {})
            self._alike[len(plain)] = alike
        alike.known[plain[alike.names]] = names
        self._noted += 1
        return Placed(order, message, head.model, *names, layout, plain[body:end])

    def learn(self, opened: Opened, plain: bytes) -> None:
        """Remember a message that has been read in full; one of version 2 is read so again."""
        if opened.scales is not None:
            return
        begin = 8 + _PART.unpack_from(plain, 0)[1]
        body = begin + 8 + _PART.unpack_from(plain, begin)[1]
        known = self._heads.setdefault(begin, [])
        head = next((h for h in known if h.names(plain)), None)
        if head is None:
            if len(known) >= _ALIKE or len(self._shapes) >= _LAYOUTS:
                self._heads.clear()
                self._shapes.clear()
                known = self._heads.setdefault(begin, [])
            shape = (opened.model.name, opened.batch.schema.remove_metadata().serialize().to_pybytes())
            head = _head(opened, plain[:begin], self._shapes.setdefault(shape, {}))
            if head is None:
                return
            known.append(head)
        if plain[begin:body] not in head.layouts and len(head.layouts) < _LAYOUTS:
            layout = _layout(opened, plain, body)
            if layout is not None:
                head.layouts[plain[begin:body]] = layout

    def _read(self, written: tuple[bytes, bytes]) -> tuple[list[str], list[str]] | None:
        """Give packs and vehicles; None where they are no names."""
        if written in self._names:
            return self._names[written]
        if len(self._names) >= _NAMES:
            self._names.clear()
        try:
            packs, vehicles = map(orjson.loads, written)
            found = check_names(packs, vehicles)
        except (RefusedError, ValueError):
            found = None
        self._names[written] = found
        return found


def _head(opened: Opened, schema: bytes, layouts: dict[bytes, Layout]) -> _Head | None:
    """Find where the names lie in a schema; None where that is not certain."""
    about = opened.batch.schema.metadata
    packs, vehicles = about[b"packs"], about[b"vehicles"]
    places = sorted({m.start() for text in (packs, vehicles) for m in re.finditer(re.escape(text), schema)})
    named: dict[bytes, slice] = {}
    for at in places:
        for key, text in ((b"packs", packs), (b"vehicles", vehicles)):
            if schema.startswith(text, at) and _is_value_of(schema, key, at, text):
                named[key] = slice(at, at + len(text))
    if len(named) < len((packs, vehicles)):
        return None
    first, second = sorted(named.values(), key=lambda place: place.start)
    parts = schema[: first.start], schema[first.stop : second.start], schema[second.stop :]
    return _Head(opened.model, parts, first, second, first is named[b"packs"], layouts)


def _is_value_of(schema: bytes, key: bytes, at: int, text: bytes) -> bool:
    """Say whether a text in a schema is the value of a key, by reading the schema with another text of its length."""
    other = text[::-1] if text[::-1] != text else b" " * len(text)
    changed = schema[:at] + other + schema[at + len(text) :]
    try:
        read = pa.ipc.read_schema(pa.py_buffer(changed)).metadata
    except MALFORMED:
        return False
    return bool(read[key] == other)


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
