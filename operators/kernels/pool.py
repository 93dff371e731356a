"""The columns of waiting frames, beside the nodes of their lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels.lines import FREE_COPY, NOBODY
from operators.kernels.waiting import AT, FIELDS, FREE, HASH, SINCE, SRC, USED, WHY, A, B, grown, members, relink, table
from schemas.frames import FrameBlock, missing_context

_FIXED = (
    "t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "lane", "recv_ns", "src_part", "src_offset", "src_row",
)  # fmt: skip
_SAVED = (A, B, HASH, AT, WHY, SINCE)


@dataclass(slots=True)
class Pool:
    """R places for frames that wait; place i belongs to node i."""

    node: NDArray[np.int64] = field(default_factory=lambda: table(0)[0])
    ctl: NDArray[np.int64] = field(default_factory=lambda: table(0)[1])
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)  # (R, …) each, those of CONTEXT as well
    copies: NDArray[np.int32] = field(default_factory=lambda: np.zeros(2, np.int32))  # lines.Lines.copies
    made: int = 0  # slots for copies, free or not

    @property
    def waiting(self) -> int:
        """Count the frames that wait."""
        return int(self.ctl[USED])

    @property
    def nbytes(self) -> int:
        """Measure the memory in use."""
        return self.node.nbytes + sum(c.nbytes for c in self.columns.values())

    def grow(self) -> None:
        """Double the places."""
        rows = max(64, 2 * len(self.node))
        self.node, self.ctl = grown(self.node, self.ctl, rows)

    def find_copies(self, hole: NDArray[Any]) -> None:
        """Note which slots for copies are free."""
        free = np.flatnonzero(hole["owner"] == FREE_COPY)
        self.copies = np.concatenate([[free.size, 0], free]).astype(np.int32)
        self.made = int(np.count_nonzero(hole["owner"] != NOBODY))

    def store(self, block: FrameBlock) -> None:
        """Copy the frames of `block` that are still waiting when its rows have been walked."""
        if not self.waiting:
            return
        at = np.flatnonzero(self.node[:, SRC] >= 0)
        rows = self.node[at, SRC]
        self.node[at, SRC] = -1
        for name, column in _columns(block).items():
            self._column(name, column)[at] = column[rows]
        for name in self.columns.keys() - _columns(block).keys():
            self._column(name, self.columns[name])[at] = missing_context(name, 1)

    def _column(self, name: str, like: NDArray[Any]) -> NDArray[Any]:
        have = self.columns.get(name)
        if have is None or len(have) < len(self.node):
            rows = len(self.node)
            shape = (rows, *like.shape[1:])
            new = np.zeros(shape, like.dtype) if name in _FIXED else missing_context(name, rows)
            if have is not None:
                new[: len(have)] = have
            self.columns[name] = have = new
        return have

    def take(self, src: NDArray[np.int64], pack: NDArray[np.int32], block: FrameBlock) -> FrameBlock:
        """Give the frames at `src` (row of `block`, or -1 - place) in that order; `pack` (K,) is their column."""
        held = np.flatnonzero(src < 0)
        if not held.size:
            return block.take(src)
        places, fresh = -1 - src[held], np.flatnonzero(src >= 0)
        rows = src[fresh]
        given = _columns(block)
        out: dict[str, Any] = {}
        for name in given.keys() | self.columns.keys():
            like = given.get(name, self.columns.get(name))
            assert like is not None
            column = np.empty((len(src), *like.shape[1:]), like.dtype)
            column[fresh] = given[name][rows] if name in given else missing_context(name, 1)
            column[held] = self.columns[name][places] if name in self.columns else missing_context(name, 1)
            out[name] = column
        fixed: dict[str, Any] = {name: out.pop(name) for name in _FIXED}
        return FrameBlock(block.model, block.packs, block.vehicles, pack, **fixed, context=dict(sorted(out.items())))

    def dump(self, ends: NDArray[np.int32]) -> dict[str, Any]:
        """Copy what waits: its lists, and its columns in their order."""
        rows = members(self.node, ends, self.waiting, np.empty((self.waiting, 3), np.int64))
        at = rows[:, 2]
        columns = {name: column[at] for name, column in self.columns.items()} if self.waiting else {}
        return {"lists": rows[:, :2].copy(), "nodes": self.node[at][:, _SAVED], "columns": columns}

    def load(self, data: dict[str, Any], ends: NDArray[np.int32]) -> None:
        """Take back what `dump` gave; `ends` is filled anew."""
        count = len(data["lists"])
        ends[:, :, :2], ends[:, :, 2] = -1, 0
        self.node = np.zeros((count, FIELDS), np.int64)
        self.node[:, _SAVED], self.node[:, SRC] = data["nodes"], -1
        self.ctl = np.zeros(2, np.int64)
        self.ctl[FREE], self.ctl[USED] = -1, count
        self.columns = {name: column.copy() for name, column in data["columns"].items()}
        relink(self.node, ends, data["lists"])


def _columns(block: FrameBlock) -> dict[str, NDArray[Any]]:
    return {name: getattr(block, name) for name in _FIXED} | dict(block.context)
