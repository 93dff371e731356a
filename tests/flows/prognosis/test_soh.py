"""A model of health against doing without one, on cells that it never saw."""

from __future__ import annotations

import numpy as np
import pytest

from flows.prognosis.soh import baselines, gate, held_out, mape_pct, metrics, task
from flows.prognosis.split import by_cell, by_protocol
from tests.support.charges import fading


def test_what_a_charge_says_beats_doing_without_a_model() -> None:
    charges = fading(15, 150)
    job = task(charges, "charge")
    fold = by_cell(charges, 1)[job.rows]
    found = metrics(job, charges, fold, held_out(job, fold, 1))
    assert found["mape_pct"] < 0.4 < found["last_value_mape_pct"]
    assert found["mape_pct"] < found["dummy_mean_mape_pct"]
    assert found["interval_90_covers_pct"] >= 85, "of 15 cells: a wider band would say nothing"
    assert found["interval_90_width_pct"] < 2.0


def test_a_model_that_a_straight_line_equals_is_refused() -> None:
    charges = fading(12, 60)
    job = task(charges, "count")
    fold = by_cell(charges, 1)[job.rows]
    line = baselines(job, charges, fold)["linear"]
    assert any(why.startswith("linear is as good") for why in gate(metrics(job, charges, fold, line)))


def test_an_interval_that_does_not_cover_is_refused() -> None:
    fine = {"mape_pct": 1.0, "dummy_mean_mape_pct": 5.0, "last_value_mape_pct": 3.0, "linear_mape_pct": 2.0}
    assert gate({**fine, "interval_90_covers_mean_of_cells_pct": 90.0}) == []
    assert gate({**fine, "interval_90_covers_mean_of_cells_pct": 84.0}) == [
        "the 90 % interval covers 84.0 %, not 85 to 95 %"
    ]
    assert len(gate({**fine, "interval_90_covers_mean_of_cells_pct": 97.0, "dummy_mean_mape_pct": 0.9})) == 2


def test_a_reference_is_the_start_of_what_is_predicted() -> None:
    charges = fading(6, 60)
    job = task(charges, "reference")
    assert len(job.rows) == 6 * 59, "the first charge of each cell knows no capacity"
    first = charges.soh[charges.nth() == 0]
    early = charges.nth()[job.rows] <= 50
    assert np.array_equal(job.start[early], first[job.cell][early])


def test_the_mean_of_other_cells_is_the_dummy() -> None:
    charges = fading(6, 30)
    job = task(charges, "charge")
    fold = by_protocol(charges)[job.rows]
    dummy = baselines(job, charges, fold)["dummy_mean"]
    assert dummy[fold == 0][0] == pytest.approx(job.soh[fold != 0].mean())
    assert mape_pct(np.array([1.1]), np.array([1.0])) == pytest.approx(10.0)
