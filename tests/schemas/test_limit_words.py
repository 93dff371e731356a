"""Limits in plain words."""

import math

import pytest

from schemas.limit_profile import default_limits
from schemas.limit_words import cleared_text, fired_text, subject_of
from schemas.limits import Limit

ROWS = {(r.quantity, r.direction, r.over): r for r in default_limits("nmc", 96, 150, 400)}
SAID = {
    "cell_v": "cell 3 at 4.26 V, limit 4.25 V for 0.7 s: noted",
    "overcharge_share": "cell 3: 4.260 of the capacity charged beyond full, limit 0.05 for 0.7 s: noted",
    "short_a": "current at 4 A, evidence of a short circuit, limit 800 A for 0.7 s: noted",
    "cell_dev_v": "cell 3 at 4.26 V from the median, limit 0.3 V for 0.7 s: noted",
    "crash": "crash reported for 0.7 s: noted",
    "thermal_event": "thermal event at cell 3 for 0.7 s: noted",
    "cells_missing": "cell 3 among 4 cells without a value, limit 1 for 0.7 s: noted",
    "silence": "message 3 silent for 4.3 periods, limit 5 periods for 0.7 s: noted",
    "sum_mismatch_v": "sum of cells and pack sensor differ by 4.3 V, limit 10.382 V for 0.7 s: noted",
    "invalid": "3 not usable for 0.7 s: noted",
}


@pytest.mark.parametrize("quantity", SAID)
def test_a_broken_limit_names_subject_value_limit_and_time(quantity: str) -> None:
    row = ROWS[quantity, "any", True]
    assert fired_text(row, subject_of(row, 3), 4.26, 0.7, "noted") == SAID[quantity]


def test_a_current_is_named_by_its_direction() -> None:
    row = ROWS["current_a", "charge", True]
    assert fired_text(row, subject_of(row, 0), 200.0, 0.1, "noted").startswith("charge current at 200.0 A, limit 187.5")


def test_places_with_names_are_called_by_them_and_others_by_number() -> None:
    row = ROWS["silence", "any", True]
    assert subject_of(row, 2, ("Cells", "Probes")) == "message Probes"
    assert subject_of(row, 3, ("Cells", "Probes")) == "message 3"
    assert subject_of(row, 0, ("Cells", "Probes")) == "message 0"


def test_a_kept_limit_names_the_value_that_cleared_it_where_there_is_one() -> None:
    row = ROWS["cell_v", "any", True]
    assert (
        cleared_text(row, "cell 3", 4.1, 2) == "cell 3 at 4.10 V, back inside the limit of 4.25 V after 2.0 s: cleared"
    )
    assert cleared_text(row, "cell 3", math.nan, 2) == "cell 3: cleared after 2.0 s"
    assert cleared_text(ROWS["crash", "any", True], "crash reported", 0, 2) == "crash reported: cleared after 2.0 s"


@pytest.mark.parametrize("row", default_limits("lfp", 108, 200, 400), ids=lambda r: f"{r.quantity}-{r.tier}")
def test_every_row_of_the_default_profile_has_words(row: Limit) -> None:
    text = fired_text(row, subject_of(row, 1), row.bound, 1.0, "noted")
    assert text.endswith(" for 1.0 s: noted")
    assert "{" not in text
