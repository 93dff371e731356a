"""Blocks of any size and content, for property tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.frames import BACKFILL, CONTEXT, LIVE, FrameBlock, make_block

F32 = st.floats(width=32, allow_infinity=False)  # NaN = not available
F64 = st.floats(allow_infinity=False)
INT64 = st.integers(-(2**63), 2**63 - 1)
IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def model_name(cells: int, probes: int) -> str:
    return f"generic-nmc@{cells}c{probes}t"


@st.composite
def blocks(
    draw: st.DrawFn, *, rows: st.SearchStrategy[int] | None = None, cells: int = 4, probes: int = 2
) -> FrameBlock:
    """Any frames: 0..12 rows of 1..4 packs, any value that a column can hold."""
    n = draw(st.integers(0, 12) if rows is None else rows)
    packs = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    names = draw(st.lists(st.sampled_from(sorted(CONTEXT)), max_size=4, unique=True))

    def column(dtype: Any, values: st.SearchStrategy[Any] | None = None) -> Any:
        return draw(hnp.arrays(dtype, n, elements=values))

    return make_block(
        model_name(cells, probes),
        packs,
        vehicles=draw(st.lists(IDS, min_size=len(packs), max_size=len(packs))),
        pack=column(np.int32, st.integers(0, len(packs) - 1)),
        t_ns=column(np.int64, INT64),
        seq=column(np.int64, INT64),
        current_a=column(np.float32, F32),
        pack_v=column(np.float32, F32),
        cell_v=draw(hnp.arrays(np.float32, (n, cells), elements=F32)),
        temp_c=draw(hnp.arrays(np.float32, (n, probes), elements=F32)),
        lane=column(np.uint8, st.sampled_from([LIVE, BACKFILL])),
        recv_ns=column(np.int64, INT64),
        src_part=column(np.int32, st.integers(0, 2**31 - 1)),
        src_offset=column(np.int64, INT64),
        src_row=column(np.int32, st.integers(0, 2**31 - 1)),
        context={name: column(CONTEXT[name], {np.float32: F32, np.float64: F64}.get(CONTEXT[name])) for name in names},
    )


def same(a: Any, b: Any) -> bool:
    """Say whether two columns are bit-equal, any NaN being equal to any other."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


ROW_COLUMNS = ("t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "lane")
SOURCE_COLUMNS = ("recv_ns", "src_part", "src_offset", "src_row")


def assert_same_frames(got: FrameBlock, want: FrameBlock, *, source: bool = True) -> None:
    """Compare row by row, names of packs and vehicles instead of their places in the tables."""
    assert (got.model, len(got)) == (want.model, len(want))
    for name in (*ROW_COLUMNS, *(SOURCE_COLUMNS if source else ())):
        assert same(getattr(got, name), getattr(want, name)), name
    assert [got.packs[i] for i in got.pack.tolist()] == [want.packs[i] for i in want.pack.tolist()]
    assert [got.vehicles[i] for i in got.pack.tolist()] == [want.vehicles[i] for i in want.pack.tolist()]
    assert set(got.context) == set(want.context)
    for name in want.context:
        assert same(got.context[name], want.context[name]), name
