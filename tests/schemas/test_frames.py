"""Blocks of frames: what is accepted, and that cutting and joining keep every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frames import CONTEXT, NO_SEQ, FrameBlock, concat, make_block, missing_context, pack_table
from schemas.ids import shard_of
from tests.support.blocks import ROW_COLUMNS, SOURCE_COLUMNS, assert_same_frames, blocks, same
from tests.support.frames import frames

GOOD: dict[str, Any] = {"pack": [0, 1], "t_ns": [1, 2], "cell_v": np.zeros((2, 3)), "temp_c": np.zeros((2, 0))}


def make(**changes: Any) -> FrameBlock:
    columns = {k: v for k, v in (GOOD | changes).items() if v is not None}
    return make_block("m", columns.pop("packs", ("A", "B")), **columns)


def test_columns_that_are_left_out_are_not_available() -> None:
    block = make()
    assert (len(block), block.cells, block.probes) == (2, 3, 0)
    assert block.vehicles == block.packs == ("A", "B")
    assert np.isnan(block.current_a).all()
    assert np.isnan(block.pack_v).all()
    assert block.seq.tolist() == [NO_SEQ] * 2
    assert block.lane.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pack": None}, "column pack is missing"),
        ({"pack": [0, 2]}, r"pack must index packs \(0\.\.1\); got 0\.\.2"),
        ({"pack": [-1, 0]}, r"pack must index packs \(0\.\.1\); got -1\.\.0"),
        ({"pack": [0]}, r"pack must have 2 rows; got shape \(1,\)"),
        ({"cell_v": np.zeros(2)}, r"cell_v must be \(N=2, columns\); got shape \(2,\)"),
        ({"cell_v": np.zeros((3, 3))}, r"cell_v must be \(N=2, columns\); got shape \(3, 3\)"),
        ({"temp_c": np.zeros((1, 3))}, "temp_c must be"),
        ({"current_a": [1.0, 2.0, 3.0]}, "current_a must have 2 rows"),
        ({"amps": [1.0, 2.0]}, r"unknown columns \['amps'\]; accepted: \['cell_v', 'current_a'"),
        ({"context": {"colour": [1, 2]}}, "unknown context column colour; accepted"),
        ({"context": {"hvil": [1]}}, "context column hvil must have 2 rows"),
        ({"packs": ("A", "A")}, "packs must name each pack once; got 'A' twice"),
        ({"vehicles": ("V",)}, r"vehicles must be as long as packs \(2\); got 1"),
    ],
)
def test_a_column_that_does_not_fit_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**changes)


@given(blocks())
def test_every_column_has_its_type_and_lies_row_by_row(block: FrameBlock) -> None:
    for name in (*ROW_COLUMNS, *SOURCE_COLUMNS, "pack"):
        column = getattr(block, name)
        assert column.flags.c_contiguous, name
        assert len(column) == len(block), name
    assert block.cell_v.dtype == block.temp_c.dtype == block.current_a.dtype == np.float32
    assert {k: v.dtype for k, v in block.context.items()} == {k: np.dtype(CONTEXT[k]) for k in block.context}


@given(blocks(), st.data())
def test_parts_joined_again_are_the_block(block: FrameBlock, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(block)), max_size=4)))
    parts = [block.take(slice(a, b)) for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)]
    assert_same_frames(concat(parts), block)
    assert_same_frames(concat([p.pruned() for p in parts]), block)


@given(st.lists(blocks(rows=st.integers(1, 4)), min_size=1, max_size=4))
def test_joining_keeps_rows_in_order_and_fills_what_a_part_lacks(parts: list[FrameBlock]) -> None:
    joined = concat(parts)
    assert len(joined) == sum(map(len, parts))
    assert len(set(joined.packs)) == len(joined.packs)
    at = 0
    for part in parts:
        here = joined.take(slice(at, at + len(part)))
        at += len(part)
        for name in (*ROW_COLUMNS, *SOURCE_COLUMNS):
            assert same(getattr(here, name), getattr(part, name)), name
        assert [here.packs[i] for i in here.pack] == [part.packs[i] for i in part.pack]
        for name, column in here.context.items():
            assert same(column, part.context.get(name, missing_context(name, len(part)))), name
    owner = {p: v for part in parts for p, v in zip(part.packs, part.vehicles, strict=True)}
    assert dict(zip(joined.packs, joined.vehicles, strict=True)) == owner  # the newest


def test_blocks_of_different_packs_are_not_joined() -> None:
    with pytest.raises(ValueError, match=r"blocks must share .* \(4 cells, 2 probes\); got .* \(5 cells, 2 probes\)"):
        concat([frames([0]), frames([0], cells=5)])


def test_the_newest_vehicle_of_a_pack_that_moved_is_kept() -> None:
    before = frames([0, 1], names=("A", "B"), vehicles=("V1", "V2"), pack=[0, 1])
    after = before.with_frames(vehicles=("V1", "V3"))  # the very same tuple of packs
    assert concat([before, after]).vehicles == ("V1", "V3")
    assert pack_table(["A", "B", "A"], ["V1", "V2", "V3"])[:2] == (["A", "B"], ["V3", "V2"])


@given(blocks(), st.integers(1, 9))
def test_shards_together_hold_every_row_once_and_in_order(block: FrameBlock, shards: int) -> None:
    numbered = block.with_frames(src_row=np.arange(len(block), dtype=np.int32))
    cut = list(numbered.by_shard(shards))
    assert [k for k, _ in cut] == sorted(
        {f"{block.model}/{shard_of(p, shards):03d}" for p in block.pruned().packs} if len(block) else set()
    )
    rows = [part.src_row.tolist() for _, part in cut]
    assert sorted(r for part in rows for r in part) == list(range(len(block)))
    for (key, part), numbers in zip(cut, rows, strict=True):
        assert numbers == sorted(numbers)
        assert {shard_of(p, shards) for p in part.packs} == {int(key.rpartition("/")[2])}
        assert_same_frames(part, numbered.take(np.array(numbers)))
        assert len(set(part.packs)) == len(part.packs)


@given(blocks(), st.data())
def test_rows_are_given_in_the_order_asked_for(block: FrameBlock, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, max(len(block) - 1, 0)), max_size=8)) if len(block) else []
    marked = block.with_derived(mark=np.arange(len(block)))
    taken = marked.take(np.array(rows, np.int64))
    assert taken.derived["mark"].tolist() == rows
    assert taken.t_ns.tolist() == [int(block.t_ns[r]) for r in rows]
    assert [taken.packs[i] for i in taken.pack] == [block.packs[block.pack[r]] for r in rows]


def test_derived_columns_of_another_length_are_a_broken_invariant() -> None:
    with pytest.raises(AssertionError, match="soc has 3 rows, the block 2"):
        make().with_derived(soc=np.zeros(3))


def test_joining_drops_what_steps_have_added() -> None:
    block = make().with_derived(soc=np.zeros(2))
    assert concat([block]).derived == concat([block, block]).derived == {}
