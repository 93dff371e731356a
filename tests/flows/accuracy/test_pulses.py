"""Power of drawn packs: their true one by the circuit's own equations, and what a wrong estimate would look like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flows.accuracy import pulses
from operators.kernels.parameters import parameters
from operators.kernels.power import CURRENT, VOLTAGE
from replay.simulate.pack import draw_packs
from schemas.pack import load_pack

PACK = load_pack(pulses.MODELS["nmc"])


def test_a_pulse_of_the_true_power_takes_a_cell_to_its_limit_and_no_further() -> None:
    free = replace(PACK, discharge_max_a=1e6, charge_max_a=1e6)
    cells = pulses._Cells(PACK, draw_packs(PACK, [np.random.default_rng(3)], None), 0)
    rest_s, rest_a = 10.0 * np.arange(12, dtype=np.float64), np.zeros(12)
    limits = parameters(PACK).cell
    for way, end_v in ((-1, limits.v_min), (1, limits.v_max)):
        watts = cells.power_w(free, rest_s, rest_a, way, 10.0)
        least, most = 0.0, 60 * PACK.usable_ah
        for _ in range(40):  # by the power itself, which grows with the current
            amps = 0.5 * (least + most)
            v = cells.volts(np.append(rest_s, rest_s[-1] + 10.0), np.append(rest_a, way * amps))[0][-1]
            least, most = (amps, most) if amps * v.sum() < watts else (least, amps)
        reached = v.max() if way > 0 else v.min()
        assert reached == pytest.approx(end_v, abs=2e-3)


def test_a_pack_with_a_current_limit_gives_what_that_allows() -> None:
    bound = replace(PACK, discharge_max_a=30.0)
    cells = pulses._Cells(PACK, draw_packs(PACK, [np.random.default_rng(3)], None), 0)
    volts = cells.volts(np.array([0.0, 2.0]), np.array([0.0, -30.0]))[0][-1]
    assert cells.power_w(bound, np.zeros(1), np.zeros(1), -1, 2.0) == pytest.approx(30.0 * volts.sum())


def test_figures_say_how_many_intervals_hold_and_how_wrong_powers_are() -> None:
    rows = [pulses.Row(2, VOLTAGE, 110.0, 10.0, 100.0), pulses.Row(2, CURRENT, 120.0, 10.0, 100.0)]
    assert pulses.told(rows) == pytest.approx({
        "interval_90_covers_pct": 50.0, "median_error_pct": 15.0, "median_std_pct": 100 * (10 / 110 + 10 / 120) / 2,
    })  # fmt: skip


def test_packs_that_are_not_their_file_are_within_the_interval_about_as_often_as_it_says() -> None:
    rows = pulses.powers(PACK, count=16, seed=7)
    assert {row.seconds for row in rows} == {2, 10, 30}
    assert {VOLTAGE, CURRENT} <= {row.limit for row in rows}
    assert 80.0 <= pulses.told(rows)["interval_90_covers_pct"] <= 98.0
