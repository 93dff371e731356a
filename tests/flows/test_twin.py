"""`ibms twin`: what it needs, what it says, and how right it is on a recorded cell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.accuracy.twin import of_kind
from flows.twin import read_profile
from replay.fit import lg_hg2
from schemas.arrow import SCHEMAS
from schemas.checked import ConfigError
from sinks.lake import LakeSink
from tests.support.commands import Ibms


def profile(folder: Path, text: str) -> Path:
    path = folder / "profile.csv"
    path.write_text(text)
    return path


def test_a_vehicle_of_a_lake_is_run_forward(lake: Path, tmp_path: Path, ibms: Ibms) -> None:
    file = profile(tmp_path, "t_s,power_w\n" + "".join(f"{t},-5000\n" for t in range(601)))
    out = tmp_path / "future.parquet"
    said: dict[str, Any] = json.loads(
        ibms("twin", "sim-000000", "--profile", file, "--lake", lake, "--out", out, "--json").out
    )
    assert said["vehicle_id"] == "sim-000000"
    assert said["energy_out_kwh"] == pytest.approx(5000 * 600 / 3.6e6, rel=0.01)
    assert said["soc_end"] < said["soc_start"]
    assert said["empty_s"] is None
    assert 0 < said["std"]["soc_end"] < 0.2
    assert said["std"]["energy_out_kwh"] < 1e-3  # the power is what is asked for
    assert pq.read_table(out).num_rows == 601


def test_a_load_that_empties_a_pack_says_when(lake: Path, tmp_path: Path, ibms: Ibms) -> None:
    file = profile(tmp_path, "t_s,current_a\n" + "".join(f"{t},-60\n" for t in range(0, 7200, 10)))
    said = json.loads(ibms("twin", "sim-000000", "--profile", file, "--lake", lake, "--json").out)
    assert 0 < said["cell_low_s"] <= said["empty_s"] + 600
    early, late = said["between_90"]["empty_s"]
    assert early < said["empty_s"]
    assert late is None or late > said["empty_s"]
    shown = ibms("twin", "sim-000000", "--profile", file, "--lake", lake).out
    assert "± standard deviation, or 90 % interval" in shown
    assert said["cycles"] == pytest.approx(60 * 7190 / 3600 / 120, rel=0.3)


def test_what_was_learned_of_its_charges_moves_a_twin_while_it_is_kept(lake: Path, tmp_path: Path, ibms: Ibms) -> None:
    file = profile(tmp_path, "t_s,current_a\n0,0\n1,0\n")
    asked = ("twin", "sim-000000", "--profile", file, "--json", "--lake")
    alone = json.loads(ibms(*asked, lake).out)
    mine = tmp_path / "lake"
    shutil.copytree(lake, mine)
    part = LakeSink(mine, "prognostics", recovery=False).build_part("lake", "lake", None)
    for day, kept in ((1, False), (2, True)):
        batch = pa.RecordBatch.from_pylist(
            [{"pack_id": "p", "vehicle_id": "sim-000000", "model": "m", "session_id": str(day), "revision": 0,
              "t_ns": day, "kept": kept, "weights": [0.01 * day, 0.0, 0.0, 0.0, 0.0]}],
            SCHEMAS["twins"],
        )  # fmt: skip
        part.write_batch([("twins", batch)])
    part.snapshot()
    part.close()
    moved = json.loads(ibms(*asked, mine).out)
    assert (alone["residual"], moved["residual"]) == (False, True)
    assert moved["cell_v_min"] - alone["cell_v_min"] == pytest.approx(0.02, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("t_s,speed\n0,1\n1,2\n", "must have t_s and one of current_a and power_w; got t_s, speed"),
        ("t_s,current_a,power_w\n0,1,1\n1,1,1\n", "must have t_s and one of current_a and power_w"),
        ("t_s,current_a\n0,1\n0,2\n", "t_s that rises"),
        ("t_s,current_a\n0,1\n", "two rows or more"),
        ("t_s,current_a\n0,1\n1,\n", "current_a in every row"),
        ("t_s,current_a\n0,a\n1,b\n", "current_a must be numbers; got string"),
    ],
)
def test_a_wrong_profile_is_named(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        read_profile(profile(tmp_path, text))


def test_a_vehicle_that_nobody_knows_is_named(lake: Path, tmp_path: Path, ibms: Ibms) -> None:
    file = profile(tmp_path, "t_s,current_a\n0,1\n1,1\n")
    assert (
        "VEHICLE must be one whose states the lake holds; got nobody"
        in ibms("twin", "nobody", "--profile", file, "--lake", lake).error
    )


def test_a_cell_fitted_on_mixed_cycles_is_right_on_a_drive_that_was_not_fitted(data_dir: Path) -> None:
    found = of_kind(data_dir, "LA92", lg_hg2.read(data_dir, "Mixed"))
    assert set(found) == {0, 25, 40}
    assert found[25] < 13.0
    assert found[40] < 12.0
    assert found[0] < 15.0
    assert np.sqrt(np.mean(np.square(list(found.values())))) < 13.0
