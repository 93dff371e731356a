"""Cars are known by their layout, and by their own pack file only where it has their number of cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.accuracy.ev_faults import _pack_of, weak_cells


@pytest.mark.parametrize(
    ("name", "cells", "pack"),
    [("car1", 96, "ev-faults-car1"), ("car1", 80, "generic-nmc"), ("car3", 88, "generic-nmc")],
)
def test_a_car_has_its_own_pack_file_only_where_the_cells_are_as_many(name: str, cells: int, pack: str) -> None:
    assert _pack_of(Path(f"{name}.parquet"), cells) == pack


def test_a_file_of_no_car_is_told_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "ev_faults").mkdir()
    (tmp_path / "ev_faults" / "README.md").write_text("cars")
    (tmp_path / "ev_faults" / "car7.csv").write_text("a,b\r\n1,2\r\n")
    notes: list[str] = []
    assert weak_cells(tmp_path, notes) == {}
    (note,) = notes
    assert note.startswith("ev_faults/car7.csv: left out, table must have a column")
