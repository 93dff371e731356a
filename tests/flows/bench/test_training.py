"""Training is measured as a whole; sets that cannot be trained on are passed over, and do not count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.bench import training
from flows.bench.report import _GOALS


def test_a_set_of_one_cell_is_read_and_no_model_comes_of_it(tmp_path: Path) -> None:
    cycle = np.arange(1.0, 61.0)
    table = pa.table({
        "dataset": ["ONE"] * 60, "cell": ["P-1"] * 60, "cycle": cycle, "cc_q": 2.0 - 0.001 * cycle,
        "capacity": 2.0 - 0.001 * cycle,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "one.parquet")
    found = training.run(tmp_path, tmp_path / "out")
    assert found["training_models"] == 0
    assert set(found["training_cpu_s"]) == {"read", "health, charge", "health, count", "health, reference", "life"}
    assert found["training_all_cpu_s"] > 0
    assert found["training_peak_mb"] > 50


def test_goals_are_those_of_the_issue() -> None:
    assert _GOALS["training_all_cpu_s"] == (300, "≤")
    assert _GOALS["training_peak_mb"] == (1_300, "≤")
