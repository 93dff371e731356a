"""Anomaly models side by side: events are counted once a day, at a price that all of them pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flows.accuracy import anomalies
from flows.accuracy.anomalies import MODELS, Windows
from operators.kernels.anomaly import FEATURES
from replay.simulate.fleet import FleetConfig, simulate
from schemas.pack import load_pack

HOUR = 3600 * 10**9


def fleet(vehicles: int, windows: int, seed: int, odd_from: int = 0) -> Windows:
    """Make windows of an hour each; from one of them on, where asked, their third feature is far out."""
    rng = np.random.default_rng(seed)
    x = rng.normal(1.0, 0.1, (vehicles * windows, len(FEATURES)))
    at = np.tile(np.arange(windows), vehicles)
    if odd_from:
        x[at >= odd_from, 2] += 3.0
    vehicle = np.repeat(np.arange(vehicles), windows)
    months = vehicles * windows / 730.5
    return Windows(vehicle, at * HOUR, np.ones(len(x), np.bool_), x, {0: odd_from * HOUR}, months, odd_from * HOUR)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"river_half_space_trees"}))
def test_what_is_plainly_odd_is_found_at_the_price_of_an_alarm(name: str) -> None:
    found = anomalies._judge(MODELS[name], fleet(3, 600, 1), {"plain": fleet(3, 420, 2, odd_from=360)}, 3)
    assert found["alarm_false_per_vehicle_month"] <= anomalies.BUDGETS["alarm"]
    assert found["alarm_plain_found_pct"] == 100.0
    assert found["alarm_plain_found_alone_pct"] == pytest.approx(200 / 3)  # of the first, diagnose told as well
    assert found["alarm_plain_median_delay_h"] <= 10.0


def test_what_comes_again_within_a_day_is_one_event() -> None:
    w = fleet(1, 200, 1)
    odd = np.zeros(200, np.bool_)
    odd[[50, 51, 60, 61, 120, 121]] = True
    assert [t // HOUR for _, t in anomalies._events(w, odd, 2)] == [51, 121]


@pytest.mark.parametrize("oddity", anomalies.ODDITIES)
def test_an_oddity_begins_at_its_hour(oddity: str) -> None:
    block, _ = next(simulate(FleetConfig(1, 2.0, 60.0, (anomalies.MODEL,), sleep=False)))
    pack = load_pack(anomalies.MODEL)
    loaded = block.current_a.copy()
    loaded[:] = 20.0
    block = replace(block, current_a=loaded)
    at = int(block.t_ns[len(block) // 2])
    changed = anomalies._odd(block, pack, oddity, at)
    same = np.flatnonzero(block.t_ns < at)
    for name in ("current_a", "pack_v", "cell_v", "temp_c"):
        np.testing.assert_array_equal(getattr(changed, name)[same], getattr(block, name)[same])
    late = np.flatnonzero(block.t_ns >= at)
    assert any((getattr(changed, n)[late] != getattr(block, n)[late]).any() for n in ("pack_v", "cell_v"))
