"""Recordings of a cell: clocks of current and voltage that drift apart are found without a model of the cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from replay.fit.lg_hg2 import in_step
from replay.fit.rc import Run

ROWS, OHM = 6_000, 0.03
T_S = np.arange(ROWS, dtype=np.float64)
CURRENT_A = np.repeat(np.random.default_rng(1).normal(-2.0, 3.0, ROWS // 4), 4)


def recorded(later: Any, slow_v: float = 0.0) -> Run:
    """A resistor whose voltage is sampled a share of a row after its current, with slow polarisation beside it."""
    then = CURRENT_A + later * np.diff(CURRENT_A, append=CURRENT_A[-1])
    v = 3.7 + OHM * then + slow_v * np.cumsum(CURRENT_A) / ROWS
    return Run(T_S, CURRENT_A, v, np.full(ROWS, 0.5), np.full(ROWS, 25.0))


@pytest.mark.parametrize("later", [0.0, 0.4, 1.0])
def test_a_constant_lag_of_voltage_is_taken_out(later: float) -> None:
    run = recorded(np.full(ROWS, later))
    assert OHM * in_step(run).current_a == pytest.approx(run.v - 3.7, abs=1e-6)


def test_a_lag_that_drifts_over_the_drive_is_followed() -> None:
    run = recorded(np.linspace(0.1, 0.9, ROWS), slow_v=0.05)
    slow = 0.05 * np.cumsum(CURRENT_A) / ROWS
    before, after = (np.std(run.v - slow - OHM * r.current_a) for r in (run, in_step(run)))
    assert after < 0.05 * before


def test_a_recording_at_rest_stays_as_it_is() -> None:
    still = np.zeros(ROWS)
    run = Run(T_S, still, np.full(ROWS, 3.7), still, still)
    assert in_step(run).current_a.tolist() == still.tolist()
