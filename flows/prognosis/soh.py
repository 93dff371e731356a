"""How right a model of health is on cells that it never saw, and beside what: the figures of a model card."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.prognosis import blend, learn
from flows.prognosis.charges import Charges, Floats
from flows.prognosis.features import feature_names, features
from flows.prognosis.split import Fold
from operators.kernels.charges import OF_REFERENCE

_RIDGE = 1e-6
COVERED = (0.85, 0.95)  # what a 90 % interval may cover


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is learned: inputs (N, F), and SOH (N,) as a difference from `start` (N,), of the rows that have both."""

    names: tuple[str, ...]
    x: Floats
    soh: Floats
    start: Floats  # what the target is counted from: the last measured SOH, or 0
    cell: NDArray[np.int32]
    rows: NDArray[np.int64]  # of the charges


def task(charges: Charges, inputs: str) -> Task:
    """Make the inputs and targets of a set; charges before the first reference, or without a capacity, fall out."""
    names = feature_names(charges.columns, inputs)
    x = features(charges, inputs)
    start = x[:, names.index(OF_REFERENCE[0])] if inputs == "reference" else np.zeros(len(charges))
    rows = np.flatnonzero(np.isfinite(start) & np.isfinite(charges.soh))
    return Task(names, x[rows], charges.soh[rows], start[rows], charges.cell[rows], rows)


def held_out(job: Task, fold: Fold, seed: int) -> Floats:
    """Predict SOH of every row (N,) by a model that knows other cells only; `fold` is that of the task's rows."""
    return job.start + learn.out_of_fold(job.x, job.soh - job.start, job.cell, fold, seed)


def mape_pct(predicted: Floats, truth: Floats) -> float:
    """Give the mean error as a share of the truth, in percent."""
    return float(100.0 * np.mean(np.abs(predicted - truth) / truth))


def baselines(job: Task, charges: Charges, fold: Fold) -> dict[str, Floats]:
    """Predict SOH (N,) as one would without a model: the mean, the last capacity known, a line through the inputs."""
    first = charges.soh[np.flatnonzero(charges.nth() == 0)][job.cell]
    last = job.start if "reference" in job.names else first
    found = {"dummy_mean": np.empty(len(job.soh)), "last_value": last, "linear": np.empty(len(job.soh))}
    for one in np.unique(fold):
        test = fold == one
        found["dummy_mean"][test] = job.soh[~test].mean()
        found["linear"][test] = job.start[test] + line(job.x[~test], (job.soh - job.start)[~test], job.x[test])
    return found


def line(x: Floats, y: Floats, at: Floats) -> Floats:
    """Fit a line in all inputs by least squares, and give it at others."""
    middle = np.nan_to_num(np.nanmean(np.where(np.isnan(x).all(axis=0), 0.0, x), axis=0))
    width = np.nanstd(np.where(np.isnan(x).all(axis=0), 0.0, x), axis=0)
    width = np.where(width > 0, width, np.inf)

    def inputs(values: Floats) -> Floats:
        return np.column_stack([np.nan_to_num((values - middle) / width), np.ones(len(values))])

    a = inputs(x)
    return np.asarray(inputs(at) @ np.linalg.solve(a.T @ a + _RIDGE * len(a) * np.eye(a.shape[1]), a.T @ y))


def covered(job: Task, predicted: Floats, fold: Fold) -> Floats:
    """Say of each row (N,) whether its interval, learned on the other folds' errors, holds the truth: 1, or 0."""
    inside = np.zeros(len(predicted))
    for one in np.unique(fold):
        test = fold == one
        interval = learn.fit_interval(predicted[~test], job.soh[~test], job.cell[~test])
        low, high = blend.bounds(interval, predicted[test])
        inside[test] = (low <= job.soh[test]) & (job.soh[test] <= high)
    return inside


def metrics(job: Task, charges: Charges, fold: Fold, predicted: Floats) -> dict[str, float]:
    """Give what a card and the gate say of held-out predictions: errors, baselines' errors, coverage and width."""
    cells = [job.cell == c for c in np.unique(job.cell)]
    inside = covered(job, predicted, fold)
    low, high = blend.bounds(learn.fit_interval(predicted, job.soh, job.cell), predicted)
    return {
        "mape_pct": mape_pct(predicted, job.soh),
        "mape_mean_of_cells_pct": float(np.mean([mape_pct(predicted[c], job.soh[c]) for c in cells])),
        "mape_worst_cell_pct": max(mape_pct(predicted[c], job.soh[c]) for c in cells),
        "interval_90_covers_pct": 100.0 * float(inside.mean()),
        "interval_90_covers_mean_of_cells_pct": 100.0 * float(np.mean([inside[c].mean() for c in cells])),
        "interval_90_width_pct": 100.0 * float(np.mean(high - low)),
        **{f"{k}_mape_pct": mape_pct(p, job.soh) for k, p in baselines(job, charges, fold).items()},
    }


def gate(found: dict[str, float]) -> list[str]:
    """Say why a model must not be promoted; nothing where it may."""
    wrong = [
        f"{k.removesuffix('_mape_pct')} is as good: {found[k]:.3f} against {found['mape_pct']:.3f} % MAPE"
        for k in ("dummy_mean_mape_pct", "last_value_mape_pct", "linear_mape_pct")
        if not found["mape_pct"] < found[k]
    ]
    share = found["interval_90_covers_mean_of_cells_pct"] / 100.0  # a long life counts as one
    if not COVERED[0] <= share <= COVERED[1]:
        wrong.append(
            f"the 90 % interval covers {100 * share:.1f} %, not {100 * COVERED[0]:g} to {100 * COVERED[1]:g} %"
        )
    return wrong
