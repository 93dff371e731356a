"""Sets of cells are read by their columns, whatever cells and files they consist of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.prognosis.charges import protocol_of, read_sets, set_of
from schemas.checked import ConfigError
from tests.support.charges import fading, write


def test_what_was_written_in_any_order_is_read_by_cell_and_cycle(tmp_path: Path) -> None:
    was = fading(4, 20)
    write(was, tmp_path / "soh_features")
    got = read_sets(tmp_path)["SET"]
    assert got.cells == was.cells
    assert got.columns == ("q", "noise")
    assert np.array_equal(got.cell, was.cell)
    assert np.array_equal(got.cycle, was.cycle)
    assert np.allclose(got.x, was.x, atol=1e-6)
    assert np.array_equal(got.nth(), np.tile(np.arange(20), 4))


def test_the_sets_of_several_files_are_put_together(tmp_path: Path) -> None:
    write(fading(3, 10), tmp_path, "XJTU")
    write(fading(2, 10, seed=2), tmp_path, "OTHER")
    found = read_sets(tmp_path)
    assert {name: len(c.cells) for name, c in found.items()} == {"XJTU": 3, "OTHER": 2}
    assert found["XJTU"].nominal_ah == 2.0
    first = found["OTHER"].capacity_ah[found["OTHER"].nth() == 0]
    assert found["OTHER"].nominal_ah == pytest.approx(np.median(first)), (
        "a set nobody knows counts from its first charges"
    )
    assert list(read_sets(tmp_path, ["OTHER"])) == ["OTHER"]


def test_infinite_values_are_not_available(tmp_path: Path) -> None:
    was = fading(2, 5)
    was.x[3, 1] = np.inf
    write(was, tmp_path)
    assert np.isnan(read_sets(tmp_path)["SET"].x[3, 1])


@pytest.mark.parametrize(
    ("dataset", "cell", "name", "protocol"),
    [
        ("TJU", "Dataset_1_NCA_battery/CY25-025_1-#10", "TJU-1", "Dataset_1_NCA_battery/CY25-025_1"),
        ("XJTU", "R2.5_battery-7", "XJTU", "R2.5_battery"),
        ("MIT", "2017-05-12/2017-05-12_battery-2", "MIT", "2017-05-12/2017-05-12_battery"),
        ("NEW", "7", "NEW", "one"),
    ],
)
def test_set_and_protocol_follow_from_the_names(dataset: str, cell: str, name: str, protocol: str) -> None:
    assert set_of(dataset, cell) == name
    assert protocol_of(cell) == protocol


def test_what_is_not_a_set_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--data must be a directory with Parquet or CSV files"):
        read_sets(tmp_path)
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(ConfigError, match=r"must be Parquet or CSV; got .*a\.parquet"):
        read_sets(tmp_path)
    pq.write_table(pa.table({"dataset": ["A"], "cell": ["1"], "cycle": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="capacity missing"):
        read_sets(tmp_path)
    table: dict[str, list[Any]] = {"dataset": ["A"], "cell": ["1"], "cycle": [1], "capacity": [1.0], "q": ["many"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="must be numbers, one or more; got q as"):
        read_sets(tmp_path)
    pq.write_table(pa.table({k: v * 2 for k, v in {**table, "q": [1.0]}.items()}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="cycles of a cell must differ; got 1 twice in 1"):
        read_sets(tmp_path)
    with pytest.raises(ConfigError, match="--set must be one of A; got B"):
        read_sets(tmp_path, ["B"])


def test_what_all_files_have_is_read_and_a_file_of_another_kind_stops_it_or_is_told(tmp_path: Path) -> None:
    write(fading(3, 10), tmp_path, "FIRST")
    write(fading(3, 10, seed=2), tmp_path, "SECOND")
    second = sorted(tmp_path.glob("*.parquet"))[1]
    pq.write_table(pq.read_table(second).drop_columns("noise").append_column("own", pa.array(np.ones(30))), second)
    assert {name: c.columns for name, c in read_sets(tmp_path).items()} == {"FIRST": ("q",), "SECOND": ("q",)}
    pq.write_table(pa.table({"dataset": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(ConfigError, match="cell, cycle, capacity missing"):
        read_sets(tmp_path)
    first = min(tmp_path.glob("*.parquet"))
    pq.write_table(pq.read_table(first).append_column("remark", pa.array(["warm"] * 30)), first)
    notes: list[str] = []
    found = read_sets(tmp_path, notes=notes)
    assert {name: c.columns for name, c in found.items()} == {"FIRST": ("q",), "SECOND": ("q",)}
    assert sorted(note.partition(":")[0] for note in notes) == [
        f"soh_features/{first.name}",
        "soh_features/other.parquet",
    ]
    assert "columns left out that are no numbers: remark" in " ".join(notes)


def test_a_set_written_as_text_with_other_line_ends_is_the_same_set(tmp_path: Path) -> None:
    for folder in ("parquet", "csv"):
        (tmp_path / folder).mkdir()
    write(fading(3, 10), tmp_path / "parquet", "SET")
    (file,) = (tmp_path / "parquet").glob("*.parquet")
    table = pq.read_table(file)
    lines = [",".join(table.column_names)]
    lines += [",".join(repr(v).strip("'") for v in row.values()) for row in table.to_pylist()]
    (tmp_path / "csv" / "set.csv").write_bytes("\r\n".join(lines).encode())
    one, other = (read_sets(tmp_path / folder)["SET"] for folder in ("parquet", "csv"))
    assert one.cells == other.cells
    np.testing.assert_allclose(one.x, other.x, rtol=1e-6)
    np.testing.assert_allclose(one.capacity_ah, other.capacity_ah)
