"""The smooth function: its value is what its formula says, row by row."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from operators.kernels.smooth import CLIP, Smooth, scaled, value


def some(inputs: int = 5, centres: int = 7) -> Smooth:
    draw = np.random.default_rng(2)
    return Smooth(
        draw.normal(size=inputs), draw.random(inputs) + 0.5, draw.random(inputs) + 0.5,
        draw.normal(size=(centres, inputs)), 2.0,
        draw.normal(size=centres), draw.normal(size=inputs), 0.3,
    )  # fmt: skip


def test_the_value_is_radial_functions_and_a_plane() -> None:
    f, x = some(), np.random.default_rng(3).normal(size=(20, 5))
    z = (x - f.middle) / f.width
    z = np.clip(z, -CLIP, CLIP) * f.relevance
    radial = np.exp(-0.5 * ((z[:, None] - f.centres) ** 2).sum(axis=2) / f.length**2)
    assert_allclose(value(f, x), radial @ f.weight + z @ f.slope + f.offset, rtol=1e-12)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    f, x = some(), np.random.default_rng(3).normal(size=(20, 5))
    assert_array_equal(value(f, x), np.concatenate([value(f, row[None]) for row in x]))


def test_a_missing_input_counts_as_the_middle_and_a_far_one_as_the_edge() -> None:
    f = some()
    known = np.tile(f.middle, (2, 1))
    missing = known.copy()
    missing[:, 2] = np.nan
    assert_array_equal(value(f, known), value(f, missing))
    known[:, 1] = f.middle[1] + np.array([CLIP, 1e9]) * f.width[1]
    assert len(set(value(f, known).round(12).tolist())) == 1


def test_an_input_that_never_varied_says_nothing() -> None:
    assert_array_equal(scaled(np.array([[7.0]]), np.array([1.0]), np.array([np.inf]), np.ones(1)), [[0.0]])


def test_no_row_gives_no_value() -> None:
    assert value(some(), np.empty((0, 5))).shape == (0,)
