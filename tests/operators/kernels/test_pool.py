"""The columns of waiting frames: nothing is mixed up, whatever comes and goes."""

from __future__ import annotations

import numpy as np
import pytest

from operators.kernels import clean as kernel
from operators.kernels.clean import CleanConfig, CleanState
from operators.kernels.pool import Pool
from schemas.frames import FrameBlock
from tests.support.frames import frames


def step(state: CleanState, pool: Pool, block: FrameBlock) -> FrameBlock:
    block = block.with_derived(slot=np.zeros(len(block), np.int32))
    return kernel.step(CleanConfig(), state, pool, 60.0, block).frames


def uncounted(n: int) -> FrameBlock:
    """Frames that all wait, each with its own values in every column."""
    k = np.arange(n)
    return frames(
        k.tolist(), k, cell_v=3 + k / 1000, temp_c=np.stack([k / 10, k / 20], axis=1), seq=np.full(n, -1),
        context={"soc_bms": k / n}, src_offset=k, src_row=k * 2, src_part=k * 3,
    )  # fmt: skip


def same(out: FrameBlock, block: FrameBlock) -> None:
    for name in ("t_ns", "current_a", "pack_v", "cell_v", "temp_c", "src_offset", "src_row", "src_part", "lane"):
        np.testing.assert_array_equal(getattr(out, name), getattr(block, name), err_msg=name)
    np.testing.assert_array_equal(out.context["soc_bms"], block.context["soc_bms"])


@pytest.mark.parametrize("rows", [1, 3, 50, 400])
def test_every_column_of_a_frame_that_waited_comes_back_with_it(rows: int) -> None:
    block, pool, state = uncounted(400), Pool(), CleanState.empty(1, 4, 2)
    at = 0
    for a in range(0, 400, rows):
        out = step(state, pool, block.take(slice(a, a + rows)))
        same(out, block.take(slice(at, at + len(out))))
        at += len(out)
    assert at == 400 - pool.waiting == 394


def test_context_that_some_blocks_lack_is_not_available_there() -> None:
    block, pool, state = uncounted(20), Pool(), CleanState.empty(1, 4, 2)
    bare = block.take(slice(4, 20)).with_frames(context={})
    assert len(step(state, pool, block.take(slice(0, 4)))) == 0
    soc = step(state, pool, bare).context["soc_bms"]
    np.testing.assert_array_equal(soc[:4], block.context["soc_bms"][:4])
    assert np.isnan(soc[4:]).all()
    later = block.take(slice(0, 20)).with_frames(t_ns=block.t_ns + 10**11)
    assert np.isnan(step(state, pool, later).context["soc_bms"][:6]).all()


def test_what_is_dumped_is_taken_back_and_the_dump_stays_as_it_was() -> None:
    block, pool, state = uncounted(40), Pool(), CleanState.empty(1, 4, 2)
    step(state, pool, block.take(slice(0, 20)))
    saved = pool.dump(state.ends)
    kept = {name: column.copy() for name, column in saved["columns"].items()}
    again, ends = Pool(), np.zeros_like(state.ends)
    again.load(saved, ends)
    other = CleanState(state.line.copy(), state.hole.copy(), ends, state.ring.copy(), state.values)
    one = step(state, pool, block.take(slice(20, 40)))
    two = step(other, again, block.take(slice(20, 40)))
    same(one, two)
    assert len(one) == 20
    for name, column in kept.items():
        np.testing.assert_array_equal(saved["columns"][name], column)
