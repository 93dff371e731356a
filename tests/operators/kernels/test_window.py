"""Windows against integrals that can be done by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kernels import window as kernel
from schemas.frames import FrameBlock
from tests.support.frames import T0_NS, estimated, frames

CFG = kernel.WindowConfig(window_s=60.0, max_gap_s=120.0)


def run(block: FrameBlock, cuts: Sequence[int] = ()) -> kernel.Closed:
    state = kernel.WindowState.empty(2, block.cells, block.probes)
    parts = [
        kernel.step(CFG, state, block.take(slice(a, b))) for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)
    ]
    parts.append(kernel.close_all(state))
    return kernel.Closed(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("slot", "start_ns", "acc", "last")))


def test_a_constant_current_gives_its_charge_and_energy_to_the_window_it_flowed_in() -> None:
    closed = run(estimated(frames(range(0, 181, 10), current_a=-36.0, cell_v=3.5)))
    np.testing.assert_array_equal(closed.start_ns, T0_NS + np.array([0, 60, 120, 180]) * 10**9)
    assert closed.column("charge_out_as")[:3] == pytest.approx(36.0 * 60)
    assert closed.column("energy_out_ws")[:3] == pytest.approx(36.0 * 60 * 14.0)
    assert closed.column("charge_in_as").sum() == 0
    assert closed.column("covered_s")[:3] == pytest.approx(60.0)
    np.testing.assert_array_equal(closed.column("frames"), [6, 6, 6, 1])


def test_an_interval_across_the_edge_is_split_there_by_interpolation() -> None:
    # 0 A at 50 s to 20 A at 70 s: 10 A at the edge, so 50 As before it and 150 As after.
    closed = run(estimated(frames([50, 70], current_a=[0.0, 20.0])))
    assert closed.column("charge_in_as") == pytest.approx([50.0, 150.0])
    assert closed.column("covered_s") == pytest.approx([10.0, 10.0])


def test_nothing_is_integrated_across_a_silence_longer_than_the_gap() -> None:
    closed = run(estimated(frames([0, 121, 122], current_a=10.0)))
    assert closed.column("charge_in_as") == pytest.approx([0.0, 10.0])


def test_an_incomplete_frame_gives_no_minimum_and_no_maximum() -> None:
    v = np.full((3, 4), 3.7, np.float32)
    v[:, 3] = np.nan
    v[1] = [3.6, 3.7, 3.8, 3.7]
    only_incomplete = run(estimated(frames([0, 1], cell_v=v[[0, 2]])))
    assert np.isnan(only_incomplete.column("cell_v_min")).all()
    assert np.isnan(only_incomplete.column("spread_max_v")).all()
    one_complete = run(estimated(frames([0, 1, 2], cell_v=v)))
    assert one_complete.column("cell_v_min") == pytest.approx(3.6)
    assert one_complete.column("cell_min") == 0
    assert one_complete.column("cell_v_max") == pytest.approx(3.8)
    assert one_complete.column("cell_max") == 2
    assert one_complete.column("complete_frames") == 1
    assert one_complete.column("spread_max_v") == pytest.approx(0.2, abs=1e-6)


def test_spreads_are_those_of_the_windows_first_frame() -> None:
    block = estimated(frames([0, 10]))
    d_soc = np.zeros((2, 4), np.float32)
    d_soc[0] = [-0.02, 0, 0, 0.01]
    closed = run(block.with_derived(d_soc=d_soc))
    assert closed.column("spread_soc") == pytest.approx(0.03)
    assert closed.column("spread_soc_std") == pytest.approx(2**0.5 * 0.005)  # of two cells, each with its own error
    assert closed.column("spread_r0_std") == pytest.approx(2**0.5 * 0.05)


def test_the_hottest_probe_is_named() -> None:
    temp_c = np.array([[20.0, 21.0], [25.0, np.nan], [22.0, 24.0]], np.float32)
    closed = run(estimated(frames([0, 1, 2], temp_c=temp_c)))
    assert closed.column("temp_max_c") == pytest.approx(25.0)
    assert closed.column("temp_max_probe") == 0
    assert closed.column("temp_sum") / closed.column("temp_n") == pytest.approx((20.5 + 25.0 + 23.0) / 3)


def test_backfill_rows_change_nothing() -> None:
    block = estimated(frames([0, 10, 20], current_a=[5.0, 500.0, 5.0], lane=[0, 1, 0]))
    closed = run(block)
    assert closed.column("frames") == 2
    assert closed.column("current_max_a") == pytest.approx(5.0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(-200, 200), st.integers(0, 1)), min_size=2, max_size=60),
    st.data(),
)
def test_cutting_the_stream_into_blocks_changes_no_bit(rows: list[tuple[int, int, int]], data: st.DataObject) -> None:
    t_s = np.cumsum([dt for dt, _, _ in rows])
    block = estimated(
        frames(
            t_s, [i for _, i, _ in rows], pack=[p for _, _, p in rows], names=("A", "B"), cell_v=3.0 + 0.01 * (t_s % 7)
        )
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows) - 1))))
    whole, parts = run(block), run(block, cuts)
    for name in ("slot", "start_ns", "acc", "last"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_rejects_a_window_of_no_length() -> None:
    with pytest.raises(ValueError, match="window_s must be > 0; got 0"):
        kernel.WindowConfig(window_s=0)
