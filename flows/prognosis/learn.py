"""How a model of health is fitted: boosted trees beside smooth functions of two kinds, and an interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import xgboost as xgb
from numpy.typing import NDArray

from flows.prognosis.blend import Blend, Interval, predict
from flows.prognosis.charges import Floats
from flows.prognosis.split import Fold
from operators.kernels.smooth import Smooth, scaled, value
from operators.kernels.trees import Trees

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
PER_CELL = 200  # rows to learn from: neighbours say the same, and one long life must not outweigh many short ones
_CENTRES = 600
_NEAR = 0.05  # of log cycles left: a smaller error weighs a row no more than this
_GAIN_ROUNDS = 120
_GAIN_POWER = 0.25  # relevance grows with the gain of trees that split on an input, but slowly
_LEAST_RELEVANCE = 0.25
_OF_CELL = 0.02  # variance of what a cell is off by as a whole, over that of a row: errors of a cell go together
_PLANE = 0.3  # the plane's share of the prior
_TAILS = (0.05, 0.95)  # of an input, which are 3.3 standard widths apart where it is normal
_BINS = 5
LEVEL = 0.9

Cells = NDArray[np.int32]
Rows = NDArray[np.int64]
FitPredict = Callable[
    [Floats, Floats, Cells, Floats, int], Floats
]  # inputs, targets, cells, inputs to predict at, seed


@dataclass(frozen=True, slots=True)
class SmoothConfig:
    """How far a smooth function reaches from a row that it saw, and whether it is a mean or a middle."""

    length: float  # times the root of the number of inputs
    ridge: float = 1e-5  # a row: what a target has of chance
    again: int = 0  # times that rows are weighted by what they were off, and fitted again


EVEN, BY_GAIN = SmoothConfig(1.5), SmoothConfig(1.0)  # all inputs count alike, or as the trees found
LIFE = SmoothConfig(1.0, ridge=1e-4, again=3)


def fit(x: Floats, y: Floats, cell: Cells, seed: int) -> Blend:
    """Fit both kinds to inputs (N, F) and targets (N,) of cells (N,), such as health."""
    rows = thin(cell)
    x, y, cell = x[rows], y[rows], cell[rows]
    trees = _grow(x, y, seed)
    even = fit_smooth(x, y, cell, np.ones(x.shape[1]), seed, EVEN)
    return Blend(flat(trees), (even, fit_smooth(x, y, cell, _relevance(trees, x.shape[1]), seed, BY_GAIN)))


def fit_life(x: Floats, y: Floats, cell: Cells, seed: int) -> Blend:
    """Fit both kinds to the middle of logarithms of cycles left (N,); the first input is that of the cycles so far.

    What ends a life is only partly to be seen, and a few die unlike all others: a mean would follow these.  Rows that
    the smooth function does not explain count less in the trees too.
    """
    rows = thin(cell)
    x, y, cell = x[rows], y[rows], cell[rows]
    first = _grow(x, y, seed, rounds=_GAIN_ROUNDS)
    smooth = fit_smooth(x, y, cell, _relevance(first, x.shape[1]), seed, LIFE)
    trees = _grow(x, y, seed, weight=_by_error(y - value(smooth, x)))
    over_first = _grow(x, y - x[:, 0], seed, objective="reg:absoluteerror", colsample_bytree=0.2)
    return Blend(flat(trees), (smooth,), flat(over_first))


def _grow(
    x: Floats, y: Floats, seed: int, weight: Floats | None = None, rounds: int = ROUNDS, **other: object
) -> xgb.Booster:
    return xgb.train({**TREES, "seed": seed, **other}, xgb.DMatrix(x, label=y, weight=weight), rounds)


def fit_trees(x: Floats, y: Floats, seed: int) -> Trees:
    """Boost trees on inputs (N, F) and targets (N,)."""
    return flat(_grow(x, y, seed))


def flat(trained: xgb.Booster) -> Trees:
    """Give what XGBoost trained as arrays, for squared or absolute error and inputs that are numbers."""
    said = orjson.loads(bytes(trained.save_raw("json")))["learner"]
    trees = said["gradient_booster"]["model"]["trees"]
    first = np.cumsum([0, *(len(t["left_children"]) for t in trees)])
    assert not any(any(t["split_type"]) for t in trees), "a split by category is no threshold"

    def joined(name: str, kind: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([np.array(t[name], kind) for t in trees])

    def child(name: str) -> NDArray[np.int32]:
        node = joined(name, np.int32)
        return np.where(node >= 0, node + np.repeat(first[:-1], np.diff(first)), -1).astype(np.int32)

    return Trees(
        root=first[:-1].astype(np.int32),
        left=child("left_children"),
        right=child("right_children"),
        feature=joined("split_indices", np.int32),
        threshold=joined("split_conditions", np.float32),
        missing_left=joined("default_left", np.bool_),
        base=float(said["learner_model_param"]["base_score"].strip("[]")),
    )


def _by_error(off: Floats) -> Floats:
    """Give weights (N,), 1 in the mean, with which squares of errors `off` (N,) count as their size does."""
    weight = 1.0 / np.maximum(np.abs(off), _NEAR)
    return np.asarray(weight / weight.mean())


def thin(cell: Cells) -> NDArray[np.int64]:
    """Give rows of each cell (N,), evenly over its life and at most about PER_CELL."""
    kept = []
    for one in np.unique(cell):
        rows = np.flatnonzero(cell == one)
        step = max(1, rows.size // PER_CELL)
        kept.append(rows[int(one) % step :: step])
    return np.sort(np.concatenate(kept))


def _relevance(trees: xgb.Booster, inputs: int) -> Floats:
    """Say how much each of F `inputs` matters, by the gain of first trees that split on it; 1 in the square mean."""
    gain = np.zeros(inputs)
    for name, total in trees[:_GAIN_ROUNDS].get_score(importance_type="total_gain").items():
        gain[int(name[1:])] = np.mean(total)
    if not gain.any():
        return np.ones(gain.size)
    relevance = (gain / gain.max()) ** _GAIN_POWER
    relevance = np.maximum(relevance / np.sqrt((relevance**2).mean()), _LEAST_RELEVANCE)
    return np.asarray(relevance, np.float64)


def fit_smooth(x: Floats, y: Floats, cell: Cells, relevance: Floats, seed: int, cfg: SmoothConfig) -> Smooth:
    """Fit radial functions around some of the rows, and a plane, by ridge regression.

    Each cell may be off by a constant of its own, which is fitted along and forgotten (a random intercept: Laird and
    Ware, "Random-effects models for longitudinal data", 1982).  For a middle, rows are weighted by what they
    were off and fitted again (Holland and Welsch, "Robust regression using iteratively reweighted
    least-squares", 1977).
    """
    with np.errstate(all="ignore"):
        known = np.where(np.isnan(x).all(axis=0), 0.0, x)
        middle = np.nanmedian(known, axis=0)
        low, high = np.nanquantile(known, _TAILS, axis=0)
    width = np.where(high - low > 1e-12, (high - low) / 3.3, np.inf)  # noqa: PLR2004 - see _TAILS
    spread = max(float(np.sqrt((relevance[np.isfinite(width)] ** 2).sum())), 1.0)
    length = cfg.length * spread
    picked = np.random.default_rng(seed).choice(len(x), min(_CENTRES, len(x)), replace=False)
    centres = scaled(x[picked], middle, width, relevance)
    strength, axes = np.linalg.eigh(_radial(centres, centres, length))
    keep = strength > 1e-6 * strength[-1]
    turn = axes[:, keep] / np.sqrt(strength[keep])
    plane = _PLANE / spread
    cells, parts = [np.flatnonzero(cell == one) for one in np.unique(cell)], []
    for rows in cells:
        z = scaled(x[rows], middle, width, relevance)
        parts.append(np.column_stack([_radial(z, centres, length), plane * z, np.ones(len(z))]))
    beta, mean, weight = np.zeros(parts[0].shape[1]), 0.0, np.ones(len(y))
    for again in range(1 + cfg.again):
        if again:
            off = np.concatenate([y[rows] - mean - part @ beta for rows, part in zip(cells, parts, strict=True)])
            weight[np.concatenate(cells)] = _by_error(off)
        mean = float(np.average(y, weights=weight))
        gram, moment = _sums(cells, parts, y - mean, weight)
        beta = _ridge(gram, moment, turn, cfg.ridge * len(x))
    radial, slope = beta[: len(centres)], plane * beta[len(centres) : -1]
    return Smooth(middle, width, relevance, centres, length, radial, slope, mean + float(beta[-1]))


def _sums(cells: list[Rows], parts: list[Floats], y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Give squares (M, M) of terms and their products (M,) with y (N,), each cell's constant taken out."""
    size = parts[0].shape[1]
    gram, moment, sums = np.zeros((size, size)), np.zeros(size), np.empty((len(cells), size))
    for k, (rows, part) in enumerate(zip(cells, parts, strict=True)):
        root = np.sqrt(weight[rows])
        terms, target = part * root[:, None], y[rows] * root
        shared = np.sqrt(_OF_CELL / (1.0 + _OF_CELL * weight[rows].sum()))
        sums[k] = shared * (root @ terms)
        gram += terms.T @ terms
        moment += terms.T @ target - sums[k] * shared * (root @ target)
    return gram - sums.T @ sums, moment


def _ridge(gram: Floats, moment: Floats, turn: Floats, ridge: float) -> Floats:
    """Give the weights (M,) of terms, the first of which (R of them) are restrained along `turn` (R, T)."""
    radial, kept = turn.shape
    turned = np.zeros((len(gram), len(gram) - radial + kept))
    turned[:radial, :kept] = turn
    turned[radial:, kept:] = np.eye(len(gram) - radial)
    square = turned.T @ gram @ turned
    square[np.diag_indices(len(square))] += ridge
    return np.asarray(turned @ np.linalg.solve(square, turned.T @ moment))


def _radial(a: Floats, b: Floats, length: float) -> Floats:
    square = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * (a @ b.T)
    return np.asarray(np.exp(-0.5 * np.maximum(square, 0.0) / length**2))


def out_of_fold(
    x: Floats, y: Floats, cell: Cells, fold: Fold, seed: int, fit_predict: FitPredict | None = None
) -> Floats:
    """Predict every row (N,) by a model that learned from the other folds only."""
    made = fit_predict or (lambda a, b, c, at, s: predict(fit(a, b, c, s), at))
    out = np.full(len(y), np.nan)
    for one in np.unique(fold):
        test = fold == one
        out[test] = made(x[~test], y[~test], cell[~test], x[test], seed)
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
    low, high = (_quantile_of_cells(score, cell, q) for q in (tail, 1.0 - tail))
    return Interval(at, scale, low, high)


def _quantile_of_cells(values: Floats, cell: Cells, share: float) -> float:
    """Give the value that `share` of the rows (N,) lie below, where cells count alike, however long they lived."""
    weight = 1.0 / np.bincount(cell)[cell]
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order]) - 0.5 * weight[order]
    return float(np.interp(share * weight.sum(), below, values[order]))
