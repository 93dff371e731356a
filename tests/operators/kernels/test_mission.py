"""State of function against closed forms: an ideal pack's energy, a resistance's power, a current limit."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from operators.kernels.circuit_error import COUNT
from operators.kernels.mission import ENERGY, POWER, Doubt, Mission, judge
from operators.kernels.twin import Twin
from schemas.pack import PackModel, load_pack

CELLS = 4
SURE = Doubt(0.0, 0.0, 0.0)


def pack(ohm: float = 1e-9, volts: tuple[float, float] = (3.6, 3.6001)) -> PackModel:
    """A pack of cells with one resistance and a voltage that hardly falls; no limit but what a test sets."""
    known = load_pack("generic-nmc@4c2t60ah")
    flat = replace(known.ocv, soc=np.array([0.0, 1.0]), temp_c=np.array([25.0]), v=np.array([volts]))
    only = replace(
        known.resistance,
        soc=np.array([0.0, 1.0]),
        temp_c=np.array([25.0]),
        r0_ohm=np.full((1, 2), ohm),
        tau_s=np.array([1.0]),
        rb_ohm=np.full((1, 1, 2), 1e-12),
    )
    return replace(known, ocv=flat, resistance=only, usable_ah=60.0, discharge_max_a=1e6, sum_offset_v=0.0)


def twin(model: PackModel, soc: float = 0.4, temp_c: float = 25.0) -> Twin:
    return Twin(model, np.full(CELLS, soc), np.full(CELLS, 60.0), np.ones(CELLS), temp_c, np.zeros(COUNT))


@pytest.mark.parametrize(("needed", "std"), [(0.3, 0.05), (0.38, 0.05), (0.45, 0.05), (0.5, 0.2)])
def test_the_probability_of_an_energy_is_the_normal_distribution_of_the_charge_left(needed: float, std: float) -> None:
    energy_wh = needed * 60.0 * 3.60005 * CELLS
    verdict = judge(twin(pack()), Doubt(std, 0.0, 0.0), Mission(energy_wh, energy_wh, 3600.0), 25.0)
    assert verdict.probability == pytest.approx(NormalDist().cdf((0.4 - needed) / std), abs=0.005)
    assert verdict.can == (verdict.probability >= 0.95)
    if not verdict.can:
        assert verdict.failure is not None
        assert (verdict.failure.lacks, verdict.failure.limit) == (ENERGY, "charge")
        assert verdict.failure.given_wh < energy_wh


def test_a_capacity_that_is_not_known_counts_in_proportion() -> None:
    energy_wh = 0.4 * 60.0 * np.exp(-0.1) * 3.60005 * CELLS  # lasts down to a capacity that is e^-0.1 of the estimate
    verdict = judge(twin(pack()), Doubt(0.0, 0.05, 0.0), Mission(energy_wh, energy_wh, 3600.0), 25.0)
    assert verdict.probability == pytest.approx(NormalDist().cdf(2.0), abs=0.005)


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_the_largest_power_is_the_current_to_the_voltage_limit_times_that_limit(share: float) -> None:
    ohm = 0.002
    low = max(r.bound for r in pack().limits if r.quantity == "cell_v" and not r.over)
    most_w = CELLS * low * (3.6 - low) / ohm
    verdict = judge(twin(pack(ohm)), SURE, Mission(share * most_w, 0.02 * most_w, 3600.0), 25.0)
    assert verdict.can == (share < 1)
    assert verdict.probability == pytest.approx(float(share < 1), abs=1e-4)
    if verdict.failure is not None:
        assert (verdict.failure.lacks, verdict.failure.limit, verdict.failure.at_s) == (POWER, "cell voltage", 0.0)
        assert verdict.failure.bound == low


def test_the_pack_s_current_binds_and_in_the_cold_its_derating() -> None:
    model = replace(pack(), discharge_max_a=100.0)
    mission = Mission(50.0 * 3.6 * CELLS, 100.0, 3600.0)
    cold_c = float(next(t for t, s in zip(model.derating.temp_c, model.derating.discharge, strict=True) if s < 0.5))
    assert judge(twin(model), SURE, mission, 25.0).can
    frozen = judge(twin(model, temp_c=cold_c), SURE, mission, cold_c)
    assert frozen.failure is not None
    assert (frozen.failure.lacks, frozen.failure.limit) == (POWER, "derated")
    too_much = judge(twin(model), SURE, Mission(150.0 * 3.6 * CELLS, 100.0, 3600.0), 25.0).failure
    assert too_much is not None
    assert (too_much.limit, too_much.bound) == ("current", 100.0)


def test_the_power_must_still_be_there_at_the_end() -> None:
    model = pack(0.002, (3.1, 4.1))
    low = max(r.bound for r in model.limits if r.quantity == "cell_v" and not r.over)
    # SOC 0.8 falls by 0.5: OCV from 3.9 V to 3.4 V, which is too little for this power
    most_w = CELLS * low * (3.9 - low) / 0.002
    assert judge(twin(model, 0.8), SURE, Mission(0.7 * most_w, 100.0, 3600.0), 25.0).can
    spent = judge(twin(model, 0.8), SURE, Mission(0.7 * most_w, 0.5 * 60.0 * 3.6 * CELLS, 3600.0), 25.0)
    assert spent.failure is not None
    assert spent.failure.lacks == POWER
    assert spent.failure.at_s >= 3590.0


def test_the_weakest_cell_group_is_named() -> None:
    weak = twin(pack())
    weak.soc[2] = 0.1
    failure = judge(weak, SURE, Mission(0.3 * 60 * 3.6 * CELLS, 0.3 * 60 * 3.6 * CELLS, 3600.0), 25.0).failure
    assert failure is not None
    assert failure.cell == 2


def test_more_doubt_never_makes_a_likely_mission_more_likely() -> None:
    mission = Mission(30_000.0 / 96 * CELLS, 0.3 * 60 * 3.6 * CELLS, 3600.0)
    told = [
        judge(twin(load_pack("generic-nmc@4c2t60ah"), 0.5), Doubt(std, 0.02, 0.05), mission, 10.0)
        for std in (0.02, 0.05, 0.1)
    ]
    assert told[0].probability > told[1].probability > told[2].probability > 0.5


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ((0.0, 1.0, 1.0), "power_w must be > 0"),
        ((1.0, -1.0, 1.0), "energy_wh must be > 0"),
        ((1.0, 1.0, 3599.0), "mean"),
    ],
)
def test_a_mission_that_makes_no_sense_is_refused(values: tuple[float, float, float], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Mission(*values)
