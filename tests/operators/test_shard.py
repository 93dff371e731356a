"""Slots of a shard over a pipe of two steps: nothing of one pack ever reaches another."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.shard import EVICT, EVICT_AFTER_NS, ShardLogic, to_shards
from operators.step import Slots, Step
from schemas.events import Gap, Item, Rows, Tick
from schemas.frames import FrameBlock
from schemas.ids import hash64, shard_of
from schemas.pack import PackModel, load_pack
from tests.support.frames import T0_NS, frames

DAY_S = 86_400


@dataclass(slots=True)
class Seen:
    """What a step knows of each pack: enough to tell packs apart."""

    count: NDArray[np.int64]
    newest_ns: NDArray[np.int64]
    cell_sum: NDArray[np.float64]  # (slots, cells)

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> Seen:  # noqa: ARG003 - as all states
        return cls(np.zeros(slots, np.int64), np.full(slots, -1, np.int64), np.zeros((slots, cells)))


class Counting(Step):
    """Counts frames and adds up cells; the first of the pipe says who may be evicted."""

    def __init__(self, model: PackModel, slots: Slots) -> None:
        self.state = Seen.empty(0, model.series, model.probes)
        self.slots = slots
        self.ticks = 0
        self.kept: list[list[int]] = []

    def block(self, block: FrameBlock) -> list[Item]:
        slot = block.derived["slot"]
        np.add.at(self.state.count, slot, 1)
        np.maximum.at(self.state.newest_ns, slot, block.t_ns)
        np.add.at(self.state.cell_sum, slot, block.cell_v.astype(np.float64))
        return [block]

    def rows(self, rows: Rows) -> list[Item]:
        return [rows, Tick(int(self.state.count[rows.data["slot"]].sum()))]

    def tick(self, now_ns: int) -> list[Item]:
        self.ticks += 1
        return [Tick(-self.ticks)]

    def last_t_ns(self) -> NDArray[np.int64]:
        newest: NDArray[np.int64] = self.state.newest_ns[: len(self.slots)]
        return newest

    def keep(self, kept: NDArray[np.int64]) -> None:
        self.kept.append(kept.tolist())

    def dump(self) -> dict[str, Any]:
        return {"ticks": self.ticks}

    def load(self, data: dict[str, Any]) -> None:
        self.ticks = data["ticks"]


class Pipe:
    """Two steps one after the other, as a flow runs them."""

    def __init__(self, resume: list[dict[str, Any]] | None = None, files: Path | None = None) -> None:
        first, second = resume if resume is not None else (None, None)
        self.steps = [
            ShardLogic(Counting, load_pack, first, assigns=True, files=files and files / "first"),
            ShardLogic(Counting, load_pack, second, assigns=False, files=files and files / "second"),
        ]

    def push(self, *items: Item) -> list[Item]:
        out = list(items)
        for step in self.steps:
            out = list(step.on_batch(out)[0])
        return out

    def end(self) -> list[Item]:
        first, second = self.steps
        out = list(second.on_batch(list(first.on_eof()[0]))[0])
        return out + list(second.on_eof()[0])

    def snapshot(self) -> list[dict[str, Any]]:
        return [step.snapshot() for step in self.steps]

    def known(self) -> list[dict[str, tuple[int, int, list[float]]]]:
        """Give each step's state by pack."""
        found = []
        for step in self.steps:
            slots, state = step._slots, step._step.state if step._step is not None else Seen.empty(0, 0, 0)
            found.append(
                {
                    p: (int(state.count[s]), int(state.newest_ns[s]), state.cell_sum[s].tolist())
                    for s, p in enumerate(slots.packs)
                    if p and state.count[s]
                }
            )
        return found


def expected(rows: list[tuple[str, int]]) -> dict[str, tuple[int, int, list[float]]]:
    found: dict[str, tuple[int, int, list[float]]] = {}
    for name, t in rows:
        count, newest, total = found.get(name, (0, -1, [0.0] * 4))
        found[name] = (count + 1, max(newest, T0_NS + t * 10**9), [x + float(np.float32(3.0 + t % 7)) for x in total])
    return found


def block(rows: list[tuple[str, int]], **more: Any) -> FrameBlock:
    names = list(dict.fromkeys(name for name, _ in rows))
    t = [t for _, t in rows]
    values = np.array([3.0 + x % 7 for x in t], np.float32)
    return frames(t, cell_v=values, names=names, pack=[names.index(name) for name, _ in rows], **more)


ROWS = st.lists(st.tuples(st.sampled_from("ABCDEFG"), st.integers(0, 1000)), min_size=1, max_size=40)


@settings(max_examples=60)
@given(ROWS, st.data())
def test_every_pack_has_its_own_state_however_rows_are_cut_and_wherever_the_run_resumes(
    rows: list[tuple[str, int]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(rows) - 1, 1)))))
    pipe = Pipe()
    for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        if a < b:
            pipe.push(block(rows[a:b]))
        if data.draw(st.booleans()):
            pipe = Pipe(pickle.loads(pickle.dumps(pipe.snapshot())))  # noqa: S301 - our own bytes
    assert pipe.known() == [expected(rows)] * 2


def test_a_pack_keeps_its_slot_and_carries_its_hash() -> None:
    pipe = Pipe()
    first = pipe.push(block([("A", 0), ("B", 0)]))[0]
    second = pipe.push(block([("C", 1), ("B", 1)]))[0]
    assert isinstance(first, FrameBlock)
    assert isinstance(second, FrameBlock)
    assert first.derived["slot"].tolist() == [0, 1]
    assert second.derived["slot"].tolist() == [2, 1]
    assert second.derived["pack_hash"].tolist() == [hash64("C"), hash64("B")]


def test_many_packs_arriving_one_by_one_all_find_room() -> None:
    pipe = Pipe()
    rows = [(f"P{i:04d}", i) for i in range(300)]
    for row in rows:
        pipe.push(block([row]))
    assert pipe.known() == [expected(rows)] * 2


def test_a_snapshot_is_a_copy_of_plain_values() -> None:
    pipe = Pipe()
    pipe.push(block([("A", 0), ("B", 5)]))
    taken = pipe.snapshot()
    before = pickle.dumps(taken)
    pipe.push(block([("A", 6), ("C", 7)]), Tick(1))
    assert pickle.dumps(taken) == before
    for one in taken:
        assert set(one) == {"version", "model", "packs", "vehicles", "pack_hash", "arrays", "copies", "more"}
        assert all(type(v) is np.ndarray for v in one["arrays"].values())
        assert all(len(v) == 2 for v in one["arrays"].values())  # slots in use, without the spare ones
        assert type(one["packs"]) is tuple
    resumed = Pipe(taken)
    resumed.push(block([("A", 6)]))
    assert pickle.dumps(taken) == before  # nor does a resumed run write into it


def test_a_shard_without_frames_has_an_empty_snapshot() -> None:
    pipe = Pipe()
    assert pipe.push(Tick(1)) == [Tick(1)]
    assert Pipe(pipe.snapshot()).push(block([("A", 0)]))
    assert pipe.end() == []


def test_a_snapshot_of_another_version_is_refused() -> None:
    pipe = Pipe()
    pipe.push(block([("A", 0)]))
    taken = pipe.snapshot()
    with pytest.raises(ValueError, match="snapshot version must be 3; got 1"):
        Pipe([taken[0] | {"version": 1}, taken[1]])
    fewer = {k: v for k, v in taken[0]["arrays"].items() if k != "count"}
    with pytest.raises(ValueError, match="snapshot of Seen has"):
        Pipe([taken[0] | {"arrays": fewer}, taken[1]])


def test_a_snapshot_in_files_is_whole_and_the_one_before_it_too(tmp_path: Path) -> None:
    pipe, plain = Pipe(files=tmp_path), Pipe()
    taken = []
    for rows in ([("A", 0), ("B", 5)], [("C", 6)], [("A", 7), ("D", 8)], [("B", 9)]):
        pipe.push(block(rows))
        plain.push(block(rows))
        taken.append((pipe.snapshot(), plain.known()))
        for snapshot, known in taken[-2:]:  # what may be asked for after a kill
            assert set(snapshot[0]) == {"version", "model", "copies", "more", "file", "turn"}
            assert Pipe(snapshot, tmp_path).known() == known
    assert len(list(tmp_path.iterdir())) == 4, "two files a step"
    with pytest.raises(ValueError, match=r"must be of one time; .* is of turn 3, not 1"):
        Pipe(taken[0][0], tmp_path)
    Pipe(taken[-1][0], tmp_path).push(block([("B", 10)]))
    assert Pipe(taken[-1][0], tmp_path).known() == plain.known(), "a resumed run does not write into its file"


def test_shards_of_one_directory_keep_files_of_their_own(tmp_path: Path) -> None:
    one, other = Pipe(files=tmp_path), Pipe(files=tmp_path)
    one.push(block([("A", 0), ("B", 0)]))
    other.push(block([("X", 0)]))
    kept = one.snapshot(), other.snapshot()
    assert Pipe(kept[0], tmp_path).known() == one.known()
    assert Pipe(kept[1], tmp_path).known() == other.known()


def test_vehicles_of_other_names_come_back_from_a_file(tmp_path: Path) -> None:
    pipe = Pipe(files=tmp_path)
    pipe.push(replace(block([("A", 0), ("B", 0)]), vehicles=("V1", "V2")))
    again = Pipe(pipe.snapshot(), tmp_path)
    assert [s._slots.vehicles for s in again.steps] == [["V1", "V2"]] * 2


def test_state_beside_the_arrays_comes_back() -> None:
    pipe = Pipe()
    pipe.push(block([("A", 0)]), Tick(1), Tick(2))
    assert Tick(-3) in Pipe(pipe.snapshot()).push(Tick(3))


# -- eviction ----------------------------------------------------------------------------------------


def old_and_new(silent_s: int) -> Pipe:
    pipe = Pipe()
    pipe.push(block([("A", 0), ("B", silent_s), ("C", 10), ("D", silent_s)]))
    return Pipe(pipe.snapshot())


def test_packs_unseen_for_30_days_leave_all_steps_together_at_start_up() -> None:
    pipe = old_and_new(31 * DAY_S)
    told = pipe.push(block([("D", 31 * DAY_S + 1), ("A", 31 * DAY_S + 2)]))
    assert isinstance(told[0], Rows)
    assert (told[0].table, told[0].pack.tolist()) == (EVICT, [1, 3])
    assert isinstance(told[1], FrameBlock)
    assert told[1].derived["slot"].tolist() == [1, 2]  # A is new again
    want = expected([("B", 31 * DAY_S), ("D", 31 * DAY_S), ("D", 31 * DAY_S + 1), ("A", 31 * DAY_S + 2)])
    assert pipe.known() == [want] * 2
    for step in pipe.steps:
        assert isinstance(step._step, Counting)
        assert step._step.kept == [[1, 3]]
        assert step._slots.packs == ["B", "D", "A"]
        assert step._slots.pack_hash.tolist() == [hash64(p) for p in "BDA"]


def test_a_pack_unseen_for_30_days_to_the_nanosecond_stays() -> None:
    assert EVICT_AFTER_NS == 30 * DAY_S * 10**9
    pipe = old_and_new(30 * DAY_S)
    assert not any(isinstance(i, Rows) for i in pipe.push(Tick(1)))
    assert set(pipe.known()[0]) == set("ABCD")


def test_an_eviction_is_told_once_and_first() -> None:
    pipe = old_and_new(31 * DAY_S)
    first = pipe.push(Tick(5))
    assert isinstance(first[0], Rows)
    assert not any(isinstance(i, Rows) for i in pipe.push(Tick(6)))
    assert set(pipe.known()[1]) == set("BD")


def test_an_eviction_is_told_at_the_end_of_input_too() -> None:
    pipe = old_and_new(31 * DAY_S)
    assert [i.table for i in pipe.end() if isinstance(i, Rows)] == [EVICT]
    assert [set(k) for k in pipe.known()] == [set("BD")] * 2
    assert pipe.end() == []


def test_a_run_without_resume_evicts_nobody() -> None:
    pipe = Pipe()
    pipe.push(block([("A", 0)]))
    pipe.push(block([("B", 90 * DAY_S)]))
    assert set(pipe.known()[1]) == {"A", "B"}


def test_an_eviction_reaches_a_later_step_that_has_seen_fewer_packs() -> None:
    pipe = Pipe()
    held = pipe.steps[0].on_batch([block([("A", 0), ("B", 31 * DAY_S), ("C", 31 * DAY_S)])])[0]
    passed = [
        i.take(np.array([1])).pruned() for i in held if isinstance(i, FrameBlock)
    ]  # A and C wait in the first step
    pipe.steps[1].on_batch(list(passed))
    again = Pipe(pipe.snapshot())
    again.push(block([("C", 31 * DAY_S + 5), ("D", 31 * DAY_S + 5)]))
    assert again.steps[1]._slots.packs == ["B", "C", "D"]
    assert again.known()[1] == expected([("B", 31 * DAY_S), ("C", 31 * DAY_S + 5), ("D", 31 * DAY_S + 5)])


# -- identity ----------------------------------------------------------------------------------------


def test_a_pack_in_the_slot_of_another_is_a_broken_invariant() -> None:
    pipe = Pipe()
    (made,) = pipe.steps[0].on_batch([block([("A", 0), ("B", 0)])])[0]
    assert isinstance(made, FrameBlock)
    pipe.steps[1].on_batch([made])
    wrong = made.with_derived(slot=made.derived["slot"][::-1].copy())
    with pytest.raises(AssertionError, match="slot 1 belongs to pack B, not to A"):
        pipe.steps[1].on_batch([wrong])


def test_a_later_step_may_meet_slots_in_any_order() -> None:
    pipe = Pipe()
    (made,) = pipe.steps[0].on_batch([block([("A", 0), ("B", 0), ("C", 0)])])[0]
    assert isinstance(made, FrameBlock)
    for row in (2, 0, 1):
        pipe.steps[1].on_batch([made.take(np.array([row])).pruned()])
    assert pipe.steps[1]._slots.packs == ["A", "B", "C"]
    assert pipe.known() == [expected([("A", 0), ("B", 0), ("C", 0)])] * 2


def test_records_by_slot_are_checked_and_others_pass() -> None:
    pipe = Pipe()
    pipe.push(block([("A", 0), ("B", 0), ("B", 1)]))
    by_slot = Rows(
        "windows", "generic-nmc@4c2t60ah", ("B",), ("B",), np.zeros(1, np.int32),
        {"slot": np.array([1], np.int32), "pack_hash": np.array([hash64("B")])},
    )  # fmt: skip
    assert pipe.steps[1].on_batch([by_slot])[0] == [by_slot, Tick(2)]
    wrong = Rows(
        "windows",
        by_slot.model,
        ("A",),
        ("A",),
        by_slot.pack,
        dict(by_slot.data) | {"pack_hash": np.array([hash64("A")])},
    )
    with pytest.raises(AssertionError, match="slot 1 belongs to pack B, not to A"):
        pipe.steps[1].on_batch([wrong])
    plain = Rows("states", by_slot.model, ("A",), ("A",), by_slot.pack, {})
    assert pipe.push(plain) == [plain]


def test_what_a_step_does_not_handle_passes_in_order() -> None:
    gap = Gap("id", 0, "m", "A", "A", "sequence", 1, 5, 2, 4, 3)
    pipe = Pipe()
    out = pipe.push(gap, block([("A", 0)]), gap, Tick(9))
    assert out[0] is gap
    assert isinstance(out[1], FrameBlock)
    assert out[2] is gap
    assert out[-1] == Tick(9)  # after what the steps emit at it


def test_a_pack_that_moves_takes_its_newest_vehicle_in_every_step() -> None:
    pipe = Pipe()
    for owners in (("V1", "V2"), ("V3", "V2"), ("A", "B"), ("V9", "B")):
        pipe.push(block([("A", 0), ("B", 0)], vehicles=owners))
        assert [tuple(step._slots.vehicles) for step in pipe.steps] == [owners] * 2


@pytest.mark.parametrize("in_files", [True, False])
def test_each_snapshot_tells_how_many_packs_and_bytes_it_holds(tmp_path: Path, in_files: bool) -> None:
    told: list[tuple[str, str, int, int, int]] = []
    files = tmp_path / "step" if in_files else None
    logic = ShardLogic(Counting, load_pack, None, assigns=True, files=files, told=lambda *kept: told.append(kept))
    logic.snapshot()
    assert told == [], "nothing is kept yet"
    logic.on_batch([block([("A", 0), ("B", 1), ("C", 2)])])
    logic.snapshot()
    model, pack, packs, size, repeats = told[0]
    assert (model, pack, packs, repeats) == ("generic-nmc@4c2t60ah", "A", 3, 0)
    assert size == 3 * (8 + 8 + 8 + 4 * 8)  # hash, count, newest time, four cells


# -- the way to shards ---------------------------------------------------------------------------------


def test_frames_go_to_the_shard_of_their_pack_and_the_rest_to_none() -> None:
    cut = to_shards(4, load_pack)
    made = cut(block([(n, 0) for n in "ABCDEFG"]))
    assert {k for k, _ in made} == {f"generic-nmc@4c2t60ah/{shard_of(n, 4):03d}" for n in "ABCDEFG"}
    assert sum(len(b) for _, b in made if isinstance(b, FrameBlock)) == 7
    assert cut(Tick(1)) == [("-", Tick(1))]


def test_frames_that_do_not_fit_their_pack_model_are_a_broken_invariant() -> None:
    with pytest.raises(AssertionError, match="has 4 cells and 2 probes; the frames have 5 and 2"):
        to_shards(4, load_pack)(frames([0], cells=5))
