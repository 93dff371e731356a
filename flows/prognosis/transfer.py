"""How a model of life is carried to a new chemistry of which few lives are known, and what that gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.prognosis import blend as blended
from flows.prognosis import history, learn, rul
from flows.prognosis.blend import Blend
from flows.prognosis.charges import Charges, Floats
from flows.prognosis.features import LeakError
from flows.prognosis.rul import LifeFit, Lives
from flows.prognosis.soh import mape_pct

FEW = 4  # lives of the new chemistry that are known
_ROUNDS = 4  # times that few lives are drawn, since four say little
_RESTRAINT = (0.5, 2.0, 2.0)  # cells: how many of the new ones it takes to bend each term of the source half-way
_JUDGED = (0.15, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A model of another set bent for this one, and a model of this one's few lives; the answer is their mean."""

    source: str
    blend: Blend  # of the source's histories
    bend: Floats  # (3,) of 1, log cycles left as the source says, log cycles so far; added
    own: LifeFit


def histories(job: Lives, eol_soh: float) -> Floats:
    """Give what histories say (N, len(history.NAMES)); unlike levels of charges it holds for any chemistry."""
    return np.array([history.of_history(*job.past(k), eol_soh) for k in range(len(job.cell))])


def nearest(target: Lives, known: NDArray[np.bool_], sources: dict[str, Lives]) -> str:
    """Name the set whose histories are most like the looks `known` (N,) of `target`, in widths of both together."""
    own = histories(target, rul.EOL_SOH)[known]

    def apart(job: Lives) -> float:
        other = histories(job, rul.EOL_SOH)
        width = np.maximum(np.std(np.concatenate([own, other]), axis=0), 1e-9)
        return float(np.mean(np.abs(np.median(own, axis=0) - np.median(other, axis=0)) / width))

    return min(sorted(sources), key=lambda name: apart(sources[name]))


def carry(target: Lives, known: NDArray[np.bool_], name: str, source: Lives, seed: int) -> Carried:
    """Fit on all lives of the source, bend its answers to the looks `known` (N,) of the target, each cell counting one.

    Beside it stands what the few lives say alone: either is off in its own way.
    """
    eol = rul.fleet_of(source, np.ones(len(source.cell), np.bool_)).eol_soh
    blend = learn.fit_life(histories(source, eol), np.log(source.left), source.cell, seed)
    own = rul.fit(target, known, seed)
    said = blended.predict(blend, histories(target, own.fleet.eol_soh)[known])
    a, weight = _terms(said, target.cycle[known]), 1.0 / np.bincount(target.cell[known])[target.cell[known]]
    off = np.log(target.left[known]) - said
    bend = np.linalg.solve(a.T @ (a * weight[:, None]) + np.diag(_RESTRAINT), a.T @ (weight * off))
    return Carried(name, blend, np.asarray(bend, np.float64), own)


def say(model: Carried, target: Lives) -> Floats:
    """Give log cycles left (N,) of every look."""
    said = blended.predict(model.blend, histories(target, model.own.fleet.eol_soh))
    own = blended.predict(model.own.blend, rul.inputs_of(target, model.own.fleet))
    return np.asarray(0.5 * (said + _terms(said, target.cycle) @ model.bend + own))


def gain(sets: dict[str, Charges], seed: int) -> dict[str, float]:
    """Give, for each set with enough lives, errors of cycles left when FEW of its lives are known.

    `alone`: learned from these only; `carried`: from the nearest other set, bent to these.  Judged on all others of
    its lives, in the mean of a few draws; the sets are the lives of each name.
    """
    known_lives = {}
    for name, charges in sets.items():
        try:
            job = rul.lives(charges)
        except LeakError:
            continue
        if np.unique(job.cell).size > FEW:
            known_lives[name] = job
    found: dict[str, float] = {}
    for name, job in known_lives.items():
        others = {k: v for k, v in known_lives.items() if k != name}
        if not others:
            continue
        cells, draw = np.unique(job.cell), np.random.default_rng(seed)
        errors = []
        for _ in range(_ROUNDS):
            known = np.isin(job.cell, draw.choice(cells, FEW, replace=False))
            source = nearest(job, known, others)
            share = job.cycle / job.life
            judged = ~known & (share >= _JUDGED[0]) & (share <= _JUDGED[1])
            model = carry(job, known, source, others[source], seed)
            alone = blended.predict(model.own.blend, rul.inputs_of(job, model.own.fleet))
            errors.append([mape_pct(np.exp(p)[judged], job.left[judged]) for p in (alone, say(model, job))])
        alone_pct, carried_pct = np.mean(errors, axis=0)
        said = name.lower().replace("-", "_")
        found |= {
            f"{said}_rul_of_{FEW}_lives_alone_pct": float(alone_pct),
            f"{said}_rul_of_{FEW}_lives_carried_pct": float(carried_pct),
        }
    return found


def _terms(said: Floats, cycle: Floats) -> Floats:
    centred = said - 6.0, np.log(np.maximum(cycle, 1.0)) - 6.0  # from 400 cycles, so that the first term is a shift
    return np.column_stack([np.ones(len(said)), *centred])
