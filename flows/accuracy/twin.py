"""How far a twin's voltage is from a recorded cell's, on drives that nothing was fitted on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from operators.kernels.twin import Future, Load, Twin, run
from replay.fit import lg_hg2
from replay.fit.rc import Run, fitted
from schemas.checked import ConfigError
from schemas.pack import PackModel, Thermal, load_pack

MIXED = "Mixed"  # kind of the drives that a circuit is fitted on
_FOLDS, _FIT_EVERY, _FIT_ROUNDS = 2, 24, 5  # parts of the Mixed drives that are left out in turn; how a fit reads rows
_ROUNDS = 6  # of Gauss-Newton on two numbers
LEAST_ROWS = 600  # of a drive that is judged
_LONG_ROWS = 3_000  # a shorter drive says little of heat
_EVERY = 3  # n-th Mixed drive that heat is fitted on
_STEP = 0.01  # of a logarithm, for its slope


def figures(data: Path, kinds: Sequence[str], notes: list[str]) -> dict[str, float]:
    """Give the RMSE, mV, of a cell's twin from 0 °C on by temperature: on drives of each kind, then on Mixed ones.

    Nothing of them was fitted: each half of the Mixed drives, whose pieces of other cycles are harder, has a circuit
    that was fitted on the others.
    """
    mixed = lg_hg2.read(data, MIXED)
    if not mixed:
        notes.append("lg_hg2: no Mixed drives to fit heat on, the twin has the pack file's")
    found: dict[str, float] = {}
    for kind in kinds:
        said = re.sub("[^a-z0-9]+", "_", kind.lower())
        found |= {f"lg_hg2_twin_{said}_{at}c_rmse_mv": mv for at, mv in of_kind(data, kind, mixed).items()}
    try:
        packs = _left_out(data, mixed)
    except ConfigError as missing:
        notes.append(f"lg_hg2: twin of left-out Mixed drives left out, {missing}")
        return found
    runs = _warm(mixed) if packs else {}
    return found | {f"lg_hg2_twin_left_out_{at}c_rmse_mv": mv for at, mv in drives_rmse_mv(packs, runs).items()}


def of_kind(data: Path, kind: str, mixed: Mapping[tuple[int, str], Run]) -> dict[int, float]:
    """Give the RMSE, mV, of a twin on drives of a kind by temperature: the pack file's circuit, heat as of `mixed`."""
    pack = fit_heat(load_pack("lg-hg2"), _warm(mixed))
    runs = {k: run for k, run in _warm(lg_hg2.read(data, kind, exactly=True)).items() if run.v.size >= LEAST_ROWS}
    return drives_rmse_mv(dict.fromkeys(runs, pack), runs)


def drives_rmse_mv(packs: Mapping[tuple[int, str], PackModel], runs: Mapping[tuple[int, str], Run]) -> dict[int, float]:
    """Give the RMSE, mV, of twins over drives by ambient temperature.

    A twin knows where a drive begins, its current and the air; SOC and temperature it works out itself.  Where a
    recording samples voltage after current, by up to a second that drifts, current is shifted to it
    (replay.fit.lg_hg2.in_step, which asks no model).
    """
    errors: dict[int, list[NDArray[np.float64]]] = {}
    for key, recorded in runs.items():
        errors.setdefault(key[0], []).append(follow(packs[key], lg_hg2.in_step(recorded)).pack_v - recorded.v)
    return {at: 1e3 * float(np.sqrt(np.mean(np.concatenate(e) ** 2))) for at, e in errors.items()}


def _left_out(data: Path, mixed: Mapping[tuple[int, str], Run]) -> dict[tuple[int, str], PackModel]:
    """Fit circuit and heat to every second Mixed drive for the others, and back; none where there are too few."""
    part = {key: n % _FOLDS for n, key in enumerate(sorted(mixed))}
    packs: dict[tuple[int, str], PackModel] = {}
    for fold in range(_FOLDS if len(mixed) >= 2 * _FOLDS else 0):
        others = {key: run for key, run in mixed.items() if part[key] != fold}
        circuit = fitted(load_pack("lg-hg2"), lg_hg2.tables(data, [*others.values()], _FIT_EVERY, _FIT_ROUNDS))
        pack = fit_heat(circuit, _warm(others))
        packs |= {key: pack for key in mixed if part[key] == fold}
    return packs


def follow(pack: PackModel, recorded: Run) -> Future:
    """Run a twin under a recorded current, from where the recording begins."""
    nothing = np.full(recorded.t_s.size, np.nan)
    twin = Twin(pack, recorded.soc[:1], np.array([lg_hg2.CAPACITY_AH]), np.ones(1), float(recorded.temp_c[0]))
    air = np.full(recorded.t_s.size, recorded.temp_c[0])
    return run(twin, Load(recorded.t_s, recorded.current_a, nothing, air))


def fit_heat(pack: PackModel, runs: Mapping[tuple[int, str], Run]) -> PackModel:
    """Fit heat capacity and loss to recorded temperatures, Gauss-Newton on their logarithms."""
    used = [r for r in runs.values() if r.t_s.size >= _LONG_ROWS][::_EVERY]
    if not used:
        return pack
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
