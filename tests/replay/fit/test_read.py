from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replay.fit.read import charge_ah, columns, of_folder, stretches
from schemas.checked import ConfigError


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


def test_a_folder_is_read_by_columns_whatever_its_files_are_called_and_however_their_lines_end(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["b"], "v": pa.array([2], pa.int16()), "more": [True]}), tmp_path / "z.parquet")
    (tmp_path / "a.csv").write_bytes(b"v,comment,name\r\n1.5,x,a\r\n,y,c\r\n")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "other.parquet")
    read = of_folder(tmp_path, ("name", "v"), ("name",))
    assert read["name"].tolist() == ["a", "c", "b"]
    np.testing.assert_array_equal(read["v"], [1.5, np.nan, 2.0])
    assert read["v"].dtype == np.float64


def test_a_file_that_is_not_what_its_columns_say_is_told_once_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    (tmp_path / "bad.parquet").write_bytes(b"no")
    (tmp_path / "words.csv").write_text("name,v\na,high\n")
    notes: list[str] = []
    for _ in range(2):
        with pytest.raises(ConfigError, match="a Parquet or CSV file with the columns name, v must be in"):
            of_folder(tmp_path, ("name", "v"), ("name",), notes)
    assert [note.partition(":")[0] for note in notes] == [f"{tmp_path.name}/bad.parquet", f"{tmp_path.name}/words.csv"]
    assert "column v must be numbers; got string" in notes[1]
