"""Faults of the stream: what each does to the frames, and that cutting into blocks changes none of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from replay.simulate.faults import ALL, BIT, NOT_A_CLOCK, Fault
from replay.simulate.fleet import START_NS, FleetConfig, simulate
from replay.simulate.truth import Truth, join
from schemas.frames import FrameBlock, concat

CFG = FleetConfig(
    vehicles=3, hours=1, period_s=1, models=("generic-nmc@24c8t60ah",), sleep=False,
    start_ns=START_NS + 7 * 3_600_000_000_000,
)  # fmt: skip
WHEN = 600.0, 1200.0


def run(*faults: Fault, cfg: FleetConfig = CFG) -> tuple[FrameBlock, Truth]:
    made = list(simulate(replace(cfg, faults=faults)))
    return concat([b for b, _ in made]), join([t for _, t in made])


@cache
def clean() -> FrameBlock:
    return run()[0]


def of(vehicle: int, block: FrameBlock, *, within: bool = True) -> FrameBlock:
    """Frames of a vehicle whose counter lies in the time of the fault."""
    inside = (block.seq >= WHEN[0] - 1) & (block.seq < WHEN[1] + 1) if within else np.ones(len(block), np.bool_)
    return block.take(np.flatnonzero((block.src_part == vehicle) & inside))


def hit(block: FrameBlock, truth: Truth, kind: str) -> FrameBlock:
    return block.take(np.flatnonzero(truth.fault & BIT[kind]))


def twin(block: FrameBlock) -> FrameBlock:
    """The clean frames with the same vehicle and counter, row by row."""
    whole = clean()
    key = {(v, s): n for n, (v, s) in enumerate(zip(whole.src_part.tolist(), whole.seq.tolist(), strict=True))}
    return whole.take(
        np.array([key[p] for p in zip(block.src_part.tolist(), block.seq.tolist(), strict=True)], np.intp)
    )


def test_a_bias_is_added_to_one_channel_of_one_vehicle_while_it_lasts() -> None:
    block, truth = run(Fault("sensor_bias", 1, *WHEN, subject=5, size=0.02, field="cell_v"))
    bad = hit(block, truth, "sensor_bias")
    assert len(bad) == 600
    assert set(bad.src_part.tolist()) == {1}
    np.testing.assert_allclose((bad.cell_v - twin(bad).cell_v)[:, 5], 0.02, atol=1e-6)
    sound = block.cell_v.copy()
    sound[np.flatnonzero(truth.fault), 5] -= 0.02
    np.testing.assert_allclose(sound, clean().cell_v, atol=1e-6)


def test_a_stuck_probe_keeps_its_first_value() -> None:
    block, truth = run(Fault("stuck_value", 2, *WHEN, subject=3, field="temp_c"))
    bad = hit(block, truth, "stuck_value")
    assert (bad.temp_c[:, 3] == twin(bad).temp_c[0, 3]).all()
    np.testing.assert_array_equal(np.delete(bad.temp_c, 3, axis=1), np.delete(twin(bad).temp_c, 3, axis=1))


def test_an_open_sense_wire_moves_its_two_groups_apart_and_leaves_their_sum() -> None:
    block, truth = run(Fault("open_sense_wire", 0, *WHEN, subject=9, size=0.1))
    bad = hit(block, truth, "open_sense_wire")
    moved = bad.cell_v - twin(bad).cell_v
    assert moved[:, 9].min() > 0.07
    np.testing.assert_allclose(moved[:, 9], -moved[:, 10], atol=1e-6)
    assert np.ptp(moved[:, 9]) > 0.01
    assert np.abs(np.delete(moved, [9, 10], axis=1)).max() == 0


def test_missing_cells_are_not_available_and_the_rest_are() -> None:
    block, truth = run(Fault("missing_cells", 0, *WHEN, subject=4, size=15))
    bad = hit(block, truth, "missing_cells")
    assert (np.isnan(bad.cell_v) == ((np.arange(24) >= 4) & (np.arange(24) < 19))).all()


def test_a_frozen_frame_repeats_all_values_under_running_time_and_counter() -> None:
    block, truth = run(Fault("frozen_frame", 1, *WHEN))
    bad = hit(block, truth, "frozen_frame")
    for column in (bad.cell_v, bad.temp_c, bad.current_a, bad.pack_v, *bad.context.values()):
        assert (column == column[0]).all()
    assert (np.diff(bad.t_ns) == 1_000_000_000).all()
    assert (np.diff(bad.seq) == 1).all()


def test_a_spoofed_field_shows_about_what_it_is_told() -> None:
    block, truth = run(Fault("spoofed_field", 1, *WHEN, size=1.0, field="soc_bms"))
    bad = hit(block, truth, "spoofed_field")
    np.testing.assert_allclose(bad.context["soc_bms"], 1.0, rtol=2e-3)
    np.testing.assert_array_equal(bad.cell_v, twin(bad).cell_v)


@pytest.mark.parametrize("ahead", [True, False])
def test_a_clock_jump_changes_time_alone(ahead: bool) -> None:
    fault = Fault("clock_jump", 1, *WHEN, size=300.0) if ahead else Fault("clock_jump", 1, *WHEN, unit=NOT_A_CLOCK)
    block, truth = run(fault)
    bad = hit(block, truth, "clock_jump")
    assert len(bad) == 600
    if ahead:
        assert (bad.t_ns - twin(bad).t_ns == 300_000_000_000).all()
    else:
        assert bad.t_ns.min() >= 0
        assert bad.t_ns.max() < 600_000_000_000
    np.testing.assert_array_equal(bad.seq, twin(bad).seq)
    np.testing.assert_array_equal(bad.cell_v, twin(bad).cell_v)


def test_dropped_frames_leave_holes_of_the_asked_share_in_the_counter() -> None:
    block, _ = run(Fault("dropped", ALL, 0.0, 3600.0, share=0.05))
    lost = set(zip(clean().src_part.tolist(), clean().seq.tolist(), strict=True)) - set(
        zip(block.src_part.tolist(), block.seq.tolist(), strict=True)
    )
    assert len(lost) == len(clean()) - len(block)
    assert len(lost) / len(clean()) == pytest.approx(0.05, abs=0.01)
    assert len({v for v, _ in lost}) == 3


def test_duplicates_are_the_same_frame_again_within_the_asked_time() -> None:
    block, _ = run(Fault("duplicated", ALL, 0.0, 3600.0, size=4.0, share=0.05))
    _, first, count = np.unique(np.stack([block.src_part, block.seq]), axis=1, return_index=True, return_counts=True)
    assert set(count.tolist()) == {1, 2}
    assert (count == 2).mean() == pytest.approx(0.05, abs=0.01)
    assert len(first) == len(clean())
    twice = twin(block)
    np.testing.assert_array_equal(block.t_ns, twice.t_ns)
    np.testing.assert_array_equal(block.cell_v, twice.cell_v)
    newest = np.maximum.accumulate(block.t_ns)
    assert (newest - block.t_ns).max() <= 4_000_000_000


@pytest.mark.parametrize("kind", ["late", "out_of_order"])
def test_delayed_frames_are_all_there_and_come_after_newer_ones(kind: str) -> None:
    block, truth = run(Fault(kind, 1, *WHEN, size=4.5, share=0.1))
    assert len(block) == len(clean())
    behind_ns = (np.maximum.accumulate(block.t_ns) - block.t_ns)[np.flatnonzero(truth.fault)]
    assert 40 <= behind_ns.size <= 80
    assert behind_ns.max() <= 4_500_000_000
    if kind == "late":
        assert behind_ns.min() > 4_000_000_000
    sound = np.flatnonzero(truth.fault == 0)
    assert (np.diff(block.t_ns[sound]) >= 0).all()


def test_what_is_still_under_way_at_the_end_arrives() -> None:
    block, _ = run(Fault("late", 1, 3500.0, 3600.0, size=500.0))
    assert len(block) == len(clean())
    assert set(block.src_part[-100:].tolist()) == {1}


MANY = (
    Fault("dropped", ALL, 0.0, 3600.0, share=0.05),
    Fault("duplicated", ALL, 0.0, 3600.0, size=3.0, share=0.05),
    Fault("out_of_order", ALL, 0.0, 3600.0, size=4.0, share=0.05),
    Fault("frozen_frame", 0, *WHEN),
    Fault("stuck_value", 1, *WHEN, subject=0, field="temp_c"),
    Fault("open_sense_wire", 2, *WHEN, subject=0, size=0.1),
    Fault("clock_jump", 2, *WHEN, size=300.0),
    Fault("internal_short", 2, *WHEN, subject=0, size=1.0),
)


@pytest.mark.parametrize("rows", [13, 1000])
def test_cutting_into_blocks_changes_no_fault(rows: int) -> None:
    whole, truth = run(*MANY)
    block, parts = run(*MANY, cfg=replace(CFG, block_rows=rows))
    for name in ("t_ns", "seq", "src_part", "cell_v", "temp_c", "current_a"):
        np.testing.assert_array_equal(getattr(block, name), getattr(whole, name), err_msg=name)
    np.testing.assert_array_equal(parts.fault, truth.fault)
    np.testing.assert_array_equal(parts.soc, truth.soc)


def test_the_faults_of_a_vehicle_do_not_depend_on_the_rest_of_the_fleet() -> None:
    def mine(cfg: FleetConfig) -> Any:
        block, truth = run(*MANY, cfg=cfg)
        rows = np.flatnonzero(block.src_part == 2)
        return block.seq[rows], truth.fault[rows], block.cell_v[rows]

    for fleet, alone in zip(mine(CFG), mine(replace(CFG, vehicles=1, first=2)), strict=True):
        np.testing.assert_array_equal(fleet, alone)
