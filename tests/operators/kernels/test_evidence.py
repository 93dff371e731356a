"""Charges that can measure a pack's capacity, and what is said of those that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from operators.kernels.evidence import REASONS, EvidenceConfig, Graded, grade, words
from operators.kernels.health import O_SOH, O_STD, HealthConfig, HealthState, follow
from operators.kernels.health import Rows as HealthRows
from schemas.pack import load_pack
from tests.support.sessions import CELLS, charges

CFG = EvidenceConfig()


def _grade(charge: Mapping[str, Any]) -> Graded:
    return grade(CFG, charge, charge["revision"] > 0)


# What is wrong with a charge → the reason that must be named.
BAD: list[tuple[dict[str, Any], str]] = [
    ({"soc_start": np.nan}, "no_soc"),
    ({"soc_end_std": np.nan}, "no_soc"),
    ({"soc_start": 0.7}, "delta_soc"),
    ({"soc_start": 0.6, "soc_end_std": 0.1}, "soc_uncertain"),
    ({"soc_jump": 0.08}, "soc_jump"),
    ({"gap_max_s": 1200.0}, "gap"),
    ({"coverage": 0.8}, "coverage"),
    ({"coverage": np.nan}, "coverage"),
    ({"temp_mean_c": -3.0}, "temperature"),
    ({"temp_mean_c": 55.0}, "temperature"),
    ({"temp_mean_c": np.nan}, "temperature"),
    ({"charge_out_ah": 2.0}, "auxiliary_load"),
    ({"charge_in_ah": 0.0}, "auxiliary_load"),
    ({"revision": 1}, "revised"),
]


def test_a_plain_charge_says_the_capacity_and_how_sure_that_is() -> None:
    got = _grade(charges(1, 48.0).data)
    assert got.reasons.tolist() == [0]
    assert got.capacity_ah[0] == pytest.approx(48.0)
    assert got.capacity_std_ah[0] / 48.0 == pytest.approx(np.hypot(0.01 * np.sqrt(2) / 0.5, CFG.floor))


@pytest.mark.parametrize(("wrong", "reason"), BAD)
def test_what_speaks_against_a_charge_is_named(wrong: dict[str, Any], reason: str) -> None:
    (reasons,) = _grade(charges(1, **wrong).data).reasons.tolist()
    assert reason in words(reasons).split(",")


def test_every_reason_but_the_outlier_has_a_case() -> None:
    assert {reason for _, reason in BAD} == set(REASONS) - {"outlier"}


def test_a_charge_has_all_its_reasons() -> None:
    (reasons,) = _grade(charges(1, soc_start=0.66, gap_max_s=900.0, temp_mean_c=50.0).data).reasons.tolist()
    assert words(reasons) == "delta_soc,gap,temperature"


def test_a_charge_just_within_the_bounds_counts_and_one_just_beyond_does_not() -> None:
    edge: dict[str, Any] = {"soc_start": 0.65, "soc_end": 0.8 + 1e-9, "soc_jump": 0.03, "gap_max_s": 600.0}
    edge |= {"coverage": 0.95, "temp_mean_c": 45.0}
    assert _grade(charges(1, **edge).data).reasons.tolist() == [0]
    for name, value in {"soc_end": 0.799, "soc_jump": 0.0301, "gap_max_s": 600.1, "temp_mean_c": 45.01}.items():
        assert _grade(charges(1, **(edge | {name: value})).data).reasons[0], name


def test_the_capacity_is_that_of_the_pack_once_balanced() -> None:
    # 60 Ah groups, of which imbalance leaves 54 usable
    got = _grade(charges(1, 54.0, capacity_low_ah=60.0).data)
    assert got.capacity_ah[0] == pytest.approx(60.0)


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ValueError, match="delta_soc must be > 0; got 0"):
        EvidenceConfig(delta_soc=0.0)
    with pytest.raises(ValueError, match="coverage must be in"):
        EvidenceConfig(coverage=1.5)


def test_what_the_sensor_shows_too_much_is_not_charge() -> None:
    plain = charges(1, 54.0).data
    hours = float(plain["end_ns"][0] - plain["start_ns"][0]) / 3600e9
    shown = {**plain, "charge_in_ah": plain["charge_in_ah"] + 0.5 * hours}
    assert _grade(shown).capacity_ah[0] > 1.05 * 54.0
    known = {**shown, "current_offset_a": np.array([0.5]), "current_offset_std_a": np.array([0.1])}
    told = _grade(known)
    assert told.capacity_ah[0] == pytest.approx(54.0)
    assert told.capacity_std_ah[0] > _grade(plain).capacity_std_ah[0], "and how well it is known counts"


LFP = load_pack("generic-lfp@96c2t60ah")


def _learned(missing: Any, std: float, smallest: float = 1.0) -> Graded:
    """Grade charges of packs whose estimate began at 0 ± capacity_std missing and has seen `missing` ± `std` once."""
    before, seen = 1.0 / LFP.capacity_std**2, 1.0 / std**2
    at = np.asarray(missing) * seen / (before + seen)
    whole = LFP.usable_ah / (1.0 + at)
    charge = charges(
        np.size(at), whole, capacity_low_ah=smallest * whole, cells=2.0 * (smallest - 1.0) * (np.arange(CELLS) == 3),
        capacity_std_ah=whole * (before + seen) ** -0.5 / (1.0 + at),
    )  # fmt: skip
    return grade(EvidenceConfig.of(LFP), charge.data, charge.data["revision"] > 0)


@pytest.mark.parametrize(("truth", "std"), [(0.8, 0.02), (0.95, 0.05), (0.7, 0.1)])
@pytest.mark.parametrize("smallest", [1.0, 0.96])
def test_on_a_plateau_a_charge_says_what_was_learned_without_what_was_assumed(
    truth: float, std: float, smallest: float
) -> None:
    got = _learned([1.0 / truth - 1.0], std, smallest)
    assert got.reasons.tolist() == [0]
    # along the tangent at the estimate
    seen = (LFP.capacity_std / std) ** 2
    at = (1.0 / truth - 1.0) * seen / (1.0 + seen)
    soh = 1.0 / (1.0 + at) - (1.0 / truth - 1.0 - at) / (1.0 + at) ** 2
    assert got.capacity_ah[0] / LFP.usable_ah == pytest.approx(smallest * soh)
    assert got.capacity_std_ah[0] / LFP.usable_ah == pytest.approx(smallest * std / (1.0 + at) ** 2)


@pytest.mark.parametrize("std", [0.02, 0.05, 0.1, 0.2, 0.25])
def test_on_a_plateau_health_is_as_sure_as_it_is_right_however_little_was_learned(std: float) -> None:
    d, n, cfg = np.random.default_rng(int(1000 * std)), 4_000, HealthConfig.of(LFP)
    truth = np.clip(cfg.prior + cfg.prior_std * d.standard_normal(n), 0.6, 1.1)
    # the weakest cell group is known beside it, and is nothing that the median has learned
    got = _learned(0.98 / truth - 1.0 + std * d.standard_normal(n), std, 0.98)
    assert (got.reasons == 0).mean() > 0.5
    nan, new = np.full(n, np.nan), LFP.usable_ah
    made = follow(
        cfg,
        HealthState.empty(n, CELLS, 1),
        HealthRows(
            slot=np.arange(n, dtype=np.int32), t_ns=np.arange(n), charge=np.ones(n, np.bool_), reasons=got.reasons,
            soh=got.capacity_ah / new, soh_std=got.capacity_std_ah / new, r0_rel=nan, imbalance=nan, cycles=nan,
            model=nan, model_std=nan, frames=nan, bms_min=nan, bms_max=nan, bms_end=nan,
        ),
    )  # fmt: skip
    off = (made.out[:, O_SOH] - truth) / made.out[:, O_STD]
    assert 0.6 < np.sqrt((off**2).mean()) < 1.1


def test_on_a_plateau_a_charge_counts_only_where_something_was_learned() -> None:
    cfg = EvidenceConfig.of(LFP)
    for relative in (LFP.capacity_std, LFP.capacity_std * 1.2, 0.96 * LFP.capacity_std, np.nan):
        charge = charges(1, LFP.usable_ah, capacity_std_ah=relative * LFP.usable_ah).data
        (reasons,) = grade(cfg, charge, charge["revision"] > 0).reasons.tolist()
        assert words(reasons) == "soc_uncertain", relative
