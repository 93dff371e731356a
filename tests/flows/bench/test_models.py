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
    lives = _lives(3, 320, 0.001)
    assert set(models.directions(lives.soh.copy(), lives).values()) == {1.0}
    assert set(models.directions(-lives.soh, lives).values()) == {0.0}


def test_references_are_as_far_apart_as_capacity_takes_to_move() -> None:
    """12 % over 120 charges are eleven or twelve steps of 1 % each; twice as steep, twice as many."""
    counts = [models._between_references(one, one).size for one in (_lives(1, 120, k).soh for k in (0.001, 0.002))]
    assert counts == pytest.approx([11, 23], abs=1)


def test_a_cell_that_gains_for_a_while_is_not_always_down() -> None:
    lives = _lives(1, 320, 0.001)
    lives.soh[:] = 0.9 + 0.05 * np.sin(np.arange(320) / 20)
    down = models.directions(np.linspace(1, 0, 320), lives)
    assert down["mda_between_references"] < 0.8
    assert models.directions(lives.soh.copy(), lives)["mda_between_references"] == 1.0


def test_two_cells_are_never_compared_with_each_other() -> None:
    """Within a cell it falls; from one to the next it would jump up."""
    lives = _lives(5, max(models.FARTHER) + 1, 0.002)
    assert set(models.directions(lives.soh.copy(), lives).values()) == {1.0}


def test_what_hardly_moved_counts_only_among_all() -> None:
    lives = _lives(2, 320, models.MOVED / models.AHEAD / 2)
    found = models.directions(-lives.soh, lives)
    assert (found["mda"], found["mda_between_references"]) == (0.0, 0.0)
    assert np.isnan(found["mda_where_moved"])


def test_from_one_test_to_the_next_a_direction_is_that_of_noise() -> None:
    lives = _lives(2, 320, 0.001)
    truth = lives.soh.copy()
    lives.soh[:] += np.random.default_rng(1).normal(0, 0.003, truth.size)
    found = models.directions(truth, lives)
    assert found["mda_over_1"] < 0.7
    assert found["mda_over_100"] == 1.0
    assert models.directions(models._around(lives), lives)["mda_over_100"] == 1.0
