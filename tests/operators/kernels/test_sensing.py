"""Measurement faults in single frames."""

from typing import Any

import numpy as np
import pytest

from operators.kernels import sensing as kernel
from operators.kernels.extremes import extremes
from schemas.quality import FROZEN, NO_CELLS, SUM_MISMATCH, SWEEP_SKEW
from tests.support.enriched import enriched, said

CFG = kernel.SensingConfig()


def run(n: int = 60, dt: float = 10.0, **columns: Any) -> list[tuple[int, str, int, int]]:
    block = enriched(np.arange(n) * dt, **columns)
    return said(kernel.step(CFG, kernel.SensingState.empty(1, 16, 4), block, extremes(block), 60.0))


def driving(n: int = 60, cells: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    v = 3.7 + 0.08 * np.sin(np.arange(n) / 5.0)[:, None] + rng.normal(0, 1e-3, (n, cells))
    return (np.round(v, 3)).astype(np.float32)


def test_a_driven_pack_with_noise_has_no_measurement_fault() -> None:
    assert run(600, cell_v=driving(600)) == []


def test_neighbours_apart_with_opposite_signs_are_a_sense_wire() -> None:
    v = driving()
    v[10:, 7] += 0.1
    v[10:, 8] -= 0.1
    found = run(cell_v=v)
    assert [f[1:] for f in found] == [("sense_wire", 7, 2)]
    assert (found[0][0] - 10) * 10.0 <= 2 * CFG.wire_for_s


@pytest.mark.parametrize(("other", "by"), [(9, -0.1), (8, 0.1), (8, -0.02)])
def test_cells_apart_otherwise_are_no_sense_wire(other: int, by: float) -> None:
    v = driving()
    v[10:, 7] += 0.1
    v[10:, other] += by
    assert "sense_wire" not in {f[1] for f in run(cell_v=v)}


def test_a_cell_that_stands_still_while_its_pack_moves_is_named() -> None:
    v = driving(120)
    v[20:, 3] = v[20, 3]
    found = run(120, cell_v=v)
    assert [f[1:] for f in found] == [("stuck_cell", 3, 2)]


def test_a_cell_at_rest_in_a_pack_at_rest_is_not_stuck() -> None:
    v = np.full((600, 16), 3.7, np.float32)
    v[:, 3] = 3.6
    assert run(600, cell_v=v) == []


def test_a_stuck_cell_that_moves_again_clears() -> None:
    v = driving(400)
    v[20:120, 3] = v[20, 3]
    assert [f[1:] for f in run(400, cell_v=v)] == [("stuck_cell", 3, 2), ("stuck_cell", 3, 0)]


def test_an_incomplete_pack_is_raised_and_worsens_with_half_of_its_cells() -> None:
    v = driving(90)
    v[5:, 0] = np.nan
    v[40:, :9] = np.nan
    quality = np.where(np.isnan(v).sum(axis=1) > 8, NO_CELLS, 0)
    assert [f[1:] for f in run(90, cell_v=v, quality=quality)] == [("missing_cells", -1, 2), ("missing_cells", -1, 3)]


def test_a_single_incomplete_frame_raises_nothing() -> None:
    v = driving()
    v[20, 4] = np.nan
    assert run(cell_v=v) == []


def test_frozen_frames_are_raised_at_once_and_clear_after_a_quarter_of_an_hour() -> None:
    quality = np.zeros(200, np.uint32)
    quality[10:20] = FROZEN
    found = run(200, quality=quality)
    assert [f[1:] for f in found] == [("frozen", -1, 2), ("frozen", -1, 0)]
    assert (found[0][0], found[1][0]) == (10, 19 + 90)


def test_a_sum_that_stays_off_is_raised_after_its_time() -> None:
    found = run(quality=SUM_MISMATCH)
    assert [f[1:] for f in found] == [("sum_mismatch", -1, 1)]
    # the first frame, before which no time is known, counts as one of min_samples
    assert found[0][0] * 10.0 == pytest.approx(CFG.sum_for_s * (1 - 1 / CFG.min_samples), abs=10.0)


def test_skewed_sweeps_and_backfilled_frames_say_nothing_about_wires() -> None:
    v = driving()
    v[:, 7] += 0.1
    v[:, 8] -= 0.1
    assert run(cell_v=v, quality=SWEEP_SKEW) == []
    assert run(cell_v=v, lane=1) == []


def test_a_reported_state_of_charge_that_jumps_beside_the_charge_counted_is_named() -> None:
    soc = 0.5 + 0.001 * np.arange(60)
    assert run(current_a=21.6, context={"soc_bms": soc}) == []
    soc[30:] = 1.0
    assert [f[1:] for f in run(current_a=21.6, context={"soc_bms": soc})] == [("soc_report", -1, 1)]


def test_a_report_of_a_full_pack_that_still_takes_charge_is_named_once() -> None:
    n, amps = 400, 0.1 * 60.0  # 10 % of the capacity in an hour
    soc = np.ones(n)
    named = run(n, current_a=amps, context={"soc_bms": soc})
    assert [f[1:] for f in named] == [("soc_report_full", -1, 1)]
    assert named[0][0] * 10.0 / 3600.0 * 0.1 == pytest.approx(CFG.report_full, rel=0.02)
    assert run(n, current_a=0.3 * amps, context={"soc_bms": soc}) == []  # 3.3 %: a charge that ends
    assert run(n, current_a=amps, context={"soc_bms": 0.99 * soc})[0][1] == "soc_report_still"
    gone = np.where(np.arange(n) < 200, 1.0, 1.01 - 0.0001 * np.arange(n))
    raised = run(n, current_a=np.where(np.arange(n) < 200, amps, -2.16), context={"soc_bms": gone})
    assert [f[1:] for f in raised] == [("soc_report_full", -1, 1), ("soc_report_full", -1, 0)]


@pytest.mark.parametrize(("soc", "way"), [(0.5, 1.0), (0.5, -1.0), (1.0, -1.0)])
def test_a_report_that_stands_still_while_charge_moves_is_named_once_and_clears(soc: float, way: float) -> None:
    n, per_frame = 400, 0.001
    amps = np.full(n, way * per_frame * 60.0 * 360.0)  # 0.1 % in each 10 s
    stuck = np.where(np.arange(n) < 120, soc, soc + way * per_frame * (np.arange(n) - 119))
    if soc == 1.0:
        stuck = np.minimum(stuck, 1.0)
    raised = run(n, current_a=amps, context={"soc_bms": stuck})
    assert [f[1:] for f in raised] == [("soc_report_still", -1, 1), ("soc_report_still", -1, 0)]
    assert raised[0][0] == pytest.approx(CFG.report_still / per_frame, abs=2)
    coarse = soc + way * 0.02 * np.floor(per_frame * np.arange(n) / 0.02)  # steps of 2 %
    assert [f for f in run(n, current_a=amps, context={"soc_bms": coarse}) if f[1] == "soc_report_still"] == []


def test_charge_that_nobody_counted_speaks_against_no_report() -> None:
    amps = np.where(np.arange(60) % 10 == 0, np.nan, 100.0)
    assert run(current_a=amps, context={"soc_bms": np.full(60, 0.5)}) == []
    assert run(dt=600.0, current_a=60.0, context={"soc_bms": np.full(60, 0.5)}) == []


def test_a_reported_state_of_charge_may_change_while_nobody_looks() -> None:
    soc = np.where(np.arange(60) < 30, 0.5, 0.9)
    assert run(dt=3600.0, context={"soc_bms": soc}) == []


def test_refuses_a_debounce_of_no_samples() -> None:
    with pytest.raises(ValueError, match="min_samples must be ≥ 1; got 0"):
        kernel.SensingConfig(min_samples=0)
