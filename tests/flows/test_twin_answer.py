"""How sure a foreseen number is: what doubt of SOC, capacity, resistance and heat moves, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.twin_answer import Answer, _deviation, _interval, answered
from operators.kernels.twin import Load, Twin, run
from schemas.columns import NORMAL_90
from schemas.pack import load_pack

PACK = load_pack("generic-nmc@4c2t60ah")
SURE = {
    "vehicle_id": "V", "pack_id": "P", "known_at": "2026-01-05T00:00:00Z", "soc": 0.6, "soc_std": 0.0,
    "capacity_std": 0.0, "resistance_std": 0.0, "voltage_std_v": 0.0, "soh": 1.0, "soh_std": 0.0, "own_cycles": 0.0,
    "slope": 0.0, "slope_std": 0.0, "residual": False,
}  # fmt: skip


def answer(amps: float, hours: float, **doubts: Any) -> Answer:
    t_s = np.arange(0.0, hours * 3600.0 + 1.0, 10.0)
    n = np.ones(t_s.size)
    load = Load(t_s, amps * n, np.nan * n, 25.0 * n)
    twin = Twin(PACK, np.full(4, 0.6), np.full(4, PACK.usable_ah), np.ones(4), 25.0)
    return answered(twin, SURE | doubts, load, run(twin, load))


def test_doubt_of_the_soc_is_doubt_of_where_it_ends_and_of_when_it_is_empty() -> None:
    found = answer(-PACK.usable_ah, 1.0, soc_std=0.02)
    assert found.std["soc_start"] == pytest.approx(0.02, rel=0.02)
    early, late = found.between_90["empty_s"]
    assert found.empty_s == pytest.approx(0.6 * 3600, abs=20)
    assert late is not None
    assert found.empty_s is not None
    assert (found.empty_s - early, late - found.empty_s) == pytest.approx([NORMAL_90 * 0.02 * 3600] * 2, abs=12)


def test_doubt_of_the_capacity_grows_with_the_charge_that_is_drawn() -> None:
    half, whole = (answer(-PACK.usable_ah / 4, hours, capacity_std=0.05).std["soc_end"] for hours in (0.5, 1.0))
    assert (half, whole) == pytest.approx((0.05 / 8, 0.05 / 4), rel=0.05)


def test_doubt_of_resistance_and_voltage_is_doubt_of_the_lowest_cell() -> None:
    by_r = answer(-60.0, 0.005, resistance_std=0.1).std["cell_v_min"]
    drop = answer(-60.0, 0.005).cell_v_min - answer(-1e-3, 0.005).cell_v_min
    assert by_r == pytest.approx(0.1 * -drop, rel=0.1)
    both = answer(-60.0, 0.005, resistance_std=0.1, voltage_std_v=0.01).std
    assert both["cell_v_min"] == pytest.approx(np.hypot(by_r, 0.01), rel=1e-3)
    assert both["pack_v_min"] > 3.9 * 0.01


def test_wear_is_as_unsure_as_what_it_is_taken_from() -> None:
    typical = answer(-30.0, 1.0)
    own = answer(-30.0, 1.0, own_cycles=200.0, slope=-1e-4, slope_std=1e-5)
    assert (typical.wear_from, own.wear_from) == ("typical of nmc (assumed)", "own history")
    for found, share in ((typical, 0.4), (own, 0.1)):
        assert found.std["soh_lost"] / found.soh_lost == pytest.approx(share, rel=0.05)


def test_without_knowing_how_sure_the_soc_is_nothing_is_said() -> None:
    found = answer(-30.0, 0.5, soc_std=float("nan"))
    assert (found.std, found.between_90) == ({}, {})


def test_doubts_that_are_independent_add_as_squares() -> None:
    ends = [(10.0 - 3 * NORMAL_90, 10.0 + 3 * NORMAL_90), (10.0 + 4 * NORMAL_90, 10.0 - 4 * NORMAL_90)]
    assert _deviation(ends) == pytest.approx(5.0)
    early, late = _interval(10.0, ends) or (0.0, 0.0)
    assert early == pytest.approx(max(10.0 - 5 * NORMAL_90, 0.0))
    assert late == pytest.approx(10.0 + 5 * NORMAL_90)


@pytest.mark.parametrize(
    ("likely", "ends", "interval"),
    [
        (None, [(None, None)], None),
        (None, [(None, 50.0), (None, None)], (50.0, None)),
        (40.0, [(30.0, None)], (30.0, None)),
        (40.0, [(40.0, 40.0), (None, None)], (40.0, None)),
    ],
)
def test_what_may_not_happen_has_no_end(likely: Any, ends: Any, interval: Any) -> None:
    assert _interval(likely, ends) == interval
