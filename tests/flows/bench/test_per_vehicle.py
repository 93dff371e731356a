"""The flow that the columnar one is measured against does the same job: same windows, and a cell that is off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows import fleet
from flows.bench import per_vehicle
from flows.bench.blocks import MODEL, fleet_blocks
from flows.bench.speed import SETTINGS
from flows.run import run_flow
from flows.settings import RecoverySettings
from replay.source import ReplaySource
from schemas.frames import FrameBlock
from sinks import ducklake
from sinks.lake import LakeSink


def _run(blocks: list[FrameBlock], lake: Path, *, baseline: bool) -> Path:
    source, sink = ReplaySource(lambda: blocks), LakeSink(lake, "bench", recovery=False)
    flow = per_vehicle.build(source, sink) if baseline else fleet.build(SETTINGS, source, sink, (MODEL,))
    run_flow(flow, RecoverySettings(), 4)
    return lake


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What both flows make of 20 packs, of which each sixth has a cell that reads 50 mV too low from the start."""
    blocks = []
    for block in fleet_blocks(20, 90):
        cell_v = block.cell_v.copy()
        cell_v[block.pack % 6 == 0, 7] -= 0.05
        blocks.append(block.with_frames(cell_v=cell_v))
    where = tmp_path_factory.mktemp("both")
    return _run(blocks, where / "slow", baseline=True), _run(blocks, where / "fast", baseline=False)


def test_both_flows_close_the_same_windows(lakes: tuple[Path, Path]) -> None:
    slow, fast = lakes
    with ducklake.attach(slow) as con:
        ducklake.attach_also(con, fast, "fast")
        rows = con.execute(
            "SELECT count(*), sum((a.frames = b.frames)::INT), max(abs(a.cell_v_min - b.cell_v_min)), "
            "max(abs(a.soc_end - b.soc_end)) "
            "FROM windows a JOIN fast.windows b USING (pack_id, start_ns)"
        ).fetchone()
        charge = con.execute(
            "SELECT pack_id, sum(a.charge_in_ah - a.charge_out_ah), sum(b.charge_in_ah - b.charge_out_ah) "
            "FROM windows a JOIN fast.windows b USING (pack_id, start_ns) GROUP BY 1"
        ).fetchnumpy()
        wanted = con.execute("SELECT count(*) FROM windows").fetchone()
    assert rows is not None
    assert wanted is not None
    assert rows[0] == rows[1] == wanted[0] > 200
    assert rows[2] < 1e-3
    assert rows[3] < 0.2
    passed = list(charge.values())[1:]
    assert np.abs(passed[0]).max() > 1.0
    assert np.abs(passed[0] - passed[1]).max() < 0.25  # an interval of 10 s more or less at the ends


def test_it_finds_the_cell_that_is_off_and_no_other(lakes: tuple[Path, Path]) -> None:
    with ducklake.attach(lakes[0]) as con:
        found = con.execute("SELECT DISTINCT subject, count(*) OVER () FROM incidents").fetchall()
    assert found == [("cell 8", len(np.arange(0, 20, 6)))]
