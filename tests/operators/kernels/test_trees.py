"""Trees as arrays: what XGBoost says, to the bit, however rows come."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_array_equal

from flows.prognosis import learn
from operators.kernels.trees import Trees, value


@pytest.mark.parametrize(
    ("missing", "objective"), [(0.0, "reg:squarederror"), (0.3, "reg:squarederror"), (0.3, "reg:absoluteerror")]
)
def test_arrays_say_to_the_bit_what_xgboost_says(missing: float, objective: str) -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(1_200, 9))
    x[draw.random(x.shape) < missing] = np.nan
    y = 5.0 + 2.0 * np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2
    trained = xgb.train({**learn.TREES, "seed": 1, "objective": objective}, xgb.DMatrix(x, label=y), 60)
    asked = np.concatenate([x, 10.0 * x, draw.normal(size=(40, 9)).astype(np.float32).astype(np.float64)])
    asked[-1] = np.nan
    arrays = learn.flat(trained)
    assert_array_equal(value(arrays, asked), trained.inplace_predict(asked).astype(np.float64))
    assert np.unique(value(arrays, asked)).size > 500


def test_a_row_is_said_alone_as_it_is_among_others_and_none_gives_none() -> None:
    one = Trees(
        root=np.array([0, 3], np.int32),
        left=np.array([1, -1, -1, -1], np.int32),
        right=np.array([2, -1, -1, -1], np.int32),
        feature=np.array([1, 0, 0, 0], np.int32),
        threshold=np.array([0.5, -1.0, 4.0, 0.25], np.float32),
        missing_left=np.array([True, False, False, False]),
        base=10.0,
    )
    x = np.array([[9.0, 0.0], [9.0, 0.5], [9.0, np.nan]])
    assert value(one, x).tolist() == [9.25, 14.25, 9.25]  # equal to a threshold is not below it
    assert value(one, x[1:2]).tolist() == [14.25]
    assert value(one, x[:0]).size == 0
