from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replay.fit.read import charge_ah, columns, stretches


def test_one_hour_of_charging_with_10_a_is_10_ah() -> None:
    t = np.arange(0, 3601.0, 7.5)
    assert charge_ah(t, np.full(t.size, 10.0))[-1] == pytest.approx(10)
    assert charge_ah(t, np.full(t.size, -10.0))[-1] == pytest.approx(-10)


def test_stretches_end_at_gaps_and_where_time_goes_back() -> None:
    t = np.array([0, 1, 2, 100, 101, 50, 51, 52.0])
    parts = stretches(t, 10)
    assert [t[p].tolist() for p in parts] == [[0, 1, 2], [100, 101], [50, 51, 52]]


def test_columns_are_float64_with_nan_for_null_and_seconds_for_time(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    times = pa.array([1_000_000, 2_500_000], pa.timestamp("us"))
    pq.write_table(pa.table({"t": times, "v": pa.array([1, None], pa.int32()), "name": ["a", "b"]}), path)
    read = columns(path, ("t", "v", "name"))
    assert read["t"].tolist() == [1.0, 2.5]
    assert read["v"].dtype == np.float64
    assert read["v"][0] == 1
    assert np.isnan(read["v"][1])
    assert read["name"].tolist() == ["a", "b"]
