"""Accuracy on recordings: no change makes a figure worse, or better, without being seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.accuracy import gateway, offset, pulses
from flows.accuracy.report import goal, measure, run_accuracy
from replay.fit.lg_hg2 import CAPACITY_AH
from replay.fit.rc import Run, predict
from schemas.checked import ConfigError
from schemas.pack import load_pack

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


def test_what_is_not_understood_is_one_line_and_all_else_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of other recordings: a cycle nobody has named, as CSV, beside files and folders of no known kind."""
    for module in (gateway, offset, pulses):
        monkeypatch.setattr(module, "figures", dict)
    for folder in ("lg_hg2", "leaf_cell", "mystery"):
        (tmp_path / folder).mkdir()
    t_s = np.arange(900.0)
    current_a = np.repeat(np.random.default_rng(1).normal(-1.0, 2.0, 90), 10)
    ah = np.cumsum(current_a) / 3600
    v = predict(load_pack("lg-hg2").grid(), Run(t_s, current_a, t_s, 1 + ah / CAPACITY_AH, np.full(900, 25.0)))
    lines = ["kind,note,test,ambient_c,sec,v,i,temp_c,ah"]
    lines += [f"WLTP 3b,x,t1,25,{t},{x},{i},25,{q}" for t, x, i, q in zip(t_s, v, current_a, ah, strict=True)]
    lines += [line.replace("t1", "t2") for line in lines[1:300]]
    (tmp_path / "lg_hg2" / "drives.csv").write_bytes("\r\n".join(lines).encode())
    (tmp_path / "lg_hg2" / "bad.parquet").write_bytes(b"no")
    found = measure(tmp_path)
    assert found["lg_hg2_soc_warm_mean_rmse_pct"] < 1.0
    assert found["lg_hg2_twin_wltp_3b_25c_rmse_mv"] < 5.0
    told = [note.partition(",")[0] for note in found["notes"]]
    assert told == [
        "mystery: left out",
        "lg_hg2/bad.parquet: left out",
        "lg_hg2: left out",
        "lg_hg2: no Mixed drives to fit heat on",
        "leaf_cell: left out",
    ]


def test_what_was_committed_names_the_weak_cells_of_the_recorded_cars() -> None:
    named = json.loads(GOLDEN.read_text())["incidents"]
    assert any("cell 82" in line for line in named["car2"])
    assert len(named["car1"]) >= 1


def test_a_directory_without_any_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--data must be a directory with one or more of lg_hg2, leaf_cell, bmw_i3_trips, "
    ):
        run_accuracy(tmp_path, as_json=False)
