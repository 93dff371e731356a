"""PyBaMM as a reference: a parameter set's new cell, and a charge of it that ends where the set says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.kernels.electrodes import curve_v
from schemas.checked import ConfigError


def test_a_parameter_set_that_is_none_is_named(spm: Any) -> None:
    with pytest.raises(ConfigError, match="--parameters must be a parameter set of PyBaMM; got nothing"):
        spm.reference("nothing")


def test_a_set_with_one_half_cell_is_named_as_such(spm: Any) -> None:
    with pytest.raises(ConfigError, match="must be a set with both half cells; got Ecker2015_graphite_halfcell"):
        spm.reference("Ecker2015_graphite_halfcell")


def test_a_new_cell_is_empty_at_the_lower_and_full_at_the_upper_voltage(spm: Any) -> None:
    ref = spm.reference("Chen2020")
    ends = curve_v(ref.halves, ref.empty, np.array([0.0, ref.capacity_ah]), 0.0)
    assert ends == pytest.approx([ref.low_v, ref.high_v], abs=1e-6)
    assert ref.capacity_ah == pytest.approx(5.15, abs=0.02)  # as PyBaMM's own electrode balance says
    assert ref.sized(10.0).qn_ah == pytest.approx(ref.empty.qn_ah * 10.0 / ref.capacity_ah)


def test_the_model_charges_a_cell_to_full_a_little_above_its_curve_at_rest(spm: Any) -> None:
    ref = spm.reference("Chen2020")
    q, v = spm.simulate_charge(ref, ref.empty, ref.capacity_ah / 20)
    assert v[-1] == pytest.approx(ref.high_v, abs=1e-3)
    over = v - curve_v(ref.halves, ref.empty, q, 0.0)
    assert 0 < np.median(over) < 0.02
