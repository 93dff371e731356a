"""A residual beside the circuit: what was put into drives is learned, and taken from another one."""

from __future__ import annotations

import numpy as np
import pytest

from flows.accuracy.drives import Drive
from flows.accuracy.residual import cold_runs, features, learned, without
from replay.fit.rc import Run, predict
from schemas.pack import load_pack

GRID = load_pack("lg-hg2").grid()
ROWS = 3_200
WEIGHTS = np.array([0.002, 0.01, -0.001, 0.004, 0.0, 0.001, 0.0005, 0.0])  # V of each feature
T_S = np.arange(ROWS, dtype=np.float64)


def run(seed: int, temp_c: float) -> Run:
    draw = np.random.default_rng(seed)
    current_a = np.repeat(draw.normal(-1.0, 2.0, ROWS // 8), 8)
    soc = 0.9 + np.cumsum(current_a) / 3600 / 2.778
    temps = temp_c + 2.0 * T_S / ROWS
    circuit = Run(T_S, current_a, np.zeros(ROWS), soc, temps)
    v = predict(GRID, circuit) + features(T_S, current_a, temps) @ WEIGHTS
    return Run(T_S, current_a, v, soc, temps)


def test_what_a_circuit_misses_is_learned_and_taken_from_another_drive() -> None:
    drives = [run(seed, temp) for seed, temp in enumerate((-20.0, -10.0, 0.0))]
    known = [(one, features(one.t_s, one.current_a, one.temp_c)) for one in drives]
    weights = learned(GRID, known)
    other = run(9, -15.0)
    drive = Drive("other", -15.0, other.t_s, other.current_a, other.v, other.temp_c, other.soc)
    left = without(weights, drive, 0.0).pack_v - predict(GRID, other)
    assert np.std(left) < 0.05 * np.std(other.v - predict(GRID, other))


def test_only_cold_drives_of_some_length_are_learned_from() -> None:
    warm, cold = run(1, 25.0), run(2, -10.0)
    short = Run(*(getattr(cold, name)[:100] for name in ("t_s", "current_a", "v", "soc", "temp_c")))
    found = cold_runs({(25, "a"): warm, (-10, "b"): cold, (-10, "c"): short})
    assert list(found) == [(-10, "b")]
    in_step, x = found[-10, "b"]
    assert in_step.current_a == pytest.approx(cold.current_a, abs=0.2)
    assert x.shape == (ROWS, 8)
