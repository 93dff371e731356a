"""The source of a replay: it resumes by position, and what prepares its items changes no row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main
from hypothesis import given
from hypothesis import strategies as st

from replay.pace import Pace
from replay.source import ReplaySource, between, gather
from schemas.events import DeadLetter, Item, Tick
from schemas.frames import FrameBlock, concat
from tests.support.blocks import assert_same_frames, blocks
from tests.support.frames import T0_NS, frames

NS = 10**9
LETTER = DeadLetter("id", "f", 0, 0, 0, "no_time", "", "", 0, 0, "", b"")
ITEMS = st.lists(st.one_of(blocks(), blocks(cells=5), st.just(LETTER)), max_size=8)


def drain(part: Any, limit: int = 100) -> list[Item]:
    out: list[Item] = []
    for _ in range(limit):
        try:
            out += part.next_batch()
        except StopIteration:
            return out
    msg = "the source does not end"
    raise AssertionError(msg)


def make(as_list: bool) -> Callable[[], Any]:
    items: list[Item] = [frames([i]) if i % 3 else Tick(i) for i in range(7)]
    return (lambda: items) if as_list else (lambda: iter(items))


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("taken", range(8))
def test_a_source_resumes_by_position_with_the_same_remaining_items(as_list: bool, taken: int) -> None:
    source = ReplaySource(make(as_list))
    (name,) = source.list_parts()
    first = source.build_part("s", name, None)
    whole = drain(source.build_part("s", name, None))
    head = [i for _ in range(taken) if len(whole) > _ for i in first.next_batch()]
    rest = drain(source.build_part("s", name, first.snapshot()))
    assert [id(i) for i in head + rest] == [id(i) for i in whole]
    assert len(whole) == 7


def test_an_item_that_waits_for_its_time_is_not_counted_as_taken() -> None:
    clock = [0]
    source = ReplaySource(lambda: [frames([0]), frames([10]), frames([20])], Pace(1.0, lambda: clock[0]))
    part = source.build_part("s", "replay", None)
    assert len(part.next_batch()) == 1
    assert part.next_awake() is None
    assert list(part.next_batch()) == []
    assert part.next_awake() == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=10)
    assert part.snapshot() == 1
    clock[0] = 10 * NS
    (item,) = part.next_batch()
    assert isinstance(item, FrameBlock)
    assert item.t_ns.tolist() == [T0_NS + 10 * NS]
    assert part.next_awake() is None
    assert part.snapshot() == 2


def test_what_is_no_frame_waits_for_nothing_and_sets_no_pace() -> None:
    empty = frames([0]).take(slice(0, 0))
    source = ReplaySource(lambda: [LETTER, empty, frames([0]), Tick(5), frames([1])], Pace(1.0, lambda: 0))
    part = source.build_part("s", "replay", None)
    assert [len(part.next_batch()) for _ in range(4)] == [1] * 4
    assert part.next_awake() is None
    assert list(part.next_batch()) == []
    assert part.next_awake() == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1)


def test_a_flow_that_is_resumed_reads_on_where_it_stood(tmp_path: Any) -> None:
    init_db_dir(str(tmp_path), 1)
    seen: list[Item] = []
    all_items: list[Item] = [Tick(i) for i in range(6)]

    def flow(break_at: int) -> Dataflow:
        def watch(item: Item) -> Item:
            if isinstance(item, Tick) and item.now_ns == break_at:
                msg = "power"
                raise RuntimeError(msg)
            return item

        made = Dataflow("f")
        op.output(
            "out", op.map("watch", op.input("in", made, ReplaySource(lambda: all_items)), watch), TestingSink(seen)
        )
        return made

    def run(break_at: int) -> None:
        run_main(flow(break_at), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(tmp_path)))

    with pytest.raises(RuntimeError):
        run(3)
    before = len(seen)
    assert before < 6
    run(-1)
    resumed = seen[before:]
    assert len(resumed) < 6  # not from the beginning
    assert resumed == all_items[6 - len(resumed) :]
    assert set(map(repr, seen)) == set(map(repr, all_items))
    run(-1)
    assert seen[before + len(resumed) :] == []  # a finished run adds nothing


def parts_of(items: list[Item]) -> list[Item | list[FrameBlock]]:
    """Join runs of blocks that could be joined, so that only their rows are compared."""
    out: list[Item | list[FrameBlock]] = []
    for item in items:
        if not isinstance(item, FrameBlock):
            out.append(item)
        elif out and isinstance(out[-1], list) and (out[-1][0].model, out[-1][0].cells) == (item.model, item.cells):
            out[-1].append(item)
        else:
            out.append([item])
    return out


def assert_same_items(got: list[Item], want: list[Item]) -> None:
    for a, b in zip(parts_of(got), parts_of(want), strict=True):
        if isinstance(a, list):
            assert isinstance(b, list)
            one, other = concat(a), concat(b)
            one = one.with_frames(context={k: v for k, v in one.context.items() if k in other.context})
            assert_same_frames(one, other)
        else:
            assert a is b


@given(ITEMS, st.integers(1, 40))
def test_gathering_changes_no_row_and_no_order(items: list[Item], rows: int) -> None:
    got = list(gather(items, rows))
    assert_same_items(got, items)
    for block in got:
        if isinstance(block, FrameBlock):
            assert len(block) < rows + 12  # what was held, and one block more


def test_gathering_makes_few_blocks_of_many() -> None:
    got = list(gather((frames([i]) for i in range(100)), 25))
    assert [len(b) for b in got if isinstance(b, FrameBlock)] == [25] * 4


@given(ITEMS, st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62))
def test_between_keeps_exactly_the_rows_of_a_span(items: list[Item], from_ns: int, to_ns: int) -> None:
    got = [i for i in between(items, from_ns, to_ns) if not isinstance(i, FrameBlock) or len(i)]
    want = [
        part
        for i in items
        for part in (
            [i.take(np.flatnonzero((i.t_ns >= from_ns) & (i.t_ns < to_ns)))] if isinstance(i, FrameBlock) else [i]
        )
        if not isinstance(part, FrameBlock) or len(part)
    ]
    assert_same_items(got, want)


def test_a_span_begins_with_its_first_nanosecond_and_ends_before_its_last() -> None:
    def kept(from_ns: int | None, to_ns: int | None) -> list[float]:
        found: Iterator[Item] = between([frames([0, 1, 2])], from_ns, to_ns)
        return [(t - T0_NS) / NS for b in found if isinstance(b, FrameBlock) for t in b.t_ns.tolist()]

    assert kept(T0_NS + NS, T0_NS + 2 * NS) == [1.0]
    assert kept(None, T0_NS + 1) == [0.0]
    assert kept(T0_NS + NS, None) == [1.0, 2.0]
    assert kept(None, None) == [0.0, 1.0, 2.0]


def test_a_pack_that_has_moved_to_another_vehicle_begins_a_new_block() -> None:
    """A block names one vehicle per pack, so joining would say who owned it by how the frames came."""
    here = frames([0, 1], pack=[0, 1], names=("A", "B"))
    moved = replace(here, vehicles=("A", "elsewhere"))
    out = [b for b in gather([here, here, moved, moved, here]) if isinstance(b, FrameBlock)]
    assert [(len(b), b.vehicles) for b in out] == [(4, ("A", "B")), (4, ("A", "elsewhere")), (2, ("A", "B"))]
