"""How long a cell will live: a model of log cycles left as the fleet's word, and a law that follows its history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.prognosis import blend, history, learn
from flows.prognosis.blend import Blend
from flows.prognosis.charges import Charges, Floats
from flows.prognosis.features import LeakError, feature_names, features
from flows.prognosis.future import CONFIG, LEAST_CYCLES, Fleet, foresee, inputs, moving
from flows.prognosis.soh import mape_pct
from flows.prognosis.split import Fold
from operators.kernels.degradation import fit_shape

INPUTS = "count"
EOL_SOH = 0.80
# A laboratory stops a cell about there, and its last steep cycles are often left out: a record that ends no higher
# than this ends a life; one that ends higher was broken off, and says nothing of how long it would have been.
ENDED_SOH = 0.87
PER_LIFE = 40  # times at which a life is looked at, evenly, so that long lives do not outweigh short ones
_FEWEST = 50  # charges of a record
_FROM_SHARE, _FROM_CHARGE = 0.08, 15  # of a life: before, there is no history
_JUDGED = (0.15, 0.95)  # share of life over which errors are compared, as published for HUST
_MIDDLE = 0.02
_LINE_SHARE = 0.5  # of the history through which a straight line is drawn


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """N looks at finished lives of a set."""

    set: str
    cells: tuple[str, ...]
    charge_names: tuple[str, ...]
    of_charge: Floats  # (N, K) features of the charge
    cell: NDArray[np.int32]
    rows: NDArray[np.int64]  # of the charges
    cycle: Floats
    life: Floats  # cycles at the end
    histories: dict[int, tuple[Floats, Floats]]  # cell → cycles and steady SOH of its whole life
    censored: int  # cells without an end

    def past(self, at: int) -> tuple[Floats, Floats]:
        """Give cycles and steady SOH up to look `at`."""
        cycle, soh = self.histories[int(self.cell[at])]
        until = int(np.searchsorted(cycle, self.cycle[at], side="right"))
        return cycle[:until], soh[:until]

    @property
    def left(self) -> Floats:
        """Give the cycles left (N,)."""
        return self.life - self.cycle


@dataclass(frozen=True, slots=True, eq=False)
class LifeFit:
    """A fitted model of log cycles left, with what it needs of the fleet."""

    fleet: Fleet
    blend: Blend


def lives(charges: Charges) -> Lives:
    """Look at each finished life of a set PER_LIFE times; raises LeakError where too few cells reached their end."""
    made = features(charges, INPUTS)
    histories, looks, censored = {}, [], 0
    for one in range(len(charges.cells)):
        rows = np.flatnonzero(charges.cell == one)
        soh, cycle = history.steady(charges.soh[rows]), charges.cycle[rows]
        ended = np.flatnonzero(soh <= EOL_SOH)
        end = int(ended[0]) if ended.size else rows.size - 1
        if end < _FEWEST or not soh[end] <= ENDED_SOH:
            censored += 1
            continue
        histories[one] = (cycle[: end + 1], soh[: end + 1])
        at = np.arange(max(_FROM_CHARGE, int(_FROM_SHARE * end)), end - 1, max(1, end // PER_LIFE))
        looks.append(np.column_stack([np.full(at.size, one), rows[at], cycle[at], np.full(at.size, cycle[end])]))
    if len(histories) < 2:  # noqa: PLR2004 - one to learn from, one to test on
        msg = f"lives must be two or more that reach {ENDED_SOH:g} of nominal; got {len(histories)} ({charges.set})"
        raise LeakError(msg)
    table = np.concatenate(looks)
    cell, row = table[:, 0].astype(np.int32), table[:, 1].astype(np.int64)
    names = feature_names(charges.columns, INPUTS)
    return Lives(charges.set, charges.cells, names, made[row], cell, row, table[:, 2], table[:, 3], histories, censored)


def fleet_of(job: Lives, known: NDArray[np.bool_]) -> Fleet:
    """Learn from the looks `known` (N,) how lives bend and where they end."""
    cells = np.unique(job.cell[known])
    u = np.linspace(0.02, 1.0, 50)
    shapes, ends = [], []
    for one in cells:
        cycle, soh = job.histories[int(one)]
        loss = np.maximum.accumulate(soh) - soh
        shapes.append(fit_shape(u, np.interp(u, cycle / cycle[-1], loss / max(loss[-1], CONFIG.floor_loss))))
        ends.append(soh[-1])
    moved = np.abs(job.of_charge[known][:, moving(job.charge_names)])
    with np.errstate(all="ignore"):
        middle = np.nan_to_num(np.nanmedian(np.where(np.isnan(moved).all(axis=0), 0.0, moved), axis=0))
    return Fleet(np.array(shapes), float(np.median(ends)), 0.03 * middle + 1e-12)


def inputs_of(job: Lives, fleet: Fleet) -> Floats:
    """Give the inputs (N, F) of every look."""
    past = np.array([history.of_history(*job.past(k), fleet.eol_soh) for k in range(len(job.cell))])
    return inputs(fleet, job.charge_names, job.of_charge, job.cycle, past)


def fit(job: Lives, known: NDArray[np.bool_], seed: int) -> LifeFit:
    """Fit log cycles left on the looks `known` (N,)."""
    return _fit(job, known, seed)[0]


def _fit(job: Lives, known: NDArray[np.bool_], seed: int) -> tuple[LifeFit, Floats]:
    fleet = fleet_of(job, known)
    x = inputs_of(job, fleet)
    return LifeFit(fleet, learn.fit_life(x[known], np.log(job.left[known]), job.cell[known], seed)), x


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Log cycles left (N,) by models that knew other cells: of the fleet alone, and joined with the own history."""

    prior: Floats
    fused: Floats


def held_out(job: Lives, fold: Fold, seed: int) -> HeldOut:
    """Predict log cycles left of every look by models that know other cells only."""
    prior, fused, truth = np.empty(len(job.cell)), np.empty(len(job.cell)), np.log(job.left)
    fleets = {}
    for one in np.unique(fold):
        test = fold == one
        fitted, x = _fit(job, ~test, seed)
        fleets[one] = fitted.fleet
        prior[test] = blend.predict(fitted.blend, x[test])
    for one, fleet in fleets.items():
        spread = learn.fit_interval(prior[fold != one], truth[fold != one], job.cell[fold != one])
        for k in np.flatnonzero(fold == one):
            fused[k] = foresee(fleet, spread, float(prior[k]), *job.past(int(k)), seed).log_left
    return HeldOut(prior, fused)


def baselines(job: Lives, fold: Fold) -> dict[str, Floats]:
    """Predict cycles left (N,) without a model: the mean, the others' life less the cycles so far, a straight line.

    The line goes through the second half of the history to where lives end; where it never does, to ten times the
    longest life.
    """
    found = {k: np.empty(len(job.cell)) for k in ("dummy_mean", "last_value", "linear")}
    for one in np.unique(fold):
        test = fold == one
        found["dummy_mean"][test] = np.exp(np.log(job.left[~test]).mean())
        of_cells = [job.life[~test & (job.cell == c)][0] for c in np.unique(job.cell[~test])]
        found["last_value"][test] = np.maximum(np.median(of_cells) - job.cycle[test], LEAST_CYCLES)
        eol_soh, most = fleet_of(job, ~test).eol_soh, 10.0 * max(of_cells)
        for k in np.flatnonzero(test):
            cycle, soh = job.past(int(k))
            half = int(len(cycle) * (1 - _LINE_SHARE))
            slope, level = np.polyfit(cycle[half:] - cycle[-1], soh[half:], 1)
            left = (level - eol_soh) / -slope if slope < 0 else most
            found["linear"][k] = float(np.clip(left, LEAST_CYCLES, most))
    return found


def metrics(job: Lives, fold: Fold, found: HeldOut) -> dict[str, float]:
    """Give what a card and the gate say of held-out predictions of cycles left."""
    left, share = job.left, job.cycle / job.life
    judged = (share >= _JUDGED[0]) & (share <= _JUDGED[1])
    middle = np.abs(share - 0.5) <= _MIDDLE
    truth, inside, width = np.log(left), np.zeros(len(left)), np.zeros(len(left))
    for one in np.unique(fold):
        test = fold == one
        interval = learn.fit_interval(found.fused[~test], truth[~test], job.cell[~test])
        low, high = blend.bounds(interval, found.fused[test])
        inside[test] = (low <= truth[test]) & (truth[test] <= high)
        width[test] = (np.exp(high) - np.exp(low)) / job.life[test]
    cells = [job.cell == c for c in np.unique(job.cell)]

    def end_pct(said: Floats) -> float:
        return 100.0 * float(np.mean(np.abs(said - left)[middle] / job.life[middle]))

    others = baselines(job, fold)
    return {
        "mape_pct": mape_pct(np.exp(found.fused)[judged], left[judged]),
        "fleet_alone_mape_pct": mape_pct(np.exp(found.prior)[judged], left[judged]),
        "error_of_life_pct": 100.0 * float(np.mean(np.abs(np.exp(found.fused) - left)[judged] / job.life[judged])),
        "end_at_mid_life_error_pct": end_pct(np.exp(found.fused)),
        "linear_end_at_mid_life_error_pct": end_pct(others["linear"]),
        "interval_90_covers_pct": 100.0 * float(inside.mean()),
        "interval_90_covers_mean_of_cells_pct": 100.0 * float(np.mean([inside[c].mean() for c in cells])),
        "interval_90_width_of_life_pct": 100.0 * float(width[judged].mean()),
        "lives": float(len(cells)),
        "censored": float(job.censored),
        **{f"{k}_mape_pct": mape_pct(p[judged], left[judged]) for k, p in others.items()},
    }
