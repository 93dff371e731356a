"""Cells stay on one side of a split, and a split that leaks is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flows.prognosis.features import LeakError
from flows.prognosis.split import by_cell, by_protocol, refuse_leak
from tests.support.charges import fading


def test_five_folds_hold_whole_cells_of_every_protocol() -> None:
    charges = fading(30, 10)
    fold = by_cell(charges, 1)
    assert set(fold.tolist()) == set(range(5))
    assert all(np.unique(fold[charges.cell == c]).size == 1 for c in range(30))
    protocol = np.array(charges.protocols)[charges.cell]
    assert all(np.unique(fold[protocol == p]).size == 5 for p in set(charges.protocols))


def test_a_seed_gives_the_same_split_and_another_seed_another() -> None:
    charges = fading(30, 10)
    assert np.array_equal(by_cell(charges, 1), by_cell(charges, 1))
    assert not np.array_equal(by_cell(charges, 1), by_cell(charges, 2))


def test_a_protocol_is_tested_by_a_model_that_never_saw_it() -> None:
    charges = fading(12, 10)
    fold = by_protocol(charges)
    assert [len({charges.protocols[c] for c in charges.cell[fold == f]}) for f in range(3)] == [1, 1, 1]


def test_random_rows_are_refused() -> None:
    charges = fading(12, 10)
    with pytest.raises(LeakError, match="a cell must lie in one fold; P0-0 lies in"):
        refuse_leak(charges, np.random.default_rng(1).integers(0, 5, len(charges)))


def test_one_history_under_two_names_is_refused_also_where_one_ends_earlier() -> None:
    charges = fading(4, 20)
    copied = charges.x.copy()
    copied[20:40] = copied[:20]
    capacity = charges.capacity_ah.copy()
    capacity[20:40] = capacity[:20]
    same = replace(charges, x=copied, capacity_ah=capacity)
    same = same.take(np.flatnonzero((same.cell != 1) | (same.nth() < 15)))
    fold = np.array([0, 1, 2, 3])[same.cell]
    with pytest.raises(LeakError, match="under another name"):
        refuse_leak(same, fold)
    refuse_leak(same, np.array([0, 0, 2, 3])[same.cell])


def test_one_fold_is_no_split() -> None:
    charges = fading(4, 10)
    with pytest.raises(LeakError, match="two folds or more; got 1"):
        refuse_leak(charges, np.zeros(len(charges), np.int64))
    with pytest.raises(LeakError, match="two folds or more; got 1 from 1 cells"):
        by_cell(charges.take(charges.cell == 0), 1)
