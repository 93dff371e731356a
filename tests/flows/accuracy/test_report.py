"""Accuracy on recordings: no change makes a figure worse, or better, without being seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.accuracy.report import goal, measure, run_accuracy
from schemas.checked import ConfigError

GOLDEN = Path(__file__).parents[2] / "golden" / "accuracy.json"


@pytest.mark.slow
def test_every_figure_is_what_was_committed(data_dir: Path) -> None:
    """After a change that is meant: `just accuracy --json`, rounded to four digits, is the new file.

    Of laboratory cells `test_prognosis.py` holds a part: all of them take three minutes.
    """
    wanted, found = json.loads(GOLDEN.read_text()), measure(data_dir, without=("soh_features",))
    assert found.keys() == wanted.keys()
    assert found["incidents"] == wanted["incidents"]
    for name, value in wanted.items():
        if name != "incidents":
            assert found[name] == pytest.approx(value, rel=0.01), name


def test_what_was_committed_keeps_every_goal() -> None:
    figures = {k: v for k, v in json.loads(GOLDEN.read_text()).items() if k != "incidents"}
    bounds = {name: goal(name) or (0.0, float("inf")) for name in figures}
    missed = {name for name, value in figures.items() if not bounds[name][0] <= value <= bounds[name][1]}
    assert missed == set()


def test_a_directory_without_any_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--data must be a directory with one or more of lg_hg2, leaf_cell, bmw_i3_trips, "
    ):
        run_accuracy(tmp_path, as_json=False)
