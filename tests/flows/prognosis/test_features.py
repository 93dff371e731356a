"""Features come from the past alone, and what looks ahead is refused."""

from __future__ import annotations

import numpy as np
import pytest

from flows.prognosis.charges import Charges, Floats
from flows.prognosis.features import INPUTS, LeakError, feature_names, features, refuse_lookahead
from tests.support.charges import fading


@pytest.mark.parametrize("inputs", INPUTS)
def test_our_own_features_do_not_look_ahead(inputs: str) -> None:
    charges = fading(6, 130)
    refuse_lookahead(lambda c: features(c, inputs), charges, cells=6, cuts=10)
    assert features(charges, inputs).shape == (len(charges), len(feature_names(charges.columns, inputs)))


def scaled_by_the_whole_life(charges: Charges) -> Floats:
    """The published way: each cell's column between its own minimum and maximum, which the future decides."""
    out = np.empty_like(charges.x)
    for cell in range(len(charges.cells)):
        rows = charges.cell == cell
        low, high = charges.x[rows].min(axis=0), charges.x[rows].max(axis=0)
        out[rows] = (charges.x[rows] - low) / (high - low)
    return out


def test_features_scaled_by_a_cells_whole_life_are_refused() -> None:
    with pytest.raises(LeakError, match="must not look ahead; feature 0 changes with later charges"):
        refuse_lookahead(scaled_by_the_whole_life, fading())


def test_a_feature_that_is_the_capacity_is_refused() -> None:
    with pytest.raises(LeakError, match="changes with the capacity itself"):
        refuse_lookahead(lambda c: c.capacity_ah[:, None].copy(), fading())


def test_a_feature_of_the_length_of_the_test_is_refused() -> None:
    with pytest.raises(LeakError, match="later charges"):
        refuse_lookahead(lambda c: np.bincount(c.cell)[c.cell][:, None].astype(float), fading())


def test_only_models_with_references_see_capacities() -> None:
    charges = fading(3, 60)
    for inputs in ("charge", "count"):
        assert not any("reference" in name for name in feature_names(charges.columns, inputs))
    names = feature_names(charges.columns, "reference")
    got = features(charges, "reference", 50)[:, names.index("reference")][:60]
    assert np.isnan(got[0])
    assert np.array_equal(got[1:51], np.full(50, charges.soh[0]))
    assert np.array_equal(got[51:], np.full(9, charges.soh[50]))


def test_inputs_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="inputs must be one of charge, count, reference; got all"):
        features(fading(2, 3), "all")


def test_a_feature_that_looks_ahead_through_other_cells_is_found_in_a_large_set() -> None:
    def against_the_others(c: Charges) -> Floats:
        return np.asarray(
            (c.soh - c.soh.mean())[:, None]
        )  # the mean holds what comes later, of this cell and of all others

    with pytest.raises(LeakError, match="must not look ahead"):
        refuse_lookahead(against_the_others, fading(40, 30))
