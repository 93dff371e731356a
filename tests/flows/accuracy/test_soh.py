"""SOH of simulated packs against what they hold, through both flows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flows.accuracy import soh
from replay.simulate.fleet import FleetConfig


@pytest.mark.parametrize(("name", "cfg"), soh.FLEETS)
def test_intervals_hold_from_the_first_charge_on_and_narrow(name: str, cfg: FleetConfig) -> None:
    first, last = soh.errors(replace(cfg, vehicles=40, hours=10 * 24.0, seed=5))
    assert first.shape == last.shape
    assert first.shape[1] > 20, f"{name}: packs with a charge that counted"
    for _, width, holds in (first, last):
        assert holds.mean() >= 0.85
        assert 0.02 < np.median(width) < 0.3
    assert np.median(last[1]) < 0.8 * np.median(first[1])
    assert np.median(np.abs(last[0])) < 0.03
