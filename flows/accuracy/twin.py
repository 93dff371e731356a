"""How far a twin's voltage is from a recorded cell's, on drives that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from operators.kernels.twin import Future, Load, Twin, run
from replay.fit import lg_hg2
from replay.fit.rc import Run
from schemas.pack import PackModel, Thermal, load_pack

_ROUNDS = 6  # of Gauss-Newton on two numbers
_LONG_ROWS = 3_000  # a shorter drive says little of heat
_EVERY = 3  # n-th Mixed drive that heat is fitted on
_STEP = 0.01  # of a logarithm, for its slope


def figures(data: Path) -> dict[str, float]:
    """Give the RMSE of a cell's twin on LA92 drives by temperature, mV; nothing of them was fitted."""
    return {f"lg_hg2_twin_la92_{at:.0f}c_rmse_mv": mv for at, mv in drives_rmse_mv(data, "LA92").items()}


def drives_rmse_mv(data: Path, kind: str) -> dict[int, float]:
    """Give the RMSE, mV, of a twin over all drives of a kind by ambient temperature from 0 °C on.

    The pack file's circuit was fitted on the Mixed drives, and heat is fitted on them here.  A twin knows where a
    drive begins, its current and the air; SOC and temperature it works out itself.  Where a recording samples voltage
    after current, by up to a second that drifts, current is shifted to it (replay.fit.lg_hg2.in_step, which asks no
    model).  Raises FileNotFoundError without recordings.
    """
    pack = fit_heat(load_pack("lg-hg2"), _warm(lg_hg2.read(data, "Mixed")))
    errors: dict[int, list[NDArray[np.float64]]] = {}
    for (ambient_c, _), recorded in _warm(lg_hg2.read(data, kind)).items():
        errors.setdefault(ambient_c, []).append(follow(pack, lg_hg2.in_step(recorded)).pack_v - recorded.v)
    return {at: 1e3 * float(np.sqrt(np.mean(np.concatenate(e) ** 2))) for at, e in errors.items()}


def follow(pack: PackModel, recorded: Run) -> Future:
    """Run a twin under a recorded current, from where the recording begins."""
    nothing = np.full(recorded.t_s.size, np.nan)
    twin = Twin(pack, recorded.soc[:1], np.array([lg_hg2.CAPACITY_AH]), np.ones(1), float(recorded.temp_c[0]))
    air = np.full(recorded.t_s.size, recorded.temp_c[0])
    return run(twin, Load(recorded.t_s, recorded.current_a, nothing, air))


def fit_heat(pack: PackModel, runs: Mapping[tuple[int, str], Run]) -> PackModel:
    """Fit heat capacity and loss to recorded temperatures, Gauss-Newton on their logarithms."""
    used = [r for r in runs.values() if r.t_s.size >= _LONG_ROWS][::_EVERY]
    at = np.log([pack.thermal.heat_capacity_j_per_k, pack.thermal.loss_w_per_k])
    for _ in range(_ROUNDS):
        now = _errors(pack, at, used)
        slopes = np.stack([(_errors(pack, at + _STEP * e, used) - now) / _STEP for e in np.eye(2)], axis=1)
        at = at - np.clip(np.linalg.lstsq(slopes, now, rcond=None)[0], -1.0, 1.0)
    return _with(pack, at)


def _errors(pack: PackModel, at: NDArray[np.float64], runs: list[Run]) -> NDArray[np.float64]:
    hot = _with(pack, at)
    return np.concatenate([(follow(hot, r).temp_c - r.temp_c)[::20] for r in runs])


def _with(pack: PackModel, at: NDArray[np.float64]) -> PackModel:
    return replace(pack, thermal=Thermal(float(np.exp(at[0])), float(np.exp(at[1]))))


def _warm(runs: Mapping[tuple[int, str], Run]) -> dict[tuple[int, str], Run]:
    return {key: one for key, one in runs.items() if key[0] >= 0}
