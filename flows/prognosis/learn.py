"""How a model of health is fitted: boosted trees and a smooth function, half of the answer each, and an interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from flows.prognosis.charges import Floats
from flows.prognosis.split import Fold
from operators.kernels.smooth import Smooth, scaled, value

# Settings are fixed on three quarters of the public cells; CHANGELOG and the README beside say what was tried.
TREES: dict[str, Any] = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_depth": 5,
    "eta": 0.06,
    "subsample": 0.8,
    "colsample_bytree": 0.4,
    "min_child_weight": 5,
    "max_bin": 128,
    "nthread": 1,  # sums depend on it: fixed, so that a seed gives the same trees on any number of cores
}
ROUNDS = 250
_CENTRES = 600
_LENGTH = 1.5  # of the radial functions, times the root of the number of inputs
_RIDGE = 1e-5  # a row
_PLANE = 0.3  # the plane's share of the prior
_CHUNK = 8192  # rows: their functions are never all in memory
_TAILS = (0.05, 0.95)  # of an input, which are 3.3 standard widths apart where it is normal
_BINS = 5
LEVEL = 0.9

FitPredict = Callable[[Floats, Floats, Floats, int], Floats]  # inputs, targets, inputs to predict at, seed


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """A fitted pair; its value is the mean of both."""

    trees: xgb.Booster
    smooth: Smooth


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """How far the truth lies from a prediction, learned on cells that the prediction did not know."""

    at: Floats  # (B,) predictions
    scale: Floats  # (B,) typical error there
    low: float  # quantile of (truth − prediction) / scale
    high: float


def fit(x: Floats, y: Floats, seed: int) -> Blend:
    """Fit both halves to inputs (N, F) and targets (N,)."""
    trees = xgb.train({**TREES, "seed": seed}, xgb.DMatrix(x, label=y), ROUNDS)
    return Blend(trees, fit_smooth(x, y, seed))


def predict(blend: Blend, x: Floats) -> Floats:
    """Give the blend's value at inputs (N, F); each row for itself."""
    return 0.5 * (predict_trees(blend.trees, x) + value(blend.smooth, x))


def predict_trees(trees: xgb.Booster, x: Floats) -> Floats:
    """Give the trees' value at inputs (N, F)."""
    return np.asarray(trees.inplace_predict(np.ascontiguousarray(x)), np.float64)


def fit_smooth(x: Floats, y: Floats, seed: int) -> Smooth:
    """Fit radial functions around some of the rows, and a plane, by ridge regression."""
    with np.errstate(all="ignore"):
        known = np.where(np.isnan(x).all(axis=0), 0.0, x)
        middle = np.nanmedian(known, axis=0)
        low, high = np.nanquantile(known, _TAILS, axis=0)
    width = np.where(high - low > 1e-12, (high - low) / 3.3, np.inf)  # noqa: PLR2004 - see _TAILS
    inputs = max(int(np.isfinite(width).sum()), 1)
    length = _LENGTH * float(np.sqrt(inputs))
    picked = np.random.default_rng(seed).choice(len(x), min(_CENTRES, len(x)), replace=False)
    centres = scaled(x[picked], middle, width)
    strength, axes = np.linalg.eigh(_radial(centres, centres, length))
    keep = strength > 1e-6 * strength[-1]
    turn = axes[:, keep] / np.sqrt(strength[keep])
    plane = _PLANE / np.sqrt(inputs)
    size = int(keep.sum()) + x.shape[1] + 1
    gram, moment, mean = np.zeros((size, size)), np.zeros(size), float(y.mean())
    for start in range(0, len(x), _CHUNK):
        z = scaled(x[start : start + _CHUNK], middle, width)
        part = np.column_stack([_radial(z, centres, length) @ turn, plane * z, np.ones(len(z))])
        gram += part.T @ part
        moment += part.T @ (y[start : start + _CHUNK] - mean)
    gram[np.diag_indices(size)] += _RIDGE * len(x)
    beta = np.linalg.solve(gram, moment)
    weight = turn @ beta[: turn.shape[1]]
    return Smooth(middle, width, centres, length, weight, plane * beta[turn.shape[1] : -1], mean + float(beta[-1]))


def _radial(a: Floats, b: Floats, length: float) -> Floats:
    square = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * (a @ b.T)
    return np.asarray(np.exp(-0.5 * np.maximum(square, 0.0) / length**2))


def out_of_fold(x: Floats, y: Floats, fold: Fold, seed: int, fit_predict: FitPredict | None = None) -> Floats:
    """Predict every row (N,) by a model that learned from the other folds only."""
    made = fit_predict or (lambda a, b, c, s: predict(fit(a, b, s), c))
    out = np.full(len(y), np.nan)
    for one in np.unique(fold):
        test = fold == one
        out[test] = made(x[~test], y[~test], x[test], seed)
    return out


def fit_interval(predicted: Floats, truth: Floats, cell: NDArray[np.int32], level: float = LEVEL) -> Interval:
    """Learn how far truths lie from out-of-fold predictions (N,), wider where predictions are of the worse kind.

    Rows of one cell err together, so it is the number of cells that says how far to trust the quantile
    (Dunn, Wasserman and Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", 2022).
    """
    off = truth - predicted
    edges = np.quantile(predicted, np.linspace(0, 1, _BINS + 1))
    which = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, _BINS - 1)
    present = [b for b in range(_BINS) if (which == b).any()]
    at = np.array([np.median(predicted[which == b]) for b in present])
    scale = np.array([np.median(np.abs(off[which == b])) for b in present])
    scale = np.maximum(scale, max(0.2 * float(np.median(np.abs(off))), 1e-9))
    score = off / np.interp(predicted, at, scale)
    cells = np.unique(cell).size
    tail = 0.5 * (1.0 - min(level * (1.0 + 1.0 / cells), 1.0))
    low, high = np.quantile(score, (tail, 1.0 - tail))
    return Interval(at, scale, float(low), float(high))


def bounds(interval: Interval, predicted: Floats) -> tuple[Floats, Floats]:
    """Give the lower and the upper end (N,) of the interval around predictions (N,)."""
    scale = np.interp(predicted, interval.at, interval.scale)
    return predicted + interval.low * scale, predicted + interval.high * scale
