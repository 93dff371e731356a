"""What every kernel and every step keeps to, whatever it computes."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import kernels
from operators.kernels import slots
from schemas.events import DeadLetter, Gap, Incident, Item, Rows, Session, Tick
from schemas.frames import FrameBlock
from tests.support.contract import (
    AS_STEPS,
    FEEDS,
    KERNELS,
    PACKS,
    PARTS,
    SHAPES,
    STEPS,
    Columns,
    joined,
    plain,
    shard,
    unequal,
)
from tests.support.fleet import NS, cut_every, disturb, drive, spoil, stamp

pytestmark = pytest.mark.filterwarnings("ignore:All-NaN slice")  # a frame without any cell has no median
ROWS = 120
every_kernel = pytest.mark.parametrize("name", KERNELS)
every_shape = pytest.mark.parametrize(("cells", "probes"), SHAPES)
Inputs = dict[str, list[list[Item]]]
every_feed = pytest.mark.parametrize("feed", FEEDS)


def test_every_kernel_with_a_step_is_in_the_suite() -> None:
    folder = Path(next(iter(kernels.__path__)))
    modules = {p.stem for p in folder.glob("*.py") if p.stem != "__init__"}
    with_step = {m for m in modules if hasattr(importlib.import_module(f"operators.kernels.{m}"), "step")}
    assert with_step == KERNELS.keys() | PARTS.keys() | AS_STEPS


def start(name: str, block: FrameBlock, room: int = PACKS) -> Any:
    return KERNELS[name].empty(room, block.cells, block.probes)


def same(a: Columns, b: Columns, what: str = "") -> None:
    assert unequal(a, b) == [], what


def at(state: Any, which: Any) -> Columns:
    """Give the arrays of a state at some slots."""
    return {k: v[which] for k, v in slots.arrays(state).items()}


# -- kernels


@every_kernel
@every_shape
@every_feed
def test_any_cut_and_any_order_of_slots_gives_the_same_bits(name: str, cells: int, probes: int, feed: str) -> None:
    block = FEEDS[feed](ROWS, cells, probes)
    run, whole = KERNELS[name].run, start(name, block)
    expected = run(whole, block)
    for edges in (range(ROWS + 1), (0, 0, 1, 50, ROWS), (0, ROWS - 1, ROWS, ROWS)):
        parts = start(name, block)
        got = [run(parts, block.take(slice(a, b))) for a, b in pairwise(edges)]
        same(expected, joined(got), f"cut at {edges}")
        same(slots.arrays(whole), slots.arrays(parts), f"state, cut at {edges}")
    moved_to = np.array([3, 6, 0, 5, 1], np.int32)  # of seven slots
    elsewhere = start(name, block, 7)
    got_there = run(elsewhere, block.with_derived(slot=moved_to[block.derived["slot"]]))
    if "slot" in expected:
        expected = {**expected, "slot": moved_to[expected["slot"]].astype(expected["slot"].dtype)}
    same(expected, got_there, "slots")
    same(
        {k: v[:PACKS] for k, v in slots.arrays(whole).items()},
        {k: v[moved_to] for k, v in slots.arrays(elsewhere).items()},
    )


@every_kernel
@every_shape
def test_one_pack_alone_gives_what_it_gives_among_others(name: str, cells: int, probes: int) -> None:
    block = plain(ROWS, cells, probes)
    together, alone = start(name, block), start(name, block)
    KERNELS[name].run(together, block)
    KERNELS[name].run(alone, block.take(np.flatnonzero(block.pack == 2)))
    same(at(together, slice(2, 3)), at(alone, slice(2, 3)))


@every_kernel
@every_feed
def test_inputs_are_not_written_into_and_runs_repeat(name: str, feed: str) -> None:
    block = FEEDS[feed](ROWS, 8, 1)
    before = pickle.dumps(block)
    first, again = (KERNELS[name].run(start(name, block), block) for _ in range(2))
    assert pickle.dumps(block) == before
    same(first, again)


@every_kernel
@every_shape
@pytest.mark.parametrize("n", [0, 1])
def test_no_frame_and_one_frame_are_blocks(name: str, cells: int, probes: int, n: int) -> None:
    for feed in FEEDS.values():
        block = feed(n, cells, probes)
        state = start(name, block)
        before = copy.deepcopy(slots.arrays(state))
        out = KERNELS[name].run(state, block)
        if n == 0:
            assert all(len(v) == 0 for v in out.values())
            same(before, slots.arrays(state))


@every_kernel
@every_shape
@every_feed
def test_a_state_that_was_packed_or_grew_goes_on_as_it_was(name: str, cells: int, probes: int, feed: str) -> None:
    block = FEEDS[feed](ROWS, cells, probes)
    first, second = block.take(slice(0, 70)), block.take(slice(70, ROWS))
    run, state = KERNELS[name].run, start(name, block)
    run(state, first)
    held = slots.dump(state, PACKS)
    packed = pickle.dumps(held)
    grown = slots.moved(state, slice(None), 4 * PACKS, cells, probes)
    expected = run(state, second)
    assert pickle.dumps(held) == packed, "the snapshot was written into"
    restored = slots.restore(type(state), pickle.loads(packed), PACKS + 3, cells, probes)  # noqa: S301 - just written
    same(expected, run(restored, second), "restored")
    same(expected, run(grown, second), "grown")
    fresh = slots.arrays(KERNELS[name].empty(1, cells, probes))
    same(at(grown, slice(PACKS, PACKS + 1)), fresh, "a fresh slot is an empty one")


@every_kernel
@every_shape
@pytest.mark.parametrize("feed", ["nan", "holes", "bounds", "still", "repeated"])
def test_nothing_that_clean_lets_through_makes_infinity(name: str, cells: int, probes: int, feed: str) -> None:
    block = FEEDS[feed](ROWS, cells, probes)
    state = start(name, block)
    started = {k: np.isinf(v) for k, v in slots.arrays(state).items() if v.dtype.kind == "f"}
    out = KERNELS[name].run(state, block)
    assert [k for k, v in out.items() if v.dtype.kind == "f" and np.isinf(v).any()] == []
    assert [k for k, was in started.items() if (np.isinf(slots.arrays(state)[k]) & ~was).any()] == []


@settings(max_examples=30)
@given(st.data())
def test_a_kernel_after_a_gap_in_values_comes_back(data: st.DataObject) -> None:
    """Frames without any value do not spoil a state for good."""
    name = data.draw(st.sampled_from(sorted(KERNELS)))
    block, dead = plain(400, 8, 1, seed=data.draw(st.integers(0, 5))), FEEDS["nan"](50, 8, 1)
    state = start(name, block)
    KERNELS[name].run(state, block.take(slice(0, 200)))
    KERNELS[name].run(state, dead)
    rest = block.take(slice(200, 400))
    rest = rest.with_frames(t_ns=rest.t_ns + 100_000 * NS)
    spoiled = KERNELS[name].run(state, rest)
    fresh = KERNELS[name].run(start(name, block), rest)
    for k, v in spoiled.items():
        if v.dtype.kind == "f" and len(v) and np.isfinite(fresh[k]).any():
            assert np.isfinite(v).any(), k


# -- steps


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    """Per step, what the steps before it pass on: batches of items."""
    block = spoil(drive(4, 0.4, 2.0), (200, 400), "wire")
    block, _ = disturb(block, 2, dropped=0.01)
    rows = [100, 700]
    block = stamp(block, rows, [int(block.t_ns[100]) + 300 * NS, 1000 * NS])
    batches: list[list[Item]] = [[b] for b in cut_every(block, 200)]
    found = {}
    for name in STEPS:
        found[name] = batches
        logic = shard(name)
        batches = [list(logic.on_batch(batch)[0]) for batch in batches] + [list(logic.on_eof()[0])]
    assert any(isinstance(i, Rows) and i.table == "findings" for b in found["incidents"] for i in b)
    return found


def told(items: Iterable[Item]) -> list[Any]:
    """Give items in a form that equals itself, NaN included."""
    return [_plain(i) for i in items]


def _plain(item: Item) -> Any:
    if isinstance(item, FrameBlock):
        fixed = {k: getattr(item, k) for k in item.__slots__ if k not in {"context", "derived"}}
        return pickle.dumps([fixed, sorted(item.context.items()), sorted(item.derived.items())])
    if isinstance(item, Rows):
        return pickle.dumps([item.table, item.packs, item.vehicles, item.pack.tobytes(), sorted(_raw(item))])
    return repr(item)


def _raw(rows: Rows) -> list[tuple[str, str, bytes]]:
    return [(k, str(v.dtype), v.tobytes()) for k, v in rows.data.items()]


every_step = pytest.mark.parametrize("name", STEPS)


@every_step
def test_a_step_resumed_from_its_packed_snapshot_goes_on_as_it_was(name: str, inputs: Inputs) -> None:
    straight, resumed = shard(name), shard(name)
    for batch in inputs[name]:
        expected = told(straight.on_batch(batch)[0])
        snapshot = resumed.snapshot()
        packed = pickle.dumps(snapshot)
        resumed = shard(name, pickle.loads(packed))  # noqa: S301 - just written
        assert told(resumed.on_batch(batch)[0]) == expected
        assert pickle.dumps(snapshot) == packed, "the snapshot was written into"
    assert told(resumed.on_eof()[0]) == told(straight.on_eof()[0])


@every_step
def test_a_snapshot_holds_plain_values_only(name: str, inputs: Inputs) -> None:
    """No class of ours: its module may move."""
    logic = shard(name)
    for batch in inputs[name]:
        logic.on_batch(batch)
    kinds: set[type] = set()

    def walk(value: Any) -> None:
        kinds.add(type(value))
        if isinstance(value, dict):
            walk(list(value.keys()))
            walk(list(value.values()))
        elif isinstance(value, list | tuple):
            for v in value:
                walk(v)

    walk(logic.snapshot())
    assert {k.__module__.partition(".")[0] for k in kinds} <= {"builtins", "numpy"}
    assert not {k.__name__ for k in kinds} & {"function", "type"}


@every_step
def test_a_step_writes_into_nothing_that_it_is_given(name: str, inputs: Inputs) -> None:
    logic = shard(name)
    for batch in inputs[name]:
        before = told(batch)
        logic.on_batch(batch)
        assert told(batch) == before


@every_step
def test_the_end_of_input_is_told_once(name: str, inputs: Inputs) -> None:
    """It fires again when a finished run is resumed."""
    logic = shard(name)
    for batch in inputs[name]:
        logic.on_batch(batch)
    logic.on_eof()
    assert list(shard(name, pickle.loads(pickle.dumps(logic.snapshot()))).on_eof()[0]) == []  # noqa: S301 - just written
    assert list(logic.on_eof()[0]) == []


@every_step
def test_what_a_step_does_not_know_passes_unchanged_and_in_order(name: str, inputs: Inputs) -> None:
    first = [i for batch in inputs["incidents"] for i in batch if isinstance(i, Gap | DeadLetter | Session)]
    assert {type(i) for i in first} == {Gap, DeadLetter, Session}
    items: list[Item] = [*first, Tick(5), *first, Tick(6)]
    empty, full = shard(name), shard(name)
    assert list(empty.on_batch(items)[0]) == items
    for batch in inputs[name]:
        full.on_batch(batch)
    assert list(full.on_batch(items)[0]) == items


@every_step
def test_ticks_change_no_final_record(name: str, inputs: Inputs) -> None:
    quiet, ticking = shard(name), shard(name)
    later = Tick(2_000_000_000 * NS)
    for batch in inputs[name]:
        expected = told(quiet.on_batch(batch)[0])
        got = list(ticking.on_batch([*batch, later])[0])
        assert got[-1] == later
        assert told(i for i in got[:-1] if not _provisional(i)) == expected
    assert told(ticking.on_eof()[0]) == told(quiet.on_eof()[0])


def _provisional(item: Item) -> bool:
    if isinstance(item, Rows):
        return bool(len(item)) and "provisional" in item.data and bool(item.data["provisional"].all())
    return isinstance(item, Session | Incident) and item.provisional


@every_step
def test_an_empty_block_changes_nothing(name: str, inputs: Inputs) -> None:
    without, with_empty = shard(name), shard(name)
    for batch in inputs[name]:
        nothing: list[Item] = [i.take(slice(0, 0)) for i in batch if isinstance(i, FrameBlock)]
        expected = told(without.on_batch(batch)[0])
        out = list(with_empty.on_batch(nothing)[0])
        assert all(len(i) == 0 for i in out if isinstance(i, FrameBlock | Rows))
        assert [i for i in out if not isinstance(i, FrameBlock | Rows)] == []
        assert told(with_empty.on_batch(batch)[0]) == expected


def test_all_steps_evict_the_packs_that_clean_evicts() -> None:
    """Two packs of four are silent for 40 days, the flow is resumed, and one of them comes back."""
    block = drive(4, 0.1, 2.0)
    stay, back = np.flatnonzero(block.pack < 2), np.flatnonzero(block.pack != 3)
    month = block.take(stay)
    month = month.with_frames(t_ns=month.t_ns + 40 * 86_400 * NS, seq=month.seq + 1000)
    later = block.take(back)
    later = later.with_frames(t_ns=later.t_ns + 41 * 86_400 * NS, seq=later.seq + 2000)
    first = {name: shard(name) for name in STEPS}
    _through(first, [block])
    _through(first, [month.pruned()])
    resumed = {name: shard(name, pickle.loads(pickle.dumps(s.snapshot()))) for name, s in first.items()}  # noqa: S301 - just written
    out = _through(resumed, [later.pruned()])
    for name, logic in resumed.items():
        kept = logic.snapshot()
        own = tuple(pack for slot, pack in enumerate(kept["packs"]) if slot not in kept["copies"])
        assert own == (*block.packs[:2], block.packs[2]), name
    windows = [i for i in out if isinstance(i, Rows) and i.table == "windows"]
    assert {i.packs[p] for i in windows for p in i.pack.tolist()} == set(block.packs[:3])


def _through(logics: dict[str, Any], items: list[Item]) -> list[Item]:
    for logic in logics.values():
        items = list(logic.on_batch(items)[0])
    return items
