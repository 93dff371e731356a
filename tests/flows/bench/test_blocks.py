"""Frames to measure on: as many packs as asked for, in time order, the same after a detour over files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flows.bench import blocks as module
from flows.bench.blocks import PERIOD_S, SavedBlocks, fleet_blocks, repeated, save_blocks
from schemas.frames import FrameBlock
from tests.support.blocks import assert_same_frames


@pytest.fixture(scope="module")
def blocks() -> list[FrameBlock]:
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "_DISTINCT", 10)
    made = fleet_blocks(25, 6)
    patch.undo()
    return made


def _packs(blocks: list[FrameBlock]) -> Counter[str]:
    return Counter(name for b in blocks for name in np.array(b.packs)[b.pack].tolist())


def test_every_pack_sends_every_round(blocks: list[FrameBlock]) -> None:
    found = _packs(blocks)
    assert len(found) == 30  # whole copies of the ten that are simulated
    assert set(found.values()) == {6}


def test_a_pack_s_frames_are_in_order_without_gaps(blocks: list[FrameBlock]) -> None:
    t = np.concatenate([b.t_ns[np.array(b.packs)[b.pack] == b.packs[0]] for b in blocks if b.packs == blocks[0].packs])
    assert np.unique(np.diff(t)).tolist() == [int(PERIOD_S * 1e9)]


def test_a_repetition_goes_on_where_the_one_before_ended(blocks: list[FrameBlock]) -> None:
    again = list(repeated(blocks, 3))
    assert set(_packs(again).values()) == {18}
    t = np.concatenate([b.t_ns[np.array(b.packs)[b.pack] == blocks[0].packs[0]] for b in again])
    seq = np.concatenate([b.seq[np.array(b.packs)[b.pack] == blocks[0].packs[0]] for b in again])
    assert np.unique(np.diff(t)).tolist() == [int(PERIOD_S * 1e9)]
    assert np.unique(np.diff(seq)).tolist() == [1]


def test_saved_blocks_are_the_same_by_number(blocks: list[FrameBlock], tmp_path: Path) -> None:
    save_blocks(blocks, tmp_path)
    saved = SavedBlocks(tmp_path, 2)
    wanted = list(repeated(blocks, 2))
    assert len(saved) == len(wanted)
    for i in (0, len(blocks) - 1, len(blocks), len(wanted) - 1):
        assert_same_frames(saved[i], wanted[i].with_frames(context={}))
