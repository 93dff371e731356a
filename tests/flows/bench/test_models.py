"""Which model for edge, stream and batch: what is measured of each."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from flows.bench import models
from flows.prognosis.charges import Charges


def _lives(cells: int, charges: int, slope: float) -> Charges:
    cell = np.repeat(np.arange(cells), charges)
    soh = 1.0 - slope * np.tile(np.arange(charges), cells)
    return cast("Charges", cast("Any", SimpleNamespace(cell=cell, soh=soh)))


def test_a_direction_is_right_where_both_fall_and_wrong_where_one_rises() -> None:
    lives = _lives(3, 120, 0.001)
    assert models._direction(lives.soh.copy(), lives)[:3] == (1.0, 1.0, 1.0)
    assert models._direction(-lives.soh, lives)[:3] == (0.0, 0.0, 0.0)


def test_references_are_as_far_apart_as_capacity_takes_to_move() -> None:
    """12 % over 120 charges are eleven or twelve steps of 1 % each; twice as steep, twice as many."""
    counts = [models._direction(lives.soh.copy(), lives)[3] for lives in (_lives(1, 120, k) for k in (0.001, 0.002))]
    assert counts == pytest.approx([11, 23], abs=1)


def test_a_cell_that_gains_for_a_while_is_not_always_down() -> None:
    lives = _lives(1, 200, 0.001)
    lives.soh[:] = 0.9 + 0.05 * np.sin(np.arange(200) / 20)
    down = models._direction(np.linspace(1, 0, 200), lives)
    assert down[2] < 0.8
    assert models._direction(lives.soh.copy(), lives)[2] == 1.0


def test_two_cells_are_never_compared_with_each_other() -> None:
    """Within a cell it falls; from one to the next it would jump up."""
    lives = _lives(5, models.AHEAD + 1, 0.002)
    all_, *_ = models._direction(lives.soh.copy(), lives)
    assert all_ == 1.0


def test_what_hardly_moved_counts_only_among_all() -> None:
    lives = _lives(2, 120, models.MOVED / models.AHEAD / 2)
    up = -lives.soh
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
        all_, moved, referred, count = models._direction(up, lives)
    assert (all_, referred) == (0.0, 0.0)
    assert np.isnan(moved)
    assert count == 2  # one reference a cell, after a hundred charges
