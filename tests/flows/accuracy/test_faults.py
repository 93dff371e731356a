"""Simulated faults: each is found in its time, by name, and packs without one are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from flows.accuracy import faults, report
from replay.simulate.fleet import FleetConfig, simulate, vehicle_id

CASES = {case.name: case for case in faults.CASES}


def within(name: str, value: float) -> bool:
    bounds = report.goal(name)
    assert bounds is not None, f"no goal for {name}"
    return bounds[0] <= value <= bounds[1]


@pytest.mark.parametrize("name", ["short_10_ohm", "cooling_off", "bias_20_mv_down"])
def test_a_fault_is_found_in_its_time_and_no_other_part_is_blamed(name: str) -> None:
    score = faults.score(CASES[name], 8)
    assert within(f"{name}_median_delay_h", float(np.median(score.delay_h)))
    assert score.others <= 1
    assert score.named >= 0.75 * np.isfinite(score.delay_h).sum()
    assert name == "short_10_ohm" or "leak" not in score.first


def test_a_stuck_probe_is_found_long_before_it_is_as_far_off_as_no_sound_one_ever_is() -> None:
    score = faults.score(CASES["probe_stuck"], 8)
    assert np.median(score.delay_h) < 0.5
    assert np.isfinite(score.delay_h).all()


def test_fixed_thresholds_find_a_short_a_day_later() -> None:
    score = faults.score(CASES["short_10_ohm"], 4)
    assert np.median(score.threshold_h) > np.median(score.delay_h) + 24.0


def test_a_short_too_small_to_matter_is_not_found() -> None:
    nothing = faults.Case("short_1_mohm", "internal_short", "self_discharge", 1e6, hours=96.0, sleep=False)
    assert np.isinf(faults.score(nothing, 2).delay_h).all()


def test_eight_flapping_sensors_are_one_incident_each() -> None:
    incidents, updates = faults.flapping()
    assert incidents == 1
    assert updates <= 5


def test_fifty_healthy_vehicles_of_each_chemistry_stay_within_the_alarm_budget() -> None:
    found = [
        faults.false_incidents(m, 50, hours, every, sleep=sleep) for _, m, hours, every, sleep in faults.HEALTHY[1:]
    ]
    months = sum(f["pack_months"] for f in found)
    assert sum(f["false_per_pack_month"] * f["pack_months"] for f in found) <= 0.1 * months
    assert not any(f["false_in_first_hour"] for f in found)


def test_a_fault_shows_when_its_frames_differ_from_those_without_it() -> None:
    case = CASES["probe_stuck"]
    drawn = faults.faults_of(case, 3, faults.SEED)
    cfg = FleetConfig(3, case.hours, case.period_s, (case.model,), faults.SEED, faults=drawn)
    shows, whole = faults._shown(cfg, 1.0)
    for fault in drawn:
        assert shows[fault.vehicle] > cfg.start_ns + fault.start_s * 1e9
    assert whole < set(shows)  # one probe of sixteen moves the mean by 1 K when it is 16 K off itself
    assert faults._shown(FleetConfig(1, 24.0, 30.0, (case.model,), faults.SEED), 1.0) == ({}, set())


def test_names_of_vehicles_give_their_numbers_back() -> None:
    block, _ = next(simulate(FleetConfig(1, 1.0, 60.0, sleep=False)))
    assert block.packs[0] == vehicle_id(0)
