"""`ibms demo` as a newcomer runs it: a process of its own, an empty directory, one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KEYS = [
    "vehicles", "frames", "seconds", "frames_per_s", "soc_rmse_pct", "faults_injected", "faults_found",
    "median_delay_s", "false_incidents_per_vehicle_month", "dead_letters", "lake",
]  # fmt: skip


def _ibms(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.__main__", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("newcomer")
    return folder, _ibms(folder, "demo", "--vehicles", "24", "--hours", "8", "--out", "demo", "--json")


@pytest.fixture(scope="module")
def report(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(ran[1].stdout)
    return said


def _rows(folder: Path, lake: str, sql: str) -> list[dict[str, Any]]:
    asked = _ibms(folder, "query", "--lake", lake, "--format", "json", sql)
    assert (asked.returncode, asked.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(asked.stdout)
    return rows


def test_it_prints_one_object_and_nothing_else(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = ran
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert list(json.loads(done.stdout)) == KEYS


def test_its_figures_are_possible(report: dict[str, Any]) -> None:
    assert report["vehicles"] == 24
    assert report["frames"] > 5000
    assert report["frames_per_s"] == pytest.approx(report["frames"] / report["seconds"], rel=0.05)
    assert 0 < report["soc_rmse_pct"] < 50
    assert report["faults_injected"] > 5
    assert 0 < report["faults_found"] <= report["faults_injected"]
    assert report["median_delay_s"] >= 0
    assert report["false_incidents_per_vehicle_month"] >= 0
    assert all(n > 0 for n in report["dead_letters"].values())


def test_the_lake_it_names_answers(ran: tuple[Path, Any], report: dict[str, Any]) -> None:
    sql = (
        "SELECT (SELECT sum(frames) FROM windows WHERE vehicle_id LIKE 'sim-%') AS frames, "
        "(SELECT count(*) FROM incidents WHERE vehicle_id LIKE 'sim-%') AS incidents, "
        "(SELECT count(*) FROM dead_letters) AS letters"
    )
    ((row),) = _rows(ran[0], report["lake"], sql)
    assert 0.9 * report["frames"] < row["frames"] <= report["frames"]
    assert row["incidents"] > 0
    assert row["letters"] == sum(report["dead_letters"].values())


def test_the_recorded_can_trace_gave_the_windows_of_its_vehicle(ran: tuple[Path, Any], report: dict[str, Any]) -> None:
    sql = (
        "SELECT r.vehicle_id, count(*) AS windows, sum(r.complete_frames) AS frames, "
        "max(abs(r.soc_end - s.soc_end)) AS apart FROM windows r JOIN windows s "
        "ON s.start_ns = r.start_ns AND r.vehicle_id = 'replayed-' || s.vehicle_id AND s.frames = r.frames GROUP BY 1"
    )
    ((row),) = _rows(ran[0], report["lake"], sql)
    assert row["windows"] > 10
    assert row["frames"] > 50
    assert row["apart"] < 0.005
    assert (ran[0] / "demo" / f"{row['vehicle_id'].removeprefix('replayed-')}.log").stat().st_size > 10_000


def test_without_json_it_is_a_page_of_at_most_110_columns(tmp_path: Path) -> None:
    done = _ibms(tmp_path, "demo", "--vehicles", "6", "--hours", "3", "--out", "d")
    assert (done.returncode, done.stderr) == (0, "")
    assert "What to type next:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110
