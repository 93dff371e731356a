"""`ibms mission` and the view `reserve` on a lake that a flow wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import Ibms


def test_a_vehicle_that_can_and_one_that_cannot(lake: Path, ibms: Ibms) -> None:
    easy = ("--power-w", 2000, "--energy-wh", 200, "--minutes", 30, "--lake", lake)
    ran = ibms("mission", "sim-000000", *easy, "--json")
    said = json.loads(ran.out)
    assert (ran.code, said["can"], said["reason"]) == (0, True, "")
    assert said["probability"] > 0.99
    hard = ("--power-w", 90_000, "--energy-wh", 80_000, "--minutes", 60, "--lake", lake)
    ran = ibms("mission", "sim-000000", *hard, "--json")
    said = json.loads(ran.out)
    assert (ran.code, said["can"]) == (1, False)
    assert "at 95 % confidence: " in said["reason"]
    assert "of 80.00 kWh" in said["reason"]


def test_the_whole_fleet_is_asked_at_once(lake: Path, ibms: Ibms) -> None:
    told = json.loads(
        ibms("mission", "--power-w", 5000, "--energy-wh", 500, "--minutes", 30, "--lake", lake, "--json").out
    )
    known = json.loads(ibms("query", "SELECT DISTINCT vehicle_id FROM states", "--lake", lake, "--format", "json").out)
    assert sorted(a["vehicle_id"] for a in told) == sorted(k["vehicle_id"] for k in known)
    shown = ibms("mission", "--power-w", 5000, "--energy-wh", 500, "--minutes", 30, "--lake", lake).out
    assert all(k["vehicle_id"] in shown for k in known)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("sim-000000", "--power-w", 1, "--energy-wh", 1000, "--minutes", 30), "power_w must be at least the mean"),
        (("sim-000000", "--power-w", 1, "--energy-wh", 1, "--minutes", 0), "duration_s must be > 0"),
        (("nobody", "--power-w", 1, "--energy-wh", 1, "--minutes", 60), "VEHICLE must be one whose states"),
    ],
)
def test_a_question_that_makes_no_sense_is_one_line(
    lake: Path, ibms: Ibms, args: tuple[object, ...], error: str
) -> None:
    ran = ibms("mission", *args, "--lake", lake)
    assert ran.code == 2
    assert error in ran.error


def test_what_is_surely_left_is_less_than_what_is_left(lake: Path, ibms: Ibms) -> None:
    rows = json.loads(ibms("query", "SELECT * FROM reserve", "--lake", lake, "--format", "json").out)
    assert rows
    for row in rows:
        assert 0 <= row["energy_sure_kwh"] < row["soe_kwh"]
        assert row["energy_sure_kwh"] == pytest.approx(max(row["soe_kwh"] - 1.645 * row["soe_std_kwh"], 0), rel=1e-4)
        assert 0 < row["discharge_sure_w"] < row["sop_discharge_10s_w"]
        assert row["discharge_sure_2s_w"] >= row["discharge_sure_w"] >= row["discharge_sure_30s_w"] > 0
        assert all(row[f"charge_sure{s}_w"] > 0 for s in ("", "_2s", "_30s"))
        assert row["discharge_bound"] in {"cell voltage", "current", "temperature", "SOC"}
