"""The step as a flow runs it."""

import numpy as np
import pytest

from operators.estimate import EstimateStep
from operators.kernels import estimate as kernel
from operators.kernels import slots
from schemas.frames import FrameBlock, make_block
from tests.support.circuit import drive, one_branch_pack, simulate

PACK = one_branch_pack(4)
CFG = kernel.EstimateConfig()


def frames(soc: float, n: int = 100) -> FrameBlock:
    current = drive(n, seed=1)
    block = make_block(
        PACK.name, ["A"], pack=np.zeros(n, np.int32), t_ns=np.arange(n) * 10**9, current_a=current,
        cell_v=simulate(PACK, current, 1.0, soc).cell_v, temp_c=np.full((n, 2), 25.0),
    )  # fmt: skip
    return block.with_derived(
        slot=np.zeros(n, np.int32),
        dt_s=np.concatenate([[np.nan], np.ones(n - 1)]),
        quality=np.zeros(n, np.uint32),
    )


def test_adds_its_columns_and_keeps_the_frames() -> None:
    step = EstimateStep(PACK, CFG)
    step.state = kernel.EstimateState.empty(1, 4, 2)
    block = frames(0.6)
    (out,) = step.block(block)
    assert isinstance(out, FrameBlock)
    assert out.cell_v is block.cell_v
    assert out.derived["soc"].dtype == np.float64
    assert out.derived["d_soc"].shape == (100, 4)
    assert out.derived["d_soc"].flags.c_contiguous
    assert out.derived["soc"][-1] == pytest.approx(simulate(PACK, drive(100, seed=1), 1.0, 0.6).soc[-1, 0], abs=0.02)


def test_asks_the_vehicle_where_it_has_no_voltage_to_go_by() -> None:
    lfp = one_branch_pack(4, chemistry="lfp")
    starts = []
    for context in ({}, {"soc_bms": np.full(1, 0.4)}):
        step = EstimateStep(lfp, CFG)
        step.state = kernel.EstimateState.empty(1, 4, 2)
        block = make_block(
            lfp.name, ["A"], pack=np.zeros(1, np.int32), t_ns=np.zeros(1, np.int64), current_a=np.zeros(1),
            cell_v=np.full((1, 4), 3.292), temp_c=np.full((1, 2), 25.0), context=context,
        )  # fmt: skip
        columns = {"slot": np.zeros(1, np.int32), "dt_s": np.full(1, np.nan), "quality": np.zeros(1, np.uint32)}
        (out,) = step.block(block.with_derived(**columns))
        assert isinstance(out, FrameBlock)
        starts.append(float(out.derived["soc"][0]))
    assert abs(starts[1] - 0.4) < abs(starts[0] - 0.4)


def test_goes_on_from_a_snapshot_bit_for_bit() -> None:
    block = frames(0.6)
    whole, cut = EstimateStep(PACK, CFG), EstimateStep(PACK, CFG)
    whole.state, cut.state = kernel.EstimateState.empty(1, 4, 2), kernel.EstimateState.empty(1, 4, 2)
    (expected,) = whole.block(block)
    cut.block(block.take(slice(0, 40)))
    resumed = EstimateStep(PACK, CFG)
    resumed.state = slots.restore(kernel.EstimateState, slots.dump(cut.state, 1), 1, 4, 2)
    (rest,) = resumed.block(block.take(slice(40, 100)))
    assert isinstance(expected, FrameBlock)
    assert isinstance(rest, FrameBlock)
    for name, column in rest.derived.items():
        np.testing.assert_array_equal(column, expected.derived[name][40:], err_msg=name)
