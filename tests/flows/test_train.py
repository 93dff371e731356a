"""The fleet's anomaly model: trained on a lake's windows, and silent about the time it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sinks import ducklake
from tests.support.commands import Ibms

HALF = "2026-01-05T14:00:00Z"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    path = folder / "s.toml"
    path.write_text(
        f"""
        [source]
        kind = "simulate"
        vehicles = 20
        hours = 24
        faults = false
        models = ["generic-nmc@8c2t60ah"]
        [lake]
        dir = "{folder / "lake"}"
        """
    )
    return path


def test_a_model_scores_windows_that_end_after_those_it_was_trained_on(ibms: Ibms, config: Path) -> None:
    folder = config.parent
    assert ibms("run", "fleet", "--config", config).code == 0
    model = folder / "m.json"
    ran = ibms("train", "anomaly", "--lake", folder / "lake", "--model", model, "--until", HALF)
    assert (ran.code, ran.err) == (0, "")
    assert f'[fleet] anomaly_model = "{model}"' in ran.out
    with_model = folder / "with.toml"
    with_model.write_text(
        config.read_text().replace(str(folder / "lake"), str(folder / "scored"))
        + f'[fleet]\nanomaly_model = "{model}"\n'
    )
    assert ibms("run", "fleet", "--config", with_model).code == 0
    valid_from_ns = json.loads(model.read_text())["valid_from_ns"]
    with ducklake.attach(folder / "scored") as con:
        rows = con.execute(
            f"SELECT epoch_ns(end_ns) > {valid_from_ns} AS after, count(*), count(anomaly_fleet), min(anomaly_fleet), "
            "max(anomaly_fleet), max(models) FROM windows GROUP BY 1 ORDER BY 1"
        ).fetchall()
    (_, early, early_scored, *_), (_, late, late_scored, low, high, models) = rows
    assert early > 100
    assert early_scored == 0
    assert late_scored > 0.9 * late
    assert 0 <= low < high <= 1
    assert models in ran.out


def test_the_same_lake_gives_the_same_model(ibms: Ibms, config: Path, tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ibms("train", "anomaly", "--lake", config.parent / "lake", "--model", tmp_path / name, "--seed", seed)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1] != made[2]


def test_too_few_windows_are_an_error(ibms: Ibms, lake: Path, tmp_path: Path) -> None:
    ran = ibms("train", "anomaly", "--lake", lake, "--model", tmp_path / "m")
    assert ran.code == 2
    assert "training needs ≥ 500 complete windows" in ran.error
    ran = ibms("train", "anomaly", "--lake", lake, "--until", "2020-01-01", "--model", tmp_path / "m")
    assert "the lake must hold windows without quality flags before 2020-01-01; got none" in ran.error
    assert not (tmp_path / "m").exists()
