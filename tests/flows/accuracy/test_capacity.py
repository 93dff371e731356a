"""Capacity from swings whose charge and SOC both have errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.accuracy.capacity import capacity_ah


@given(st.floats(5.0, 300.0), st.integers(2, 12))
def test_without_errors_it_is_exact(ah: float, swings: int) -> None:
    d_soc = np.linspace(-0.3, 0.6, swings)
    d_soc = np.where(np.abs(d_soc) < 0.05, 0.1, d_soc)
    found, low, high = capacity_ah(ah * d_soc, d_soc, np.full(swings, 1e-3 * ah), np.full(swings, 1e-3))
    assert found == pytest.approx(ah, rel=2e-4)
    assert low <= ah * (1 + 2e-4)
    assert high >= ah * (1 - 2e-4)


def test_its_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(7), 0
    for _ in range(300):
        d_soc = rng.uniform(0.1, 0.3, 10) * rng.choice([-1, 1], 10)
        std = np.full(10, 0.02)
        _, low, high = capacity_ah(60.0 * d_soc, d_soc + rng.normal(0, std), np.full(10, 0.1), std)
        inside += low <= 60.0 <= high
    assert 0.85 <= inside / 300 <= 0.98


def test_errors_of_soc_do_not_pull_it_up_as_ordinary_least_squares_would() -> None:
    rng, found = np.random.default_rng(8), []
    for _ in range(200):
        d_soc = rng.uniform(0.1, 0.3, 10)
        std = np.full(10, 0.03)
        found.append(capacity_ah(60.0 * d_soc, d_soc + rng.normal(0, std), np.full(10, 0.1), std)[0])
    assert np.mean(found) == pytest.approx(60.0, rel=0.02)
