"""Fitting: what is simple is found, seeds repeat, intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flows.prognosis.blend import bounds, predict
from flows.prognosis.learn import (
    EVEN,
    PER_CELL,
    fit,
    fit_interval,
    fit_life,
    fit_smooth,
    out_of_fold,
    thin,
)
from operators.kernels import trees
from operators.kernels.smooth import value


def test_a_smooth_fit_goes_on_where_trees_end() -> None:
    draw = np.random.default_rng(1)
    x = draw.uniform(-1, 1, (800, 2))
    beyond = np.array([[1.4, 0.0]])
    y = 0.5 * x[:, 0]
    own = np.arange(800, dtype=np.int32)
    smooth = value(fit_smooth(x, y, own, np.ones(2), 1, EVEN), beyond)[0]
    assert smooth == pytest.approx(0.7, abs=0.05)
    assert predict(fit(x, y, own, 1), beyond)[0] < smooth


def test_trees_of_a_life_follow_the_first_input_beyond_what_they_saw() -> None:
    draw = np.random.default_rng(1)
    x = draw.uniform(0, 1, (800, 2))
    y, own = x[:, 0] + 0.1 * np.sign(x[:, 1] - 0.5), np.arange(800, dtype=np.int32)
    life = fit_life(x, y, own, 1)
    assert life.over_first is not None
    beyond = np.array([[1.5, 0.9]])
    assert trees.value(life.trees, beyond)[0] < 1.15
    assert trees.value(life.over_first, beyond)[0] + 1.5 == pytest.approx(1.6, abs=0.02)
    assert fit(x, y, own, 1).over_first is None


def test_one_life_unlike_all_others_moves_a_mean_and_not_a_middle() -> None:
    draw = np.random.default_rng(1)
    cell = np.repeat(np.arange(20, dtype=np.int32), 40)
    x = draw.uniform(0, 1, (800, 2))
    y = x[:, 0] + np.where(cell == 7, 3.0, 0.0)
    at = np.array([[0.5, 0.5]])
    mean, middle = (predict(made(x, y, cell, 1), at)[0] for made in (fit, fit_life))
    assert mean > 0.5 + 3.0 / 20 / 2
    assert middle == pytest.approx(0.5, abs=0.03)


def test_a_smooth_fit_holds_offsets_of_whole_cells_for_what_they_are() -> None:
    draw = np.random.default_rng(1)
    cell = np.repeat(np.arange(4, dtype=np.int32), 150)
    x = draw.normal(size=(600, 1)) + 0.5 * cell[:, None]
    y = x[:, 0] - 1.0 * cell  # within a cell it rises; the cells' offsets hide that
    at = np.array([[0.5], [1.5]])
    together = value(fit_smooth(x, y, cell, np.ones(1), 1, EVEN), at)
    apart = value(fit_smooth(x, y, np.arange(600, dtype=np.int32), np.ones(1), 1, EVEN), at)
    assert together[1] - together[0] > apart[1] - apart[0] + 0.2


def test_long_lives_do_not_outweigh_short_ones() -> None:
    cell = np.repeat(np.arange(2, dtype=np.int32), (10 * PER_CELL, 20))
    assert [np.sum(cell[thin(cell)] == c) for c in (0, 1)] == [PER_CELL, 20]


def test_the_same_seed_fits_the_same_bits() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(300, 4)), draw.normal(size=300)
    x[draw.random(x.shape) < 0.1] = np.nan
    first, again, other = (
        predict(fit(x, y, np.repeat(np.arange(10, dtype=np.int32), 30), seed), x) for seed in (1, 1, 2)
    )
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_column_that_is_always_missing_or_never_varies_does_no_harm() -> None:
    draw = np.random.default_rng(1)
    x = np.column_stack([draw.normal(size=300), np.full(300, np.nan), np.full(300, 7.0)])
    got = predict(fit(x, x[:, 0], np.repeat(np.arange(10, dtype=np.int32), 30), 1), x)
    assert np.corrcoef(got, x[:, 0])[0, 1] > 0.98


def test_no_row_is_predicted_by_a_model_that_saw_its_fold() -> None:
    fold = np.repeat([0, 1, 2], 4)

    def mean_of_training(_: object, y: np.ndarray, __: object, test: np.ndarray, ___: int) -> np.ndarray:
        return np.full(len(test), y.mean())

    got = out_of_fold(np.zeros((12, 1)), fold.astype(float), fold.astype(np.int32), fold, 1, mean_of_training)
    assert_array_equal(got, np.repeat([1.5, 1.0, 0.5], 4))


def test_an_interval_of_90_percent_holds_about_that_much_of_other_cells() -> None:
    draw = np.random.default_rng(4)
    cell = np.repeat(np.arange(200), 50).astype(np.int32)
    predicted = draw.uniform(0.8, 1, cell.size)
    truth = predicted + (draw.normal(0, 0.01, 200)[cell] + draw.normal(0, 0.002, cell.size)) * (2 - predicted)
    known = cell < 100
    low, high = bounds(fit_interval(predicted[known], truth[known], cell[known]), predicted[~known])
    assert 0.85 <= np.mean((low <= truth[~known]) & (truth[~known] <= high)) <= 0.95


def test_a_long_life_makes_no_interval_narrower() -> None:
    draw = np.random.default_rng(4)
    cell = np.repeat(np.arange(40, dtype=np.int32), np.where(np.arange(40) < 20, 400, 20))
    off = draw.normal(0, 1, cell.size) * np.where(cell < 20, 0.002, 0.01)  # cells that die early are the worse known
    predicted = np.full(cell.size, 0.9)
    low, high = bounds(fit_interval(predicted, predicted + off, cell), predicted)
    inside = (low <= predicted + off) & (predicted + off <= high)
    assert 0.85 <= np.mean([inside[cell == c].mean() for c in range(40)]) <= 0.95


def test_an_interval_is_wider_where_errors_were_larger() -> None:
    draw = np.random.default_rng(4)
    predicted = draw.uniform(0.7, 1, 4000)
    truth = predicted + draw.normal(0, 1, 4000) * np.where(predicted < 0.85, 0.02, 0.005)
    low, high = bounds(fit_interval(predicted, truth, np.arange(4000, dtype=np.int32)), np.array([0.72, 0.98]))
    assert (high - low)[0] > 2 * (high - low)[1]
