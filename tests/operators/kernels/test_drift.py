"""Page-Hinkley as arrays against river's."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.drift import PageHinkley

from operators.kernels import drift

F = drift.FEATURES


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(30, 0.005, 50.0, 0.9999), (5, 0.1, 3.0, 0.99), (1, 0.0, 1.0, 1.0)]))
def test_detects_where_river_detects_with_the_same_statistic(
    seed: int, setting: tuple[int, float, float, float]
) -> None:
    n_min, delta, threshold, alpha = setting
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (300, F)) + np.cumsum(rng.normal(0, 1, (300, F)) * (rng.random((300, F)) < 0.02), axis=0) * 3
    x[rng.random(x.shape) < 0.05] = np.nan
    cfg = drift.DriftConfig(n_min, delta, threshold, alpha)
    state = drift.DriftState.empty(1, 0, 0)
    share, changed = drift.step(cfg, state, np.zeros(300, np.int32), x)
    for f in range(F):
        river = PageHinkley(min_instances=n_min, delta=delta, threshold=threshold, alpha=alpha, mode="both")
        for row in range(300):
            if np.isnan(x[row, f]):
                continue
            river.update(float(x[row, f]))
            assert changed[row, f] == river.drift_detected
            if river._x_mean.n >= n_min:
                test = max(river._sum_increase - river._min_increase, river._max_decrease - river._sum_decrease)
                assert share[row, f] == np.float32(test / threshold)
            else:
                assert np.isnan(share[row, f])


def test_packs_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (200, F))
    slot = (np.arange(200) % 2).astype(np.int32)
    cfg, both = drift.DriftConfig(), drift.DriftState.empty(2, 0, 0)
    together, _ = drift.step(cfg, both, slot, x)
    alone, _ = drift.step(cfg, drift.DriftState.empty(1, 0, 0), np.zeros(100, np.int32), x[slot == 1].copy())
    np.testing.assert_array_equal(together[slot == 1], alone)


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.0), ("alpha", 1.5), ("threshold", 0.0)])
def test_refuses_settings_that_cannot_be_meant(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be .*; got {value}"):
        replace(drift.DriftConfig(), **{name: value})
