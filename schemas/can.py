"""Raw CAN frames as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FD, BRS, ESI, REMOTE, ERROR, TX = 1, 2, 4, 8, 16, 32  # bits of the flags column
CLASSIC, FLEXIBLE = 8, 64  # bytes of payload that a block has room for
STD_MAX, EXT_MAX = 0x7FF, 0x1FFF_FFFF

_COLUMNS: dict[str, type[np.generic]] = {
    "t_ns": np.int64,
    "bus": np.int16,
    "can_id": np.uint32,
    "ext": np.bool_,
    "length": np.uint8,
    "flags": np.uint8,
    "record": np.int64,
}


@dataclass(frozen=True, slots=True, eq=False)
class CanBlock:
    """N CAN frames of one recording or bus, in arrival order.

    `t_ns` (N,) int64 is ns since 1970 UTC; `bus` (N,) int16 indexes `buses`; `ext` says 29-bit id;
    `length` is the payload in bytes and `data` (N, 8 or 64) uint8 the payload, zero beyond it;
    `flags` are FD, BRS, ESI, REMOTE, ERROR, TX; `record` is where the frame stood in its source
    (line of a text, number of the message elsewhere; both count from 1).  `mapped` is true where the
    source had only relative times, which were laid onto a start.
    """

    buses: tuple[str, ...]
    t_ns: NDArray[np.int64]
    bus: NDArray[np.int16]
    can_id: NDArray[np.uint32]
    ext: NDArray[np.bool_]
    length: NDArray[np.uint8]
    data: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    record: NDArray[np.int64]
    mapped: bool = False

    def __len__(self) -> int:
        """N."""
        return self.t_ns.size

    def take(self, rows: NDArray[np.integer[Any]] | slice) -> CanBlock:
        """Give the rows in that order; a slice shares memory."""
        return replace(self, data=self.data[rows], **{n: getattr(self, n)[rows] for n in _COLUMNS})


def make_can_block(
    buses: Sequence[str],
    *,
    data: NDArray[np.uint8],
    mapped: bool = False,
    **columns: Any,  # noqa: ANN401 - columns differ in dtype
) -> CanBlock:
    """Build a CanBlock from array-likes, with checks.

    `bus` and `flags` default to 0, `record` to 1, 2, 3 …
    Raises ValueError that names the column, what it got and what is accepted.
    """
    n = len(columns["t_ns"])
    columns = {"bus": 0, "flags": 0, "record": np.arange(1, n + 1), **columns}
    unknown = sorted(set(columns) - set(_COLUMNS))
    if unknown:
        msg = f"unknown columns {unknown}; accepted: {sorted([*_COLUMNS, 'data'])}"
        raise ValueError(msg)
    if data.ndim != 2 or data.shape[0] != n or data.shape[1] not in {CLASSIC, FLEXIBLE}:  # noqa: PLR2004
        msg = f"data must be (N={n}, {CLASSIC} or {FLEXIBLE}); got shape {data.shape}"
        raise ValueError(msg)
    rows: dict[str, NDArray[Any]] = {}
    for name, dtype in _COLUMNS.items():
        value = columns[name]
        rows[name] = np.full(n, value, dtype) if np.ndim(value) == 0 else np.ascontiguousarray(value, dtype)
        if rows[name].shape != (n,):
            msg = f"{name} must have {n} rows; got shape {rows[name].shape}"
            raise ValueError(msg)
    if n and (rows["length"].max() > data.shape[1] or not 0 <= rows["bus"].min() <= rows["bus"].max() < len(buses)):
        msg = f"length must be 0..{data.shape[1]} and bus 0..{len(buses) - 1}"
        raise ValueError(msg)
    return CanBlock(tuple(buses), data=np.ascontiguousarray(data, np.uint8), mapped=mapped, **rows)


def concat_can(blocks: Sequence[CanBlock]) -> CanBlock:
    """Join blocks in order; bus tables are merged, payload widens to 64 bytes where any block needs it."""
    buses = tuple(dict.fromkeys(name for b in blocks for name in b.buses))
    width = max(b.data.shape[1] for b in blocks)
    return CanBlock(
        buses,
        **{n: np.concatenate([getattr(b, n) for b in blocks]) for n in _COLUMNS if n != "bus"},
        bus=np.concatenate([np.array([buses.index(s) for s in b.buses] or [0], np.int16)[b.bus] for b in blocks]),
        data=np.concatenate([widen(b.data, width) for b in blocks]),
        mapped=any(b.mapped for b in blocks),
    )


def widen(data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Give payloads room for `width` bytes, zero beyond what they had."""
    if data.shape[1] >= width:
        return data
    wide = np.zeros((data.shape[0], width), np.uint8)
    wide[:, : data.shape[1]] = data
    return wide
