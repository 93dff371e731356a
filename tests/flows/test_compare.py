"""Two runs are equal, or what changed is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.compare import Difference, compare
from schemas.events import Gap, Incident, Item, Rows
from sinks.ducklake import LakeError
from tests.support.commands import Ibms, make_lake

NS = 10**9
T0 = 1_767_571_200 * NS


def _windows(pack: str, soc: list[float], quality: int = 1) -> Rows:
    n = len(soc)
    start = T0 + np.arange(n) * 60 * NS
    data: dict[str, Any] = {
        "start_ns": start, "end_ns": start + 60 * NS, "revision": np.zeros(n, np.int32),
        "provisional": np.zeros(n, bool), "frames": np.full(n, 60, np.int32),
        "quality": np.full(n, quality, np.uint32), "soc_end": np.array(soc, np.float32),
    }  # fmt: skip
    return Rows("windows", "m", (pack,), (pack,), np.zeros(n, np.int32), data)


def _incident(kind: str, text: str = "in words", opened: int = T0) -> Incident:
    return Incident(f"{kind}{opened}", 0, "m", "A", "A", kind, "cell 3", 2, "open", opened, opened, 0, text, {"a": 1.0})


GAP = Gap("g", 0, "m", "A", "A", "time", T0, T0 + NS, -1, -1, -1)
BASE: list[Item] = [
    _windows("A", [0.5, 0.25, np.nan]),
    _windows("B", [0.5, 0.5], quality=133),
    _windows("C", [0.5]),
    _incident("short"),
    _incident("cooling"),
    GAP,
]
CHANGED: list[Item] = [
    _windows("A", [0.5, 0.2500002, 0.125]),
    _windows("B", [0.5, 0.5], quality=0),
    _incident("short", "otherwise"),
    *(_incident("leak", opened=T0 + i * NS) for i in range(25)),
    GAP,
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lake(tmp_path_factory.mktemp("base"), BASE)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lake(tmp_path_factory.mktemp("changed"), CHANGED)


@pytest.fixture(scope="module")
def found(base: Path, changed: Path) -> dict[str, Difference]:
    return {d.table: d for d in compare(base, changed, 1e-6)}


def test_equal_runs_end_with_0(ibms: Ibms, base: Path, tmp_path: Path) -> None:
    ran = ibms("compare", base, make_lake(tmp_path / "b", BASE, "another sink"), "--json")
    said = json.loads(ran.out)
    assert (ran.code, ran.err, said["equal"]) == (0, "", True)
    assert (said["windows"]["in_a"], said["windows"]["in_b"], said["incidents"]["in_a"]) == (6, 6, 2)


def test_changed_runs_end_with_1_and_name_what_changed(ibms: Ibms, base: Path, changed: Path) -> None:
    ran = ibms("compare", base, changed)
    assert (ran.code, ran.err) == (1, "")
    assert "only A: incident A cooling cell 3 2026-01-05 00:00:00\n" in ran.out
    assert "only A: window C 2026-01-05 00:00:00\n" in ran.out
    assert "changed: incident A short cell 3 2026-01-05 00:00:00\n" in ran.out
    assert ran.out.count("only B: incident A leak") == 20
    assert "only B: 5 more incidents\n" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 120


def test_windows_are_equal_within_the_tolerance(found: dict[str, Difference]) -> None:
    windows = found["windows"]
    assert (windows.in_a, windows.in_b, windows.only_a, windows.only_b) == (6, 5, 1, 0)
    assert "A 2026-01-05 00:01:00" not in windows.examples_changed


def test_windows_are_not_equal_beyond_the_tolerance(base: Path, changed: Path) -> None:
    windows = compare(base, changed, 1e-8)[-1]
    assert windows.columns["soc_end"] == 2
    assert windows.largest["soc_end"] == pytest.approx(2e-7, rel=0.2)
    assert "A 2026-01-05 00:01:00" in windows.examples_changed


def test_a_number_and_none_are_not_equal(found: dict[str, Difference]) -> None:
    windows = found["windows"]
    assert windows.columns["soc_end"] == 1
    assert "soc_end" not in windows.largest
    assert "A 2026-01-05 00:02:00" in windows.examples_changed


def test_flags_are_equal_or_not_whatever_the_tolerance(base: Path, changed: Path) -> None:
    windows = compare(base, changed, 1e9)[-1]
    assert windows.columns == {"soc_end": 1, "quality": 2}
    assert windows.largest == {"quality": 133}
    assert windows.changed == 3


def test_other_words_of_the_same_incident_are_a_change(found: dict[str, Difference]) -> None:
    incidents = found["incidents"]
    assert (incidents.only_a, incidents.only_b, incidents.columns) == (1, 25, {"text": 1})


def test_what_did_not_change_is_equal(found: dict[str, Difference]) -> None:
    assert {table for table, d in found.items() if d.equal} == {"gaps", "sessions"}
    assert found["gaps"].in_a == found["gaps"].in_b == 1


def test_a_lake_that_is_not_there_is_named(base: Path, tmp_path: Path) -> None:
    for pair in ((base, tmp_path / "none"), (tmp_path / "none", base)):
        with pytest.raises(LakeError, match=r"no lake in .*none"):
            compare(*pair, 0.0)
