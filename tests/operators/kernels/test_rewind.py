"""A gap that is filled afterwards: the copy gets every frame in order, once, and the pack's own line goes on."""

from __future__ import annotations

import numpy as np
import pytest

from operators.clean import CleanStep
from operators.kernels.clean import CleanConfig
from operators.shard import ShardLogic
from operators.step import Slots
from schemas.events import DeadLetter, Gap, Item
from schemas.frames import BACKFILL, LIVE, FrameBlock, make_block
from schemas.pack import PackModel, load_pack

S = 10**9
T0 = 1_767_571_200 * S
MODEL = "generic-nmc@4c2t60ah"
GAP = range(200, 400)


def shard(resume: dict[str, object] | None = None) -> ShardLogic:
    def build(pack: PackModel, slots: Slots) -> CleanStep:
        return CleanStep(pack, slots, CleanConfig(), "test")

    return ShardLogic(build, load_pack, resume, assigns=True)


def block(seq: list[int], lane: int = LIVE) -> FrameBlock:
    n = len(seq)
    return make_block(
        MODEL, ("A",), pack=[0] * n, t_ns=[T0 + k * S for k in seq], seq=seq, current_a=[1.0 + k % 7 for k in seq],
        pack_v=[14.8] * n, cell_v=np.full((n, 4), 3.7), temp_c=np.full((n, 2), 25.0), src_offset=seq,
        lane=np.full(n, lane, np.uint8),
    ).pruned()  # fmt: skip


def parts(seq: list[int], lane: int = LIVE, size: int = 37) -> list[FrameBlock]:
    return [block(seq[a : a + size], lane) for a in range(0, len(seq), size)]


def story(held: list[int], size: int = 37, *, resume: bool = False) -> tuple[dict[int, list[int]], list[Item]]:
    """Send 0 … 499 without the gap, then `held`, then 500 … 599; the numbers that came out by slot, and the rest."""
    live = [k for k in range(500) if k not in GAP]
    logic, items = shard(), list[Item]()
    for part in [*parts(live, size=size), *parts(held, BACKFILL, size), *parts(list(range(500, 600)), size=size)]:
        items += logic.on_batch([part])[0]
        if resume:
            logic = shard(logic.snapshot())
    items += logic.on_eof()[0]
    out: dict[int, list[int]] = {}
    for item in items:
        if isinstance(item, FrameBlock):
            for slot, number in zip(item.derived["slot"].tolist(), item.seq.tolist(), strict=True):
                out.setdefault(slot, []).append(number)
    return out, [item for item in items if not isinstance(item, FrameBlock)]


def test_the_packs_own_line_goes_on_as_if_nothing_came() -> None:
    plain, _ = story([])
    out, _ = story(list(GAP))
    assert out[0] == plain[0] == [k for k in range(600) if k not in GAP]


@pytest.mark.parametrize("size", [1, 37, 1000])
@pytest.mark.parametrize("resume", [False, True])
def test_the_copy_gets_the_gap_and_what_followed_in_order_once(size: int, resume: bool) -> None:
    out, rest = story(list(GAP), size, resume=resume)
    (copy,) = [slot for slot in out if slot != 0]
    assert out[copy][: len(GAP)] == list(GAP)
    assert out[copy] == list(range(GAP[0], GAP[0] + len(out[copy])))
    assert out[copy][-1] >= 494  # what had been passed on when the last frame of the gap came
    assert not [item for item in rest if isinstance(item, DeadLetter)]
    assert [gap.missing for gap in rest if isinstance(gap, Gap)][-1] == 0  # it has been filled


def test_half_of_a_gap_leaves_the_other_half_a_gap() -> None:
    out, rest = story(list(GAP)[:100])
    (copy,) = [slot for slot in out if slot != 0]
    assert out[copy][:100] == list(GAP)[:100]
    newest = {gap.id: gap for gap in sorted((g for g in rest if isinstance(g, Gap)), key=lambda g: g.revision)}
    left = [gap for gap in newest.values() if gap.missing]
    assert [(gap.first_seq, gap.last_seq, gap.missing) for gap in left] == [(300, 399, 100)]


def test_frames_that_come_twice_are_passed_on_once() -> None:
    out, _ = story([k for k in GAP for _ in range(2)])
    (copy,) = [slot for slot in out if slot != 0]
    assert out[copy][: len(GAP)] == list(GAP)
