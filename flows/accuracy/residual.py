"""What a residual beside the circuit would gain the SOC in the cold: learned on other drives, taken from the voltage.

It is measured and not used: on another cycle it doubles the error at −10 °C (ARCHITECTURE.md, "What was tried and
left out").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flows.accuracy.drives import Drive
from replay.fit.lg_hg2 import in_step
from replay.fit.rc import Run, branch_currents, predict
from schemas.pack import PackGrid

Floats = NDArray[np.float64]
MOST_C = 10.0  # warmer, the circuit misses little
_EVERY = 5  # n-th row that is learned from
_LEAST_ROWS = 3_000  # of a drive
_LAG_S = np.array([3.0])
_ACTIVATION_K = 4_000.0  # of the exponential by which the cold counts
_RIDGE = 1e-3


def cold_runs(runs: dict[tuple[int, str], Run]) -> dict[tuple[int, str], tuple[Run, Floats]]:
    """Give the cold drives that are long enough, current in step with voltage, each with its features."""
    chosen = {key: in_step(run) for key, run in runs.items() if key[0] <= MOST_C and run.v.size >= _LEAST_ROWS}
    return {key: (run, features(run.t_s, run.current_a, run.temp_c)) for key, run in chosen.items()}


def learned(grid: PackGrid, known: Sequence[tuple[Run, Floats]]) -> Floats:
    """Fit weights to what the circuit misses of drives, by least squares."""
    x = np.concatenate([x[::_EVERY] for _, x in known])
    missed = np.concatenate([(run.v - predict(grid, run))[::_EVERY] for run, _ in known])
    return np.asarray(np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ missed), np.float64)


def without(weights: Floats, drive: Drive, offset_a: float) -> Drive:
    """Take from a drive's voltage what the weights say of its current, as measured, and temperature."""
    said = features(drive.t_s, drive.current_a + offset_a, drive.temp_c) @ weights
    return replace(drive, pack_v=drive.pack_v - said)


def features(t_s: Floats, current_a: Floats, temp_c: Floats) -> Floats:
    """Give (N, 8): current and its asinh (Butler and Volmer), now and lagged from rest, as they are and by the cold."""
    now, lagged = branch_currents(t_s, current_a, _LAG_S)
    plain = np.stack([now, np.arcsinh(now), lagged, np.arcsinh(lagged)], axis=1)
    cold = np.exp(_ACTIVATION_K * (1 / (temp_c + 273.15) - 1 / 298.15))
    return np.concatenate([plain, cold[:, None] * plain], axis=1)
