"""A simulated fleet as files: frames, and the truth row by row beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.settings import SimulateSettings
from flows.simulate import check_place, fleet_config
from replay.frames_file import read_frames
from schemas.checked import ConfigError
from schemas.frames import FrameBlock, concat
from tests.support.commands import Ibms
from tests.support.fleet import MODEL

FLEET = ("--vehicles", 3, "--hours", 6, "--pack", MODEL)


def test_frames_and_their_truth_are_row_for_row(ibms: Ibms, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    ran = ibms("simulate", *FLEET, "--frames", path)
    assert (ran.code, ran.err) == (0, "")
    frames = concat([b for b in read_frames(path) if isinstance(b, FrameBlock)])
    truth = pq.read_table(tmp_path / "f.truth.parquet")
    assert f"{len(frames):,} frames of 3 vehicles → {path}\n" in ran.out
    assert truth["t_ns"].to_numpy().astype(np.int64).tolist() == frames.t_ns.tolist()
    assert truth["pack_id"].to_pylist() == [frames.packs[p] for p in frames.pack.tolist()]
    assert ((truth["soc"].to_numpy() > 0) & (truth["soc"].to_numpy() < 1)).all()


def test_scheduled_faults_are_listed_with_their_units(ibms: Ibms, tmp_path: Path) -> None:
    out = ibms("simulate", *FLEET, "--frames", tmp_path / "f.parquet").out
    (line,) = [x for x in out.splitlines() if "internal_short" in x]
    assert "cell" in line
    assert line.endswith(" ohm")
    assert "internal_short" not in ibms("simulate", *FLEET, "--no-faults", "--frames", tmp_path / "f.parquet").out


def test_the_same_seed_gives_the_same_frames(ibms: Ibms, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ibms("simulate", *FLEET, "--seed", seed, "--frames", tmp_path / f"{name}.parquet")
    a, b, c = (pq.read_table(tmp_path / f"{name}.parquet") for name in "abc")
    assert a.equals(b)
    assert not a.equals(c)


def test_one_vehicle_in_ten_has_a_fault() -> None:
    assert len(fleet_config(SimulateSettings(vehicles=40, models=(MODEL,))).faults) == 4
    assert len(fleet_config(SimulateSettings(vehicles=4, models=(MODEL,))).faults) == 1
    assert fleet_config(SimulateSettings(vehicles=40, models=(MODEL,), faults=False)).faults == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SimulateSettings(models=("nothing",)), "pack must be one of"),
        (SimulateSettings(hours=1e9), "hours must be"),
        (SimulateSettings(period_s=1e9), "period_s must be"),
        (SimulateSettings(models=()), "models must name"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused(settings: SimulateSettings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fleet_config(settings)


def test_a_file_needs_a_directory_to_be_in(tmp_path: Path) -> None:
    check_place(tmp_path / "f.parquet")
    for wrong in (tmp_path / "no" / "f.parquet", tmp_path):
        with pytest.raises(ConfigError, match="--frames must be a file in a directory that exists"):
            check_place(wrong)
