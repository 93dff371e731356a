"""The demo's fleet and its report: enough healthy vehicles, a lake of its own, figures that fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.demo import MODELS, demo, demo_fleet
from flows.demo_report import Report
from replay.candump import read_candump
from schemas.can import CanBlock
from schemas.checked import ConfigError
from sinks import ducklake


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    where = tmp_path_factory.mktemp("demo")
    return where, demo(demo_fleet(12, 3.0, 10.0), where)


@pytest.mark.parametrize(("vehicles", "faults"), [(1, 0), (2, 1), (20, 10), (200, 20), (1000, 100)])
def test_half_of_the_vehicles_or_more_are_healthy(vehicles: int, faults: int) -> None:
    found = demo_fleet(vehicles, 24.0, 10.0).faults
    assert len(found) == faults
    assert len({f.vehicle for f in found}) == faults


def test_a_large_fleet_has_every_kind_of_fault() -> None:
    assert len({f.kind for f in demo_fleet(200, 24.0, 10.0).faults}) == 16


@pytest.mark.parametrize("wrong", [(0, 24.0, 10.0), (1, 1e9, 10.0), (1, 1.0, 1e9)])
def test_a_fleet_that_cannot_be_is_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        demo_fleet(*wrong)


def test_figures_are_those_of_the_lake(small: tuple[Path, Report]) -> None:
    where, report = small
    assert report.lake == str(where / "lake")
    with ducklake.attach(where / "lake") as con:
        frames, vehicles = con.execute(
            "SELECT sum(frames), count(DISTINCT vehicle_id) FROM windows WHERE vehicle_id LIKE 'sim-%'"
        ).fetchone() or (0, 0)
        letters = con.execute("SELECT count(*) FROM dead_letters").fetchone()
    assert letters is not None
    assert sum(report.dead_letters.values()) == letters[0]
    assert 0 < vehicles <= report.vehicles == 12
    assert 0 < frames <= report.frames
    assert report.frames_per_s == pytest.approx(report.frames / report.seconds, rel=0.05)
    assert report.faults_injected == len(report.outcomes) <= 6
    assert report.faults_found == sum(o.found for o in report.outcomes)
    assert report.soc_rmse_pct == pytest.approx(report.soc[0].rmse_pct, abs=1e-3)
    assert {e.model for e in report.soc[1:]} <= set(MODELS)
    assert report.soc[0].windows == sum(e.windows for e in report.soc[1:])


def test_the_recorded_drive_comes_back_as_the_same_frames(small: tuple[Path, Report]) -> None:
    where, report = small
    trace = Path(report.trace)
    assert trace.parent == where
    assert sum(len(b) for b in read_candump(trace) if isinstance(b, CanBlock)) == report.can_frames
    with ducklake.attach(where / "lake") as con:
        found = con.execute(
            "SELECT sum(frames), sum(complete_frames), max(current_max_a) FROM windows WHERE vehicle_id = $1",
            [f"replayed-{trace.stem}"],
        ).fetchone()
    assert found is not None
    assert found[:2] == (report.replayed_frames, report.replayed_frames)
    assert report.replayed_frames > 50
    assert report.replay_difference_pct < 0.5


def test_a_second_demo_gets_a_lake_of_its_own(small: tuple[Path, Report]) -> None:
    where, report = small
    again = demo(replace(demo_fleet(3, 1.0, 10.0)), where)
    assert again.lake == str(where / "lake-2")
    assert again.vehicles == 3
    with ducklake.attach(where / "lake") as con:
        found = con.execute("SELECT max(vehicle_id) FROM windows WHERE vehicle_id LIKE 'sim-%'").fetchone()
    assert found is not None
    assert found[0] > "sim-000003"
    assert report.vehicles == 12


def test_a_time_too_short_for_any_frame_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--hours must be so long that vehicles wake up; got 0.05"):
        demo(demo_fleet(2, 0.05, 10.0), tmp_path)
    assert list(tmp_path.iterdir()) == []
