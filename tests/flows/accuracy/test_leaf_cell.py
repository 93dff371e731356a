"""Pulses are found by their current, and power is compared with their own resistance."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.accuracy import leaf_cell
from operators.kernels.parameters import parameters
from replay.fit.leaf import CELL_AH
from schemas.pack import load_pack
from tests.support.circuit import one_branch_pack, simulate


def test_pulses_begin_at_rest_and_end_when_the_current_changes() -> None:
    i = np.array([0.0, 0.0, -10, -10, -10, 0, 0, 5, 5, 0, 0, 8, 8, 8])
    step_t_s = np.array([0.0, 1, 0, 1, 2, 0, 1, 0, 1, 0, 1, 0, 60, 120])
    assert list(leaf_cell._pulses(i, step_t_s)) == [(2, 5), (7, 9)]


@pytest.mark.parametrize(("pulse_r", "off_pct"), [(1.0, 0.0), (2.0, 50.0)])
def test_power_is_compared_with_what_the_pulse_itself_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pulse_r: float, off_pct: float
) -> None:
    """One half of a cell group whose circuit is known; pulses that show twice its resistance show half the power."""
    circuit = one_branch_pack().resistance
    pack = replace(load_pack("leaf-24kwh"), resistance=circuit)
    monkeypatch.setattr(leaf_cell, "load_pack", lambda _: pack)
    current, step_t = [0.0] * 60, list(range(60))
    for _ in range(8):
        for amps, seconds in ((-20.0, 31), (0.0, 60), (15.0, 11), (0.0, 60), (-10.0, 1080), (0.0, 1800)):
            current += [amps] * seconds
            step_t += list(range(1, seconds + 1))
    i, n = np.array(current), len(current)
    v = simulate(pack, 2 * i, 1.0, 1.0).cell_v[:, 0]
    rest_v = v[np.maximum.accumulate(np.where(i == 0, np.arange(n), 0))]
    pulsed = (i == -20.0) | (i == 15.0)
    v = np.where(pulsed, rest_v + pulse_r * (v - rest_v), v)
    table = pa.table({
        "test": ["cell-HPPC-25C"] * n, "t_s": np.arange(n, dtype=np.float32), "step": np.zeros(n, np.float32),
        "step_t_s": np.array(step_t, np.float32), "i": i.astype(np.float32), "v": v,
    })  # fmt: skip
    (tmp_path / "leaf_cell").mkdir()
    pq.write_table(table, tmp_path / "leaf_cell" / "leaf_cell.parquet")
    found = leaf_cell.figures(tmp_path, [])
    assert {name.split("_sop_")[1].removesuffix("_mean_pct") for name in found if name.endswith("mean_pct")} == {
        f"25c_{way}_{s}s" for way, times in leaf_cell.TIMES_S.items() for s in times
    }
    said_over_shown = 100.0 * (pulse_r - 1.0)
    assert found["leaf_cell_sop_25c_discharge_10s_mean_pct"] == pytest.approx(said_over_shown, abs=off_pct or 3.0)
    assert parameters(pack).cell.cells * 2 * CELL_AH == pytest.approx(96 * pack.usable_ah)
